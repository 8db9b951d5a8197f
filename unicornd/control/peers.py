"""Who may use the control socket: the kernel's word (SO_PEERCRED), not the client's.

Called by the arbiter's loop for each accepted client; the names are looked up once, when the rule is made, because a
name service may take its time.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.control.documents import refuse
from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unicornd.control.exchange import Reply

SO_PEERGROUPS = 59
"""The peer's supplementary groups (Linux 4.13); Python's socket module has no name for it."""

MAX_GROUPS = 4096

PRIVATE_MODE = 0o600
OPEN_MODE = 0o666


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRule:
    """Who is let in: these users, and members of these groups."""

    uids: frozenset[int]
    gids: frozenset[int]

    def authorize(self, sock: socket.socket) -> Reply | None:
        """Return None if the peer is let in, else what it is told."""
        _pid, uid, gid = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        )
        if uid in self.uids or gid in self.gids or (self.gids and self.gids & _groups_of(sock)):
            return None
        return refuse(
            HTTPStatus.FORBIDDEN,
            f"user {name_of(uid)} may not control this fleet",
            exit_code=CtlExit.PERMISSION,
            hint="the user that runs unicornd, root, and [control] allow_users and allow_groups may",
            is_last=True,
        )


def make_peer_rule(users: Iterable[str], groups: Iterable[str]) -> PeerRule:
    """Look up names (or numbers); root and our own user are always let in.

    Raises:
        ConfigError: there is no such user or group.
    """
    return PeerRule(
        uids=frozenset(
            {0, os.geteuid(), *(_lookup("control.allow_users", name, find=_uid) for name in users)}
        ),
        gids=frozenset(_lookup("control.allow_groups", name, find=_gid) for name in groups),
    )


def socket_mode(mode: int, rule: PeerRule) -> int:
    """Return the mode of the socket's path: one that lets the allowed ones reach the question who they are.

    The default 0600 would make allow_users and allow_groups settings without effect.
    """
    is_shared = bool(rule.gids) or rule.uids > {0, os.geteuid()}
    return OPEN_MODE if is_shared and mode == PRIVATE_MODE else mode


def name_of(uid: int) -> str:
    """Return a user's name, else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _lookup(key: str, name: str, *, find: Callable[[str], int]) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return find(name)
    except KeyError:
        raise ConfigError(f"{key}: there is no {name!r} on this system") from None


def _groups_of(sock: socket.socket) -> frozenset[int]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS * 4)
    except OSError:  # an old kernel, or more groups than that: the primary group has been looked at
        return frozenset()
    return frozenset(gid for (gid,) in struct.iter_unpack("I", packed))
