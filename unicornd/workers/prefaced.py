"""Connections that begin with something other than a request's head: the PROXY protocol, and the uwsgi protocol.

Owned as every `Connection` is. The Acceptor makes one of these only where the operator has asked for it, or for what
another worker has handed over, so plain connections do not pay for them.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from unicornd.http import proxy, uwsgi
from unicornd.workers.connection import BODY, HEAD, IDLE, RECEIVE_BYTES, Connection
from unicornd.workers.handover import NOTHING_TOLD
from unicornd.workers.output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.http.environ import Environ
    from unicornd.workers.context import HttpPolicy


class ProxiedConnection(Connection):
    """A connection on which a PROXY header comes before the first request."""

    __slots__ = ("_facts", "_has_read_preface", "_may_send", "_origin", "_peer", "_preface")

    def __init__(
        self, sock: socket.socket, remote: tuple[str, str], *, base: Environ, policy: HttpPolicy
    ) -> None:
        super().__init__(sock, remote, base=base, policy=policy)
        self._preface = b""
        self._has_read_preface = False
        self._may_send = policy.proxying is not None and policy.proxying.trust.has(remote[0])
        self._origin = base
        self._peer = remote[0]
        self._facts = NOTHING_TOLD

    @property
    def origin(self) -> Environ:
        """See `Connection.origin`."""
        return self._origin

    @property
    def peer(self) -> str:
        """See `Connection.peer`."""
        return self._peer

    @property
    def preface(self) -> str:
        """See `Connection.preface`."""
        return "" if self._has_read_preface else "proxy"

    @property
    def facts(self) -> Mapping[str, str]:
        """See `Connection.facts`."""
        return self._facts

    @property
    def leftover(self) -> bytes:
        """What has been received of the next request, or of the header."""
        return super().leftover if self._has_read_preface else self._preface

    def take_facts(self, facts: Mapping[str, str], *, remote: tuple[str, str]) -> None:
        """The header is there, and has told this; the requests begin."""
        self._has_read_preface = True
        self._preface = b""
        self._facts = {name: facts[name] for name in proxy.FACTS if name in facts}
        self.remote = remote
        self.base = self._origin | self._facts
        if "HTTPS" in self._facts:
            self.base["wsgi.url_scheme"] = "https"

    def receive(self, now: float) -> bool:
        """See `Connection.receive`; a header that is wrong, or not allowed, is refused like a head."""
        if self._has_read_preface:
            return super().receive(now)
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        return self._take(data, now)

    def _take(self, data: bytes, now: float) -> bool:
        if self._has_read_preface:
            return super()._take(data, now)
        self._preface += data
        rest = self._past_preface()
        if rest is None:
            if self.stage is IDLE:
                self.stage = HEAD
                self.deadline = now + self.policy.head if self.policy.head else 0.0
            return False
        self.stage = IDLE  # until the request begins, what is left of the header's time counts
        return bool(rest) and super()._take(rest, now)

    def _past_preface(self) -> bytes | None:
        """Return what follows the header; None if it is not whole."""
        policy = self.policy.proxying
        received = self._preface
        if policy is None or not self._may_send:
            if proxy.is_proxy(received):
                raise proxy.forbidden()
            self.take_facts({}, remote=self.remote)
            return received
        header = proxy.read_proxy(received, policy.mode)
        if header is None:
            return None
        self.take_facts(header.facts, remote=header.source or self.remote)
        return received[header.size :]


class UwsgiOutput(Output):
    """The unsent rest of a response whose head is for the server in front, which has a connection of its own with its client."""

    __slots__ = ()

    def send(self, data: bytes) -> None:
        """See `Output.send`."""
        super().send(data if self.has_begun else uwsgi.without_connection(data))

    def send_whole(self, data: bytes) -> None:
        """See `Output.send_whole`."""
        super().send_whole(data if self.has_begun else uwsgi.without_connection(data))


class UwsgiConnection(Connection):
    """A connection that brings one request in the uwsgi protocol."""

    __slots__ = ("_packet", "_peer")

    def __init__(
        self, sock: socket.socket, remote: tuple[str, str], *, base: Environ, policy: HttpPolicy
    ) -> None:
        super().__init__(sock, remote, base=base, policy=policy)
        self.output = UwsgiOutput(sock, policy.overflow)
        self._packet = b""
        self._peer = remote[0]

    @property
    def peer(self) -> str:
        """See `Connection.peer`."""
        return self._peer

    @property
    def preface(self) -> str:
        """See `Connection.preface`."""
        return "uwsgi"

    @property
    def leftover(self) -> bytes:
        """What has been received of the packet; behind it nothing comes but its body."""
        return self._packet or super().leftover

    def receive(self, now: float) -> bool:
        """See `Connection.receive`."""
        if self.stage is BODY:
            return super().receive(now)
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        return self._take(data, now)

    def tell(self, data: bytes) -> None:
        """See `Connection.tell`."""
        super().tell(uwsgi.without_connection(data))

    def _take(self, data: bytes, now: float) -> bool:
        if self.stage is BODY:
            return super()._take(data, now)
        trust = self.policy.uwsgi
        if trust is None or not trust.has(self.peer):
            raise uwsgi.forbidden()
        self._packet += data
        size = uwsgi.packet_size(self._packet)
        if not size or len(self._packet) < size:
            if self.stage is IDLE:
                self.stage = HEAD
                self.deadline = now + self.policy.head if self.policy.head else 0.0
            return False
        forwarding = self.policy.forwarding
        mount = forwarding.mount if forwarding is not None else ""
        head = uwsgi.read_uwsgi(self._packet[:size], self.policy.limits, mount=mount)
        if head.forwarded is not None and (client := head.forwarded.client):
            self.remote = client
        self.block, rest, self._packet = self._packet[:size], self._packet[size:], b""
        return self._begin(head, rest, now=now)
