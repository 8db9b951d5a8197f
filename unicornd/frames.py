"""A worker's stacks, as faulthandler writes them → what of them is the application's.

Pure. Run in the command's process, and where a worker or the arbiter writes them to the log.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = re.compile(r"^(?:Thread 0x|Current thread 0x|Task |Greenlet 0x)", re.MULTILINE)
_FOLDERS = "arbiter|cli|config|control|http|observe|sockets|workers"
_RUNNERS = (
    r"asyncio/[a-z_]+|selectors|queue|threading|concurrent/futures/thread|anyio/_backends/_asyncio"
    r"|uvicorn/protocols/\w+/\w+|tornado/http1connection|gevent/(?:hub|_\w+|greenlet)|eventlet/(?:event|hubs/\w+)"
)
"""What runs threads, tasks and greenlets."""
_OURS = re.compile(
    rf'^  File "(?:[^"]*/unicornd/(?:(?:{_FOLDERS})/[a-z_/]+|daemon|apart|__main__)\.py'
    rf'|[^"]*/bin/unicornd|<frozen [^"]*|[^"]*/(?:{_RUNNERS})\.py)", line '
)
"""Frames of unicornd, of what starts it, and of what runs the rest."""
_LIFESPAN = re.compile(r'^  File "[^"]*/unicornd/workers/asgi/lifespan\.py", line \d+ in _receive')
"""Where every ASGI application waits for its end."""
_HANDLER = re.compile(r'^  File "[^"]*/unicornd/workers/signals\.py", line ')
"""A frame of what writes the stacks, on top of those that it has interrupted."""


def without_ours(text: str, *, hint: str = "") -> str:
    """Return the stacks without the frames that lead to the application, and without threads that are not in it.

    What is not known to be a thread (tasks, greenlets) stays as it is. `hint` is added to what is said of the others.
    """
    starts = [match.start() for match in _HEAD.finditer(text)] or [len(text)]
    ends = [*starts[1:], len(text)]
    shown, idle = [text[: starts[0]]], Counter[str]()
    for start, end in zip(starts, ends, strict=True):
        lines = text[start:end].splitlines()
        frames = [line for line in lines if line.startswith("  File ")]
        if frames and _is_idle(frames):
            idle[_kind_of(lines[0])] += _count_of(lines[0])
        elif lines:
            shown.append(_block(lines))
    if idle:
        what = " and ".join(
            f"{count} {kind}" + "s" * (count != 1)
            for kind, count in ((kind, idle[kind]) for kind in ("thread", "task", "greenlet") if idle[kind])
        )
        shown.append(f"{what} in unicornd itself, mostly idle{hint}\n")
    return "".join(shown)


def _is_idle(frames: Sequence[str]) -> bool:
    """Return whether a chain is not in the application: all of it is ours, or it waits for the application's end."""
    inner = next((line for line in frames if not (_OURS.match(line) and "/unicornd/" not in line)), "")
    return all(map(_OURS.match, frames)) or _LIFESPAN.match(inner) is not None


def _kind_of(title: str) -> str:
    return {"Task": "task", "Greenlet": "greenlet"}.get(title.split(" ", 1)[0], "thread")


def _count_of(title: str) -> int:
    found = re.search(r" and (\d+) more ", title)
    return 1 + int(found[1]) if found else 1


def _block(lines: Sequence[str]) -> str:
    rest = [line for line in lines if line and not _HANDLER.match(line)]
    ours = len(list(takewhile(_OURS.match, reversed(rest))))
    kept = [*rest[: len(rest) - ours], *(["  … called by unicornd"] if ours else [])]
    return "".join(f"{line}\n" for line in kept) + "\n"
