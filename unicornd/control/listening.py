"""The control socket: found a place for, created without a race, taken away again.

Called by the arbiter at start and at its end. A path that exists always has somebody listening on it with the right
mode: the socket is bound and listens under another name first, and gets its own name by `link`, which fails if the
name is taken. A socket that answers is never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.config.instance import spare_name
from unicornd.control.answerer import answerer_of
from unicornd.control.client import StrangerError, connect, may_answer, search_abstract
from unicornd.errors import AlreadyRunningError, ListenError
from unicornd.files import Folder, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

BACKLOG = 128

LOCK_PATIENCE = 5.0
"""Seconds to wait for the lock beside the socket; it is held for a millisecond by whoever starts or ends."""

LOCK_PAUSE = 0.02
"""Seconds between two attempts to have it."""


class ControlSocket:
    """A listening control socket.

    Attributes:
        sock: non-blocking, listening.
        address: its path, or `@name` if it is abstract.
        inode: device and inode of the path, to remove no other's; None if it is abstract.
        note: who holds the abstract name that was wanted first, or empty.
    """

    def __init__(
        self, *, sock: socket.socket, address: str, inode: tuple[int, int] | None, note: str = ""
    ) -> None:
        self.sock = sock
        self.address = address
        self.inode = inode
        self.note = note

    @classmethod
    def inherited(cls, fd: int, address: str) -> Self:
        """Return the one that a predecessor listens on."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        return cls(sock=sock, address=address, inode=None if address.startswith("@") else _inode(address))

    @property
    def is_lost(self) -> bool:
        """Whether its path is gone, with a cleaned /tmp or a session's /run/user: nobody can connect any more."""
        return self.inode is not None and not os.path.lexists(self.address)

    def reopen(self, *, mode: int) -> None:
        """Listen at the path again, under the same descriptor: whoever has this object or that number goes on.

        Args:
            mode: permissions of the path.

        Raises:
            AlreadyRunningError: somebody answers there by now.
            ListenError: it cannot be had.
        """
        fresh = open_control_socket(
            (self.address,), mode=mode, patience=0
        )  # the arbiter's loop waits for no lock
        os.dup2(fresh.sock.fileno(), self.sock.fileno(), inheritable=False)
        fresh.sock.close()
        self.inode = fresh.inode

    def remove(self) -> None:
        """Take the path away, unless another socket has it by now."""
        if self.inode is not None:
            path = Path(self.address)
            with contextlib.suppress(OSError), Folder.open(path.parent) as folder:
                folder.remove(path.name, inode=self.inode)


def open_control_socket(
    candidates: Sequence[str], *, mode: int, patience: float = LOCK_PATIENCE
) -> ControlSocket:
    """Listen on the first of `candidates` that can be had.

    Args:
        candidates: paths, or abstract names that start with `@`. An abstract name that a stranger holds is passed over for
            another one of the same beginning, which `unicornctl` finds (`config.instance.spare_names`).
        mode: permissions of a path.
        patience: seconds to wait for the lock beside a path, which another arbiter of ours may hold for a moment.

    Raises:
        AlreadyRunningError: somebody answers at one of them.
        ListenError: none can be had; `detail` says why for each.
    """
    failures: list[str] = []
    for address in candidates:
        try:
            if address.startswith("@"):
                return _open_abstract(address)
            return _open_path(address, mode=mode, patience=patience)
        except OSError as error:
            failures.append(f"{address}: {error.strerror or error}")
    raise ListenError("no control socket can be had", detail="\n".join(failures))


def _open_abstract(address: str) -> ControlSocket:
    try:
        return ControlSocket(sock=_bound_abstract(address), address=address, inode=None)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    search = search_abstract(address)
    if search.address is not None:
        raise _already_running(search.address)
    spare = spare_name(address)
    note = "".join(search.strangers[:1])
    return ControlSocket(sock=_bound_abstract(spare), address=spare, inode=None, note=note)


