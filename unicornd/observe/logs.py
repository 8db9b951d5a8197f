"""The error log and the access log: two loggers, written by arbiter and workers alike.

`unicornd` has the life of the fleet and the failures of requests, `unicornd.access` one line a request. They are known
as `gunicorn.error` and `gunicorn.access`, too: the same loggers under the names that people have in their files. Where
lines go is decided here (files, standard streams, syslog); `logbook` lets the operator's own configuration in.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING

from unicornd.errors import ConfigError
from unicornd.files import open_log
from unicornd.observe.formats import ConsoleFormat, JsonFormat, MessageFormat
from unicornd.observe.logfile import (
    STDERR,
    STDOUT,
    InTheirName,
    LogFile,
    OpenLog,
    capture,
    own_handlers,
    reopen_foreign,
    stream_of,
)
from unicornd.observe.logger import Forward
from unicornd.observe.steady import own_logger
from unicornd.observe.streams import unblock
from unicornd.observe.syslog import Syslog, parse_address
from unicornd.walk import UnsafeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unicornd.accounts import Account
    from unicornd.config.sections.logging import LoggingSettings

ERROR_LOG = "unicornd"
ACCESS_LOG = "unicornd.access"
GUNICORN_NAMES = {"gunicorn.error": ERROR_LOG, "gunicorn.access": ACCESS_LOG}

__all__ = ["ACCESS_LOG", "ERROR_LOG", "ErrorStream", "configure", "reopen", "stream_of"]


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


def open_files(settings: LoggingSettings, *, writer: Account | None = None) -> dict[str, OpenLog]:
    """Open the log files of a generation, for all its processes.

    Args:
        settings: [logging].
        writer: whom the workers run as, if not as we.

    Returns:
        Path → file; empty if both logs are standard streams.

    Raises:
        ConfigError: a file cannot be opened.
    """
    opened: dict[str, OpenLog] = {}
    for key, path in (("logging.error", settings.error), ("logging.access.file", settings.access.file)):
        if path is None or stream_of(path) is not None or path in opened:
            continue
        try:
            opened[path] = OpenLog.open(path, writer=writer)
        except (OSError, ValueError) as error:
            close_files(opened.values())
            raise _not_opened(key, path, error=error) from error
    return opened


def close_files(files: Iterable[OpenLog]) -> None:
    """Close what `open_files` has opened."""
    for file in files:
        file.close()


def configure(settings: LoggingSettings, *, files: Mapping[str, OpenLog] | None = None) -> None:
    """Let the logs lead where `settings` says; the old ones go only when the new ones are there.

    Args:
        settings: [logging].
        files: open already, by path; None to open them here.

    Raises:
        ConfigError: a file cannot be opened.
    """
    is_owner = files is None
    files = open_files(settings) if files is None else files
    old = log_files()
    former = [each.file for each in old if each.file is not None]
    error = LogFile(settings.error, STDERR, file=files.get(settings.error), is_owner=is_owner)
    path = settings.access.file
    access = None if path is None else LogFile(path, STDOUT, file=files.get(path), is_owner=is_owner)
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
    _go_on(old, [error] if access is None else [error, access])
    set_aliases(are_there=True)
    install(ERROR_LOG, errors, level=settings.level.upper())
    install(ACCESS_LOG, accesses, level="INFO")
    kept = {id(each) for each in files.values()}
    close_files(each for each in former if id(each) not in kept)
    if settings.capture_output:
        capture(error.fd)
        for each in log_files():
            each.fd = each.fd  # standard output leads elsewhere now


def _go_on(old: Iterable[LogFile], new: Iterable[LogFile]) -> None:
    """Have what could not be written yet written by the new log of the same kind and place."""
    for former in old:
        for each in new:
            if (each.path, each.outlet.log) == (former.path, former.outlet.log):
                each.outlet.take_over(former.outlet)


def install(name: str, sinks: Sequence[logging.Handler], *, level: str) -> None:
    """Let a logger write to `sinks` and nowhere else; what it wrote to is closed."""
    logger = own_logger(name)
    old = [sink for sink in logger.handlers if sink not in sinks]
    logger.handlers[:] = sinks
    logger.setLevel(level)
    logger.propagate = False
    logger.disabled = False
    for handler in old:
        with contextlib.suppress(Exception):  # it may be the operator's
            handler.close()
            if isinstance(handler, LogFile):
                handler.let_go()


def enable_again() -> list[str]:
    """Undo what `disable_existing_loggers`, which is logging.config's default, does to our loggers; return their names.

    What somebody has configured of them by name stays as it is.
    """
    disabled = [name for name in (ERROR_LOG, ACCESS_LOG) if logging.getLogger(name).disabled]
    for name in disabled:
        logging.getLogger(name).disabled = False
    unblock(logging.getLogger(ERROR_LOG).handlers + logging.getLogger(ACCESS_LOG).handlers)
    return disabled


def set_aliases(*, are_there: bool) -> None:
    """Make gunicorn's names those of our loggers, or let them be loggers of their own again.

    The access log's parent is the root, as gunicorn's is: a configuration that lets its lines through does not mean the
    handlers of the error log.
    """
    logging.getLogger(ACCESS_LOG).parent = logging.getLogger()
    known = logging.Logger.manager.loggerDict
    for alias, name in GUNICORN_NAMES.items():
        logger = logging.getLogger(name)
        if are_there:
            known[alias] = logger
        elif known.get(alias) is logger:
            del known[alias]


def check_files(settings: LoggingSettings, *, writer: Account | None) -> None:
    """Open every file once, so that a wrong one is told before anything is changed.

    Raises:
        ConfigError: a file cannot be opened, or an address is none.
    """
    close_files(open_files(settings, writer=writer).values())
    parse_address(settings.syslog.address)


def opened_anew(paths: Iterable[str], *, writer: Account | None) -> tuple[dict[str, int], dict[str, str]]:
    """Open log files anew, in the arbiter; what cannot be opened is logged and left out.

    Returns:
        Path → descriptor, and for the others path → why.
    """
    given: dict[str, int] = {}
    failed: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        try:
            given[path] = open_log(path, writer=writer)
        except OSError as error:
            _tell_failure(path, error)
            failed[path] = error.strerror or str(error)
    return given, failed


def reopen(given: Mapping[str, int] | None = None, *, files: Iterable[OpenLog] = ()) -> None:
    """Open all log files anew (USR1): ours, and those of every logger in the process.

    Args:
        given: path → descriptor of what the arbiter has opened for everybody; the caller closes them.
        files: that no logger has.
    """
    given = given or {}
    shared = {id(each.file): each.file for each in own_handlers() if isinstance(each, LogFile) and each.file}
    for file in files:
        if file.path in given and id(file) not in shared:
            file.renew(given[file.path])
    done: set[int] = set()
    for handler in own_handlers():
        try:
            match handler:
                case LogFile() if id(handler.file) in done and handler.file is not None:
                    handler.fd = handler.file.fd
                case LogFile():
                    done.add(id(handler.file))
                    handler.renew(given)
                case Forward() | InTheirName():
                    handler.reopen()
                case logging.FileHandler():
                    reopen_foreign(handler)
                case _:
                    pass
        except OSError as error:
            _tell_failure(getattr(handler, "path", "") or getattr(handler, "baseFilename", ""), error)
        except Exception:
            logging.getLogger(ERROR_LOG).exception("cannot reopen a log")


def _tell_failure(path: str, error: OSError) -> None:
    facts = {"file": path, "why": error.strerror or str(error)}
    logging.getLogger(ERROR_LOG).error("cannot reopen a log", extra=facts)


def log_files() -> list[LogFile]:
    """Return the open logs that are files of ours."""
    handlers = (*logging.getLogger(ERROR_LOG).handlers, *logging.getLogger(ACCESS_LOG).handlers)
    return [handler for handler in handlers if isinstance(handler, LogFile)]


def push() -> None:
    """Send what a syslog daemon had not taken yet, as far as it takes it now."""
    for handler in (*logging.getLogger(ERROR_LOG).handlers, *logging.getLogger(ACCESS_LOG).handlers):
        if isinstance(handler, Syslog):
            handler.push()


def error_fd() -> int:
    """Return the descriptor of the error log, for what is printed."""
    files = _error_files()
    return files[0].fd if files else STDERR


def _error_files() -> list[LogFile]:
    return [handler for handler in logging.getLogger(ERROR_LOG).handlers if isinstance(handler, LogFile)]


def _syslog(settings: LoggingSettings, which: str) -> Syslog:
    syslog = settings.syslog
    name = f"{ERROR_LOG}.{syslog.prefix.replace(':', '.')}" if syslog.prefix else ERROR_LOG
    sink = Syslog(parse_address(syslog.address), facility=syslog.facility, program=f"{name}.{which}")
    if settings.format == "json":
        sink.setFormatter(JsonFormat())
    else:
        sink.setFormatter(MessageFormat() if which == "access" else ConsoleFormat(is_bare=True))
    return sink


def _not_opened(key: str, path: str, *, error: Exception) -> ConfigError:
    if isinstance(error, UnsafeError):
        return ConfigError(f"{key}: cannot open {path}: {error.what}", hint=error.advice)
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(f"{key}: cannot open {path}: {reason}", hint="check the folder and its permissions")
