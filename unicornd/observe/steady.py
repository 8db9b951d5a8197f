"""The class of our loggers: whatever is done to `logging` as a whole, a line of ours is logged, and logging it never raises.

An application may set a record factory that only works inside a request (a request's number, taken from flask.g), add a
filter that raises, or call `logging.disable`. We log from pollers, signal handlers and the end of the process.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from unicornd import escaping
from unicornd.observe.logfile import write_at_once


class Steady(logging.Logger):
    """A logger that depends on nobody else's code."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Whether the operator's level lets it through; `logging.disable` is the application's word for its own lines."""
        return not self.disabled and level >= self.getEffectiveLevel()

    def makeRecord(self, *said: Any, **more: Any) -> logging.LogRecord:  # noqa: ANN401, N802 - logging's own
        """Make a record as the application wants all of them to be, or else a plain one."""
        try:
            record: object = super().makeRecord(*said, **more)
            if isinstance(record, logging.LogRecord):
                return record
        except Exception:  # noqa: BLE001 - the factory is anybody's
            complain()
        return _plain(*said, **more)

    def handle(self, record: logging.LogRecord) -> None:
        """Give it to the handlers; a filter that raises lets it through."""
        if self.disabled:
            return
        try:
            is_wanted: object = self.filter(record)
        except Exception:  # noqa: BLE001 - as above
            complain()
            is_wanted = True
        if not is_wanted:
            return
        try:
            self.callHandlers(record if is_wanted is True else is_wanted)  # type: ignore[arg-type] # since 3.12, a filter may return another one
        except Exception:  # noqa: BLE001 - of a handler that is not ours
            complain()


_told: set[str] = set()
_MOST_TOLD = 10


def _plain(*said: Any, extra: Any = None, **more: Any) -> logging.LogRecord:  # noqa: ANN401 - as above
    """Make a record of what `Logger._log` gives: name to exc_info, then func and extra."""
    to_exc_info, rest = said[:7], said[7:]
    func = rest[0] if rest else None
    make: Any = logging.LogRecord
    record: logging.LogRecord = make(*to_exc_info, func, **more)
    vars(record).update((rest[1] if len(rest) > 1 else extra) or {})
    return record


def complain() -> None:
    """Write the exception that is being dealt with to standard error, past all loggers; each place once."""
    text = traceback.format_exc()
    if text not in _told and len(_told) < _MOST_TOLD:
        _told.add(text)
        line = escaping.record(f"what the application has changed in logging raised:\n{text}") + "\n"
        write_at_once(line.encode("utf-8", "backslashreplace"))


def own_logger(name: str) -> logging.Logger:
    """Return a logger of ours."""
    logger = logging.getLogger(name)
    if type(logger) is logging.Logger:
        logger.__class__ = Steady
    return logger
