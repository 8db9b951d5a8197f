"""`Logger`: a base for logger classes that people have written for gunicorn; and how lines reach such a class.

Used where `logging.logger_class` is set, in every process. A class need not inherit from `Logger`; it needs the methods
(`critical` to `debug`, `exception`, `log`, `access`, `reopen_files`) and a constructor that takes `cfg`. Whatever such a
class raises after it was made goes to standard error, never into a request.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from unicornd import escaping
from unicornd.observe import access as access_lines
from unicornd.observe.formats import MessageFormat, PatternFormat, facts_of
from unicornd.observe.logfile import STDERR, STDOUT, LogFile, OpenLog, own_handlers, write_at_once

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = {
    "critical": logging.CRITICAL, "error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO,
    "debug": logging.DEBUG,
}  # fmt: skip


class Logger:
    """gunicorn's logger interface, over Python's loggers `gunicorn.error` and `gunicorn.access`.

    Args:
        cfg: gunicorn's setting names as attributes.

    Attributes:
        error_log, access_log: Python's loggers.
        loglevel: the least level.
    """

    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"

    def __init__(self, cfg: Any) -> None:  # noqa: ANN401 - whatever has the names
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        self.error_log.propagate = self.access_log.propagate = False
        self.loglevel = logging.INFO
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - see above
        """Open the files that `cfg` names."""
        self.loglevel = LEVELS.get(str(cfg.loglevel).lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        error = LogFile(cfg.errorlog, STDERR, file=_open_already(cfg.errorlog))
        error.setFormatter(PatternFormat(self.error_fmt, self.datefmt))
        _replace(self.error_log, error)
        path = cfg.accesslog
        access = None if path is None else LogFile(path, STDOUT, file=_open_already(path))
        if access is not None:
            access.setFormatter(MessageFormat(self.access_fmt))
        _replace(self.access_log, access)

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at that level."""
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at that level."""
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at that level."""
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at that level."""
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at that level."""
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at level ERROR, with the exception that is being dealt with."""
        kwargs.setdefault("exc_info", True)
        self.error_log.error(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - logging's own
        """Log at a level, given as number or name."""
        level = LEVELS.get(lvl.lower(), logging.INFO) if isinstance(lvl, str) else lvl
        self.error_log.log(level, msg, *args, **kwargs)

    @property
    def access_log_enabled(self) -> bool:
        """Whether anybody wants the access log."""
        return bool(self.access_log.handlers)

    def atoms(self, *request: Any) -> Mapping[str, str | int]:  # noqa: ANN401 - response, request, environ, time
        """Return what a line can say (`resp, req, environ, request_time`), escaped; `-` for what is not there."""
        resp, _req, environ, request_time = request
        return access_lines.Atoms(
            access_lines.Request(
                environ=environ,
                status=str(resp.status),
                headers={str(name).lower(): str(value) for name, value in resp.headers},
                size=getattr(resp, "sent", None) or 0,
                seconds=request_time.total_seconds(),
            )
        )

    def access(self, *request: Any) -> None:  # noqa: ANN401 - response, request, environ, time
        """Log a request (`resp, req, environ, request_time`)."""
        if self.access_log_enabled:
            self.access_log.info(self.cfg.access_log_format, self.atoms(*request))

    def now(self) -> str:
        """Return the time in the access log's form."""
        return access_lines.logged_time(time.localtime())

    def reopen_files(self) -> None:
        """Open the files anew; every file of Python's loggers is opened anew anyway."""

    def close_on_exec(self) -> None:
        """They are."""


class Forward(logging.Handler):
    """Gives what unicornd logs to the operator's logger.

    Args:
        target: with gunicorn's interface.
    """

    def __init__(self, target: Any) -> None:  # noqa: ANN401 - a duck
        super().__init__()
        self.target = target
        self._inside = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Call `log` of the target; what it raises goes to standard error."""
        if getattr(self._inside, "is_there", False):  # it logs to our logger: once round is enough
            return
        self._inside.is_there = True
        try:
            self.target.log(
                record.levelno, "%s", record.getMessage(), exc_info=record.exc_info, extra=facts_of(record)
            )
        except Exception:  # noqa: BLE001 - somebody else's class
            complain()
        finally:
            self._inside.is_there = False

    def access(self, *request: object) -> None:
        """Call `access` of the target; what it raises goes to standard error."""
        try:
            self.target.access(*request)
        except Exception:  # noqa: BLE001 - somebody else's class
            complain()

    def reopen(self) -> None:
        """Have the target open its files anew."""
        reopen_files = getattr(self.target, "reopen_files", None)
        if reopen_files is not None:
            reopen_files()


def complain() -> None:
    """Write the exception that is being dealt with to standard error, past all loggers."""
    text = escaping.record(f"logging.logger_class raised:\n{traceback.format_exc()}") + "\n"
    write_at_once(text.encode("utf-8", "backslashreplace"))


def _open_already(path: str) -> OpenLog | None:
    """Return the file that the arbiter has opened for the log of that name: a worker may have no right to it."""
    files = (each.file for each in own_handlers() if isinstance(each, LogFile) and not each.is_owner)
    return next((each for each in files if each is not None and each.path == path and each.fd >= 0), None)


def _replace(logger: logging.Logger, sink: logging.Handler | None) -> None:
    old, logger.handlers[:] = list(logger.handlers), [] if sink is None else [sink]
    for each in old:
        each.close()
