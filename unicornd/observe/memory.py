"""How much memory a process uses, and whether the kernel has killed for lack of it.

Run by the arbiter, when somebody asks or a worker has died.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from unicornd.units import Monotonic

COUNTED_IN = {"": "sys/fs/cgroup{}/memory.events", "memory": "sys/fs/cgroup/memory{}/memory.oom_control"}
"""Controllers as in /proc/self/cgroup (cgroups(7): none in version 2) → where a group's kills are counted."""
TOGETHER = 1.0
"""Seconds between deaths that one look at the counts may explain."""


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


class OomWatch:
    """Tells which of our processes the kernel has killed for lack of memory: it counts kills by cgroup, and names nobody.

    A worker may be in a cgroup of its own (a hook has put it there, or the operator), so its group's count is what
    says it; that of ours is asked, too, since in version 2 it includes the groups below.

    Args:
        root: the file system's.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._counters: dict[int | str, Path] = {}
        self._explained: dict[Path, int] = {}
        self._seen: dict[Path, int] = {}
        self._looked_at = 0.0
        self.know("self")

    def know(self, pid: int | Literal["self"]) -> None:
        """Note which group a living process is in: of a dead one, version 1 does not tell (cgroups(7))."""
        counter = kill_counter_of(pid, root=self._root)
        if counter is not None:
            self._counters[pid] = counter
            self._explained.setdefault(counter, _kills(counter) or 0)

    def has_killed(self, pid: int, *, last: Path | None, now: Monotonic) -> bool:
        """Whether a process that SIGKILL has ended, and not we, was killed by the kernel.

        Kills that were seen within the last second explain as many deaths: of processes that die at the same time, one
        is looked at first. What explains none by then was a process that is not ours.

        Args:
            pid: of the process; it is forgotten.
            last: the counter of the group that it died in, where the kernel tells.
            now: the time.
        """
        known = self._counters.pop(pid, None)
        if now - self._looked_at > TOGETHER:
            self._explained |= self._seen
        self._looked_at = now
        is_told = False
        for counter in {last or known, self._counters.get("self")}:
            kills = _kills(counter) if counter is not None else None
            if counter is None or kills is None:
                continue
            self._seen[counter] = kills
            if kills > self._explained.get(counter, 0):
                self._explained[counter] = self._explained.get(counter, 0) + 1
                is_told = True
        return is_told

    def forget(self, pid: int) -> None:
        """Forget a process that has ended otherwise."""
        self._counters.pop(pid, None)


def kill_counter_of(
    pid: int | Literal["self"], *, root: Path = Path("/"), is_dead: bool = False
) -> Path | None:
    """Return the file that counts the kills in a process's cgroup; None if there is none.

    Args:
        pid: of a child.
        root: the file system's.
        is_dead: it has not been reaped yet. Version 1 shows any such process in the root group (cgroups(7)).
    """
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in COUNTED_IN or (controllers and is_dead):
            continue
        group = group.removesuffix(" (deleted)").rstrip("/")
        for place in (
            group,
            "",
        ):  # a container may see its own group as the root, whatever it is called outside
            counter = root / COUNTED_IN[controllers].format(place)
            if _kills(counter) is not None:
                return counter
    return None


def _kills(counter: Path) -> int | None:
    with suppress(OSError, ValueError):
        text = counter.read_text(encoding="ascii")
        return int(dict(each.split() for each in text.splitlines()).get("oom_kill", 0))
    return None
