"""How much memory a process uses, and whether the kernel has killed for lack of it.

Run by the arbiter, when somebody asks or a worker has died.
"""

from __future__ import annotations

from pathlib import Path


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
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::")[2].strip()
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text(encoding="ascii")
    except OSError:
        return None
    counts = dict(line.split() for line in events.splitlines())
    return int(counts.get("oom_kill", 0))
