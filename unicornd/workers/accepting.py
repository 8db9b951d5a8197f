"""Accepting: the worker's side of the listeners, which it shares with the other workers.

Used by the thread that polls. A listener is watched with EPOLLEXCLUSIVE, so that one new connection wakes one worker.
Without room for a connection, or without file descriptors, the listeners are left alone for a while: what waits there
waits in the kernel, and nothing spins.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from unicornd.http.environ import shared_environ
from unicornd.sockets.shut import shut_among
from unicornd.workers.connection import Connection
from unicornd.workers.handover import Handed
from unicornd.workers.prefaced import ProxiedConnection, UwsgiConnection
from unicornd.workers.wsgi import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unicornd.http.environ import Environ
    from unicornd.sockets.listener import Listener
    from unicornd.workers.context import HttpPolicy, WorkerContext

PAUSE_SECONDS = 0.5
"""How long accepting pauses when it fails: mostly, there is no descriptor or memory for a connection."""
COMPLAINT_SECONDS = 10.0
"""How often that is logged."""
MOST_PLACES = 64
"""Addresses, of listeners that are ours or were a predecessor's, whose connections can be handed over."""
LARGEST_ROUND = 64
"""Connections accepted at a time: others are served in between."""


class Door(NamedTuple):
    """How a listener makes connections.

    Attributes:
        make: of socket and client's address.
        base: the environ that its requests begin with.
        may_hand_over: whether another worker can go on with them.
    """

    make: Callable[..., Connection]
    base: Environ
    may_hand_over: bool = True


