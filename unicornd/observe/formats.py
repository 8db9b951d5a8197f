"""How log lines look: for people, for programs, and the access log's, which are made elsewhere.

Used by every process, in whatever thread logs. Nothing here opens or writes anything. Whatever is logged, a record can
neither look like two nor drive a terminal: control characters are escaped, and further lines are indented.
"""

from __future__ import annotations

import json
import logging
import time

from unicornd import escaping

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class ConsoleFormat(logging.Formatter):
    """Lines for people: `2026-11-23 12:00:00 +0000 [812] [INFO] worker is ready slot=1 pid=813`.

    Args:
        is_bare: without time and level, for syslog, which adds them: `[812] worker is ready slot=1 pid=813`.
    """

    def __init__(self, *, is_bare: bool = False) -> None:
        super().__init__()
        self._is_bare = is_bare

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the facts behind the message, and below it further lines and the traceback."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.created))
        facts = "".join(f" {key}={_shown(value)}" for key, value in facts_of(record).items())
        begin = (
            f"[{record.process}]" if self._is_bare else f"{moment} [{record.process}] [{record.levelname}]"
        )
        message, end, more = record.getMessage().partition("\n")
        line = f"{begin} {message}{facts}{end}{more}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return escaping.record(line)


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
        return escaping.json_text(json.dumps(line, default=str, ensure_ascii=False))


class MessageFormat(logging.Formatter):
    """The access log's: the message alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return escaping.record(record.getMessage())


class PatternFormat(logging.Formatter):
    """Lines by a pattern of `logging`, as the class of an operator gives it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback."""
        return escaping.record(super().format(record))


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_ATTRIBUTES}


def _shown(value: object) -> str:
    text = str(value)
    is_plain = text and text.isprintable() and not any(character in ' "=' for character in text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)
