"""The error log and the access log: two loggers, written by arbiter and workers alike.

`unicornd` has the life of the fleet and the failures of requests, `unicornd.access` one line a request. Both write with
one write(2) a line to a file that is opened for appending, so lines of several processes do not mix. A log that cannot
be written is no reason to fail a request: the line is lost, the caller is not.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from unicornd.config.sections.logging import LoggingSettings

ERROR_LOG = "unicornd"
ACCESS_LOG = "unicornd.access"
STANDARD_STREAM = "-"

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
        with contextlib.suppress(Exception):  # a full disk or a bad format argument must not fail a request
            os.write(self.fd, self.format(record).encode("utf-8", "backslashreplace") + b"\n")

    def reopen(self) -> None:
        """Open the file anew, as a rotating program expects; on failure the old one is kept."""
        if self.path == STANDARD_STREAM:
            return
        try:
            fd = self._open()
        except OSError as error:
            why = error.strerror or str(error)
        else:
            os.dup2(fd, self.fd, inheritable=False)
            os.close(fd)
            return
        logging.getLogger(ERROR_LOG).error("cannot reopen a log", extra={"file": self.path, "why": why})

    def give_to(self, uid: int, gid: int) -> None:
        """Make a worker's user own the file, so that it can reopen it."""
        if self.path != STANDARD_STREAM and os.geteuid() == 0:
            os.fchown(self.fd, uid, gid)

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


class ConsoleFormat(logging.Formatter):
    """Lines for people: `2026-11-23 12:00:00 +0000 [812] [INFO] worker is ready slot=1 pid=813`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the facts behind the message and the traceback below."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.created))
        facts = "".join(f" {key}={_shown(value)}" for key, value in facts_of(record).items())
        line = f"{moment} [{record.process}] [{record.levelname}] {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """One JSON object a line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: time (RFC 3339), level, pid, logger, message, facts, traceback."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **facts_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class MessageFormat(logging.Formatter):
    """The access log's: the message alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return record.getMessage()


class ErrorStream(io.TextIOBase):
    """`wsgi.errors`: what an application writes there goes to the error log, line by line, and never raises."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def write(self, text: str, /) -> int:
        """Log each line of `text`."""
        for line in text.splitlines():
            if line.strip():
                self._log.error("%s", line)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True


def configure(settings: LoggingSettings) -> None:
    """Open the logs anew as `settings` says; the old ones go only when the new ones are there.

    Raises:
        ConfigError: a file cannot be opened.
    """
    error = _opened(settings.error, sys.__stderr__, key="logging.error")
    error.setFormatter(JsonFormat() if settings.format == "json" else ConsoleFormat())
    _install(ERROR_LOG, error, level=settings.level.upper())
    if settings.access.file is not None:
        access = _opened(settings.access.file, sys.__stdout__, key="logging.access.file")
        access.setFormatter(JsonFormat() if settings.format == "json" else MessageFormat())
        _install(ACCESS_LOG, access, level="INFO")


def check_files(settings: LoggingSettings) -> None:
    """Open every file once, so that a wrong one is told before anything is changed.

    Raises:
        ConfigError: a file cannot be opened.
    """
    for key, path in (("logging.error", settings.error), ("logging.access.file", settings.access.file)):
        if path is not None:
            _opened(path, None, key=key).close()


def reopen() -> None:
    """Open all log files anew (USR1)."""
    for log_file in log_files():
        log_file.reopen()


def log_files() -> list[LogFile]:
    """Return the open logs."""
    handlers = (*logging.getLogger(ERROR_LOG).handlers, *logging.getLogger(ACCESS_LOG).handlers)
    return [handler for handler in handlers if isinstance(handler, LogFile)]


def error_fd() -> int:
    """Return the descriptor of the error log, for writers that cannot use Python (faulthandler)."""
    files = [handler for handler in logging.getLogger(ERROR_LOG).handlers if isinstance(handler, LogFile)]
    return files[0].fd if files else 2


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_ATTRIBUTES}


def _opened(path: str, stream: io.TextIOBase | object, *, key: str) -> LogFile:
    fileno = getattr(stream, "fileno", None)
    try:
        return LogFile(path, fileno() if callable(fileno) else 2)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{key}: cannot open {path}: {reason}", hint="check the folder and its permissions"
        ) from error


def _install(name: str, log_file: LogFile, *, level: str) -> None:
    logger = logging.getLogger(name)
    old = list(logger.handlers)
    logger.handlers[:] = [log_file]
    logger.setLevel(level)
    logger.propagate = False
    for handler in old:
        handler.close()


def _shown(value: object) -> str:
    text = str(value)
    is_plain = text and text.isprintable() and not any(character in ' "=' for character in text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)
