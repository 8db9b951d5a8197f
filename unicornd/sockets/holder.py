"""Who holds an address that cannot be bound: looked up in /proc when it is needed for a message.

Reads files, changes nothing. What may not be looked into stays unknown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unicornd.config.values import Address

LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (linux: net/tcp_states.h)."""
_LOCAL, _STATE, _TCP_INODE = 1, 3, 9
_UNIX_INODE, _UNIX_NAME = 6, 7
"""Columns of /proc/net/tcp and /proc/net/unix (proc(5))."""


def holder_of(address: Address) -> str:
    """Return `nginx (pid 812)` for the process that listens on a TCP port or a Unix path, or an empty string."""
    inodes = _tcp_inodes(address.port) if address.kind == "tcp" else _unix_inodes(address)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return ""
    pids = sorted(int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    for pid in pids:
        if _holds(pid, wanted):
            oldest = oldest_holder(pid, wanted)
            return f"{_name_of(oldest)} (pid {oldest})"
    return ""


def oldest_holder(pid: int, wanted: set[str]) -> int:
    """Return who began it: of a fleet, the arbiter and not one of its workers.

    That is the farthest ancestor that holds the socket, too, or that we may not look into and that has the same name.
    """
    while parent := _parent_of(pid):
        is_hidden = not os.access(f"/proc/{parent}/fd", os.R_OK)
        if not _holds(parent, wanted) and not (is_hidden and _comm_of(parent) == _comm_of(pid)):
            break
        pid = parent
    return pid


def _parent_of(pid: int) -> int:
    """Return the parent's pid (proc(5)); 0 where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _comm_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _tcp_inodes(port: int) -> set[str]:
    suffix = f":{port:04X}"
    rows = [line.split() for table in ("/proc/net/tcp", "/proc/net/tcp6") for line in _lines(table)]
    return {row[_TCP_INODE] for row in rows if row[_LOCAL].endswith(suffix) and row[_STATE] == LISTENING}


def _unix_inodes(address: Address) -> set[str]:
    name = f"@{address.path}" if address.kind == "abstract" else address.path
    rows = [line.split(maxsplit=_UNIX_NAME) for line in _lines("/proc/net/unix")]
    return {row[_UNIX_INODE] for row in rows if len(row) > _UNIX_NAME and row[_UNIX_NAME] == name}


def _lines(table: str) -> list[str]:
    try:
        return Path(table).read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []


def _holds(pid: int, wanted: set[str]) -> bool:
    try:
        return any(str(entry.readlink()) in wanted for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # gone, or not ours to look into


def _name_of(pid: int) -> str:
    """Return what a process is called; of a fleet's, which one it is: `unicornd: arbiter [shop]` (15 bytes in comm)."""
    folder = Path(f"/proc/{pid}")
    try:
        name = (folder / "comm").read_text(encoding="utf-8").strip()
        title = (folder / "cmdline").read_text(encoding="utf-8").partition("\0")[0].strip()
    except (OSError, ValueError):
        return "a process"
    return title if title.startswith("unicornd: ") else name
