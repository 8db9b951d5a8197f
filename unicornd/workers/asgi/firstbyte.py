"""The first byte at a port that speaks TLS, for event loops: a handshake, or a client that speaks plainly and is told so.

Run in the worker's event loop, before anything is made for the connection: who sends nothing costs a socket.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal
from unicornd.http.response import refusal_response
from unicornd.workers.asgi.lingering import linger
from unicornd.workers.clock import Clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

HANDSHAKE = 0x16
"""The first byte of every handshake: a record's type (RFC 8446 section 5.1)."""


async def begins_with_handshake(sock: socket.socket, loop: AbstractEventLoop) -> None:
    """Wait for the first byte, which stays where it is.

    Raises:
        Refusal: it is not that of a handshake.
        EOFError: there is none; the client has gone.
        OSError: likewise.
    """
    while True:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock, loop)
            continue
        if not first:
            raise EOFError
        if first[0] != HANDSHAKE:
            raise Refusal(HTTPStatus.BAD_REQUEST, "this port speaks HTTPS")
        return


async def tell_plainly(sock: socket.socket, loop: AbstractEventLoop, *, refusal: Refusal) -> None:
    """Answer without TLS, and close (RFC 9112 section 9.6)."""
    with suppress(OSError):
        sock.send(refusal_response(refusal, standing=Clock().standing()))
        await linger(sock, loop)
    sock.close()


async def _readable(sock: socket.socket, loop: AbstractEventLoop) -> None:
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
