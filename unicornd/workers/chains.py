"""Chains of frames that are no threads, as text in faulthandler's form: tasks, greenlets.

Run in the worker's main thread, inside a signal handler in the middle of anything: nothing here waits or takes a lock.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

MOST = 200
"""Different chains that are written; a worker may have thousands of tasks, most of them at the same place."""


def text_of(chains: Iterable[tuple[str, Iterable[FrameType]]]) -> str:
    """Return each chain once, with the name of one that is there and how many there are.

    Args:
        chains: name and frames, the innermost first.
    """
    found: dict[str, list[str]] = {}
    for name, frames in chains:
        stack = "".join(map(_line_of, frames))
        if stack:
            found.setdefault(stack, []).append(name)
    shown = [
        f"{_title(names)} (most recent call first):\n{stack}\n"
        for stack, names in islice(found.items(), MOST)
    ]
    rest = len(found) - len(shown)
    return "".join(shown) + (f"and {rest} more\n\n" if rest else "")


def _title(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _line_of(frame: FrameType) -> str:
    code = frame.f_code
    return f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}\n'
