"""How much memory a process uses, and whether the kernel has killed for lack of it.

Run by the arbiter, when somebody asks or a worker has died.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

COUNTED_IN = {"": "/sys/fs/cgroup{}/memory.events", "memory": "/sys/fs/cgroup/memory{}/memory.oom_control"}
"""Controllers as in /proc/self/cgroup (cgroups(7): none in version 2) → where a group's kills are counted."""


def memory_of(pid: int) -> int | None:
    """Return the proportional set size of a process in bytes (shared pages are divided among those who share them).

    The resident size where the kernel does not tell (another user's process); None if the process is gone.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * 4096


def own_memory_of(pid: int) -> int | None:
    """Return the unique set size of a process in bytes: what would be free if it ended; None if it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return (
        sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))
        * 1024
    )


def oom_kills() -> int | None:
    """Return how many processes of our cgroup the kernel has killed for lack of memory; None if it does not tell."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for place in (
            group,
            "/",
        ):  # a container may see its own group as the root, whatever it is called outside
            with suppress(OSError, KeyError):
                text = Path(COUNTED_IN[controllers].format(place)).read_text(encoding="ascii")
                return int(dict(each.split() for each in text.splitlines()).get("oom_kill", 0))
    return None
