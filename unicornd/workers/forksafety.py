"""What an application opens while it is imported, and must not share between the processes that are forked later.

Used by the mold, before it forks for the first time. A thread does not survive a fork, whoever waits for it then waits
for ever; a connection that two processes read from gives each of them half of the other's answers.

What there is, is asked of the kernel, before and after: code in C opens connections (libpq) and starts threads (gRPC,
OpenBLAS) past Python. Only the lines are known to Python, and only of what Python has opened.
"""

from __future__ import annotations

import _socket  # which no library of greenlets patches
import errno
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Self

INNER = frozenset({threading.__file__, socket.__file__, __file__})
"""Files whose lines are not worth naming."""
OURS = f"{Path(__file__).parent.parent}{os.sep}"
"""What is opened from here is seen to by whoever opens it."""
LIBRARY_MARKS = ("/site-packages/", "/dist-packages/", sys.prefix + "/lib/", sys.base_prefix + "/lib/")
THREAD_END = (
    "in the workers, which are forked while it runs, only libraries with at-fork support go on with theirs"
)


class ImportWatch:
    """Notes what is started and opened while it is entered, and by which line.

    For that long `Thread.start` and `socket.connect` are ours; there is no other way to know the line.
    """

    def __init__(self) -> None:
        self._started: list[tuple[threading.Thread, str]] = []
        self._connected: dict[int, str] = {}
        self._tasks: set[int] = set()
        self._sockets: set[int] = set()

    def __enter__(self) -> Self:
        self._tasks, self._sockets = set(_tasks()), {each.inode for each in _sockets()}
        start = self._start = threading.Thread.start
        watched = self._watched = socket.socket  # a kind may put a class of its own there meanwhile
        started, connected = self._started, self._connected

        def noted_start(thread: threading.Thread) -> None:
            started.append((thread, _place()))
            start(thread)

        def noted_connect(sock: socket.socket, address: Any, /) -> None:  # noqa: ANN401 - any family's
            with suppress(OSError):  # it is closed; connect says so
                connected[os.fstat(sock.fileno()).st_ino] = _place()
            super(watched, sock).connect(address)

        threading.Thread.start = noted_start  # type: ignore[method-assign,assignment] # see the class
        watched.connect = noted_connect  # type: ignore[method-assign,assignment] # see the class
        return self

    def __exit__(self, *_exception: object) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign] # as it was
        del self._watched.connect

    def findings(self) -> list[str]:
        """Return a line for each thread that runs, and each socket that is connected or listens."""
        return [*self._threads(), *self._open_sockets()]

    def _threads(self) -> Iterator[str]:
        known = set(self._tasks)
        for thread, place in self._started:
            known.add(thread.native_id or 0)
            if not thread.is_alive() or not place:
                continue
            is_greenlet = thread.native_id in self._tasks
            end = "it is a greenlet: each worker goes on with it" if is_greenlet else THREAD_END
            yield f"a thread ({thread.name}), started at {place}; {end}"
        names = [name for task, name in _tasks().items() if task not in known]
        if names:
            told = ", ".join(f"{names.count(name)} × {name}" for name in sorted(set(names)))
            yield f"threads past Python's threading ({told}), as libraries in C have; {THREAD_END}"

    def _open_sockets(self) -> Iterator[str]:
        pairs = []
        for each in _sockets():
            place = self._connected.get(each.inode)
            if each.inode in self._sockets or place == "":
                continue
            if each.listens:
                yield f"a listening socket at {each.name}; who connects waits until one of the workers accepts"
            elif each.is_unnamed:
                pairs.append(each.fd)
            else:
                where = f"at {place}" if place else "by code past Python's socket module"
                yield f"a connection to {each.name}, opened {where}; all workers would share it"
        if pairs:
            told = ", ".join(str(fd) for fd in pairs)
            yield f"socket pairs (descriptors {told}), as event loops have; all workers would share them"


class _Socket(NamedTuple):
    """A socket that listens at `name`, or is connected to it."""

    fd: int
    inode: int
    name: str
    listens: bool
    is_unnamed: bool


def _tasks() -> dict[int, str]:
    """Return the threads of this process that the kernel has (proc_pid_task(5)) → what they are called."""
    found = {}
    for task in _numbers("/proc/self/task"):
        with suppress(OSError):  # it has ended
            name = Path(f"/proc/self/task/{task}/comm").read_text(encoding="utf-8", errors="replace")
            found[task] = name.strip()
    return found


def _sockets() -> Iterator[_Socket]:
    """Yield the open sockets of this process that are connected or listen, whoever has opened them."""
    for fd in _numbers("/proc/self/fd"):
        with suppress(OSError):  # it is closed, as the one is that has listed them; or it is neither
            said = os.fstat(fd)
            if S_ISSOCK(said.st_mode):
                yield _socket_at(fd, said.st_ino)


def _socket_at(fd: int, inode: int) -> _Socket:
    """Return what a descriptor is.

    Raises:
        OSError: nothing can come in there.
    """
    sock = _socket.socket(fileno=fd)
    try:
        listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        name = sock.getsockname() if listens else sock.getpeername()
        is_unnamed = sock.family == socket.AF_UNIX and not name and not sock.getsockname()
        if (
            name
            and sock.family == socket.AF_UNIX
            and sock.type == socket.SOCK_DGRAM
            and not sock.getsockname()
        ):
            raise OSError(errno.EDESTADDRREQ, "a syslog daemon, say, could not answer if it wanted to")
        return _Socket(fd=fd, inode=inode, name=_shown(name), listens=listens, is_unnamed=is_unnamed)
    finally:
        sock.detach()  # else it would be closed


def _shown(name: object) -> str:
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return os.fsdecode(name).replace("\0", "@") if isinstance(name, str | bytes) and name else "a Unix socket"


def _numbers(folder: str) -> list[int]:
    try:
        return sorted(int(entry) for entry in os.listdir(folder))  # noqa: PTH208 - pathlib would make an object of each
    except OSError:  # there is no /proc
        return []


def _place() -> str:
    """Return file and line of the innermost code that is the application's own, else of whoever called; "" if we have."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - traceback would read every source file
    first = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in INNER and not file.startswith("<"):
            if file.startswith(OURS):  # else it is we who load the application
                return first
            place = f"{file}:{frame.f_lineno}"
            first = first or place
            if not any(mark in file for mark in LIBRARY_MARKS):
                return place
        frame = frame.f_back
    return first
