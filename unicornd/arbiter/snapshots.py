"""What files look like, so that a change can be told: `reload.on_change` and `reload.watch`.

Run in the watching process, which may take its time.
"""

from __future__ import annotations

import glob
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 20_000
"""Files that are looked at: a folder with more is no project."""
TICK = 10_000_000
"""How far the times of files may be behind the clock: a tick of the kernel, in ns."""
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})

Look = tuple[int, int, int, str]
"""Of a path: inode, size and time of modification (ns) of what it leads to, and where it leads if it is a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is watched.

    Attributes:
        roots: folders whose Python files are.
        patterns: further files, and patterns of files.
        paths: files and symbolic links.
        engine: `poll`, or `inotify` for the roots.
    """

    roots: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    engine: str = "poll"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to watch."""
        return not (self.roots or self.patterns or self.paths)


def snapshot(watched: Watched) -> dict[str, Look | None]:
    """Return how everything looks now; None for what is not there."""
    found: dict[str, Look | None] = {path: _look(path) for path in watched.paths}
    for pattern in watched.patterns:
        for path in glob.glob(pattern, recursive=True) or [pattern]:  # noqa: PTH207 - texts, absolute patterns too
            found[path] = _look(path)
    for path in python_files(watched.roots):
        found[path] = _look(path)
        if len(found) >= MAX_FILES:
            break
    return found


def python_files(roots: tuple[str, ...]) -> Iterator[str]:
    """Yield the Python files below some folders, without hidden folders, installed packages and environments."""
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".")
                and name not in SKIPPED
                and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - many
            ]
            yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))  # noqa: PTH118 - many


def first_change(before: dict[str, Look | None], after: dict[str, Look | None]) -> str:
    """Return a path that looks different, or an empty string."""
    for path in dict.fromkeys((*before, *after)):
        if before.get(path) != after.get(path):
            return path
    return ""


def changed_since(looks: dict[str, Look | None], began: int) -> str:
    """Return a path that was modified after `began` (CLOCK_REALTIME, ns) and before now, or an empty string."""
    now = time.time_ns()
    for path, look in looks.items():
        if look is not None and began - TICK < look[2] <= now:
            return path
    return ""


def _look(path: str) -> Look | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    leads = ""
    with suppress(OSError):
        leads = str(Path(path).readlink())
    return found.st_ino, found.st_size, found.st_mtime_ns, leads
