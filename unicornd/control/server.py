"""The control server: an HTTP server inside the arbiter's loop.

Its callbacks run in the arbiter's one thread and never wait. It holds at most `MAX_CONNECTIONS`; when they are used
up, the one that has kept us waiting longest makes room, so idle or malicious clients cannot lock out `unicornctl`.
The same class serves `[admin] bind`, with other routes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import TYPE_CHECKING

from unicornd.control.connection import Connection, Stage
from unicornd.forking import BOUNDARY
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.control.exchange import Answer, Gate, Request

MAX_CONNECTIONS = 128
"""Open connections: one descriptor and at most about 200 kB each."""

MAX_ACCEPTS = 16
"""Connections accepted in one turn of the loop."""

ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the kernel refused (out of descriptors): the listener would stay readable."""


class ControlServer:
    """Serves one listening socket.

    Args:
        selector: the loop's; the callbacks are the `data` of its keys.
        listener: bound, listening and non-blocking; closed by `close`.
        route: answers requests.
        authorize: looks at accept who it is: None if the client may ask anything, else what stands before the routes.
        clock: CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        *,
        route: Callable[[Request], Answer],
        authorize: Callable[[socket.socket], Gate | None],
        clock: Callable[[], Monotonic],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._route = route
        self._authorize = authorize
        self._clock = clock
        self._connections: dict[Connection, int] = {}
        self._resume_at: Monotonic | None = None
        self._is_listening = True
        selector.register(BOUNDARY.own(listener), selectors.EVENT_READ, self._accept)

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Let what waits see the new state; call it in each turn of the loop.

        Returns:
            When to call again if nothing happens before.
        """
        for connection in tuple(self._connections):
            connection.tick(now)
            self._settle(connection)
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_at = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        deadlines = [each.deadline for each in self._connections if each.deadline is not None]
        return min([*deadlines, *([self._resume_at] if self._resume_at is not None else [])], default=None)

    def renew(self) -> None:
        """The listener's descriptor leads to another socket by now: watch that one."""
        if self._is_listening and self._resume_at is None:
            self._selector.unregister(self._listener)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def stop_listening(self) -> None:
        """Let nobody new in; who is connected is still answered."""
        if self._is_listening and self._resume_at is None:
            self._selector.unregister(self._listener)
        self._is_listening = False
        self._resume_at = None
        self._listener.close()

    def close(self) -> None:
        """Answer what can be answered at once, hang up on everybody, stop listening."""
        now = self._clock()
        for connection in tuple(self._connections):
            connection.finish(now)
            self._settle(connection)
        self.stop_listening()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Every socket that is open here."""
        return (self._listener, *(connection.sock for connection in self._connections))

    def _accept(self, _mask: int) -> None:
        now = self._clock()
        for _ in range(MAX_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._selector.unregister(self._listener)
                self._resume_at = Monotonic(now + ACCEPT_PAUSE)
                return
            self._admit(sock, now=now)

    def _admit(self, sock: socket.socket, *, now: Monotonic) -> None:
        BOUNDARY.own(sock).setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._make_room()
        gate = self._authorize(sock)
        route = self._route if gate is None else lambda request: gate(request) or self._route(request)
        connection = Connection(sock, route=route, now=now)

        def respond(mask: int) -> None:
            connection.respond(mask, now=self._clock())
            self._settle(connection)

        self._connections[connection] = connection.interest
        self._selector.register(sock, connection.interest, respond)

    def _make_room(self) -> None:
        """Hang up on the connection that has owed us a request for the longest time, else on the oldest."""
        waiting = (each for each in self._connections if each.stage in {Stage.READING, Stage.LINGERING})
        victim = next(waiting, next(iter(self._connections)))
        victim.hang_up()
        self._settle(victim)

    def _settle(self, connection: Connection) -> None:
        """Make the selector's interest that of the connection; let go of one that has ended."""
        if connection not in self._connections:
            return
        interest = connection.interest
        if interest == 0:
            del self._connections[connection]
            self._selector.unregister(connection.sock)
            with contextlib.suppress(OSError):  # the peer sees the end even if a forked child has a copy
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.sock.close()
        elif interest != self._connections[connection]:
            self._connections[connection] = interest
            key = self._selector.get_key(connection.sock)
            self._selector.modify(connection.sock, interest, key.data)
