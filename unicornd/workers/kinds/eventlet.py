"""`eventlet`: one green thread a connection; the standard library is patched before the application is imported.

Run in the worker's main thread. `serve` does the work; here is how green threads wait, and when the hub calls back.
Eventlet itself is only kept alive by its authors; this kind is for applications that have been written for it.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from concurrent.futures import process
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, cast

from unicornd.observe import logs
from unicornd.workers.greenloop import stacks_of_greenlets, wait_for_threads, with_raw_listeners
from unicornd.workers.leaving import finish_threads
from unicornd.workers.offered import tell_use
from unicornd.workers.serve import Server

if TYPE_CHECKING:
    import select
    import socket
    from collections.abc import Callable

    from unicornd.workers.context import Orders, WorkerContext
    from unicornd.workers.strand import Strand

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is deprecated is said in the log, once
    import eventlet
    from eventlet import event, hubs, patcher
    from eventlet.green.threading import _GreenThread
    from eventlet.greenio import GreenSocket

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True

FIRST = 1
"""Age of the first worker of a fleet: the one that says what need not be said by each."""


def prepare() -> None:
    """Patch the standard library; before hooks and application are imported."""
    logging.disable(logging.CRITICAL)  # it complains of locks that it cannot find; ours are made anew here
    try:
        eventlet.monkey_patch()
    finally:
        logging.disable(logging.NOTSET)
    for log_file in logs.log_files():
        log_file.createLock()
    wait_for_threads(_GreenThread)
    threading._shutdown = finish_threads  # type: ignore[attr-defined] # noqa: SLF001 - eventlet's waits for nobody
    process.ProcessPoolExecutor.__init__ = _refuse_pool  # type: ignore[method-assign] # the library is patched anyway


def _refuse_pool(*_arguments: object, **_keywords: object) -> None:
    """Its thread is a greenlet here, which waits for a pipe where the hub does not see it: nobody would run again."""
    raise RuntimeError(
        'ProcessPoolExecutor never answers in the kind "eventlet", and stops the whole worker; '
        'set kind = "gevent" or "threads" under [workers]'
    )


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    if context.seat.age == FIRST:
        context.log.warning(
            'eventlet is in maintenance: its authors advise against new uses; kind "gevent" is alike'
        )
    context.orders.more_stacks = stacks_of_greenlets
    Server(with_raw_listeners(context, raw_class()), EventletLoop(context.log, orders=context.orders)).run()


def raw_class() -> type[socket.socket]:
    """Return the class of sockets as it was before it was patched."""
    return cast("type[socket.socket]", patcher.original("socket").socket)


class Pause:
    """How the current green thread waits for a socket (`strand.Pause`).

    Args:
        hub: of the thread.
        fd: of the socket.
    """

    __slots__ = ("_fd", "_greenlet", "_hub")

    def __init__(self, hub: Any, fd: int) -> None:  # noqa: ANN401 - eventlet has no types
        self._hub = hub
        self._fd = fd
        self._greenlet: Any = eventlet.getcurrent()

    def wait_readable(self) -> None:
        """Wait until there is something to read."""
        self._wait(self._hub.READ)

    def wait_writable(self) -> None:
        """Wait until something can be written."""
        self._wait(self._hub.WRITE)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the green thread; called by the hub, so it runs at once and comes back when it waits again."""
        self._greenlet.throw(error)

    def close(self) -> None:
        """Nothing is watched but during a wait."""

    def _wait(self, event_type: str) -> None:
        current = self._greenlet
        listener = self._hub.add(event_type, self._fd, current.switch, current.throw, _ignore)
        try:
            self._hub.switch()
        finally:
            self._hub.remove(listener)


class EventletLoop:
    """eventlet's hub (`greenloop.Loop`).

    Args:
        log: takes what green threads of the application raise at the worker.
        orders: of the worker.
    """

    def __init__(self, log: logging.Logger, *, orders: Orders) -> None:
        self._hub: Any = hubs.get_hub()
        self._orders = orders
        orders.on_fork = self._leave
        orders.aside = self._do_aside
        orders.pollers.append(self._hub.poll.fileno())
        self._log = log
        self._end: Any = event.Event()
        self._is_over = False

    def spawn(self, live: Callable[[Strand], None], strand: Strand) -> None:
        """See `greenloop.Loop`."""
        eventlet.spawn_n(live, strand)

    def pause(self, fd: int) -> Pause:
        """See `greenloop.Loop`."""
        return Pause(self._hub, fd)

    def let_others_run(self) -> None:
        """See `greenloop.Loop`."""
        eventlet.sleep(0)

    def watch(self, fd: int, callback: Callable[[], None]) -> Callable[[], None]:
        """See `greenloop.Loop`."""
        listener = self._hub.add(self._hub.READ, fd, lambda _fd: callback(), _ignore, _ignore)

        def stop() -> None:
            with suppress(KeyError):
                self._hub.remove(listener)

        return stop

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        """See `greenloop.Loop`."""

        def call() -> None:
            if not self._is_over:
                self._hub.schedule_call_global(seconds, call)
                callback()

        self._hub.schedule_call_global(seconds, call)

    def make_epoll(self) -> select.epoll:
        """See `greenloop.Loop`."""
        return cast("select.epoll", patcher.original("select").epoll())

    def make_socket(
        self, sock: socket.socket, on_use: Callable[[], None], *, received: Callable[[], bytes]
    ) -> socket.socket:
        """See `greenloop.Loop`."""
        own = GreenSocket(sock.dup())
        tell_use(own, on_use, received=received)
        return cast("socket.socket", own)

    def raw(self, sock: socket.socket) -> socket.socket:
        """See `greenloop.Loop`."""
        return raw_class()(fileno=sock.detach())

    def run(self) -> None:
        """See `greenloop.Loop`."""
        while not self._is_over:
            try:
                self._end.wait()
            except BaseException:  # noqa: BLE001 - sys.exit() in a green thread of the application reaches the main one
                if self._orders.is_in_child:  # the application has forked, and this is how its child ends
                    os._exit(0)
                self._log.exception("a green thread of the application ended with what would end the worker")

    def _do_aside(self, act: Callable[[], object]) -> None:
        """In a green thread, if a signal has interrupted the hub, which may not wait for anything."""
        if eventlet.getcurrent() is self._hub.greenlet:
            eventlet.spawn_n(act)
        else:
            act()

    def _leave(self) -> None:
        """In a forked child, where the hub goes on: nothing of ours happens there. Its sockets are quiet already."""
        self._is_over = True

    def stop(self) -> None:
        """See `greenloop.Loop`."""
        if not self._is_over:
            self._is_over = True
            self._end.send()


def _ignore(*_arguments: object) -> None:
    """For events that cannot come: nobody else closes our sockets."""
