"""What a response still has to send: bytes and pieces of files that the client has not taken yet.

Filled by the thread that runs the application, emptied by that thread or, after it, by the poller; one owner at a time.
"""

from __future__ import annotations

import os
import socket
from collections import deque

from unicornd.dataclass import dataclass
from unicornd.units import Fd

SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
MAX_SENDFILE_BYTES = 2**30
"""One sendfile(2) sends at most 0x7ffff000 bytes."""
MOST_HELD = 16 * 1024
"""Bytes of a response that may be held: of a larger one, its own sending is what takes time."""

BROKEN = socket.socket()
BROKEN.close()
"""A socket on which everything fails with EBADF."""


@dataclass(slots=True)
class FilePiece:
    """A part of a file; `fd` is ours (a duplicate), so the application may close its own."""

    fd: Fd
    offset: int
    remaining: int


class Output:
    """The unsent rest of a response on one socket.

    Attributes:
        may_hold: whether a whole response waits for `release`, so that several go out together.
        held: such a response.
        is_pending: whether anything is unsent, but for that.
        has_begun: whether any of the response was given to it.
        size: bytes in memory that are not sent (pieces of files do not count: they take none).
    """

    __slots__ = ("_pending", "_socket", "has_begun", "held", "is_pending", "may_hold", "size")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pending: deque[memoryview | FilePiece] = deque()
        self.has_begun = False
        self.may_hold = False
        self.held = b""
        self.is_pending = False
        self.size = 0

    def send_whole(self, data: bytes) -> None:
        """Send a response that is complete with this, or hold it.

        Raises:
            OSError: as `send`.
        """
        if self.may_hold and len(data) <= MOST_HELD:
            self.has_begun = True
            self.held = data
        else:
            self.send(data)

    def release(self) -> None:
        """Send the response that was held.

        Raises:
            OSError: as `send`.
        """
        data = self.held
        self.held = b""
        try:
            sent = self._socket.send(data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._keep(data, sent)

    def send(self, data: bytes) -> None:
        """Send `data` as far as the socket takes it now, keep the rest.

        Raises:
            OSError: the connection is broken.
        """
        sent = 0
        self.has_begun = True
        if not self.is_pending:
            try:
                sent = self._socket.send(data, SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
        self._keep(data, sent)

    def _keep(self, data: bytes, sent: int) -> None:
        rest = memoryview(data)[sent:]
        self._pending.append(rest)
        self.is_pending = True
        self.size += len(rest)

    def send_file(self, fd: int, *, offset: int, count: int) -> None:
        """Send a part of a file; `fd` is duplicated.

        Raises:
            OSError: the connection is broken.
        """
        self.has_begun = True
        self._socket.setblocking(False)  # sendfile(2) has no MSG_DONTWAIT
        self._pending.append(FilePiece(fd=Fd(os.dup(fd)), offset=offset, remaining=count))
        self.is_pending = True
        self.flush()

    def flush(self) -> bool:
        """Send what the socket takes now; True when nothing is left.

        Raises:
            OSError: the connection is broken, or a file has become shorter than promised.
        """
        while self._pending:
            piece = self._pending[0]
            try:
                is_done = (
                    self._flush_file(piece) if isinstance(piece, FilePiece) else self._flush_bytes(piece)
                )
            except BlockingIOError:
                return False
            if not is_done:
                return False
        self.is_pending = False
        return True

    def break_off(self) -> None:
        """Whatever is sent from now on meets a broken connection; the socket itself is not touched."""
        self.close()
        self._socket = BROKEN

    def close(self) -> None:
        """Forget what is unsent."""
        while self._pending:
            piece = self._pending.popleft()
            if isinstance(piece, FilePiece):
                os.close(piece.fd)
        self.held = b""
        self.is_pending = False
        self.size = 0

    def _flush_bytes(self, piece: memoryview) -> bool:
        sent = self._socket.send(piece, SEND_FLAGS)
        self.size -= sent
        if sent == len(piece):
            self._pending.popleft()
            return True
        self._pending[0] = piece[sent:]
        return False

    def _flush_file(self, piece: FilePiece) -> bool:
        count = min(piece.remaining, MAX_SENDFILE_BYTES)
        sent = os.sendfile(self._socket.fileno(), piece.fd, piece.offset, count)
        if sent == 0:
            raise BrokenPipeError("a file has become shorter while it was sent")
        piece.offset += sent
        piece.remaining -= sent
        if piece.remaining:
            return False
        self._pending.popleft()
        os.close(piece.fd)
        return True
