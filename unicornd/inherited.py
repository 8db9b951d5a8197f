"""What a process has from whoever started it, and must not rely on: standard streams, blocked signals, `python -m`.

First of all: nothing has been opened yet. Standard library only.
"""

from __future__ import annotations

import os
import sys

STREAMS = range(3)


def settle_process() -> None:
    """Have three standard streams and no blocked signal."""
    fill_streams()
    import signal  # noqa: PLC0415 - not before the working directory is out of the way

    # A supervisor's mask would keep TERM and HUP away. What is ignored needs nothing: each signal gets its meaning later.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def closed_streams() -> list[int]:
    """Return the numbers of standard streams that are closed."""
    return [number for number in STREAMS if not _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def fill_streams() -> None:
    """Open /dev/null for each standard stream that is closed.

    Else the next thing that is opened, a socket, a log or a pipe, would have its number, and get what somebody prints.
    """
    for number in closed_streams():
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)
    # Python has None for what was closed when it started.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays, and is no path
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise


def forget_working_directory() -> None:
    """With `python -m`: take the working directory, which Python puts first, out of `sys.path`.

    unicornd imports nothing from there, and root must not: it may be anybody's.
    """
    if sys.flags.safe_path or not sys.path:
        return
    try:
        folder = os.getcwd()  # noqa: PTH109 - as Python writes it
    except FileNotFoundError:  # it is gone
        folder = ""
    if sys.path[0] in {"", folder}:
        del sys.path[0]
