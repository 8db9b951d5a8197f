"""What the kinds with greenlets need of their library, and of the listeners that they are given.

Run in the one thread of the worker.
"""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

from greenlet import greenlet

from unicornd.dataclass import replace
from unicornd.workers.chains import text_of

if TYPE_CHECKING:
    import select
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from unicornd.sockets.listener import Listener
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.strand import Pause, Strand


class Loop(Protocol):
    """What is needed of a library of greenlets."""

    def spawn(self, live: Callable[[Strand], None], strand: Strand) -> None:
        """Have `live(strand)` run in a greenlet of its own, soon."""

    def pause(self, fd: int) -> Pause:
        """Return how the current greenlet waits for a socket."""

    def let_others_run(self) -> None:
        """Let the other greenlets and the loop have their turn."""

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called by the loop whenever `fd` is readable, until what is returned is called."""

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback` called by the loop again and again."""

    def make_epoll(self) -> select.epoll:
        """Make a poller as the operating system has it."""

    def make_socket(
        self, sock: socket.socket, on_use: Callable[[], None], *, received: Callable[[], bytes]
    ) -> socket.socket:
        """Return a socket for the application, of the same connection, whose use is told; see `strand.tell_use`."""

    def raw(self, sock: socket.socket) -> socket.socket:
        """Return a raw socket in the place of one that the patched module has made."""

    def run(self) -> None:
        """Run until `stop` is called; what greenlets of the application raise at it is logged."""

    def stop(self) -> None:
        """Have `run` return."""


class RawListener:
    """A listening socket whose connections are raw sockets, although the module `socket` has been patched."""

    def __init__(self, sock: socket.socket, make: type[socket.socket]) -> None:
        self._sock = sock
        self._make = make
        self.family = sock.family
        self.fileno = sock.fileno
        self.getsockname = sock.getsockname
        self.close = sock.close

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection (accept(2)); as the standard library does it."""
        fd, address = cast("Any", self._sock)._accept()  # noqa: SLF001 - socket.accept() itself makes a patched socket
        return self._make(self._sock.family, self._sock.type, self._sock.proto, fileno=fd), address


def wait_for_threads(stand_in: type) -> None:
    """Have threads that greenlets start waited for at the end of the worker, as threads are in every kind.

    A thread inherits from the one that starts it whether it is a daemon, and libraries call a greenlet that is no thread a
    daemon: whatever a request starts would be cut off at each reload. In the kinds with threads it is not, and nobody says
    `daemon=False` because the kind may change.

    The stand-ins themselves stay daemons: gevent would wait for each of them.

    Args:
        stand_in: the class of what `threading.current_thread()` returns in a greenlet that is no thread.
    """
    make = threading.Thread.__init__

    def init(self: threading.Thread, *arguments: Any, daemon: bool | None = None, **more: Any) -> None:  # noqa: ANN401 - as Thread has them
        if daemon is None and isinstance(threading.current_thread(), stand_in):
            daemon = False
        make(self, *arguments, daemon=daemon, **more)

    threading.Thread.__init__ = init  # type: ignore[method-assign] # the library is patched anyway


def stacks_of_greenlets() -> str:
    """Return where every greenlet is that waits; the one that runs is its thread's stack."""
    found = (each for each in gc.get_objects() if isinstance(each, greenlet) and each.gr_frame is not None)
    return text_of((f"Greenlet 0x{id(each):x}", _frames_of(each.gr_frame)) for each in found)


def _frames_of(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def with_raw_listeners(context: WorkerContext, make: type[socket.socket]) -> WorkerContext:
    """Return the context for greenlets.

    Args:
        context: the worker's.
        make: the class of sockets as it was before it was patched.
    """

    def raw(listener: Listener) -> Listener:
        return replace(listener, sock=cast("socket.socket", RawListener(listener.sock, make)))

    seat = replace(context.seat, listeners=tuple(raw(listener) for listener in context.seat.listeners))
    http = replace(context.http, is_streaming=True)
    return replace(context, seat=seat, http=http, threads=max(2, http.connections))
