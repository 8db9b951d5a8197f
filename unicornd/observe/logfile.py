"""Files that lines are appended to, and opening them anew when somebody has rotated them.

Used by arbiter, molds and workers, each with descriptors of its own. One write(2) a line to a file that is opened for
appending, so lines of several processes do not mix. What cannot be written is lost; the caller is not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys

STANDARD_STREAM = "-"
STDOUT, STDERR = 1, 2


class LogFile(logging.Handler):
    """Appends lines to a file, or to a standard stream.

    Args:
        path: of the file, or `-`.
        stream: descriptor of the standard stream that `-` means.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, stream: int) -> None:
        super().__init__()
        self.path = path
        self._stream = stream
        self.fd = self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; what cannot be written is lost."""
        if not record.msg and hasattr(record, "metric"):
            return  # a number for statsd, with nothing to read
        with contextlib.suppress(Exception):  # a full disk or a bad format argument must not fail a request
            self.write(self.format(record))

    def write(self, line: str) -> None:
        """Write one line.

        Raises:
            OSError: it cannot be written.
        """
        os.write(self.fd, line.encode("utf-8", "backslashreplace") + b"\n")

    def reopen(self) -> None:
        """Open the file anew, as a rotating program expects; on failure the old one is kept.

        Standard streams that lead to the old file follow to the new one: those of a daemon, and captured ones.

        Raises:
            OSError: it cannot be opened.
        """
        if self.path == STANDARD_STREAM:
            return
        fd = self._open()
        followers = [stream for stream in (STDOUT, STDERR) if is_same_file(stream, self.fd)]
        for stream in followers:
            os.dup2(fd, stream)
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)

    def close(self) -> None:
        """Close the file."""
        if self.path != STANDARD_STREAM and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        super().close()

    def _open(self) -> int:
        if self.path == STANDARD_STREAM:
            return self._stream
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same regular file."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def give(fd: int, *, uid: int, gid: int) -> None:
    """Make a worker's user own a log file, so that it can reopen it; devices and pipes stay whose they are."""
    with contextlib.suppress(OSError):  # a file system that knows no owners
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)


def capture(fd: int) -> None:
    """Let standard output and error lead to a log, and have Python write what is printed line by line."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    for number in {STDOUT, STDERR} - {fd}:
        os.dup2(fd, number)
    line_by_line()


def line_by_line() -> None:
    """Have Python write what is printed line by line, whatever standard output is."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)


def own_handlers() -> list[logging.Handler]:
    """Return every handler of every logger in this process, each once."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = {id(each): each for log in loggers if isinstance(log, logging.Logger) for each in log.handlers}
    return list(found.values())


def reopen_foreign(handler: logging.FileHandler) -> None:
    """Open the file of a handler that a logging configuration made, or the application (rotating ones are such, too).

    Raises:
        OSError: it cannot be opened; the old one is kept.
    """
    handler.acquire()
    try:
        old = handler.stream
        if old is None:  # opened with the first line
            return
        handler.stream = handler._open()  # noqa: SLF001 - there is no public way; gunicorn's documented behaviour
        old.close()
    finally:
        handler.release()
