"""Who may use the control socket, and for what: the kernel's word (SO_PEERCRED), not the client's.

Called by the arbiter's loop for each accepted client; the names are looked up once, when the rule is made, because a
name service may take its time.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import struct
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.control.documents import refuse
from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from unicornd.config.sections.control import ControlSettings
    from unicornd.control.exchange import Gate, Reply, Request

SO_PEERGROUPS = 59
"""The peer's supplementary groups (Linux 4.13); Python's socket module has no name for it."""

MAX_GROUPS = 4096

LOOKING = frozenset({"GET", "HEAD"})
"""The methods that change nothing (RFC 9110 section 9.2.1); every endpoint that changes something is a POST."""

UPGRADE = "/v1/upgrade"
"""Its body may name a program."""

PRIVATE_MODE = 0o600
OPEN_MODE = 0o666


class Role(Enum):
    """What somebody may do."""

    NONE = "none"
    LOOK = "look"
    CHANGE = "change"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRule:
    """Who may change the fleet, and who may look: these users, and members of these groups."""

    uids: frozenset[int]
    gids: frozenset[int]
    viewer_uids: frozenset[int] = frozenset()
    viewer_gids: frozenset[int] = frozenset()

    def authorize(self, sock: socket.socket) -> Gate | None:
        """Return what stands before the routes for this peer: None if it may do anything."""
        _pid, uid, gid = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        )
        groups = {gid} | (_groups_of(sock) if self.gids or self.viewer_gids else frozenset())
        return gate_of(self.role_of(uid, groups), uid, owner=os.geteuid())

    def role_of(self, uid: int, groups: Collection[int]) -> Role:
        """Return what a user with these groups may do; who is named for both may do both."""
        if uid in self.uids or not self.gids.isdisjoint(groups):
            return Role.CHANGE
        is_viewer = uid in self.viewer_uids or not self.viewer_gids.isdisjoint(groups)
        return Role.LOOK if is_viewer else Role.NONE


def gate_of(role: Role, uid: int, *, owner: int) -> Gate | None:
    """Return what stands before the routes for a user with a role, given the arbiter's user."""
    match role:
        case Role.CHANGE if uid in {0, owner}:
            return None
        case Role.CHANGE:
            return lambda request: _refuse_program(uid, request)
        case Role.LOOK:
            return lambda request: _refuse_change(uid, request)
        case Role.NONE:
            return lambda _request: _refuse_all(uid)


def _refuse_change(uid: int, request: Request) -> Reply | None:
    if request.method in LOOKING:
        return None
    return refuse(
        HTTPStatus.FORBIDDEN,
        f"user {name_of(uid)} may look at this fleet, and not change it (role: look)",
        exit_code=CtlExit.PERMISSION,
        hint="[control] allow_users and allow_groups name who may change it",
    )


def _refuse_program(uid: int, request: Request) -> Reply | None:
    """Whoever may change the fleet may not have its user execute what nobody else has chosen."""
    if request.path != UPGRADE or not _may_name_one(request.body):
        return None
    return refuse(
        HTTPStatus.FORBIDDEN,
        f"user {name_of(uid)} may not say which program is executed",
        exit_code=CtlExit.PERMISSION,
        hint="root and the user that runs unicornd may; without --executable, what the fleet was started with is executed anew",
    )


def _may_name_one(body: bytes) -> bool:
    """Whether an upgrade's body names a program, or is not understood."""
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return True
    return not isinstance(asked, dict) or asked.get("executable") is not None


def _refuse_all(uid: int) -> Reply:
    return refuse(
        HTTPStatus.FORBIDDEN,
        f"user {name_of(uid)} may not control this fleet (role: none)",
        exit_code=CtlExit.PERMISSION,
        hint=(
            "root, the user that runs unicornd, and [control] allow_users and allow_groups may; "
            "view_users and view_groups may look"
        ),
        is_last=True,
    )


def make_peer_rule(control: ControlSettings) -> PeerRule:
    """Look up names (or numbers); root and our own user may always do everything.

    Raises:
        ConfigError: there is no such user or group.
    """
    return PeerRule(
        uids=frozenset({0, os.geteuid()}) | _lookup("control.allow_users", control.allow_users, find=_uid),
        gids=_lookup("control.allow_groups", control.allow_groups, find=_gid),
        viewer_uids=_lookup("control.view_users", control.view_users, find=_uid),
        viewer_gids=_lookup("control.view_groups", control.view_groups, find=_gid),
    )


def socket_mode(mode: int, rule: PeerRule) -> int:
    """Return the mode of the socket's path: one that lets the allowed ones reach the question who they are.

    The default 0600 would make allow_users, allow_groups, view_users and view_groups settings without effect.
    """
    named = (rule.uids - {0, os.geteuid()}, rule.gids, rule.viewer_uids, rule.viewer_gids)
    is_shared = any(named)
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


def _lookup(key: str, names: Iterable[str], *, find: Callable[[str], int]) -> frozenset[int]:
    found = set()
    for name in names:
        try:
            found.add(int(name) if name.isdecimal() else find(name))
        except KeyError:
            raise ConfigError(f"{key}: there is no {name!r} on this system") from None
    return frozenset(found)


def _groups_of(sock: socket.socket) -> frozenset[int]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS * 4)
    except OSError:  # an old kernel, or more groups than that: the primary group has been looked at
        return frozenset()
    return frozenset(gid for (gid,) in struct.iter_unpack("I", packed))
