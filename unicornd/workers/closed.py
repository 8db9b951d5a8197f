"""Folders that the workers' user cannot enter: looked for beforehand, and named where something was not found.

A checkout, a virtual environment or an interpreter below `/root` is such a place. Standard library only.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.workers.identity import Identity


def is_open_to(identity: Identity, path: str) -> bool:
    """Return whether the modes of a path's folders let that user through; of access control lists it knows nothing."""
    if identity.uid in {-1, 0}:
        return True
    groups = identity.groups
    for folder in Path(path).parents:
        found = folder.stat()
        if found.st_uid == identity.uid:
            wanted = stat.S_IXUSR
        elif found.st_gid in groups:
            wanted = stat.S_IXGRP
        else:
            wanted = stat.S_IXOTH
        if not found.st_mode & wanted:
            return False
    return True


def hint_of_closed(paths: Iterable[str]) -> str:
    """Return which folders on the way to these paths this process cannot enter, as a hint; empty if there is none."""
    found = dict.fromkeys(folder for path in paths if (folder := closed_folder(path)) is not None)
    if not found:
        return ""
    return f"{_user()} cannot enter {', '.join(found)}: what is below cannot be read"


def hint_of_closed_path() -> str:
    """Return which folders of `sys.path` this process cannot enter; empty if there is none."""
    return hint_of_closed(path or os.curdir for path in sys.path)


def closed_folder(path: str) -> str | None:
    """Return the first folder on the way to a path, itself included, that this process cannot enter."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links are not followed: they may be behind what is closed
    for folder in (*reversed(whole.parents), whole):
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):  # noqa: PTH112 - without exceptions
            return f"{folder} (mode {stat.S_IMODE(folder.stat().st_mode):04o})"
    return None


def _user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
