"""Standard streams for the handlers of the operator's own logging: `logging.StreamHandler` writes there without waiting, too.

Used by arbiter and workers when the operator's configuration has been applied. Only handlers are given such a stream;
`sys.stdout` and `sys.stderr` stay as they are, and what is printed there waits as any program's output does.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import TYPE_CHECKING

from unicornd.observe.logfile import STREAM_NAMES, tell_loss
from unicornd.observe.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Iterable


class LogStream(io.TextIOBase):
    """A standard stream that keeps nobody waiting.

    Args:
        fd: its number.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.outlet = Outlet(fd, log="own", place=STREAM_NAMES[fd], tell=tell_loss)

    def write(self, text: str, /) -> int:
        """Write a record with its line feed, as `StreamHandler` does at one go."""
        self.outlet.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return its number."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal: some formatters ask, for colours."""
        return os.isatty(self._fd)


_STREAMS: dict[int, LogStream] = {}
"""One of each a process: a configuration that is applied anew goes on with it."""


def unblock(handlers: Iterable[logging.Handler]) -> None:
    """Have handlers that write to a standard stream wait for nobody."""
    for fd, stream in _STREAMS.items():
        stream.outlet.lead_to(fd)  # it may lead elsewhere now
    for handler in handlers:
        number = _number_of(handler.stream) if isinstance(handler, logging.StreamHandler) else None
        if number is not None and isinstance(handler, logging.StreamHandler):
            handler.setStream(_STREAMS.get(number) or _STREAMS.setdefault(number, LogStream(number)))


def _number_of(stream: object) -> int | None:
    """Return the number of one of Python's own standard streams."""
    for fd, streams in ((1, (sys.stdout, sys.__stdout__)), (2, (sys.stderr, sys.__stderr__))):
        if stream is not None and any(stream is each for each in streams):
            return fd
    return None