class Acceptor:
    """The listeners of one worker.

    Args:
        context: the worker's.
        epoll: the poller.
    """

    def __init__(self, context: WorkerContext, epoll: select.epoll) -> None:
        self._context = context
        self._epoll = epoll
        self._listeners = {listener.sock.fileno(): listener for listener in context.seat.listeners}
        self._doors = {fd: _door_of(listener.sock, context) for fd, listener in self._listeners.items()}
        self._places = [
            (str(listener.address), self._doors[fd].base)
            for fd, listener in self._listeners.items()
            if self._doors[fd].may_hand_over
        ]
        self._paused_until = 0.0
        self._next_complaint = 0.0
        self.is_paused = False
        self._watch()

    @property
    def fds(self) -> tuple[int, ...]:
        """The listeners' descriptors."""
        return tuple(self._listeners)

    def accept(self, fd: int, *, room: int, now: float) -> Iterator[Connection]:
        """Yield new connections until there are none, the round is full, or there is no room."""
        listener = self._listeners.get(fd)
        if listener is None:
            return
        make, base, _ = self._doors[fd]
        for number in range(LARGEST_ROUND):
            if room <= 0:
                self._pause(until=0.0)
                return
            try:
                sock, address = listener.sock.accept()
            except BlockingIOError:
                if number == 0:  # a sibling was faster, mostly
                    self._leave_if_shut(fd, listener)
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._take_failure(error, now)
                return
            if sock.gettimeout() is not None:  # socket.setdefaulttimeout: MSG_DONTWAIT would wait for so long
                sock.settimeout(None)
            room -= 1
            remote = (address[0], str(address[1])) if isinstance(address, tuple) else ("", "")
            yield make(sock, remote, base=base, policy=self._context.http)

    def handed(self, connection: Connection, received: bytes) -> Handed | None:
        """Return what another worker needs to go on with a connection; None for one that cannot be handed over.

        Args:
            connection: in this worker.
            received: what it is to begin with.
        """
        for address, base in self._places:
            if connection.origin is base:
                sock, remote = connection.sock, connection.remote
                return Handed(sock, address, remote, received, connection.preface, connection.facts)
        return None

    def receive(self, handed: Handed) -> Connection:
        """Make a connection of one that another worker had; at a listener that is ours, or at an address that was.

        It speaks what it was accepted with, whatever its listener speaks now. Who may send a preface is asked anew.
        """
        base = self._base_of(handed)
        policy = self._context.http
        if handed.preface == "uwsgi":
            return UwsgiConnection(handed.sock, handed.peer, base=base, policy=policy)
        if handed.preface == "proxy" or handed.facts:
            connection = ProxiedConnection(handed.sock, handed.peer, base=base, policy=policy)
            if not handed.preface:
                connection.take_facts(handed.facts, remote=handed.remote)
            return connection
        return Connection(handed.sock, handed.peer, base=base, policy=policy)

    def _base_of(self, handed: Handed) -> Environ:
        """Return the environ of its listener; one that is not ours is remembered, so that it can be handed over again."""
        for address, base in self._places:
            if address == handed.listener:
                return base
        base = _environ_of(handed.sock, self._context)
        if len(self._places) < MOST_PLACES:
            self._places.append((handed.listener, base))
        return base

    def resume(self, *, room: int, now: float) -> bool:
        """Watch the listeners again if there is room and the pause is over; return whether they are watched."""
        if self.is_paused and room > 0 and now >= self._paused_until:
            self.is_paused = False
            self._watch()
        return not self.is_paused

    def close(self) -> None:
        """Leave the listeners for good."""
        if not self.is_paused:
            self._unwatch()
        self.is_paused = False
        for listener in self._listeners.values():
            listener.sock.close()
        self._listeners.clear()

    def _leave_if_shut(self, fd: int, listener: Listener) -> None:
        """Close a Unix socket that somebody has shut down: it is for ever readable, and nobody can connect."""
        if listener.sock.family == socket.AF_UNIX and shut_among([listener]):
            with suppress(FileNotFoundError):
                self._epoll.unregister(fd)
            del self._listeners[fd]
            listener.sock.close()
            self._context.log.error("a listener was shut down", extra={"address": str(listener.address)})

    def _take_failure(self, error: OSError, now: float) -> None:
        self._pause(until=now + PAUSE_SECONDS)  # whatever it is: to try again at once would spin
        if now >= self._next_complaint:
            self._next_complaint = now + COMPLAINT_SECONDS
            self._context.log.error("cannot accept connections", extra={"why": error.strerror})

    def _pause(self, *, until: float) -> None:
        self._paused_until = until
        if not self.is_paused:
            self.is_paused = True
            self._unwatch()

    def _watch(self) -> None:
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _unwatch(self) -> None:
        for fd in self._listeners:
            with suppress(FileNotFoundError):
                self._epoll.unregister(fd)


def _class_for(policy: HttpPolicy) -> type[Connection]:
    """Return what connections are: decided once, so that none pays for what another listener speaks."""
    if policy.uwsgi is not None:
        return UwsgiConnection
    return ProxiedConnection if policy.proxying is not None else Connection


def _door_of(sock: socket.socket, context: WorkerContext) -> Door:
    """Return how a listener makes connections: with TLS if there are certificates and it is no Unix socket."""
    if context.tls is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return Door(_class_for(context.http), _environ_of(sock, context))
    from unicornd.workers.tlsconnection import TlsConnection  # noqa: PLC0415 - OpenSSL takes memory that others need not spend

    base = _environ_of(sock, context) | {
        "wsgi.url_scheme": "https",
        "HTTPS": "on",
        "SSL_CLIENT_VERIFY": "NONE",
    }
    return Door(partial(TlsConnection, context=context.tls), base, may_hand_over=False)


def _environ_of(sock: socket.socket, context: WorkerContext) -> Environ:
    """Return the environ that every request at a listener begins with."""
    name, port = "localhost", "80"
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        name, port = (str(part) for part in sock.getsockname()[:2])
    return shared_environ(
        server_name=name,
        server_port=port,
        scheme="http",
        wsgi_errors=context.errors,
        wsgi_file_wrapper=FileWrapper,
        wsgi_multithread=context.threads > 1,
        wsgi_multiprocess=context.is_multiprocess,
    )
