"""Who a worker runs as: looked up by the arbiter before it forks, taken on by the worker after.

Order matters: supplementary groups, then the group, then the user; after the user there is no way back. A changed user
is changed as a whole: real, effective and saved ids, supplementary groups, capabilities, and what the environment says.
"""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress
from pathlib import Path

from unicornd.accounts import Account
from unicornd.dataclass import dataclass
from unicornd.errors import BootError, ConfigError

GAINED = frozenset({"CapPrm", "CapEff", "CapAmb"})
"""Capabilities that a process has or can take (capabilities(7)); `CapInh` and `CapBnd` give none by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """User and group of the workers; -1 for "as the arbiter".

    Attributes:
        name: the user's name if it has one, for initgroups.
        home: the user's home folder.
        has_groups: whether the user's supplementary groups are taken on (else the group is the only one).
    """

    uid: int = -1
    gid: int = -1
    name: str = ""
    home: str = "/"
    has_groups: bool = False

    @property
    def groups(self) -> frozenset[int]:
        """All groups that a process of this identity is in; of one that changes the user."""
        gid = self.gid if self.gid != -1 else os.getegid()
        named = os.getgrouplist(self.name, gid) if self.has_groups and self.name else ()
        return frozenset({gid, *named})


def identity_of(user: str | None, group: str | None, *, initgroups: bool) -> Identity:
    """Look up user and group.

    Raises:
        ConfigError: there is no such user or group, this process may not become it, or nothing says which group.
    """
    uid, gid, name, home = _user(user) if user is not None else (-1, -1, "", "/")
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
    if changes_user and gid == -1:  # else the arbiter's group would be left: root's
        raise ConfigError(
            f"process.user: {user} has no entry among the users, so its group is not known",
            hint='set process.group, as in group = "www-data"',
        )
    return Identity(
        uid=uid if changes_user else -1,
        gid=gid if changes_group else -1,
        name=name,
        home=home,
        has_groups=initgroups,
    )


def account_of(user: str | None, group: str | None, *, initgroups: bool) -> Account | None:
    """Return whom the workers run as, for what root does where they may write; None if they run as the arbiter.

    Raises:
        ConfigError: there is no such user or group, or this process may not become it.
    """
    identity = identity_of(user, group, initgroups=initgroups)
    if identity.uid == -1:
        return None
    gid = identity.gid if identity.gid != -1 else os.getegid()
    groups = os.getgrouplist(identity.name, gid) if identity.has_groups and identity.name else [gid]
    return Account(uid=identity.uid, gid=gid, groups=tuple(groups))


def become(identity: Identity) -> None:
    """Take on an identity; the environment says so, too.

    Raises:
        OSError: the kernel refuses.
        BootError: something of the former identity is left.
    """
    if identity.gid == -1 and identity.uid == -1:
        return
    gid = identity.gid if identity.gid != -1 else os.getegid()
    if identity.has_groups and identity.name:
        os.initgroups(identity.name, gid)
    else:
        os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    if identity.uid != -1:
        os.setresuid(identity.uid, identity.uid, identity.uid)
        _check_capabilities(identity)
        _tell_environment(identity)


def _check_capabilities(identity: Identity) -> None:
    """Look whether the kernel has taken root's capabilities away: not if securebits (capabilities(7)) forbid it.

    Raises:
        BootError: it has not.
    """
    if identity.uid == 0:
        return
    left = []
    with suppress(OSError):  # no /proc: nothing to look at
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key in GAINED and int(value, 16):
                left.append(f"{key} {value.strip()}")
    if left:
        raise BootError(
            f"process.user: capabilities are left after the change to user {identity.uid}: {', '.join(left)}",
            hint="start unicornd without SECBIT_KEEP_CAPS and SECBIT_NO_SETUID_FIXUP (systemd: SecureBits=)",
        )


def _tell_environment(identity: Identity) -> None:
    """Set HOME, USER and LOGNAME as login(1) and systemd do; a user without an entry has no name."""
    os.environ["HOME"] = identity.home
    for name in ("USER", "LOGNAME"):
        if identity.name:
            os.environ[name] = identity.name
        else:
            os.environ.pop(name, None)


def _user(user: str) -> tuple[int, int, str, str]:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():
            return int(user), -1, "", "/"
        raise ConfigError(
            f"process.user: there is no user {user!r}", hint="`getent passwd` lists the users"
        ) from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir or "/"


def _group(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"process.group: there is no group {group!r}", hint="`getent group` lists the groups"
        ) from None
