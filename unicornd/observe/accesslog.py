"""The access log of one worker: a line a request, by the shortest way that has the effect.

Called by the thread that has served the request. The usual log, one file of ours and nobody's filter, is written without
a log record (a third of the time); whatever the application or the operator adds to the logger is honoured from the next
request on.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

from unicornd.escaping import json_text
from unicornd.observe import access
from unicornd.observe.formats import JsonFormat, MessageFormat
from unicornd.observe.logfile import LogFile

if TYPE_CHECKING:
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.observe.access import Request


class AccessLog:
    """Writes the access log.

    Args:
        log: `unicornd.access`.
        settings: format and form.
        slot: the worker's.
    """

    def __init__(self, log: logging.Logger, settings: LoggingSettings, *, slot: int) -> None:
        self._log = log
        self._format = settings.access.format
        self._line = access.compile_format(self._format)
        self._is_json = settings.format == "json"
        self._has_query = access.shows_query(self._format)
        self._slot = slot

    def write(self, request: Request) -> None:
        """Log a request."""
        sink = self._own_file()
        if self._is_json:
            fields = access.fields_of(request, slot=self._slot, has_query=self._has_query)
            if sink is None:
                self._log.info("request", extra=fields)
                return
            text = self._object(fields)
        elif sink is None:
            self._log.info(self._format, access.Atoms(request))  # filters of people read record.args["h"]
            return
        else:
            text = self._line(request)
        sink.write(text)

    def _own_file(self) -> LogFile | None:
        """Return the file if the log leads there and nowhere else, and nobody filters it."""
        log = self._log
        if len(log.handlers) != 1 or log.filters or log.propagate or log.disabled or log.level > logging.INFO:
            return None
        sink = log.handlers[0]
        is_own = type(sink) is LogFile and not sink.filters and type(sink.formatter) in _OWN_FORMATS
        return sink if is_own else None  # type: ignore[return-value] # just found to be one

    def _object(self, fields: dict[str, object]) -> str:
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        head = {"time": f"{moment}.{int(now % 1 * 1000):03d}Z", "logger": self._log.name}
        return json_text(json.dumps({**head, **fields}, default=str, ensure_ascii=False))


_OWN_FORMATS: frozenset[type[logging.Formatter]] = frozenset({JsonFormat, MessageFormat})