def _bound_abstract(address: str) -> socket.socket:
    sock = _new_socket()
    try:
        sock.bind(b"\0" + os.fsencode(address[1:]))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_path(address: str, *, mode: int, patience: float) -> ControlSocket:
    path = Path(address)
    make_folder(str(path.parent))
    with (
        Folder.open(path.parent) as folder,
        _alone(folder, path.name, patience=patience),
        _bound_aside(folder, path.name, mode=mode) as (sock, aside),
    ):
        _clear(folder, path)
        os.link(aside, path.name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        return ControlSocket(sock=sock, address=address, inode=folder.inode(path.name))


@contextlib.contextmanager
def _alone(folder: Folder, name: str, *, patience: float) -> Iterator[None]:
    """Nobody else of our user takes or clears the name meanwhile.

    Between seeing that a socket is stale and removing it, another arbiter may have put its own there. The lock is a file
    that only we can open; it is removed under the lock, so whoever gets the lock looks whether its file is still the one
    in the folder. In a folder that others may write, one of them may have made the file: it is not waited for.

    Raises:
        OSError: the file is another user's, or somebody holds the lock for longer than a start takes.
    """
    lock = f".{name}.lock"
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(lock, flags, 0o600, dir_fd=folder.fd)
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise PermissionError(errno.EPERM, f"{folder.path}/{lock} is another user's")
        _take_lock(descriptor, Path(folder.path, lock), patience=patience)
        if folder.inode(lock) == (found.st_dev, found.st_ino):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        folder.remove(lock)
        os.close(descriptor)


def _take_lock(descriptor: int, lock: Path, *, patience: float) -> None:
    """Lock an open file, which is closed if that cannot be had in time.

    Raises:
        ListenError: another process holds it for longer than any unicornd does.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(LOCK_PAUSE)  # at start: there is no loop yet that would stand still
                continue
            holder = _lock_holder(descriptor)
            os.close(descriptor)
            raise ListenError(
                f"{lock} has been locked for {patience:g} s{holder}",
                hint="end that process, or put [control] socket into a folder that only unicornd's user may write",
            ) from error
        return


def _lock_holder(descriptor: int) -> str:
    """Return ` by process N` for who holds the lock of an open file (/proc/locks, proc(5)), empty if that is not told."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            match line.split():
                case [_number, "FLOCK", _mode, _kind, pid, place, *_] if place == file and pid != "-1":
                    return f" by process {pid}"
                case _:
                    pass
    return ""


@contextlib.contextmanager
def _bound_aside(folder: Folder, name: str, *, mode: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens under a name of its own beside `name`; that name is gone afterwards."""
    aside = f".{name[:32]}.{os.urandom(8).hex()}"
    sock = _new_socket()
    umask = os.umask(0o777 & ~mode)  # process-wide, but the arbiter has one thread
    try:
        sock.bind(folder.under(aside))
        sock.listen(BACKLOG)
        yield sock, aside
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
        with contextlib.suppress(OSError):
            folder.remove(aside)


def _clear(folder: Folder, path: Path) -> None:
    """Take a stale socket away.

    Raises:
        AlreadyRunningError: somebody answers there.
        OSError: what is there is no socket, or not ours to remove, or a stranger answers.
    """
    found = folder.status(path.name)
    if found is None:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket")
    try:
        if may_answer(str(path)):
            raise _already_running(str(path))
    except StrangerError as stranger:
        raise OSError(errno.EADDRINUSE, stranger.message) from stranger
    folder.remove(path.name)


def _already_running(address: str) -> AlreadyRunningError:
    pid = _peer_pid(address)
    who = f"process {pid} answers" if pid else "another unicornd answers"
    return AlreadyRunningError(
        f"{who} at {address}",
        hint="`unicornctl status` shows it; give this one another [process] name or [control] socket",
    )


def _peer_pid(address: str) -> int:
    """Return who listens there (SO_PEERCRED); 0 if it does not let us ask."""
    with contextlib.suppress(OSError), connect(address, timeout=1.0) as sock:
        return answerer_of(sock).pid
    return 0


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _inode(address: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = Path(address).lstat()
        return found.st_dev, found.st_ino
    return None
