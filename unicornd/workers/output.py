"""What a response still has to send: bytes and pieces of files that the client has not taken yet.

Filled by the thread that runs the application, emptied by that thread or, after it, by the poller; one owner at a time.
Only a response that goes on in a temporary file is sent by the poller while the application adds to it, under a lock.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass
from unicornd.units import Fd

if TYPE_CHECKING:
    from unicornd.workers.overflow import Overflow

SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
MAX_SENDFILE_BYTES = 2**30
"""One sendfile(2) sends at most 0x7ffff000 bytes."""
MOST_HELD = 16 * 1024
"""Bytes of a response that may be held: of a larger one, its own sending is what takes time."""

BROKEN = socket.socket()
BROKEN.close()
"""A socket on which everything fails with EBADF."""
_NOBODY_ELSE = nullcontext()


@dataclass(slots=True)
class FilePiece:
    """A part of a file; `fd` is ours (a duplicate), so the application may close its own.

    `stored`: bytes of it that we have written ourselves, a response's rest.
    """

    fd: Fd
    offset: int
    remaining: int
    stored: int = 0


class Output:
    """The unsent rest of a response on one socket.

    Attributes:
        may_hold: whether a whole response waits for `release`, so that several go out together.
        held: such a response.
        is_pending: whether anything is unsent, but for that.
        has_begun: whether any of the response was given to it.
        size: bytes in memory that are not sent (pieces of files do not count: they take none).
    """

    __slots__ = (
        "_file", "_lock", "_overflow", "_pending", "_socket", "_stored", "has_begun", "held", "is_pending", "may_hold", "size",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, overflow: Overflow | None = None) -> None:
        self._socket = sock
        self._overflow = overflow
        self._lock: threading.RLock | None = None
        self._file: FilePiece | None = None
        self._stored = 0
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
        self.has_begun = True
        if self.may_hold and len(data) <= MOST_HELD:
            self.held = data
            return
        sent = 0
        if not self.is_pending:  # as `send`, without the call
            try:
                sent = self._socket.send(data, SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
        self._keep(data, sent)
        self._store_whole()

    def _store_whole(self) -> None:
        """Nobody waits for the client of a response that is there as a whole, so it may not stay in memory."""
        if self._overflow is not None and self.size > self._overflow.mark:
            self.store()

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
        elif self._file is not None:
            self._add(data)
            return
        self._keep(data, sent)

    def _keep(self, data: bytes, sent: int) -> None:
        rest = memoryview(data)[sent:]
        self._pending.append(rest)
        self.is_pending = True
        self.size += len(rest)

    def _add(self, data: bytes) -> None:
        """Send on a response that goes on in a file, and put `data` behind it."""
        with self._guard():
            self._flush()
            self._pending.append(memoryview(data))
            self.is_pending = True
            self.size += len(data)
            if self._file is not None:
                self._write_out()
            else:  # the file has been sent meanwhile
                self._flush()

    def store(self, *, is_shared: bool = False) -> bool:
        """Put what is in memory into a temporary file; what is sent from now on follows it there.

        Args:
            is_shared: whether another thread may `flush` while this one goes on to `send`.

        Returns:
            Whether nothing is left in memory.
        """
        overflow = self._overflow
        if overflow is None or not overflow.most:
            return False
        if is_shared and self._lock is None:
            self._lock = threading.RLock()
        with self._guard():
            if not self._pending:
                return True
            if self._file is None and not self._open_file(overflow):
                return False
            return self._write_out()

    def _guard(self) -> threading.RLock | nullcontext[None]:
        return self._lock or _NOBODY_ELSE

    def _open_file(self, overflow: Overflow) -> bool:
        """Begin a file in front of the bytes that are at the end of what is pending."""
        if overflow.most <= self._stored or (fd := overflow.open()) is None:
            return False
        self._socket.setblocking(False)  # sendfile(2) has no MSG_DONTWAIT
        self._file = FilePiece(fd=fd, offset=0, remaining=0)
        place = len(self._pending)
        while place and not isinstance(self._pending[place - 1], FilePiece):
            place -= 1
        self._pending.insert(place, self._file)
        return True

    def _write_out(self) -> bool:
        """Move the bytes behind the file into it, as long as there is room; True if none are left in memory."""
        file, overflow = self._file, self._overflow
        if file is None or overflow is None:
            return False
        place = self._pending.index(file) + 1
        while place < len(self._pending):
            piece = self._pending[place]
            if isinstance(piece, FilePiece):
                return False
            count = min(len(piece), overflow.most - self._stored)
            try:
                count = os.pwrite(file.fd, piece[:count], file.stored) if count > 0 else 0
            except OSError as error:
                overflow.complain(error)
                count = 0
            file.stored += count
            file.remaining += count
            self._stored += count
            self.size -= count
            if count < len(piece):
                self._pending[place] = piece[count:]
                if not count:
                    self._file = None  # full: what follows stays in memory, and has to wait
                    return False
            else:
                del self._pending[place]
        return True

    def send_file(self, fd: int, *, offset: int, count: int) -> None:
        """Send a part of a file; `fd` is duplicated.

        Raises:
            OSError: the connection is broken.
        """
        self.has_begun = True
        self._socket.setblocking(False)  # sendfile(2) has no MSG_DONTWAIT
        with self._guard():
            self._pending.append(FilePiece(fd=Fd(os.dup(fd)), offset=offset, remaining=count))
            self._file = None  # what follows comes behind it
            self.is_pending = True
            self._flush()

    def flush(self) -> bool:
        """Send what the socket takes now; True when nothing is left.

        Raises:
            OSError: the connection is broken, or a file has become shorter than promised.
        """
        if self._lock is None:
            return self._flush()
        with self._lock:
            return self._flush()

    def _flush(self) -> bool:
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
        with self._guard():
            while self._pending:
                piece = self._pending.popleft()
                if isinstance(piece, FilePiece):
                    os.close(piece.fd)
            self._file = None
        self._stored = 0
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
        if not piece.remaining:  # there was no room to write anything
            self._drop_file(piece)
            return True
        count = min(piece.remaining, MAX_SENDFILE_BYTES)
        sent = os.sendfile(self._socket.fileno(), piece.fd, piece.offset, count)
        if sent == 0:
            raise BrokenPipeError("a file has become shorter while it was sent")
        piece.offset += sent
        piece.remaining -= sent
        if piece.remaining:
            return False
        self._drop_file(piece)
        return True

    def _drop_file(self, piece: FilePiece) -> None:
        """A file has been sent, as far as it goes."""
        self._pending.popleft()
        os.close(piece.fd)
        self._stored -= piece.stored
        if piece is self._file:
            self._file = None


class Taken:
    """The output of a connection that the application has taken over: nothing is written any more."""

    size = 0
    held = b""
    is_pending = False
    has_begun = True

    def send(self, data: bytes) -> None:
        """Drop it."""

    send_whole = send

    def send_file(self, fd: Fd, *, offset: int, count: int) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""

    def break_off(self) -> None:
        """Do nothing."""
