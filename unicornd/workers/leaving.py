"""The end of a forked process: what an application registered is called, what it printed is written."""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress


def wind_up() -> None:
    """Do what the interpreter would do at its end; `os._exit` follows, which does not."""
    atexit._run_exitfuncs()  # noqa: SLF001 - applications rely on theirs being called
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
