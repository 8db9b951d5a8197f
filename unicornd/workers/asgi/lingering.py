"""Connections that were answered while their clients still send, for event loops (RFC 9112 section 9.6).

Run in the worker's event loop. Transports close their socket as soon as their last byte has been sent, and what the
client sends after that makes its kernel reset the connection, often before it has read the answer. So the socket is
duplicated before; when the transport has gone, our side is ended, and what still comes is discarded.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.workers.connection import LINGER_PAUSE, LINGER_SECONDS, RECEIVE_BYTES

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class Lingering:
    """The lingering connections of one worker.

    Args:
        most: how many at a time; what is more is closed at once.

    Attributes:
        running: one task each.
    """

    __slots__ = ("_most", "running")

    def __init__(self, most: int) -> None:
        self._most = most
        self.running: set[asyncio.Task[None]] = set()

    def begin(self, sock: socket.socket) -> None:
        """Linger on a socket that nobody else reads from any more, and close it then."""
        if len(self.running) >= self._most:
            sock.close()
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(linger(sock, loop))
        self.running.add(task)
        task.add_done_callback(self.running.discard)


def duplicate(fd: int) -> socket.socket | None:
    """Return another socket for the same connection; None if it is closed, or no descriptor is left."""
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        return None
    sock.setblocking(False)
    return sock


async def linger(sock: socket.socket, loop: AbstractEventLoop) -> None:
    """End our side, discard what comes, and close: after `LINGER_PAUSE` without anything, or after `LINGER_SECONDS`."""
    end = time.monotonic() + LINGER_SECONDS
    try:
        with suppress(OSError, TimeoutError):
            sock.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                async with asyncio.timeout(min(left, LINGER_PAUSE)):
                    if not await loop.sock_recv(sock, RECEIVE_BYTES):
                        return
    finally:
        sock.close()
