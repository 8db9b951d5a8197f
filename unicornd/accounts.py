"""Users in whose names root does something with files, and doing it.

By the file system user id (setfsuid(2)), which the kernel made for file servers: what is asked of files is checked for that
user, and the privileges over files are gone meanwhile. The effective user id stays root's: a process that has another
one could be reniced, rescheduled or pinned to a processor by that user (setpriority(2), sched_setscheduler(2),
sched_setaffinity(2) look at the effective id), for good. Python has no function for it.
"""

from __future__ import annotations

import errno
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
    """Have the kernel check what is done with files as if `account` did it. In this thread; the groups are the process's.

    Nothing changes without an account, or for a process that is not root, or that acts for somebody already.

    Raises:
        OSError: this root may not change users (a user namespace, a system call filter).
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    import ctypes  # noqa: PLC0415 - only root with a user for the workers needs it

    libc = ctypes.CDLL(None)
    if libc.setfsuid(-1) != 0:  # an id that cannot be: the present one is returned, and stays
        yield
        return
    groups, gid = os.getgroups(), libc.setfsgid(-1)
    try:
        os.setgroups(account.groups)
        libc.setfsgid(account.gid)
        libc.setfsuid(account.uid)
        # They have no other way to say no.
        if (libc.setfsuid(-1), libc.setfsgid(-1)) != (account.uid, account.gid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(gid)
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
