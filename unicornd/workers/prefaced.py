"""Connections that begin with something other than a request's head: the PROXY protocol, and the uwsgi protocol.

Owned as every `Connection` is. The Acceptor makes one of these only where the operator has asked for it, so plain
connections do not pay for them.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from unicornd.http import proxy, uwsgi
from unicornd.workers.connection import BODY, HEAD, RECEIVE_BYTES, Connection

if TYPE_CHECKING:
    from unicornd.http.environ import Environ
    from unicornd.workers.context import HttpPolicy


class ProxiedConnection(Connection):
    """A connection on which a PROXY header comes before the first request."""

    __slots__ = ("_has_read_preface", "_may_send", "_preface")

    def __init__(
        self, sock: socket.socket, remote: tuple[str, str], *, base: Environ, policy: HttpPolicy
    ) -> None:
        super().__init__(sock, remote, base=base, policy=policy)
        self._preface = b""
        self._has_read_preface = False
        self._may_send = policy.proxying is not None and policy.proxying.trust.has(remote[0])

    def receive(self, now: float) -> bool:
        """See `Connection.receive`; a header that is wrong, or not allowed, is refused like a head."""
        if self._has_read_preface:
            return super().receive(now)
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        self._preface += data
        rest = self._past_preface()
        if rest is None:
            self.stage = HEAD
            self.deadline = self.deadline or (now + self.policy.head if self.policy.head else 0.0)
            return False
        self._has_read_preface = True
        self._preface = b""
        return bool(rest) and self._take(rest, now)

    def _past_preface(self) -> bytes | None:
        """Return what follows the header; None if it is not whole."""
        policy = self.policy.proxying
        received = self._preface
        if policy is None or not self._may_send:
            if proxy.is_proxy(received):
                raise proxy.forbidden()
            return received
        header = proxy.read_proxy(received, policy.mode)
        if header is None:
            return None
        if header.source is not None and header.destination is not None:
            self.remote = header.source
            self.base = {
                **self.base,
                "PROXY_PROTOCOL": header.protocol,
                "PROXY_ADDR": header.destination[0],
                "PROXY_PORT": header.destination[1],
            }
        return received[header.size :]


class UwsgiConnection(Connection):
    """A connection that brings one request in the uwsgi protocol."""

    __slots__ = ("_packet",)

    def __init__(
        self, sock: socket.socket, remote: tuple[str, str], *, base: Environ, policy: HttpPolicy
    ) -> None:
        super().__init__(sock, remote, base=base, policy=policy)
        self._packet = b""

    def receive(self, now: float) -> bool:
        """See `Connection.receive`."""
        if self.stage is BODY:
            return super().receive(now)
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        return self._take(data, now)

    def _take(self, data: bytes, now: float) -> bool:
        if self.stage is BODY:
            return super()._take(data, now)
        if self.policy.uwsgi is not None and not self.policy.uwsgi.has(self.remote[0]):
            raise uwsgi.forbidden()
        self._packet += data
        size = uwsgi.packet_size(self._packet)
        if not size or len(self._packet) < size:
            if self.stage is not HEAD:
                self.stage = HEAD
                self.deadline = now + self.policy.head if self.policy.head else 0.0
            return False
        head = uwsgi.read_uwsgi(self._packet[:size], self.policy.limits)
        rest, self._packet = self._packet[size:], b""
        return self._begin(head, rest, now=now)
