"""Places that the users of a test can enter: pytest's folders are their owner's, and Python may lie below /root."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = "nobody"
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can enter and read in; not below pytest's, which is its owner's alone."""
    with tempfile.TemporaryDirectory(prefix="unicornd-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


def through_open_places(folder: Path) -> tuple[str, ...]:
    """Return what to put in front of a command so that every user can read Python, its packages and this checkout there.

    A mount namespace, in which the folders that are closed are covered by open ones with the same places in them; empty
    if nothing is closed. Only for root.

    Args:
        folder: of the test, for the mounts on their way.
    """
    places = {str(Path(place).resolve()) for place in (sys.base_prefix, sys.prefix, ROOT)}
    closed = {shut for place in places if (shut := _closed(Path(place))) is not None}
    if not closed:
        return ()
    lines = ["set -e"]
    behind = [place for place in sorted(places) if _closed(Path(place)) is not None]
    for number, place in enumerate(behind):
        way = folder / f"way{number}"
        lines += [f"mkdir -p {way}", f"mount --rbind {shlex.quote(place)} {way}"]
    lines += [f"mount -t tmpfs -o mode=0755 tmpfs {shlex.quote(str(shut))}" for shut in closed]
    for number, place in enumerate(behind):
        quoted = shlex.quote(place)
        lines += [f"mkdir -p {quoted}", f"mount --rbind {folder / f'way{number}'} {quoted}"]
    lines.append('exec "$@"')
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh")


def _closed(place: Path) -> Path | None:
    """Return the first folder on the way to a place that not everybody can enter."""
    return next((each for each in reversed(place.parents) if not each.stat().st_mode & 0o001), None)


def is_python_public() -> bool:
    """Whether every user may read the standard library: an interpreter below a home cannot be used by others."""
    folders = [Path(os.path.realpath(place)) for place in (os.__file__, sys.prefix, sys.base_prefix)]
    return all(each.stat().st_mode & 0o001 for place in folders for each in place.parents)
