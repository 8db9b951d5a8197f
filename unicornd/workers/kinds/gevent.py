"""`gevent`: one greenlet a connection; the standard library is patched before the application is imported.

Run in the worker's main thread. `serve` does the work; here is how greenlets wait, and when the loop calls back.
"""

from __future__ import annotations

import os
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, cast

import gevent
from gevent import monkey
from gevent.event import Event
from gevent.socket import socket as cooperative_socket

from unicornd.workers.greenloop import stacks_of_greenlets, wait_for_threads, with_raw_listeners
from unicornd.workers.offered import tell_use
from unicornd.workers.serve import Server

if TYPE_CHECKING:
    import logging
    import select
    import socket
    from collections.abc import Callable

    from unicornd.workers.context import Orders, WorkerContext
    from unicornd.workers.strand import Strand

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True

READ, WRITE = 1, 2
"""Events of the loop (libev: EV_READ, EV_WRITE)."""


def prepare() -> None:
    """Patch the standard library; before hooks and application are imported.

    gevent asks for plugins at each of 25 steps, and each time the entry points of all installed packages are read: 0.3 s
    where there are a hundred. Here they are read once.
    """
    asked = metadata.entry_points
    metadata.entry_points = asked().select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = asked
    wait_for_threads(threading._DummyThread)  # noqa: SLF001 - gevent has put its own there


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    context.orders.more_stacks = stacks_of_greenlets
    Server(with_raw_listeners(context, raw_class()), GeventLoop(context.log, orders=context.orders)).run()


def raw_class() -> type[socket.socket]:
    """Return the class of sockets as it was before it was patched."""
    return cast("type[socket.socket]", monkey.get_original("socket", "socket"))


class Pause:
    """How the current greenlet waits for a socket (`strand.Pause`).

    Args:
        hub: of the thread.
        fd: of the socket.
    """

    __slots__ = ("_fd", "_greenlet", "_hub", "_reader", "_switch", "_writer")

    def __init__(self, hub: Any, fd: int) -> None:  # noqa: ANN401 - gevent's hub has no types
        self._hub = hub
        self._fd = fd
        self._greenlet = gevent.getcurrent()
        self._switch = self._greenlet.switch
        self._reader = hub.loop.io(fd, READ)
        self._writer: Any = None

    def wait_readable(self) -> None:
        """Wait until there is something to read."""
        self._wait(self._reader)

    def wait_writable(self) -> None:
        """Wait until something can be written."""
        if self._writer is None:
            self._writer = self._hub.loop.io(self._fd, WRITE)
        self._wait(self._writer)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the greenlet; called by the hub, so it runs at once and comes back when it waits again."""
        self._greenlet.throw(error)

    def close(self) -> None:
        """Watch the socket no more."""
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.close()

    def _wait(self, watcher: Any) -> None:  # noqa: ANN401 - as above
        watcher.start(self._switch)
        try:
            self._hub.switch()
        finally:
            watcher.stop()


class ClientSocket(cooperative_socket):
    """A client's socket that an application may take over; without slots, so that `tell_use` can do its work."""


class GeventLoop:
    """gevent's hub (`greenloop.Loop`).

    Args:
        log: takes what greenlets of the application raise at the worker.
        orders: of the worker.
    """

    def __init__(self, log: logging.Logger, *, orders: Orders) -> None:
        self._hub = gevent.get_hub()
        # gevent hears of children from its first os.fork on, but only once that has returned: a child that has ended by then
        # would be waited for for ever. Its subprocess does this, too, before it forks.
        self._hub.loop.install_sigchld()
        self._orders = orders
        orders.on_fork = self._leave
        orders.aside = self._do_aside
        orders.pollers += [fd] if (fd := self._hub.loop.fileno()) is not None else []
        self._log = log
        self._end = Event()
        self._watchers: list[Any] = []

    def spawn(self, live: Callable[[Strand], None], strand: Strand) -> None:
        """See `greenloop.Loop`."""
        gevent.spawn(live, strand)

    def pause(self, fd: int) -> Pause:
        """See `greenloop.Loop`."""
        return Pause(self._hub, fd)

    def let_others_run(self) -> None:
        """See `greenloop.Loop`."""
        gevent.sleep(0)

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """See `greenloop.Loop`."""
        watcher = self._hub.loop.io(fd, READ)
        watcher.start(callback)
        self._watchers.append(watcher)
        return watcher.stop

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """See `greenloop.Loop`."""
        timer = self._hub.loop.timer(seconds, repeat=seconds)
        timer.start(callback)
        self._watchers.append(timer)

    def make_epoll(self) -> select.epoll:
        """See `greenloop.Loop`."""
        return cast("select.epoll", monkey.get_original("select", "epoll")())

    def make_socket(
        self, sock: socket.socket, on_use: Callable[[], None], *, received: Callable[[], bytes]
    ) -> socket.socket:
        """See `greenloop.Loop`."""
        own = ClientSocket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        tell_use(own, on_use, received=received)
        return cast("socket.socket", own)

    def raw(self, sock: socket.socket) -> socket.socket:
        """See `greenloop.Loop`."""
        return raw_class()(fileno=sock.detach())

    def run(self) -> None:
        """See `greenloop.Loop`."""
        while not self._end.is_set():
            try:
                self._end.wait()
            except BaseException:  # noqa: BLE001 - sys.exit() in a greenlet of the application reaches the main one
                if self._orders.is_in_child:  # the application has forked, and this is how its child ends
                    os._exit(0)
                self._log.exception("a greenlet of the application ended with what would end the worker")
        self._leave()

    def _do_aside(self, act: Callable[[], object]) -> None:
        """In a greenlet, if a signal has interrupted the hub, which may not wait for anything."""
        if gevent.getcurrent() is self._hub:
            gevent.spawn(act)
        else:
            act()

    def _leave(self) -> None:
        """Watch nothing of ours any more; in a forked child, where gevent has the loop go on."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()

    def stop(self) -> None:
        """See `greenloop.Loop`."""
        self._end.set()
