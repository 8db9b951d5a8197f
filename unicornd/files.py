"""Opening, creating, replacing and removing files where somebody else may write, too.

The arbiter is often root and its workers are not. Whoever may write a folder can put a link there between two of our
system calls, so nothing here trusts a path twice: a folder is reached step by step (openat(2), O_PATH) and kept open, and
what is done afterwards names a file relative to it.

The rules, for root only; for anybody else the kernel's own checks are enough:

- A symbolic link is followed only if every folder on the way to it can be written by root alone. A group that the workers
  are not in counts as root's: that is how distributions make `/var/log`.
- In a folder that others may write, an existing file is opened *as the user who may write there* (setfsuid(2)), so the
  kernel refuses what that user could not have opened itself. Only regular files with one name are accepted.
- Files that appear whole are written under a random name that must not exist yet (O_EXCL), then renamed.
- Nothing is given to another user by path: an inode is held (O_PATH) while its owner is looked at and changed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from unicornd.accounts import acting_as, name_of
from unicornd.walk import MAX_LINKS, OURS, PATH_ONLY, UnsafeError, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from unicornd.accounts import Account
    from unicornd.walk import Reached

_PROTECTED_LINKS = "/proc/sys/fs/protected_hardlinks"


class Folder:
    """An open folder, and who may write it beside root.

    Attributes:
        fd: O_PATH.
        path: as it was asked for.
        is_ours: whether only root may write it; True for everybody who is not root: the kernel checks him.
        is_fixed: whether nobody else could have led us here.
        actors: in whose names a file that is there may be used, if the folder is not ours.
    """

    def __init__(self, fd: int, path: str, *, reached: Reached = OURS, writer: Account | None = None) -> None:
        self.fd = fd
        self.path = path
        self._writer = writer
        self.is_ours = reached.is_ours
        self.is_fixed = reached.is_fixed
        self.actors = reached.actors

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, writer: Account | None = None) -> Self:
        """Open a folder.

        Args:
            path: of the folder; relative to the working directory.
            writer: whom the workers run as, if not as we.

        Raises:
            OSError: it is not there, or no folder.
            UnsafeError: the way leads over a link that somebody else may have put there.
        """
        text = os.fspath(path) or "."
        if os.geteuid() != 0:
            return cls(os.open(text, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), text)
        walk = Walk(text, writer)
        try:
            walk.go()
        except BaseException:
            os.close(walk.fd)
            raise
        return cls(walk.fd, text, reached=walk.reached, writer=writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.fd)

    def under(self, name: str) -> str:
        """Return a path for what takes no descriptor of a folder (bind(2), connect(2)): it has 107 bytes at most, too."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def status(self, name: str) -> os.stat_result | None:
        """Return what is called so, links not followed; None if there is nothing that we can see."""
        with suppress(OSError):
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        return None

    def inode(self, name: str) -> tuple[int, int] | None:
        """Return device and inode of what is called so, links not followed; None if there is nothing."""
        found = self.status(name)
        return None if found is None else (found.st_dev, found.st_ino)

    def remove(self, name: str, *, inode: tuple[int, int] | None = None) -> None:
        """Remove a name; with `inode`, only if it is still that one.

        Raises:
            OSError: it cannot be removed.
        """
        if inode is None or self.inode(name) == inode:
            os.unlink(name, dir_fd=self.fd)

    def draft(self, name: str, *, mode: int = 0o644) -> tuple[str, int]:
        """Create a new file beside `name`; return its name, which nobody can guess, and a descriptor.

        Raises:
            OSError: it cannot be created.
        """
        made = f".{name}.{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(made, flags, 0o600, dir_fd=self.fd)
        os.fchmod(fd, mode)
        return made, fd

    def put(self, name: str, data: bytes, *, mode: int = 0o644) -> int:
        """Have a file appear whole under `name`, in the place of whatever is called so; return it, open.

        Raises:
            OSError: it cannot be written; nothing was changed.
        """
        draft, fd = self.draft(name, mode=mode)
        try:
            _write_all(fd, data)
            os.rename(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                self.remove(draft)
            raise
        return fd

    def read(self, name: str, *, limit: int = 1024 * 1024) -> bytes | None:
        """Return a regular file's content; None if there is none.

        Raises:
            OSError: it cannot be read.
            UnsafeError: it is a link, or no file, in a folder that others may write.
        """
        try:
            fd = self.open_file(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no file", name)
            return file.read(limit)

    def open_file(self, name: str, flags: int, *, mode: int = 0o644) -> int:
        """Open a file by the rules above (open(2)); never waits, as for the other end of a FIFO.

        Raises:
            OSError: it cannot be opened.
            UnsafeError: somebody else may decide which file it is.
        """
        try:
            return self.open_no_link(name, flags, mode=mode)
        except Link as link:
            place = os.path.join(self.path, str(link))  # noqa: PTH118 - a text, whose `..` must stay
            return open_file(place, flags, writer=self._writer, mode=mode)

    def open_no_link(self, name: str, flags: int, *, mode: int) -> int:
        """Open what is no link that may be followed, as above.

        Raises:
            Link: it is one.
        """
        flags |= os.O_CLOEXEC | os.O_NONBLOCK
        try:
            if os.geteuid() != 0:
                fd = os.open(name, flags, mode, dir_fd=self.fd)
            elif self.is_ours and self.is_fixed:
                fd = self._open_ours(name, flags, mode=mode)
            else:
                fd = self._open_others(name, flags, mode=mode)
        except OSError as error:
            found = self.status(name)
            if error.errno == errno.ENXIO and found is not None and stat.S_ISFIFO(found.st_mode):
                raise OSError(errno.ENXIO, "it is a FIFO that nobody reads", name) from error
            raise
        os.set_blocking(fd, True)
        return fd

    def _open_ours(self, name: str, flags: int, *, mode: int) -> int:
        try:
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self.fd)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        if os.fstat(self.fd).st_dev == os.stat("/proc").st_dev:  # noqa: PTH116 - /proc/self/fd/1 is no path, but an open file
            return os.open(name, flags, mode, dir_fd=self.fd)
        raise Link(os.readlink(name, dir_fd=self.fd))

    def _open_others(self, name: str, flags: int, *, mode: int) -> int:
        refused: OSError | None = None
        for actor in self.actors:
            try:
                with acting_as(actor):
                    return self._open_checked(name, flags, mode=mode)
            except UnsafeError:
                raise
            except PermissionError as error:
                refused = error
        if self.actors and not self._is_kept_by_root(name):
            raise UnsafeError(
                f"neither {' nor '.join(name_of(each) for each in self.actors)}, who may write the folder"
                f" {self.path}, may open {name} there, and root does not do it for them",
                name,
                advice="change the file's owner, or use a folder that only root may write",
            ) from refused
        return self._open_checked(name, flags, mode=mode)

    def _is_kept_by_root(self, name: str) -> bool:
        """Whether it is a file of root's own to which the kernel lets nobody else make a second name (proc(5))."""
        found = self.status(name)
        if found is None or found.st_uid != 0:
            return False
        with suppress(OSError), open(_PROTECTED_LINKS, "rb") as file:  # noqa: PTH123 - a text is all that there is
            return file.read().strip() == b"1"
        return False

    def _open_checked(self, name: str, flags: int, *, mode: int) -> int:
        """Open what is a file with no other name, and no link; raises OSError, UnsafeError."""
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._unsafe(name, "is a symbolic link") from error
            raise
        found, named = os.fstat(fd), self.status(name)
        if not stat.S_ISREG(found.st_mode):
            what = "is no regular file"
        elif named is None or not os.path.samestat(found, named):
            what = "was replaced while it was opened"
        elif found.st_nlink > 1 or named.st_nlink > 1:
            what = "has another name (a hard link)"
        else:
            return fd
        os.close(fd)
        raise self._unsafe(name, what)

    def _unsafe(self, name: str, what: str) -> UnsafeError:
        return UnsafeError(
            f"{name} {what}, in the folder {self.path} that others than root may write: root does not use it",
            name,
            advice="name the file that is meant, or use a folder that only root may write",
        )


class Link(Exception):  # noqa: N818 - no error: where to go on
    """A link that may be followed, and where it leads to."""


def open_file(path: str, flags: int, *, writer: Account | None = None, mode: int = 0o644) -> int:
    """Open a file by the rules above (open(2)); never waits.

    Args:
        path: relative to the working directory.
        flags: O_CLOEXEC is added.
        writer: whom the workers run as, if not as we.
        mode: of a new file.

    Raises:
        OSError: it cannot be opened.
        UnsafeError: somebody else may decide which file it is.
    """
    place = path
    for _ in range(MAX_LINKS):
        above, name = os.path.split(place)
        try:
            with Folder.open(above or ".", writer=writer) as folder:
                return folder.open_no_link(name, flags, mode=mode)
        except Link as link:
            place = os.path.join(above, str(link))  # noqa: PTH118 - a text, whose `..` must stay
        except OSError as error:
            # A socket, as under systemd, cannot be opened, nor can another user's pipe, as in a container: but it is open.
            is_open = error.errno in {errno.ENXIO, errno.EACCES}
            if is_open and (number := own_descriptor(place)) is not None:
                return os.dup(number)
            raise
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def make_folder(path: str) -> None:
    """Make a folder, and those above it, where they are not there; no link of others is followed on the way.

    Raises:
        OSError: it cannot be made.
    """
    try:
        with Folder.open(path):
            return
    except FileNotFoundError:
        above, name = os.path.split(path.rstrip("/"))
    make_folder(above or ".")
    with Folder.open(above or ".") as folder, suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder.fd)


def open_log(path: str, *, writer: Account | None = None) -> int:
    """Open a file for appending; see `open_file`."""
    return open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, writer=writer)


@contextmanager
def held(folder: Folder, name: str) -> Iterator[tuple[str, os.stat_result]]:
    """Hold an inode, whatever happens to its name: yield a path to it for chmod(2) and chown(2), and what it is.

    Raises:
        OSError: there is nothing.
    """
    fd = os.open(name, PATH_ONLY, dir_fd=folder.fd)
    try:
        yield f"/proc/self/fd/{fd}", os.fstat(fd)
    finally:
        os.close(fd)


def own_descriptor(path: str) -> int | None:
    """Return the number of the standard stream or descriptor that a path such as /dev/stdout means."""
    real = {"/dev/stdin": "0", "/dev/stdout": "1", "/dev/stderr": "2"}.get(path, "")
    for folder in ("/dev/fd/", "/proc/self/fd/"):
        real = real or (path.removeprefix(folder) if path.startswith(folder) else "")
    return int(real) if real.isdigit() else None


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
