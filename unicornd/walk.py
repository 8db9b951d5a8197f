"""The way to a folder, taken step by step (openat(2)), and who could have bent it.

For root only (`files`). Each symbolic link is read and followed here, so that every folder on the way is judged.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from unicornd.accounts import Account, unmapped_uid

MAX_LINKS = 40
"""As the kernel (path_resolution(7))."""
PATH_ONLY = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
_ACL = "system.posix_acl_access"


class UnsafeError(PermissionError):
    """Root would do something here that another user decides; `strerror` says what and what to do."""

    def __init__(self, what: str, path: str, *, advice: str) -> None:
        super().__init__(errno.EPERM, f"{what}; {advice}", path)
        self.what = what
        self.advice = advice


class Reached(NamedTuple):
    """What is known of a folder; see `Folder`."""

    is_ours: bool
    is_fixed: bool
    actors: tuple[Account, ...]


OURS = Reached(is_ours=True, is_fixed=True, actors=())


class Walk:
    """The way to a folder, step by step, for root.

    Args:
        path: of the folder.
        writer: whom the workers run as.
    """

    def __init__(self, path: str, writer: Account | None) -> None:
        self._path = path
        self._writer = writer
        self._links = 0
        self._roots = {0, unmapped_uid()}
        self._left = path.split("/")
        if not path.startswith("/"):  # the working directory's own path counts, too
            self._left[:0] = os.getcwd().split("/")  # noqa: PTH109 - a text is what is split
        self.fd = -1
        self._begin()

    def go(self) -> None:
        """Take every step; raises OSError, UnsafeError."""
        while self._left:
            name = self._left.pop(0)
            if name in {"", "."}:
                continue
            if name == ".." and not self.reached.is_fixed:
                raise UnsafeError(
                    f"'..' in {self._path} leads out of a folder that others than root may move",
                    self._path,
                    advice="write the path without it",
                )
            self._step(name)

    def _begin(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.fd = os.open("/", PATH_ONLY | os.O_DIRECTORY)
        self.reached = self._look(is_fixed=True)

    def _step(self, name: str) -> None:
        found = os.open(name, PATH_ONLY, dir_fd=self.fd)
        try:
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                self._follow(found, name)
                return
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._path)
            is_fixed = self.reached.is_fixed and (name == ".." or self._keeps(status))
            self.fd, found = found, self.fd
            self.reached = self._look(is_fixed=is_fixed)
        finally:
            os.close(found)

    def _keeps(self, child: os.stat_result) -> bool:
        """Whether nobody but root can put something else in the place of what is in the present folder."""
        if self.reached.is_ours:
            return True
        here = os.fstat(self.fd)  # /tmp: nobody else may move there what is root's (chmod(2), S_ISVTX)
        return bool(here.st_mode & stat.S_ISVTX) and {here.st_uid, child.st_uid} <= self._roots

    def _follow(self, link: int, name: str) -> None:
        if not (self.reached.is_fixed and self.reached.is_ours):
            raise UnsafeError(
                f"{name} on the way to {self._path} is a symbolic link in a folder that others than root may write:"
                " root does not follow it",
                self._path,
                advice="write the path that is meant, or use a folder that only root may write",
            )
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        target = os.readlink("", dir_fd=link)
        if target.startswith("/"):
            self._begin()
        self._left[:0] = target.split("/")

    def _look(self, *, is_fixed: bool) -> Reached:
        """Return who may write the folder where we are."""
        status, writer = os.fstat(self.fd), self._writer
        by_group = bool(status.st_mode & stat.S_IWGRP) and (
            (writer is not None and status.st_gid in writer.groups) or self._has_acl()
        )
        is_ours = status.st_uid in self._roots and not status.st_mode & stat.S_IWOTH and not by_group
        if is_ours:
            return Reached(is_ours=True, is_fixed=is_fixed, actors=())
        actors = () if writer is None else (writer,)
        if status.st_uid not in {*self._roots, *(each.uid for each in actors)}:
            actors = (*actors, Account(uid=status.st_uid, gid=status.st_gid, groups=(status.st_gid,)))
        return Reached(is_ours=False, is_fixed=is_fixed, actors=actors)

    def _has_acl(self) -> bool:
        """Whether more users or groups are named; then the group's bits are the most that any of them may (acl(5))."""
        try:
            os.getxattr(f"/proc/self/fd/{self.fd}", _ACL)
        except OSError:
            return False
        return True
