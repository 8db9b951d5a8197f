"""Users in whose names root does something, and doing it.

For the arbiter, which has one thread: the identity of a process is that of all its threads.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

_UID_MAP, _OVERFLOW_UID = "/proc/self/uid_map", "/proc/sys/kernel/overflowuid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user with its groups, in whose name something may be done.

    Attributes:
        groups: all of them, `gid` included.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Have the kernel check what is done as if `account` did it. Process-wide: for processes with one thread.

    Nothing changes without an account, or for a process that is not root.

    Raises:
        OSError: this root may not change users (a user namespace, a system call filter).
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(account.groups)
        os.setegid(account.gid)
        os.seteuid(account.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def name_of(account: Account) -> str:
    """Return what a user is called in a message."""
    import pwd  # noqa: PLC0415 - for a message only

    try:
        return pwd.getpwuid(account.uid).pw_name
    except KeyError:
        return f"user {account.uid}"


def unmapped_uid() -> int:
    """Return the user id that stands for all users without one in this user namespace (user_namespaces(7)); 0 if none.

    Root of such a namespace has no power over their files, so they are no danger to it.
    """
    try:
        with open(_UID_MAP, "rb") as file, open(_OVERFLOW_UID, "rb") as stand_in:  # noqa: PTH123 - read at each start
            ranges, uid = [[int(word) for word in line.split()] for line in file], int(stand_in.read())
    except (OSError, ValueError):
        return 0
    return 0 if any(first <= uid < first + count for first, _, count in ranges) else uid
