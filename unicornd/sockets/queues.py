"""How many connections wait to be accepted, of listeners of every family.

Run by the arbiter. TCP tells by TCP_INFO; of Unix sockets the kernel tells by sock_diag(7), a netlink family.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from unicornd.sockets.listener import queue_length

if TYPE_CHECKING:
    from unicornd.sockets.listener import Listener

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
UDIAG_SHOW_RQLEN = 0x10
UNIX_DIAG_RQLEN = 4
"""linux/sock_diag.h, linux/unix_diag.h"""
ANY_COOKIE = 0xFFFFFFFF
_MESSAGE = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_REPLY_BYTES = 16
_ATTRIBUTE = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")
TIMEOUT_SECONDS = 0.1
"""The kernel answers before sendto(2) returns; this is for one that does not know the question."""


def queue_of(listener: Listener) -> tuple[int, int] | None:
    """Return how many connections wait and how many may; None where the kernel does not tell."""
    if listener.sock.family != socket.AF_UNIX:
        return queue_length(listener)
    try:
        return _unix_queue(os.fstat(listener.sock.fileno()).st_ino)
    except OSError:
        return None


def _unix_queue(inode: int) -> tuple[int, int] | None:
    """Ask for one Unix socket by its inode.

    Raises:
        OSError: no netlink, or no answer.
    """
    request = _REQUEST.pack(
        socket.AF_UNIX, 0, 0, ANY_COOKIE, inode & 0xFFFFFFFF, UDIAG_SHOW_RQLEN, ANY_COOKIE, ANY_COOKIE
    )
    head = _MESSAGE.pack(_MESSAGE.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(TIMEOUT_SECONDS)
        netlink.sendto(head + request, (0, 0))
        answer = netlink.recv(4096)
    _, kind, *_ = _MESSAGE.unpack_from(answer)
    return _rqlen(answer[_MESSAGE.size + _REPLY_BYTES :]) if kind == SOCK_DIAG_BY_FAMILY else None


def _rqlen(attributes: bytes) -> tuple[int, int] | None:
    """Find UNIX_DIAG_RQLEN among netlink attributes: of a listener its queue, and the queue's limit."""
    while len(attributes) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == UNIX_DIAG_RQLEN:
            queue, limit = _RQLEN.unpack_from(attributes, _ATTRIBUTE.size)
            return queue, limit
        if size < _ATTRIBUTE.size:
            return None
        attributes = attributes[(size + 3) & ~3 :]
    return None
