"""Control groups with a memory limit, in version 1 or 2, wherever this user may make them."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIFIED = Path("/sys/fs/cgroup")
MEMORY_ROOTS = {Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes", UNIFIED: "memory.max"}
"""Where the groups are, in version 1 and 2 → the file with the limit."""


@contextmanager
def memory_group(name: str, *, limit: int) -> Iterator[Path | None]:
    """Make a control group for whoever writes himself into its `cgroup.procs`; None: this user may not.

    Args:
        name: of the group, in this process.
        limit: bytes.
    """
    group = _made(f"unicornd-test-{os.getpid()}-{name}", limit)
    try:
        yield group
    finally:
        if group is not None:
            eventually(partial(_is_removed, group), f"nobody is left in {group}")


def _made(name: str, limit: int) -> Path | None:
    for root, file in MEMORY_ROOTS.items():
        group = root / name
        try:
            group.mkdir()
            if (
                not (group / file).exists() and root == UNIFIED
            ):  # the controller is not passed on to its groups
                (root / "cgroup.subtree_control").write_text("+memory")
            (group / file).write_text(str(limit))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
