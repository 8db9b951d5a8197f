"""Who a worker runs as: looked up by the arbiter before it forks, taken on by the worker after.

Order matters: supplementary groups, then the group, then the user; after the user there is no way back.
"""

from __future__ import annotations

import grp
import os
import pwd

from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """User and group of the workers; -1 for "as the arbiter".

    Attributes:
        name: the user's name if it has one, for initgroups.
        has_groups: whether the user's supplementary groups are taken on (else root's are dropped).
    """

    uid: int = -1
    gid: int = -1
    name: str = ""
    has_groups: bool = False


def identity_of(user: str | None, group: str | None, *, initgroups: bool) -> Identity:
    """Look up user and group.

    Raises:
        ConfigError: there is no such user or group, or this process may not become it.
    """
    uid, gid, name = _user(user) if user is not None else (-1, -1, "")
    if group is not None:
        gid = _group(group)
    changes_user = uid not in {-1, os.geteuid()}
    changes_group = gid not in {-1, os.getegid()}
    if (changes_user or changes_group) and os.geteuid() != 0:
        what = (
            f"process.user: cannot become {user}" if changes_user else f"process.group: cannot become {group}"
        )
        raise ConfigError(
            f"{what}: unicornd does not run as root", hint="leave it out, or start unicornd as root"
        )
    return Identity(
        uid=uid if changes_user else -1, gid=gid if changes_group else -1, name=name, has_groups=initgroups
    )


def become(identity: Identity) -> None:
    """Take on an identity.

    Raises:
        OSError: the kernel refuses.
    """
    if identity.gid != -1 or identity.uid != -1:
        gid = identity.gid if identity.gid != -1 else os.getgid()
        if identity.has_groups and identity.name:
            os.initgroups(identity.name, gid)
        elif os.geteuid() == 0:
            os.setgroups([gid])
        os.setgid(gid)
    if identity.uid != -1:
        os.setuid(identity.uid)


def _user(user: str) -> tuple[int, int, str]:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():
            return int(user), -1, ""
        raise ConfigError(
            f"process.user: there is no user {user!r}", hint="`getent passwd` lists the users"
        ) from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"process.group: there is no group {group!r}", hint="`getent group` lists the groups"
        ) from None
