"""Who has sent a message, by the kernel's word: SCM_CREDENTIALS (unix(7)).

A process can name only itself there (another one only with CAP_SYS_ADMIN over its pid namespace), and the kernel
translates the process id into the reader's pid namespace. So what is read so needs no trust in what the message says.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from typing import NamedTuple

from unicornd.units import Pid

_UCRED = struct.Struct("iII")
"""`struct ucred`: pid, uid, gid."""


class Message(NamedTuple):
    """What has come.

    Attributes:
        text: the bytes; empty for an empty datagram.
        sender: the process that has sent it; 0 if the kernel does not say.
        uid: its user id.
        descriptors: that it has sent along; the reader's to close, and closed on exec(3).
        is_cut: the message, or what came along with it, was larger than the room for it.
    """

    text: bytes
    sender: Pid
    uid: int
    descriptors: tuple[int, ...]
    is_cut: bool

    def drop(self) -> None:
        """Close the descriptors that came along."""
        for fd in self.descriptors:
            os.close(fd)


def want_credentials(sock: socket.socket) -> None:
    """Have the kernel say with each message that `sock` receives from now on who has sent it (SO_PASSCRED)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def receive(sock: socket.socket, limit: int, *, descriptors: int = 0) -> Message | None:
    """Receive a message at a socket that wants credentials.

    Args:
        sock: of the family AF_UNIX.
        limit: bytes of the message.
        descriptors: so many may come along; the kernel closes what is more.

    Returns:
        None when the other end is closed: unlike an empty datagram, that has no sender.

    Raises:
        OSError: nothing is there (BlockingIOError), or the connection is broken.
    """
    room = socket.CMSG_SPACE(_UCRED.size) + (socket.CMSG_LEN(descriptors * 4) if descriptors else 0)
    text, ancillary, flags, _ = sock.recvmsg(limit, room, socket.MSG_CMSG_CLOEXEC)
    sender = uid = -1
    received = array("i")
    for level, kind, payload in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(payload) == _UCRED.size:
            sender, uid, _ = _UCRED.unpack(payload)
        elif kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    if not text and sender <= 0 and not received:
        return None
    is_cut = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
    return Message(text, Pid(max(sender, 0)), uid, tuple(received), is_cut)
