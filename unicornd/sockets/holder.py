"""Who holds an address that cannot be bound: looked up in /proc when it is needed for a message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unicornd.config.values import Address

LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (linux: net/tcp_states.h)."""


def holder_of(address: Address) -> str:
    """Return `nginx (pid 812)` for the process that listens on a TCP port or a Unix path, or an empty string."""
    inodes = _tcp_inodes(address.port) if address.kind == "tcp" else _unix_inodes(address)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir() if wanted else ():
        if process.name.isdigit() and _holds(process, wanted):
            return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _tcp_inodes(port: int) -> set[str]:
    suffix = f":{port:04X}"
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _lines(table):
            fields = line.split()
            if fields[1].endswith(suffix) and fields[3] == LISTENING:
                found.add(fields[9])
    return found


def _unix_inodes(address: Address) -> set[str]:
    name = f"@{address.path}" if address.kind == "abstract" else address.path
    return {fields[6] for line in _lines("/proc/net/unix") if (fields := line.split())[-1] == name}


def _lines(table: str) -> list[str]:
    try:
        return Path(table).read_text().splitlines()[1:]
    except OSError:
        return []


def _holds(process: Path, wanted: set[str]) -> bool:
    try:
        return any(str(entry.readlink()) in wanted for entry in (process / "fd").iterdir())
    except OSError:
        return False  # gone, or not ours to look into
