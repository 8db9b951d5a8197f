"""`app.spew`: every line of Python that is executed, on standard output.

Run in workers, from the import of the application on. It slows everything down a hundredfold.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

STDOUT = 1


def spew() -> None:
    """Print every executed line of this thread and of those that are started later: `file:line: text`."""
    threading.settrace(_trace)
    sys.settrace(_trace)


def _trace(frame: FrameType, *event: Any) -> Any:  # noqa: ANN401 - event and argument, see sys.settrace
    if event[0] == "line":
        file, number = frame.f_code.co_filename, frame.f_lineno
        line = f"{file}:{number}: {linecache.getline(file, number).rstrip()}\n"
        os.write(STDOUT, line.encode("utf-8", "backslashreplace"))
    return _trace
