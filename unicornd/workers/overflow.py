"""Where the rest of a response goes that its client does not read: from a mark on, into a temporary file.

One `Overflow` a worker. Called by the thread or greenlet that runs the
application; the file has no name, so nothing is left over whatever happens to the worker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.units import Fd

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

STREAM_TYPE = "text/event-stream"


class Overflow:
    """How much of a response is kept, and where.

    Args:
        mark: bytes that stay in memory.
        most: bytes of one response on the disk at a time; 0: none.
        folder: where temporary files are made; None: the system's.
        log: told once that there is no room on the disk.
    """

    __slots__ = ("_folder", "_is_told", "_log", "mark", "most")

    def __init__(self, *, mark: int, most: int, folder: str | None, log: logging.Logger) -> None:
        self.mark = mark
        self.most = most
        self._folder = folder
        self._log = log
        self._is_told = False

    def open(self) -> Fd | None:
        """Return a new file without a name (O_TMPFILE); None if that cannot be."""
        import tempfile  # noqa: PLC0415 - it brings much, and most responses are read

        try:
            with tempfile.TemporaryFile(buffering=0, dir=self._folder, prefix="unicornd-response-") as file:
                return Fd(os.dup(file.fileno()))
        except OSError as error:
            self.complain(error)
            return None

    def complain(self, error: OSError) -> None:
        """Tell, once, that responses cannot be stored: their applications wait for the clients."""
        if not self._is_told:
            self._is_told = True
            why = error.strerror or str(error)
            self._log.warning(
                "responses cannot go to temporary files; applications wait for slow clients",
                extra={"why": why},
            )


def is_declared_stream(headers: Sequence[tuple[str, str]]) -> bool:
    """Return whether a response says of itself that it is to be passed on as it comes (X-Accel-Buffering is nginx's)."""
    for name, value in headers:
        known = name.lower()
        if known == "content-type" and value.lower().lstrip().startswith(STREAM_TYPE):
            return True
        if known == "x-accel-buffering" and value.strip().lower() == "no":
            return True
    return False
