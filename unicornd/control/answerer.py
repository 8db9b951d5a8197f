"""Who answers at a control socket: the kernel's word (SO_PEERCRED, unix(7)), asked before anything is believed.

Runs in `unicornctl`, predicates included, and in the arbiter at start: standard library only. Anybody may bind a name
in the abstract namespace, or a path in a folder that anybody may write.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid, as our own namespaces see them."""

OVERFLOW_UID = 65534
"""What the kernel shows for a user that the user namespace does not map (user_namespaces(7)); mostly `nobody`, too."""

UID_MAP = Path("/proc/self/uid_map")
WRITABLE_BY_OTHERS = 0o002


class Answerer(NamedTuple):
    """The process that listens: its pid (0: of another pid namespace) and its user."""

    pid: int
    uid: int


def answerer_of(sock: socket.socket) -> Answerer:
    """Return who listens where `sock` is connected to, or did when it began to listen."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _gid = CREDENTIALS.unpack(packed)
    return Answerer(pid=pid, uid=uid)


def is_trusted(answerer: Answerer, address: str, *, uid: int, uid_map: Path = UID_MAP) -> bool:
    """Whether one who answers at `address` may be unicornd.

    It may be root, user `uid` who asks, or the owner of the socket's folder, unless others may write there. A user that
    our user namespace does not map is none of these, although all such users look alike.
    """
    if answerer.uid == OVERFLOW_UID and not _is_mapped(OVERFLOW_UID, uid_map):
        return False
    if answerer.uid in {0, uid}:
        return True
    if address.startswith("@"):
        return False
    try:
        folder = os.stat(os.path.dirname(address) or ".")  # noqa: PTH116, PTH120 - addresses are texts
    except OSError:
        return False
    return folder.st_uid == answerer.uid and not folder.st_mode & WRITABLE_BY_OTHERS


def holder_text(answerer: Answerer, *, uid_map: Path = UID_MAP) -> str:
    """Return who it is, for a person: `user nobody (pid 4711)`."""
    pid = f"pid {answerer.pid}" if answerer.pid else "a process of another pid namespace"
    if answerer.uid == OVERFLOW_UID and not _is_mapped(OVERFLOW_UID, uid_map):
        return f"a user outside this user namespace ({pid})"
    return f"user {user_name(answerer.uid)} ({pid})"


def user_name(uid: int) -> str:
    """Return a user's name, or the number of one without a name."""
    import pwd  # noqa: PLC0415 - only for a message

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_mapped(uid: int, uid_map: Path) -> bool:
    """Whether our user namespace has a user of this number; yes where the kernel has no user namespaces."""
    try:
        lines = uid_map.read_text(encoding="ascii").splitlines()
    except OSError:
        return True
    ranges = [(int(inside), int(count)) for inside, _outside, count in map(str.split, lines)]
    return any(inside <= uid < inside + count for inside, count in ranges)
