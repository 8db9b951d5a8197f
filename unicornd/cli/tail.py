"""The last lines of a log file, and those that come, also after the file has been rotated.

Runs in the command's process. A file is followed by its name: when another one has taken it, that is read, too, and the old
one goes on being read for a moment, since workers write to it until they have the new one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 64 * 1024
PAUSE = 0.2
"""Seconds between two looks for new lines."""
FAREWELL = 25
"""Looks without a new line after which an old file is closed."""


def last_lines(path: str, number: int) -> tuple[list[bytes], int]:
    """Return the last lines of a file, and where they end: what has no line feed yet comes later.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - paths of settings are texts
        place = end = file.seek(0, os.SEEK_END)
        kept = b""
        while place > 0 and kept.count(b"\n") <= number:
            step = min(BLOCK, place)
            place = file.seek(place - step)
            kept = file.read(step) + kept
    whole, feed, rest = kept.rpartition(b"\n")
    lines = whole.split(b"\n")[-number:] if feed and number else []
    return lines, end - len(rest)


def follow_lines(path: str, place: int) -> Iterator[bytes | None]:
    """Yield the lines that come behind `place`, and None at each look that has found none; it never ends.

    Raises:
        OSError: it cannot be read.
    """
    files = [_Followed(path, place)]
    while True:
        lines = [line for file in files for line in file.read()]
        yield from lines
        if files[-1].is_left_behind():
            try:
                files.append(_Followed(path, 0))
                continue
            except FileNotFoundError:  # moved away, and not there anew yet
                pass
        files = [file for file in files if file is files[-1] or not file.is_silent()]
        if not lines:
            yield None
            time.sleep(PAUSE)


class _Followed:
    """A file that is read as it grows."""

    def __init__(self, path: str, place: int) -> None:
        self._path = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115, PTH123 - it is read for as long as it grows
        self._file.seek(place)
        self._rest = b""
        self._silent = 0

    def read(self) -> list[bytes]:
        """Return whole lines; from its beginning, if it has become shorter."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
        found = self._file.read()
        self._silent = 0 if found else self._silent + 1
        *lines, self._rest = (self._rest + found).split(b"\n")
        return lines

    def is_left_behind(self) -> bool:
        """Whether the name leads to another file, or to none."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))  # noqa: PTH116
        except FileNotFoundError:
            return True

    def is_silent(self) -> bool:
        """Whether nobody seems to write to it any more; then it is closed."""
        if self._silent < FAREWELL:
            return False
        self._file.close()
        return True
