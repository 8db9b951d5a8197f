"""Writing to a descriptor that others have, too, without ever waiting, and without changing it for them.

Used by every process for its logs. O_NONBLOCK is a flag of the open file, which the starter of this process, its other
children and the application's prints share; so it is set on a file that is opened anew for us alone (through
/proc/self/fd), never on what we were given. What cannot be opened anew is written to by calls that do not wait by
themselves. Held on to as they are before a library of greenlets patches them: eventlet's `os.write` waits in its hub.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import termios
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL
from _socket import socket as new_socket
from contextlib import suppress
from functools import partial
from os import pwritev, write
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[[bytes], int]

F_GETPIPE_SZ = 1032
PAGE = os.sysconf("SC_PAGESIZE")
PIPE_BUF = select.PIPE_BUF
NO_LIMIT = 1 << 62
_new_poll = select.poll


class Target:
    """Where bytes are put.

    Args:
        fd: open for writing; it stays whose it is.

    Attributes:
        put: writes what it is given, as far as that does not wait; returns how much, raises BlockingIOError if nothing, and
            OSError.
        most: how many bytes it takes whole or not at all, whoever else writes.
        is_file: whether what is put in is kept by the kernel or a disk, rather than read by somebody.
    """

    put: Put

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._own = -1
        self._socket: new_socket | None = None
        self.most = NO_LIMIT
        self._settle(os.fstat(fd).st_mode)
        self.is_pipe = self.most == PIPE_BUF

    def _settle(self, mode: int) -> None:
        """Find the way."""
        fd = self._fd
        self.is_file = not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or _is_terminal(fd, mode))
        if self.is_file:
            self.put = partial(write, fd)
            return
        if stat.S_ISSOCK(mode):  # as under systemd
            self._socket = _joined(fd)
            self._own = self._socket.fileno()
            self.put = lambda data, send=self._socket.send: send(data, MSG_DONTWAIT | MSG_NOSIGNAL)  # type: ignore[misc] # bound once
            return
        if stat.S_ISFIFO(mode):
            self.most = PIPE_BUF
        with suppress(OSError):  # somebody else's pipe or terminal: the starter was another user
            self._own = os.open(
                f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            )
        if self._own >= 0:
            self.put = partial(write, self._own)
        else:
            self.put = self._put_at_once if stat.S_ISFIFO(mode) else self._put_polled

    def has_room(self, length: int) -> bool:
        """Whether a pipe takes so many bytes at one go; it may say no though it would.

        A pipe is a row of pages, and a write that does not fit into the rest of the last one begins a new one. Two pages that
        follow each other hold more than one page's worth, so what is in the pipe tells how many there are at most.
        """
        try:
            waiting = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4), "little")
            pages = fcntl.fcntl(self._fd, F_GETPIPE_SZ) // PAGE
        except OSError:
            return True
        return not waiting or 2 * waiting // PAGE + 1 + -(-length // PAGE) + 1 <= pages

    def is_whole(self) -> bool:
        """Whether a file ends with a line feed: False if that cannot be seen."""
        with suppress(OSError):
            fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                return not size or os.pread(fd, 1, size - 1) == b"\n"
            finally:
                os.close(fd)
        return False

    def close(self) -> None:
        """Let go of what was opened here."""
        own, self._own = self._own, -1
        if self._socket is not None:
            self._socket.close()
        elif own >= 0:
            with suppress(OSError):
                os.close(own)

    def _put_at_once(self, data: bytes) -> int:
        """For pipes: since Linux 6.4, a call may say for itself that it does not wait."""
        try:
            return pwritev(self._fd, (data,), -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        self.put = self._put_polled
        return self._put_polled(data)

    def _put_polled(self, data: bytes) -> int:
        """Look whether there is room, then write no more than fits: it waits only if others fill it in between."""
        poller = _new_poll()
        poller.register(self._fd, select.POLLOUT)
        if not poller.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return write(self._fd, data[:PIPE_BUF])


def _is_terminal(fd: int, mode: int) -> bool:
    return stat.S_ISCHR(mode) and os.isatty(fd)


def _joined(fd: int) -> new_socket:
    """Return a socket object of our own for a descriptor, whose open file stays as it was."""
    was_blocking = os.get_blocking(fd)
    made = new_socket(fileno=os.dup(fd))
    os.set_blocking(fd, was_blocking)  # socket.setdefaulttimeout would have changed it
    return made
