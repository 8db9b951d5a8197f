"""Where the standard output or error of another process leads: a file, the journal, a terminal, a pipe.

Runs in the command's process; proc_pid_fd(5), cgroups(7), and `$JOURNAL_STREAM` of systemd.exec(5).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from unicornd.errors import UnicorndError

PROC = Path("/proc")


class Stream(NamedTuple):
    """Where a stream leads; `name` is a path, or the unit of systemd, whose journal has the lines."""

    kind: Literal["file", "journal", "terminal", "pipe", "nothing", "unknown"]
    name: str = ""
    is_users: bool = False


def stream_of(pid: int, number: int, *, proc: Path = PROC) -> Stream:
    """Return where a stream of a process leads."""
    link = proc / str(pid) / "fd" / str(number)
    try:
        facts, name = link.stat(), os.readlink(link)  # noqa: PTH115 - it is no path that may be followed
    except OSError:
        return unit_of(pid, proc=proc) or Stream("unknown")
    if stat.S_ISREG(facts.st_mode):
        return Stream("file", name.removesuffix(" (deleted)"))
    if stat.S_ISSOCK(facts.st_mode):
        return (unit_of(pid, proc=proc) if _is_journal(pid, facts, proc=proc) else None) or Stream("pipe")
    if stat.S_ISCHR(facts.st_mode):
        return Stream("nothing") if name == os.devnull else Stream("terminal", name)
    return Stream("pipe")


def unit_of(pid: int, *, proc: Path = PROC) -> Stream | None:
    """Return the journal of the unit that a process belongs to; None if it belongs to none."""
    try:
        places = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for place in places:
        parts = place.rpartition(":")[2].split("/")
        if (
            name := next((part for part in reversed(parts) if part.endswith(".service")), "")
        ) and not name.startswith("user@"):
            return Stream("journal", name, is_users=any(part.startswith("user@") for part in parts))
    return None


def _is_journal(pid: int, facts: os.stat_result, *, proc: Path) -> bool:
    """Whether a socket is the one to the journal; of another user's process nobody says so, and it is believed."""
    try:
        environ = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return True
    said = next((word.partition(b"=")[2] for word in environ if word.startswith(b"JOURNAL_STREAM=")), b"")
    return said == f"{facts.st_dev}:{facts.st_ino}".encode()


def journal_command(stream: Stream, *, number: int, is_followed: bool) -> list[str]:
    """Return the command that shows the journal of a unit."""
    if stream.kind != "journal":
        raise UnicorndError(f"{stream.kind} is not the journal")
    command = [
        "journalctl",
        *(["--user"] if stream.is_users else []),
        "--unit",
        stream.name,
        "--lines",
        str(number),
    ]
    return [*command, "--follow"] if is_followed else [*command, "--no-pager"]
