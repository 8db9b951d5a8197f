"""Accepting for an event loop: the worker's side of the listeners, which it shares with the other workers.

Run in the worker's event loop. Nothing is accepted that there is no room for: it waits in the kernel, where a sibling
may take it. Without file descriptors accepting pauses; nothing spins, and nobody is thrown out.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal
from unicornd.workers.asgi.firstbyte import begins_with_handshake, tell_plainly

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sized

    from unicornd.workers.context import WorkerContext

PAUSE_SECONDS = 0.05
"""How often a worker without room looks whether there is some."""
FAILURE_SECONDS = 0.5
"""How long accepting pauses when it fails: mostly, there is no descriptor or memory for a connection."""
COMPLAINT_SECONDS = 10.0
"""How often that is logged."""
LARGEST_ROUND = 32
"""Connections accepted at a time: others are served in between."""
NO_LIMIT = 86400.0
"""Seconds for a handshake where `timeouts.head` is 0: a day."""
SHUTDOWN_SECONDS = 1.0
"""How long a client has to confirm the end of TLS; many do not."""
LAST_HANDSHAKES_SECONDS = 1.0
"""How long a worker that leaves waits for handshakes."""
MOST_AT_THE_END = 8192
"""Connections accepted before a listener is left: twice the usual net.core.somaxconn."""


class Door:
    """The listeners of one worker.

    Args:
        context: the worker's.
        make_protocol: makes the protocol of a connection.
        connections: those that are open.
    """

    def __init__(
        self, context: WorkerContext, make_protocol: Callable[[], asyncio.Protocol], *, connections: Sized
    ) -> None:
        self._context = context
        self._make_protocol = make_protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = [listener.sock for listener in context.seat.listeners]
        self._opening: set[asyncio.Task[None]] = set()
        self._is_paused = False
        self._next_complaint = 0.0

    def open(self) -> None:
        """Begin to accept."""
        self._is_paused = False
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    async def close(self) -> None:
        """Accept what the kernel has queued, whatever room there is, and leave the listeners for good."""
        self._stop_looking()
        for listener in self._listeners:
            for _ in range(MOST_AT_THE_END):
                if not self._accept_one(listener):
                    break
            listener.close()
        self._listeners.clear()
        if self._opening:
            _, late = await asyncio.wait(self._opening, timeout=LAST_HANDSHAKES_SECONDS)
            for task in late:
                task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        room = self._context.http.connections - len(self._connections) - len(self._opening)
        for _ in range(min(room, LARGEST_ROUND)):
            if not self._accept_one(listener):
                return
        if room <= LARGEST_ROUND:
            self._pause(PAUSE_SECONDS)

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection; False if none waits, or none can be had."""
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._take_failure(error)
            return False
        sock.setblocking(False)
        task = self._loop.create_task(self._welcome(sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            if self._context.tls is not None and sock.family != socket.AF_UNIX:
                await self._welcome_with_tls(sock, self._context.tls)
            else:
                await self._loop.connect_accepted_socket(self._make_protocol, sock)
        except OSError:  # it has gone already
            sock.close()

    async def _welcome_with_tls(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        """Have a handshake under `timeouts.head`; a client that speaks plainly is told."""
        patience = self._context.http.head or NO_LIMIT
        try:
            async with asyncio.timeout(patience):
                await begins_with_handshake(sock, self._loop)
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                sock,
                ssl=tls,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except Refusal as refusal:
            self._note(refusal.detail)
            await tell_plainly(sock, self._loop, refusal=refusal)
        except EOFError:
            sock.close()
        except OSError as error:
            self._note(f"the TLS handshake has failed: {error.strerror or error}")
            sock.close()

    def _note(self, why: str) -> None:
        self._context.log.info("request refused", extra={"status": HTTPStatus.BAD_REQUEST.value, "why": why})

    def _take_failure(self, error: OSError) -> None:
        self._pause(FAILURE_SECONDS)
        now = self._loop.time()
        if now >= self._next_complaint:
            self._next_complaint = now + COMPLAINT_SECONDS
            self._context.log.error("cannot accept connections", extra={"why": error.strerror})

    def _pause(self, seconds: float) -> None:
        if not self._is_paused and self._listeners:
            self._is_paused = True
            self._stop_looking()
            self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._listeners and self._is_paused:
            if self._context.http.connections > len(self._connections) + len(self._opening):
                self.open()
            else:
                self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _stop_looking(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
