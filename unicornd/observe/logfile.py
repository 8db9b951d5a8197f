"""Files that lines are appended to, and opening them anew when somebody has rotated them.

Opened by the arbiter, once for all processes of a generation: molds and workers inherit the descriptor, so they need no
right to the file. One write(2) a line to a file that is opened for appending, so lines of several processes do not mix.
Writing does not wait for whoever reads, and what cannot be written is kept for a while, then lost (`outlet`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from typing import TYPE_CHECKING

from unicornd.accounts import acting_as
from unicornd.files import open_log, own_descriptor
from unicornd.observe.outlet import Outlet, push_last

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from unicornd.accounts import Account
    from unicornd.observe.outlet import Loss

STANDARD_STREAM = "-"
STDOUT, STDERR = 1, 2
STREAM_NAMES = {STDOUT: "standard output", STDERR: "standard error"}
_ERROR_LOG = "unicornd"


def stream_of(path: str, default: int = STDERR) -> int | None:
    """Return the standard stream that a log's path means; None for a file.

    `/dev/stdout` is taken for the stream itself: to open it would fail if it is a socket (systemd) or another user's.

    Args:
        path: of the log.
        default: what `-` means.
    """
    number = default if path == STANDARD_STREAM else own_descriptor(path)
    return number if number in STREAM_NAMES else None


class OpenLog:
    """A log file that is open under a number, which stays the same when the file is opened anew.

    Attributes:
        path: of the file.
        fd: the number.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._inode = _inode(fd)

    @classmethod
    def open(cls, path: str, *, writer: Account | None = None) -> Self:
        """Open a file.

        Args:
            path: of the file.
            writer: whom the workers run as, if not as we.

        Raises:
            OSError: it cannot be opened, or root may not be led there (`files.UnsafeError`).
        """
        return cls(path, open_log(path, writer=writer))

    def renew(self, fd: int) -> None:
        """Let the number lead where `fd` leads, which the caller closes.

        Standard streams that lead to the old file follow to the new one: those of a daemon, and captured ones.

        Raises:
            OSError: there is no descriptor left.
        """
        if self.fd < 0:
            return
        for stream in [stream for stream in (STDOUT, STDERR) if is_same_file(stream, self.fd)]:
            os.dup2(fd, stream)
        if _inode(self.fd) == self._inode:
            os.dup2(fd, self.fd, inheritable=False)
        else:  # the application has closed it, and the number is somebody else's by now
            self.fd = os.dup(fd)
        self._inode = _inode(fd)

    def reopen(self) -> None:
        """Open the file anew, as a rotating program expects; on failure the old one is kept.

        Raises:
            OSError: it cannot be opened.
        """
        fd = open_log(self.path)
        try:
            self.renew(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0 and _inode(self.fd) == self._inode:
            os.close(self.fd)
        self.fd = -1


class LogFile(logging.Handler):
    """Appends lines to a file, or to a standard stream.

    Args:
        path: of the file, or `-`.
        stream: descriptor of the standard stream that `-` means.
        file: open already; None to open it here.
        is_owner: whether it is to be opened anew and closed here, though it was open already.

    Attributes:
        file: where lines go; None for a standard stream.
        is_owner: whether it is opened anew and closed here.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self, path: str, stream: int, *, file: OpenLog | None = None, is_owner: bool = False
    ) -> None:
        super().__init__()
        self.path = path
        self.is_owner = is_owner or file is None
        named = stream_of(path, stream)
        self.file = OpenLog.open(path) if file is None and named is None else file
        self._fd = self.file.fd if self.file is not None else named if named is not None else stream
        self.outlet = Outlet(
            self._fd,
            log="error" if stream == STDERR else "access",
            place=path if self.file is not None else STREAM_NAMES[self._fd],
            tell=tell_loss,
        )

    @property
    def fd(self) -> int:
        """The descriptor that lines go to; others may write to it, too, and wait."""
        return self._fd

    @fd.setter
    def fd(self, fd: int) -> None:
        self._fd = fd
        self.outlet.lead_to(fd)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; what cannot be written is kept or lost."""
        if not record.msg and hasattr(record, "metric"):
            return  # a number for statsd, with nothing to read
        with contextlib.suppress(Exception):  # a bad format argument must not fail a request
            self.write(self.format(record))

    def write(self, line: str) -> None:
        """Write one line; never waits, never raises OSError."""
        self.outlet.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def renew(self, given: Mapping[str, int]) -> None:
        """Lead to the file that was opened anew: by the arbiter, or here if it was opened here.

        Args:
            given: path → descriptor.

        Raises:
            OSError: it cannot be opened; the old one is kept.
        """
        if self.file is None:
            return
        if self.path in given:
            self.file.renew(given[self.path])
        elif self.is_owner:
            self.file.reopen()
        self.fd = self.file.fd

    def close(self) -> None:
        """Close the file if it was opened here.

        What others share stays open: `logging.config.dictConfig` closes every handler of the process, also those that go on,
        and faulthandler has the number of the outlet's descriptor, which may be somebody's connection afterwards.
        """
        self.outlet.push()
        if self.file is not None and self.is_owner:
            self.let_go()
            self.file.close()
            self._fd = -1
        super().close()

    def let_go(self) -> None:
        """Write nothing any more; what was kept is lost."""
        self.outlet.close()


def tell_loss(loss: Loss) -> None:
    """Say in the error log that lines were lost, in any of the logs.

    By any thread, perhaps not one that the worker's kind knows of: our own handlers need no lock for it.
    """
    log = logging.getLogger(_ERROR_LOG)
    if not log.isEnabledFor(logging.WARNING):
        return
    fields = {"name": _ERROR_LOG, "msg": str(loss), "levelno": logging.WARNING, "levelname": "WARNING"}
    record = logging.makeLogRecord({**fields, "log": loss.log, "lost": loss.lines})
    for handler in log.handlers:
        if isinstance(handler, LogFile):
            handler.emit(record)
        else:
            handler.handle(record)


def write_at_once(text: bytes, *, is_last: bool = False) -> None:
    """Write to standard error past all loggers, as far as it is taken.

    Args:
        text: whole lines.
        is_last: the process ends: give a reader a moment.
    """
    outlet = Outlet(STDERR, log="error", place=STREAM_NAMES[STDERR], tell=lambda _loss: None)
    outlet.write(text)
    if is_last:
        push_last()
    outlet.close()


class InTheirName(logging.Handler):
    """In an arbiter that is root: a handler that opens, renames or removes files whenever it pleases (`RotatingFileHandler`).

    Args:
        inner: used in the name of the workers' user, so that it can do what that user can, and no more.
        writer: that user.
    """

    def __init__(self, inner: logging.FileHandler, writer: Account) -> None:
        super().__init__(inner.level)
        self._inner = inner
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Have the handler write the line."""
        with contextlib.suppress(OSError), acting_as(self._writer):
            self._inner.handle(record)

    def reopen(self) -> None:
        """Open the file anew.

        Raises:
            OSError: it cannot be opened; the old one is kept.
        """
        with acting_as(self._writer):
            reopen_foreign(self._inner)

    def close(self) -> None:
        """Close the handler."""
        with contextlib.suppress(OSError), acting_as(self._writer):
            self._inner.close()
        super().close()


def put_in_their_name(writer: Account) -> None:
    """Have every handler of this process that opens files by itself do it in the name of the workers' user."""
    made: dict[int, InTheirName] = {}
    for logger in own_loggers():
        for place, handler in enumerate(logger.handlers):
            if isinstance(handler, logging.FileHandler):
                wrapped = made.setdefault(id(handler), InTheirName(handler, writer))
                logger.handlers[place] = wrapped


def _inode(fd: int) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.fstat(fd)
        return found.st_dev, found.st_ino
    return None


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same regular file."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


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
    return list({id(each): each for log in own_loggers() for each in log.handlers}.values())


def own_loggers() -> list[logging.Logger]:
    """Return every logger in this process."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    return [each for each in loggers if isinstance(each, logging.Logger)]


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
