"""A worker's stacks, as faulthandler writes them → what of them is the application's.

Pure. Run in the command's process.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from unicornd.control.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = re.compile(r"^(?:Thread|Current thread) 0x", re.MULTILINE)
_FOLDERS = "arbiter|cli|config|control|http|observe|sockets|workers"
_OURS = re.compile(
    rf'^  File "(?:[^"]*/unicornd/(?:(?:{_FOLDERS})/[a-z_/]+|daemon|apart|__main__)\.py'
    r'|[^"]*/threading\.py|[^"]*/bin/unicornd|<frozen [^"]*)", line '
)
"""Frames of unicornd, of what starts it and of what starts threads."""
_HANDLER = re.compile(r'^  File "[^"]*/unicornd/workers/signals\.py", line ')
"""A frame of what writes the stacks, on top of those that it has interrupted."""


def without_ours(text: str) -> str:
    """Return the stacks without the frames that lead to the application, and without threads that are not in it.

    What is not known to be a thread (tasks, greenlets) stays as it is.
    """
    starts = [match.start() for match in _HEAD.finditer(text)] or [len(text)]
    ends = [*starts[1:], len(text)]
    shown, idle = [text[: starts[0]]], 0
    for start, end in zip(starts, ends, strict=True):
        lines = text[start:end].splitlines()
        frames = [line for line in lines if line.startswith("  File ")]
        if frames and all(_OURS.match(line) for line in frames):
            idle += 1
        elif lines:
            shown.append(_block(lines))
    if idle:
        shown.append(f"{plural(idle, 'thread')} in unicornd itself, mostly idle: --all shows them\n")
    return "".join(shown)


def _block(lines: Sequence[str]) -> str:
    rest = [line for line in lines if line and not _HANDLER.match(line)]
    ours = len(list(takewhile(_OURS.match, reversed(rest))))
    kept = [*rest[: len(rest) - ours], *(["  … called by unicornd"] if ours else [])]
    return "".join(f"{line}\n" for line in kept) + "\n"
