"""The boundary of a fork that is not ours: the application's, a hook's, a library's (multiprocessing, a daemonizing command).

Used by arbiter, molds and workers. A child of such a fork inherits everything of its parent: its handlers and its wake-up
socket, by which a signal to the child would be taken for one to the parent; the poller's epoll object, through which the
child would change what the parent is told of; listeners, connections and pipes, which stay open as long as the child
lives. So in the child, before anybody else's code runs, it is all given up (`os.register_at_fork`).

Programs that are executed (`subprocess`) need none of this: descriptors are closed by exec(3), and handlers are reset.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import sys
from _thread import get_ident  # of threads, whatever a library of greenlets makes of it
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_new_epoll = select.epoll
"""Held on to: gevent and eventlet take it away."""
_Socket = socket.socket
"""As it is before a library of greenlets patches the module."""


class Closable(Protocol):
    """Something open that this process has."""

    def close(self) -> None:
        """Let go of it; a second time does nothing."""


T = TypeVar("T", bound=Closable)


class OwnedFd:
    """A descriptor that no child keeps: the arbiter's end of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        BOUNDARY.own(self)

    def fileno(self) -> int:
        """Its number; -1 when it is closed."""
        return self._fd

    def close(self) -> None:
        """Close it, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Boundary:
    """What a process gives up in a child; one a process, `BOUNDARY`.

    The arbiter registers what it opens as it opens it (`own`), and its own children close all of that but what they are
    given (`close_owned`): no list elsewhere has to know of a new socket. A child that somebody else forks gives up what
    `arm` was told.

    Attributes:
        is_crossed: whether this process is a child that somebody else has forked.
    """

    def __init__(self) -> None:
        self._owned: WeakSet[Closable] = WeakSet()
        self._give_up: Callable[[], None] | None = None
        self._handlers: dict[int, object] = {}
        self._is_ours = False
        self.is_crossed = False
        self._masks: dict[int, set[int]] = {}

    def arm(self, signals: Iterable[int], give_up: Callable[[], None]) -> None:
        """From now on, a fork that is not ours is crossed alone.

        Args:
            signals: whose present handlers are ours: what else is installed later is the application's, and stays.
            give_up: called in the child; it changes nothing that the parent sees.
        """
        self._handlers = {number: signal.getsignal(number) for number in signals}
        self._give_up = give_up

    def own(self, thing: T) -> T:
        """Register something that no child of this process keeps, and return it; what is gone is forgotten by itself."""
        self._owned.add(thing)
        return thing

    def close_owned(self, kept: Collection[Closable] = ()) -> None:
        """In a child: close what the parent owns, and own nothing.

        Args:
            kept: what the child goes on with.
        """
        for thing in tuple(self._owned):
            if all(thing is not each for each in kept):
                with suppress(OSError):  # somebody has closed its descriptor behind its back
                    thing.close()
        self._owned.clear()

    def end_child(self, error: BaseException | None = None) -> None:
        """End this process if it is such a child that has come back into our code, which is not for it.

        Args:
            error: what it has come back with: `sys.exit` says the code that its parent is waiting for; anything else is
                written to standard error, and is 1, as at the end of any Python process.
        """
        if self.is_crossed:
            code = 1
            try:
                code = _exit_code(error)
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError, ValueError, AttributeError):
                        stream.flush()
            finally:
                os._exit(code)

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Fork ourselves: the child sees to what it keeps, and arms the boundary anew."""
        self._is_ours = True
        try:
            yield
        finally:
            self._is_ours = False

    def before(self) -> None:
        """Before a fork: a signal that the child gets while it still has our handlers would be heard by its parent."""
        if self._give_up is not None:
            self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)

    def after(self) -> None:
        """After a fork, in both processes: signals come again."""
        mask = self._masks.pop(get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def cross(self) -> None:
        """In the child: give up what is the parent's."""
        try:
            self._cross()
        finally:
            self.after()
            self._masks.clear()

    def _cross(self) -> None:
        give_up, self._give_up = self._give_up, None
        if self._is_ours:
            self._is_ours = False
            _disown_processes()
            return
        if give_up is None:
            return
        self.is_crossed = True
        with suppress(ValueError):  # in a subinterpreter there are no signals to give up
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                if signal.getsignal(number) is handler:
                    signal.signal(number, _default_of(number))
        give_up()


def _exit_code(error: BaseException | None) -> int:
    """Return what Python's own end would say, and write what it would write."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - as `sys.exit(text)` does
    return 1


def _disown_processes() -> None:
    """In a child of ours: forget the parent's processes, which multiprocessing would end with this one (atexit).

    Children that multiprocessing forks itself do the same (`BaseProcess._bootstrap`).
    """
    module = sys.modules.get("multiprocessing.process")
    if module is not None:
        module._children = set()  # type: ignore[attr-defined] # noqa: SLF001 - there is no public way


BOUNDARY = Boundary()
# Once: it cannot be taken back.
os.register_at_fork(before=BOUNDARY.before, after_in_parent=BOUNDARY.after, after_in_child=BOUNDARY.cross)


def let_go(fds: Iterable[int], *, pollers: Iterable[int] = ()) -> None:
    """In a child: put something that never happens in the place of descriptors that are the parent's.

    Closing them would free their numbers, and whatever Python object has one of them would close it a second time, when
    it is somebody else's. So each number leads to an epoll object without members, which is never readable, never
    writable, and may be watched. Nothing here touches the open file that the parent has.

    Args:
        fds: numbers; those that are closed are passed over.
        pollers: numbers of epoll objects: each gets one of its own, since a loop may go on to use it.
    """
    for fd in pollers:
        with suppress(OSError), _new_epoll() as empty:
            _replace(fd, empty.fileno())
    with suppress(OSError), _new_epoll() as nothing:
        for fd in fds:
            with suppress(OSError):
                _replace(fd, nothing.fileno())


def connections_at(listeners: Iterable[socket.socket]) -> Iterator[int]:
    """Yield the descriptors of this process that are connections which came in at these listeners, and the listeners."""
    names = {_place_of(listener) for listener in listeners}
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would make an object of each
        fd = int(entry)
        with suppress(OSError, ValueError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode) and _place_at(fd) in names:
                yield fd


def _place_at(fd: int) -> object:
    sock = _Socket(fileno=fd)
    try:
        return _place_of(sock)
    finally:
        sock.detach()


def _place_of(sock: socket.socket) -> object:
    """Return what listener and connection have in common: the port, or the path; None for another kind of socket."""
    if sock.type != socket.SOCK_STREAM:
        return None
    name = sock.getsockname()
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        return name[1] or None
    return name if sock.family == socket.AF_UNIX and name else None


def _replace(fd: int, by: int) -> None:
    os.fstat(fd)  # OSError: it is closed, and stays so
    os.dup2(by, fd, inheritable=False)


def _default_of(number: int) -> Callable[..., object] | signal.Handlers:
    """Return what Python starts with (PyErr_SetInterrupt, and SIGPIPE ignored)."""
    if number == signal.SIGINT:
        return signal.default_int_handler
    return signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL
