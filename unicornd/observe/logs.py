"""The error log and the access log: two loggers, written by arbiter and workers alike.

`unicornd` has the life of the fleet and the failures of requests, `unicornd.access` one line a request. They are known
as `gunicorn.error` and `gunicorn.access`, too: the same loggers under the names that people have in their files. Where
lines go is decided here (files, standard streams, syslog); `logbook` lets the operator's own configuration in.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from typing import TYPE_CHECKING

from unicornd.errors import ConfigError
from unicornd.observe.formats import ConsoleFormat, JsonFormat, MessageFormat
from unicornd.observe.logfile import (
    STANDARD_STREAM,
    STDERR,
    STDOUT,
    LogFile,
    capture,
    give,
    own_handlers,
    reopen_foreign,
)
from unicornd.observe.logger import Forward
from unicornd.observe.syslog import Syslog, parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.sections.logging import LoggingSettings

ERROR_LOG = "unicornd"
ACCESS_LOG = "unicornd.access"
GUNICORN_NAMES = {"gunicorn.error": ERROR_LOG, "gunicorn.access": ACCESS_LOG}

__all__ = ["ACCESS_LOG", "ERROR_LOG", "STANDARD_STREAM", "ErrorStream", "configure", "reopen"]


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
    error = _opened(settings.error, STDERR, key="logging.error")
    try:
        access = _access_file(settings)
    except ConfigError:
        error.close()
        raise
    is_json = settings.format == "json"
    error.setFormatter(JsonFormat() if is_json else ConsoleFormat())
    if access is not None:
        access.setFormatter(JsonFormat() if is_json else MessageFormat())
    errors: list[logging.Handler] = [error]
    accesses: list[logging.Handler] = [] if access is None else [access]
    if settings.syslog.enabled:
        errors.append(_syslog(settings, "error"))
        if settings.syslog.access:
            accesses.append(_syslog(settings, "access"))
    set_aliases(are_there=True)
    install(ERROR_LOG, errors, level=settings.level.upper())
    install(ACCESS_LOG, accesses, level="INFO")
    if settings.capture_output:
        capture(error.fd)


def install(name: str, sinks: Sequence[logging.Handler], *, level: str) -> None:
    """Let a logger write to `sinks` and nowhere else; what it wrote to is closed."""
    logger = logging.getLogger(name)
    old = [sink for sink in logger.handlers if sink not in sinks]
    logger.handlers[:] = sinks
    logger.setLevel(level)
    logger.propagate = False
    logger.disabled = False
    for handler in old:
        with contextlib.suppress(Exception):  # it may be the operator's
            handler.close()


def set_aliases(*, are_there: bool) -> None:
    """Make gunicorn's names those of our loggers, or let them be loggers of their own again."""
    known = logging.Logger.manager.loggerDict
    for alias, name in GUNICORN_NAMES.items():
        logger = logging.getLogger(name)
        if are_there:
            known[alias] = logger
        elif known.get(alias) is logger:
            del known[alias]


def check_files(settings: LoggingSettings) -> None:
    """Open every file once, so that a wrong one is told before anything is changed.

    Raises:
        ConfigError: a file cannot be opened, or an address is none.
    """
    for key, path in (("logging.error", settings.error), ("logging.access.file", settings.access.file)):
        if path is not None:
            _opened(path, STDERR, key=key).close()
    parse_address(settings.syslog.address)


def reopen() -> None:
    """Open all log files anew (USR1): ours, and those of every logger in the process."""
    for handler in own_handlers():
        try:
            match handler:
                case LogFile() | Forward():
                    handler.reopen()
                case logging.FileHandler():
                    reopen_foreign(handler)
                case _:
                    pass
        except OSError as error:
            why = error.strerror or str(error)
            file = getattr(handler, "path", "") or getattr(handler, "baseFilename", "")
            logging.getLogger(ERROR_LOG).error("cannot reopen a log", extra={"file": file, "why": why})  # noqa: TRY400 - a fact
        except Exception:
            logging.getLogger(ERROR_LOG).exception("cannot reopen a log")


def log_files() -> list[LogFile]:
    """Return the open logs that are files of ours."""
    handlers = (*logging.getLogger(ERROR_LOG).handlers, *logging.getLogger(ACCESS_LOG).handlers)
    return [handler for handler in handlers if isinstance(handler, LogFile)]


def give_files_to(uid: int, gid: int) -> None:
    """Make a worker's user own the log files, ours and the operator's, so that it can reopen them."""
    if os.geteuid() != 0:
        return
    for handler in own_handlers():
        if isinstance(handler, LogFile) and handler.path != STANDARD_STREAM:
            give(handler.fd, uid=uid, gid=gid)
        elif isinstance(handler, logging.FileHandler) and handler.stream is not None:
            give(handler.stream.fileno(), uid=uid, gid=gid)


def push() -> None:
    """Send what a syslog daemon had not taken yet, as far as it takes it now."""
    for handler in (*logging.getLogger(ERROR_LOG).handlers, *logging.getLogger(ACCESS_LOG).handlers):
        if isinstance(handler, Syslog):
            handler.push()


def error_fd() -> int:
    """Return the descriptor of the error log, for writers that cannot use Python (faulthandler)."""
    files = [handler for handler in logging.getLogger(ERROR_LOG).handlers if isinstance(handler, LogFile)]
    return files[0].fd if files else STDERR


def _access_file(settings: LoggingSettings) -> LogFile | None:
    if settings.access.file is None:
        return None
    return _opened(settings.access.file, STDOUT, key="logging.access.file")


def _syslog(settings: LoggingSettings, which: str) -> Syslog:
    syslog = settings.syslog
    name = f"{ERROR_LOG}.{syslog.prefix.replace(':', '.')}" if syslog.prefix else ERROR_LOG
    sink = Syslog(parse_address(syslog.address), facility=syslog.facility, program=f"{name}.{which}")
    if settings.format == "json":
        sink.setFormatter(JsonFormat())
    else:
        sink.setFormatter(MessageFormat() if which == "access" else ConsoleFormat(is_bare=True))
    return sink


def _opened(path: str, stream: int, *, key: str) -> LogFile:
    try:
        return LogFile(path, stream)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{key}: cannot open {path}: {reason}", hint="check the folder and its permissions"
        ) from error
