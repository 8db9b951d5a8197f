"""Who polls and who runs: a worker's threads, with one right to poll among them.

Every thread does the same: it takes a ready request, or else the right to poll, or else it sleeps. The one that polls
runs requests itself, *inline*, so a fast application costs no thread switch. It gives the right away when the
application blocks: *before* the call, when the moving average of blocked time says that this application blocks; or
*during* the call, when the monitor finds it in the application since its last look.

While it runs one short request after the other, their answers are *held* and go out together: a client on this machine
(nginx, mostly) is woken once for all of them. None is held when nothing else is ready, and for no longer than a request
that waits behind one that blocks.

`_lock` guards `_poller`, `_idle`, `_held`, the counters of the scoreboard, and the return of a connection to the poller.
While one thread polls and runs inline, nobody else touches the reactor.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

from unicornd.observe.scoreboard import GONE
from unicornd.units import Monotonic
from unicornd.workers.channel import RetiringReport
from unicornd.workers.offered import SWITCHING, OfferedSocket, tell_use
from unicornd.workers.outside import survive
from unicornd.workers.reactor import SHORTEST_TICK, Reactor
from unicornd.workers.telling import tell
from unicornd.workers.wsgi import Exchanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.observe.scoreboard import Cell
    from unicornd.workers.connection import Connection
    from unicornd.workers.context import Recycling, WorkerContext
    from unicornd.workers.line import Line
    from unicornd.workers.wsgi import Exchange

LOOK_SECONDS = 0.002
"""How often the monitor looks: what a request may lose behind another one that blocks."""
RELAXED_LOOK_SECONDS = 0.008
BRISK = 16
"""How often it looks while more than so many requests are served between two looks. Each look costs the poller the
interpreter lock: 7 % of a hello world on one processor with 2 ms, 2 % with 8 ms (72 and 77 k requests/s)."""
SAMPLE_EVERY = 8
"""One request of so many is measured for blocked time, if the last one was slow: two clock readings cost 0.5 µs."""
BLOCKING_ABOVE = 0.0005
BLOCKING_BELOW = 0.0002
"""Average blocked seconds above which polling is handed over before the call, and below which it no longer is."""
SMOOTHING = 0.125
HOLD_SECONDS = 0.0002
"""How long answers are held while further requests run. To wake a client is half of what the kernel does for a hello
world on a virtual machine: 9.5 µs a request when each is sent at once, 4.6 µs when those of one look go out together."""
YIELD_SECONDS = 0.01
"""How long newcomers are left to workers that have a free thread, before they queue here."""
HUNG_UP_AFTER = 0.05
"""A request that has waited so long is not run before its client is looked at: it may have gone."""
ATTEND_SECONDS = 0.25
"""How often signals are looked for while every thread is in the application, and nobody polls."""
NOBODY = -1
STAND_IN = -2
"""The monitor polls: no thread is left to, and the worker is to leave."""

_monotonic = cast("Callable[[], Monotonic]", time.monotonic)


class Dispatch:
    """The threads of one worker.

    Args:
        context: the worker's.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._cells = [context.seat.row.cell(number) for number in range(context.threads)]
        self._counters = context.seat.row.counters()
        self._is_watched = context.threads > 1
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[Connection] = deque()
        self._reactor = Reactor(context, lock=self._lock, ready=self._ready, free=self._free)
        self._poller = NOBODY
        self._idle = 0
        self._is_over = False
        self._inline = 0
        self._last_inline = 0
        self._runs_inline = threading.Event()
        self._monitor_rests = False
        self._monitor_sleeps = False
        self._held: list[Connection] = []
        self._exchanges = Exchanges(context, self._reactor.clock)
        self._reactor.on_given_up = self._note_given_up
        self._reactor.on_gone = lambda: self._counters.note(GONE)
        self._reactor.on_return = self._counters.uncount
        context.orders.give_up = self._reactor.give_up_all
        context.orders.on_part = self._note_part
        self._cell_of: dict[int, Cell] = {}
        self._full_since = 0.0
        self._is_slow = True
        self._blocked = 0.0
        self._blocks = False

    def run(self) -> None:
        """Serve until the reactor has finished; the calling thread is the first one."""
        others = [
            threading.Thread(target=self._work, args=(cell,), name=f"worker-{cell}", daemon=True)
            for cell in range(1, self._context.threads)
        ]
        if others:
            others.append(threading.Thread(target=self._monitor, name="monitor", daemon=True))
        for thread in others:
            thread.start()
            # A thread that the application starts inherits this, and daemons are not waited for at the end of the process.
            # Ours are: whoever runs a request that never ends must not keep the process.
            thread._daemonic = False  # type: ignore[attr-defined] # noqa: SLF001 - the public setter refuses it by now
        self._work(0)
        for thread in others:
            thread.join()
        self._reactor.close()

    def _work(self, cell: int) -> None:
        """What each thread does; only the main one can be interrupted by a signal handler of the application's."""
        self._cell_of[threading.get_ident()] = self._cells[cell]
        while True:
            try:
                self._take_turns(cell)
            except BaseException as error:
                if cell:  # the others would wait for this one for ever
                    self._context.log.critical("the worker ends because of a defect", exc_info=error)
                    self._context.orders.fail()
                survive(error, self._context.log)
                with self._changed:
                    if self._poller == cell:
                        self._inline, self._poller = 0, NOBODY
                        self._changed.notify()
            else:
                return

    def _take_turns(self, cell: int) -> None:
        """Serve, poll or sleep, until all is answered."""
        while True:
            with self._changed:
                while self._poller != NOBODY and not self._ready and not self._is_over:
                    self._idle += 1
                    try:
                        self._changed.wait()
                    finally:
                        self._idle -= 1
                if self._is_over:
                    return
                # Who polls looks for newcomers before it takes a request: so they queue in the order in which they
                # came (epoll lists a connection that has sent again before one that has waited since the last look).
                connection = self._ready.popleft() if self._poller != NOBODY else None
                if connection is None:
                    self._poller = cell
            if connection is None:
                self._lead(cell)
            else:
                self._serve(connection, cell)

    def _lead(self, cell: int) -> None:
        """Poll and run inline, until the right to poll is given or taken away."""
        ready = self._ready
        while True:
            self._reactor.poll()
            if self._reactor.is_finished:
                self._end()
                return
            served = len(ready)
            for _ in range(served):  # not until it is empty: a pipeline would keep the others out
                if self._blocks:
                    self._give_away(cell)
                    return
                try:
                    connection = ready.popleft()
                except IndexError:  # a thread that had lost the right was faster
                    break
                self._inline = self._last_inline = self._last_inline + 1
                if self._monitor_rests:
                    self._runs_inline.set()
                if self._is_watched:  # else nobody would release it while another one blocks
                    connection.output.may_hold = bool(ready or self._held)
                if not self._serve(connection, cell):
                    return
            if served:
                with self._lock:
                    self._settle(cell)

    def _free(self, now: float) -> int:
        """How many further requests may be accepted: a thread polls, others sleep, and some are to run what is ready.

        If there is none to spare for a while, no sibling has any either: then newcomers queue here, as do all others.
        """
        free, waiting = self._idle + (self._poller != STAND_IN), len(self._ready)
        if free == self._context.threads and not self._blocks:
            return max(
                1, free - waiting
            )  # all requests are short, so that newcomers need not wait for others
        if free > waiting:
            self._full_since = 0.0
            return free - waiting
        self._full_since = self._full_since or now
        if self._context.is_multiprocess and now - self._full_since < YIELD_SECONDS:
            return 0
        self._full_since = 0.0
        return sys.maxsize

    def _end(self) -> None:
        """Everything is answered: end the other threads."""
        if self._reactor.abandoned:  # a thread is stuck, perhaps the main one: nobody can wait for it
            self._context.leave()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._runs_inline.set()

    def _give_away(self, cell: int) -> None:
        """Run the next request, which is expected to block, and let the others poll and run meanwhile."""
        with self._changed:
            self._settle(cell)
            self._poller = NOBODY
            connection = self._ready.popleft() if self._ready else None
            self._changed.notify(1 + len(self._ready))
            if self._monitor_sleeps and not self._idle:  # nobody may poll for long
                self._runs_inline.set()
        if connection is not None:
            self._serve(connection, cell)

    def _serve(self, connection: Connection, cell: int) -> bool:
        """Run one request and return its connection to the reactor; True if this thread has the right to poll."""
        request = connection.request
        now = _monotonic()
        if request is None or (now - connection.ready_at > HUNG_UP_AFTER and connection.has_hung_up()):
            return self._drop(connection, cell)
        connection.ready_at = now  # since when it runs, from here on
        connection.output.has_begun = False
        self._cells[cell].begin(now, f"{request.method} {request.path}".encode("latin-1"))
        exchange = self._exchanges.make(connection, request)
        is_sample = self._is_watched and not self._counters.requests % SAMPLE_EVERY
        cpu = time.thread_time() if is_sample and self._is_slow else 0.0
        run = self._offering(connection, exchange) if "HTTP_UPGRADE" in request.fields else exchange.run
        outcome = run()
        end = _monotonic()
        if self._context.on_served is not None and not connection.given_up:
            tell(exchange, self._context, seconds=end - now)  # else it was told when it was given up
        with self._lock:
            if outcome and not connection.given_up:
                self._counters.note(outcome)
            self._counters.count(end - now)
            if is_sample:
                self._note_blocked(end - now, cpu)
            connection.keeps_alive = exchange.keep_alive
            has_poll = self._poller == cell
            if has_poll:
                self._inline = 0  # the monitor need not look any more
            else:
                self._cells[cell].clear()
                self._counters.show(end)
            if connection.output.held:
                self._held.append(connection)
                is_late = not has_poll or end - self._held[0].ready_at > HOLD_SECONDS
                is_ready = is_late and self._release(end)
            elif is_ready := self._reactor.take_back(connection, end):
                self._ready.append(connection)
            if is_ready and self._idle and not has_poll:
                self._changed.notify()
        if self._context.recycling is not None:
            self._count_down(self._context.recycling)
        return has_poll

    def _offering(self, connection: Connection, exchange: Exchange) -> Callable[[], int]:
        """Return what runs a request whose application may take the connection over (a WebSocket)."""
        # One thread alone could serve nobody meanwhile; a socket with TLS is of no use, what comes there is encrypted.
        may_take = self._is_watched and connection.may_move
        return partial(self._run_offering_socket, connection, exchange) if may_take else exchange.run

    def _run_offering_socket(self, connection: Connection, exchange: Exchange) -> int:
        cell, began = self._cell_of[threading.get_ident()], connection.ready_at
        request = exchange.request

        def on_use() -> None:
            if not connection.is_taken:
                connection.take()
                cell.begin(Monotonic(-began), f"{request.method} {request.path}".encode("latin-1"))

        base = connection.base
        sock = OfferedSocket.of(connection.sock)
        tell_use(sock, on_use, received=connection.take_leftover)
        connection.base = {**base, "unicornd.socket": sock, "gunicorn.socket": sock}
        try:
            outcome = exchange.run()
        finally:
            connection.base = base
        if not connection.is_taken:
            return outcome
        exchange.status, exchange.keep_alive = SWITCHING, False
        return 0

    def _note_given_up(self, connection: Connection, now: float) -> None:
        """Count a request that is given up; perhaps in a signal handler, in the middle of anything."""
        self._counters.note(connection.given_up)
        self._counters.add(now, now - connection.ready_at)
        for cell in self._cells:
            cell.give_up(connection.ready_at)

    def _note_part(self, connection: Line) -> None:
        """A response makes progress: its time limit begins anew, and the worker lives, though it may have no other thread."""
        cell = self._cell_of.get(threading.get_ident())
        if cell is not None:
            now = _monotonic()
            cast("Connection", connection).ready_at = now
            cell.postpone(now)
            self._context.seat.row.beat(now)

    def _count_down(self, recycling: Recycling) -> None:
        """Tell the arbiter when this worker has answered as many requests as it is to."""
        with self._lock:
            is_last = recycling.count()
        if is_last:
            why = f"max_requests reached after {self._counters.requests} requests"
            self._context.report(RetiringReport(why=why))

    def _drop(self, connection: Connection, cell: int) -> bool:
        """Close a connection whose request is not run; True if this thread has the right to poll."""
        with self._lock:
            self._counters.note(GONE)
            self._reactor.drop(connection)
            if self._poller != cell:
                return False
            self._inline = 0
            return True

    def _settle(self, cell: int) -> None:
        """After requests that ran inline: show what has been counted, and let go of the answers that are held."""
        now = _monotonic()
        self._cells[cell].clear()
        self._counters.show(now)
        self._release(now)

    def _release(self, now: float) -> bool:
        """Send the answers that are held and return their connections; True if further requests on them are ready."""
        held, self._held = self._held, []
        is_any = False
        for connection in held:
            try:
                connection.output.release()
            except OSError:
                if not connection.given_up:  # else it is we who have gone
                    self._counters.note(GONE)
                connection.output.close()
                connection.keeps_alive = False
            if self._reactor.take_back(connection, now):
                self._ready.append(connection)
                is_any = True
        return is_any

    def _note_blocked(self, seconds: float, cpu: float) -> None:
        """Note how long a request was blocked: how long it took, but for the processor time since `cpu`.

        What is not slow has not blocked, and is not worth two system calls to know it exactly: the next one is measured.
        """
        blocked = seconds - (time.thread_time() - cpu) if cpu else 0.0
        self._is_slow = seconds > BLOCKING_BELOW
        self._blocked += SMOOTHING * (blocked - self._blocked)
        self._blocks = self._blocked > (BLOCKING_BELOW if self._blocks else BLOCKING_ABOVE)

    def _monitor(self) -> None:
        """Take the right to poll from a thread that is in the application since the last look."""
        seen = 0
        while not self._is_over:
            if self._inline == 0:
                self._rest()
            is_brisk = self._last_inline - seen > BRISK
            seen = self._last_inline
            time.sleep(RELAXED_LOOK_SECONDS if is_brisk else LOOK_SECONDS)
            if self._inline and self._inline == seen:
                self._take_from_blocked(seen)

    @property
    def _is_unattended(self) -> bool:
        """Whether nobody polls, or is about to: every thread is in the application."""
        return self._poller == NOBODY and not self._idle

    def _rest(self) -> None:
        """Wait for a request that runs inline; look for signals now and then while nobody polls."""
        is_unattended = self._is_unattended
        self._monitor_rests, self._monitor_sleeps = True, not is_unattended
        self._runs_inline.clear()
        if self._inline == 0 and not self._is_over and self._is_unattended == is_unattended:
            self._runs_inline.wait(ATTEND_SECONDS if is_unattended else None)
        self._monitor_rests = self._monitor_sleeps = False
        if is_unattended and self._is_unattended:
            self._reactor.attend(_monotonic())
            if self._context.orders.is_draining:
                self._stand_in()

    def _stand_in(self) -> None:
        """Poll while this worker leaves, until a thread comes back from the application.

        So requests that run too long are given up in time, and those that wait for a thread go to other workers.
        """
        with self._lock:
            if not self._is_unattended:
                return
            self._poller = STAND_IN
        reactor = self._reactor
        while not self._idle:
            reactor.poll()
            if reactor.is_finished:
                self._end()
                return
            reactor.pass_on_waiting()
            if self._ready:  # the poller does not wait while requests are ready
                time.sleep(SHORTEST_TICK)
        with self._changed:
            self._poller = NOBODY
            self._changed.notify(1 + len(self._ready))

    def _take_from_blocked(self, inline: int) -> None:
        with self._changed:
            if self._inline == inline:
                self._inline = 0
                now = _monotonic()
                self._counters.show(now)
                self._release(now)
                self._poller = NOBODY
                self._changed.notify()
