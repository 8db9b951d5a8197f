"""The reactor: one poller that owns every connection that is not inside the application.

Run by one thread at a time, the one that has the right to poll (`dispatch`). A request reaches the application only
when it is complete; a response that the client does not take is sent on from here. So a slow client costs a buffer.

A connection stays registered in epoll while its request runs: no epoll_ctl a request. If it becomes readable
meanwhile and another thread polls, it is taken out until the request has ended.
"""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal
from unicornd.http.response import plain_response, refusal_response
from unicornd.observe.scoreboard import FAILED, OVERDUE
from unicornd.units import Monotonic
from unicornd.workers.accepting import Acceptor
from unicornd.workers.clock import Clock
from unicornd.workers.connection import BODY, CLOSED, HEAD, IDLE, LINGER, RESPONSE
from unicornd.workers.outside import survive
from unicornd.workers.signals import obey
from unicornd.workers.telling import tell_given_up

if TYPE_CHECKING:
    import threading
    from collections import deque
    from collections.abc import Callable

    from unicornd.workers.connection import Connection
    from unicornd.workers.context import HttpPolicy, WorkerContext
    from unicornd.workers.handover import Handover

READABLE = int(select.EPOLLIN)
WRITABLE = int(select.EPOLLOUT)
DRAIN_LINGER_SECONDS = 1.0
"""How long a draining worker keeps a connection on which nothing happens: a request may be on its way."""
MOST_LAST_ROUNDS = 128
"""Rounds of accepting before a listener is left: 8192 connections, twice the usual net.core.somaxconn."""
MOMENT = 0.1
"""Seconds that a lock is waited for whose holder may be what a signal handler has interrupted."""
LONGEST_TICK = 1.0
SHORTEST_TICK = 0.05
"""How often deadlines are looked at (seconds): a quarter of the shortest one, within these bounds."""


class Reactor:
    """All connections of one worker.

    Args:
        context: the worker's.
        lock: guards the return of connections by other threads than the one that polls.
        ready: where connections with a complete request are put.
        free: returns how many further requests may be accepted now, for threads that could begin them.

    Attributes:
        clock: for the Date of responses.
        is_finished: whether the worker has drained.
        abandoned: requests that were given up while they ran.
        on_given_up: called with the connection of one, under the lock, before its client is told.
        on_gone: called for a client that has left before the end of its answer or of its request.
        on_return: called, under the lock, with the seconds of a request that has come back after it was given up.
    """

    def __init__(
        self,
        context: WorkerContext,
        *,
        lock: threading.Lock,
        ready: deque[Connection],
        free: Callable[[float], int],
    ) -> None:
        self._context = context
        self._policy = context.http
        self._keepalive = context.http.keepalive
        self._lock = lock
        self._ready = ready
        self._free = free
        self._orders = context.orders
        self._lifeline = context.seat.lifeline
        self._epoll = select.epoll()
        context.orders.pollers.append(self._epoll.fileno())
        self._acceptor = Acceptor(context, self._epoll)
        self._connections: dict[int, Connection] = {}
        self._tick = self._patience = tick_of(self._policy)
        self._next_tick = 0.0
        self._drains = False
        self.clock = Clock()
        self.is_finished = False
        self.abandoned = 0
        self.on_given_up: Callable[[Connection, float], None] = lambda _connection, _now: None
        self.on_gone: Callable[[], None] = lambda: None
        self.on_return: Callable[[float], None] = lambda _seconds: None
        self._epoll.register(self._orders.wake, select.EPOLLIN)
        self._epoll.register(self._lifeline, select.EPOLLIN)
        self._handover = self._orders.handover = context.seat.handover
        if self._handover is not None:
            self._epoll.register(self._handover.taking, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def close(self) -> None:
        """Close every connection, the listeners and the poller."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._acceptor.close()
        self._epoll.close()

    def poll(self) -> None:
        """Wait for something to happen and deal with it; complete requests are appended to `ready`.

        While requests are ready it only looks.
        """
        try:
            events = self._epoll.poll(0 if self._ready else self._patience)
        except BaseException as error:  # noqa: BLE001 - of a signal handler of the application's
            survive(error, self._context.log)
            return
        now = time.monotonic()
        connections = self._connections
        for fd, _mask in events:  # readable, writable or broken: the connection's stage says what to do
            connection = connections.get(fd)
            if connection is None:
                self._take_other(fd, now)
            elif connection.is_busy:
                self._take_busy(connection)
            elif connection.stage is RESPONSE:
                self._flush(connection, now)
            else:
                self._read(connection, now)
        if now >= self._next_tick:
            self._look_around(now)
        if self._acceptor.is_paused:
            is_resumed = self._acceptor.resume(room=self._room(), now=now)
            self._patience = self._tick if is_resumed else SHORTEST_TICK
        if self._orders.is_draining:
            if self._orders.is_expiring:
                self._give_up(now)
            self._drain(now)

    def attend(self, now: float) -> None:
        """Do what cannot wait while nobody polls, as every thread is in the application: hear signals, give a sign of life."""
        with suppress(BlockingIOError):
            obey(self._orders, self._orders.wake.recv(4096))
        self._context.seat.row.beat(Monotonic(now))
        self._context.seat.row.set_waiting(len(self._ready))

    def pass_on_waiting(self) -> None:
        """Give complete requests that no thread of ours may come to run to other workers; what cannot go stays."""
        for _ in range(len(self._ready)):
            with suppress(IndexError):  # a thread that has come back is faster
                connection = self._ready.popleft()
                if not self._pass_on(connection):
                    self._ready.append(connection)

    def take_back(self, connection: Connection, now: float) -> bool:
        """Go on with a connection whose request has been run; True if a further request is complete.

        Called under the lock by the thread that has run it. `is_busy` is reset last: then the poller may come.
        """
        if (
            connection.keeps_alive
            and connection.watched == READABLE
            and not self._drains
            and connection.rest()
        ):
            connection.deadline = now + self._keepalive  # the usual case: all sent, nothing else received
            connection.is_busy = False
            return False
        if connection.given_up:
            self.on_return(now - connection.ready_at)
            return False
        if connection.output.is_pending:
            connection.deadline = _after(now, self._policy.write)
            self._watch(connection, select.EPOLLOUT)
            connection.is_busy = False
            return False
        return self._go_on(connection, now)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        self._connections.pop(connection.fd, None)
        connection.close()

    def _go_on(self, connection: Connection, now: float) -> bool:
        """A response has been sent whole: read on, or close. True if a further request is complete."""
        if not connection.keeps_alive:
            if connection.has_leftover:
                self._linger(connection, now)
            else:
                self.drop(connection)
            return False
        try:
            if connection.next_request(now):
                connection.ready_at = now
                return True
        except Refusal as refusal:
            self._refuse(connection, refusal, now=now)
            return False
        except Exception as error:  # noqa: BLE001 - see there
            self._drop_by_defect(connection, error)
            return False
        if self._drains and self._hand_over(connection):
            return False
        if connection.stage is IDLE:
            connection.deadline = _after(now, self._policy.keepalive)
            if self._drains:
                connection.deadline = now + DRAIN_LINGER_SECONDS
        self._watch(connection, select.EPOLLIN)
        connection.is_busy = False
        return False

    def _read(self, connection: Connection, now: float) -> None:
        try:
            if connection.stage is LINGER:
                connection.discard(now)
            elif connection.receive(now):
                connection.is_busy = True
                connection.ready_at = now
                self._ready.append(connection)
        except BlockingIOError:
            self._watch(connection, connection.interest)
        except (EOFError, OSError):
            if connection.stage is BODY:
                self.on_gone()
            self.drop(connection)
        except Refusal as refusal:
            self._refuse(connection, refusal, now=now)
        except Exception as error:  # noqa: BLE001 - see there
            self._drop_by_defect(connection, error)

    def _flush(self, connection: Connection, now: float) -> None:
        """Send on what the client had not taken when the application was done."""
        try:
            if not connection.output.flush():
                connection.deadline = _after(now, self._policy.write)
                return
        except OSError:
            self.on_gone()
            self.drop(connection)
            return
        if self._go_on(connection, now):
            connection.is_busy = True
            self._ready.append(connection)

    def _refuse(self, connection: Connection, refusal: Refusal, *, now: float) -> None:
        """Answer a request that is not served, and close: what follows it cannot be read."""
        answer = refusal_response(refusal, standing=self.clock.standing())
        try:
            connection.tell(answer)
        except OSError:
            self.drop(connection)
            return
        self._context.log.info("request refused", extra=refusal.facts)
        self._linger(connection, now)

    def _drop_by_defect(self, connection: Connection, error: Exception) -> None:
        """Give up a connection whose bytes made us raise what we did not foresee: it costs this client, not all."""
        self._context.log.error("a connection is dropped because of a defect in the server", exc_info=error)
        self.drop(connection)

    def _linger(self, connection: Connection, now: float) -> None:
        """End our side and read what the client still sends, lest a reset destroys our answer (RFC 9112 9.6)."""
        try:
            connection.linger(now)
        except OSError:
            self.drop(connection)
            return
        self._watch(connection, select.EPOLLIN)
        connection.is_busy = False

    def _watch(self, connection: Connection, mask: int) -> None:
        """Have the poller watch a connection, with an epoll_ctl only if that is new."""
        if connection.watched == mask:
            return
        if connection.watched:
            self._epoll.modify(connection.fd, mask)
        else:
            self._epoll.register(connection.fd, mask)
        connection.watched = mask

    def _take_busy(self, connection: Connection) -> None:
        """An event of a connection whose request runs in another thread.

        Its response is sent on if it goes on in a file; else it is taken out of the poller.
        """
        with self._lock:
            if not connection.is_busy or not connection.watched or connection.stage is CLOSED:
                return
            if connection.watched == WRITABLE:
                with suppress(OSError):  # that thread will meet it, too
                    if not connection.output.flush():
                        return
            self._epoll.unregister(connection.fd)
            connection.watched = 0

    def _send_meanwhile(self, connection: Connection) -> None:
        """A running response goes on in a file: send that while the application goes on; called by its thread."""
        with self._lock:
            if connection.is_busy and connection.stage is not CLOSED:
                self._watch(connection, WRITABLE)

    def _take_other(self, fd: int, now: float) -> None:
        """An event of something that is no connection: a signal, the lifeline, a listener."""
        if fd == self._orders.wake.fileno():
            with suppress(BlockingIOError):
                # Told here too: Python's own handler has to wait until the main thread leaves the application.
                obey(self._orders, self._orders.wake.recv(4096))
        elif fd == self._lifeline:
            self._epoll.unregister(fd)
            self._context.log.warning("the arbiter is gone; finishing what is in flight")
            self._orders.is_draining = True
            if self._handover is not None:  # the others leave, too
                self._handover.shut()
        elif self._handover is not None and fd == self._handover.taking.fileno():
            self._take_over(self._handover, now)
        else:
            self._accept(fd, now)

    def _accept(self, fd: int, now: float) -> bool:
        """Accept what waits at a listener, but no more requests than there are free threads: a sibling may have some.

        Returns:
            Whether anything was accepted.
        """
        free = sys.maxsize if self._drains else self._free(now)
        if free == 0:
            return False
        is_any = False
        for connection in self._acceptor.accept(fd, room=self._room(), now=now):
            is_any = True
            self._welcome(connection, now)
            free -= connection.is_busy
            if free <= 0:
                break
        return is_any

    def _welcome(self, connection: Connection, now: float) -> None:
        """Take a new connection in; its first request is often there already."""
        self._connections[connection.fd] = connection
        connection.on_stored = self._send_meanwhile
        connection.deadline = now + DRAIN_LINGER_SECONDS if self._drains else _after(now, self._policy.head)
        self._read(connection, now)
        if not connection.is_busy and connection.stage is not CLOSED:
            self._watch(connection, connection.interest)

    def _take_over(self, handover: Handover, now: float) -> None:
        """Go on with connections that another worker had."""
        for handed in handover.take():
            connection = self._acceptor.receive(handed)
            self._connections[connection.fd] = connection
            connection.on_stored = self._send_meanwhile
            connection.deadline = _after(now, self._policy.keepalive or self._policy.head)
            self._go_on_with(connection, handed.received, now=now)
        if not handover.is_open:  # readable for ever
            with suppress(FileNotFoundError):
                self._epoll.unregister(handover.taking)

    def _go_on_with(self, connection: Connection, received: bytes, *, now: float) -> None:
        try:
            if connection.resume(received, now):
                connection.is_busy = True
                connection.ready_at = now
                self._ready.append(connection)
                return
        except Refusal as refusal:
            self._refuse(connection, refusal, now=now)
            return
        self._watch(connection, select.EPOLLIN)

    def _hand_over(self, connection: Connection) -> bool:
        """Give an idle connection to a worker that stays; False if it stays here."""
        if self._orders.ends_connections or connection.stage not in {IDLE, HEAD}:
            return False
        return self._give(connection, connection.leftover)

    def _give(self, connection: Connection, received: bytes) -> bool:
        handed = self._acceptor.handed(connection, received)
        if self._handover is None or handed is None or not self._handover.give(handed):
            return False
        if connection.watched:  # the description lives on elsewhere, so closing it would not do
            self._epoll.unregister(connection.fd)
        connection.has_no_end = True
        self.drop(connection)
        return True

    def _room(self) -> int:
        if self._drains:
            return sys.maxsize  # what is left in the kernel's queue may be reset
        return self._policy.connections - len(self._connections)

    def _look_around(self, now: float) -> None:
        """Once a tick: give a sign of life, and end what has lasted too long."""
        if self._orders.is_in_child:  # the application has forked, and returned in both
            os._exit(0)
        self._next_tick = now + self._tick
        self._orders.look(now)
        self._context.seat.row.beat(Monotonic(now))
        self._context.seat.row.set_connections(len(self._connections))
        self._context.seat.row.set_waiting(len(self._ready))
        for connection in list(self._connections.values()):
            if 0.0 < connection.deadline < now and not connection.is_busy:
                self._end_overdue(connection, now)

    def _end_overdue(self, connection: Connection, now: float) -> None:
        """Close what is idle; tell a client that was too slow (RFC 9110 section 15.5.9)."""
        if connection.stage in {HEAD, BODY}:
            what = "head" if connection.stage is HEAD else "body"
            refusal = Refusal(HTTPStatus.REQUEST_TIMEOUT, f"the request's {what} did not arrive in time")
            self._refuse(connection, refusal, now=now)
        else:
            self.drop(connection)

    def _drain(self, now: float) -> None:
        """Leave the listeners after a last look at what the kernel has queued; finished when nothing is left."""
        if not self._drains:
            self._drains = True
            self._leave_handover(now)
            for fd in self._acceptor.fds:
                for _ in range(MOST_LAST_ROUNDS):
                    if not self._accept(fd, now):
                        break
            self._acceptor.close()
            self._tick = self._patience = SHORTEST_TICK
            for connection in list(self._connections.values()):  # other threads drop theirs meanwhile
                if not connection.is_busy and not self._hand_over(connection) and connection.stage is IDLE:
                    connection.deadline = now + DRAIN_LINGER_SECONDS
        self.is_finished = not self._connections

    def give_up_all(self) -> None:
        """This process is about to end: tell the clients of running requests that there will be no answer.

        Requests that have not begun, and idle connections, go to another worker.
        """
        waiting = set(self._ready)
        for connection in list(self._connections.values()):
            if not connection.is_busy:
                self._hand_over(connection)
            elif not (connection in waiting and self._pass_on(connection)):
                self._abandon(connection)

    def _pass_on(self, connection: Connection) -> bool:
        """Give a connection away with the complete request on it, if that has no body."""
        if connection.spool is not None:
            return False
        return self._give(connection, connection.block + connection.leftover)

    def _give_up(self, now: float) -> None:
        """Give up the requests that have run too long; their threads are stuck, and are left behind."""
        if not self.abandoned:
            self._orders.on_abort()
        for connection in list(self._connections.values()):
            if connection.is_busy and now - connection.ready_at >= self._context.request_timeout:
                self._abandon(connection)

    def _abandon(self, connection: Connection) -> None:
        """Answer 504 in the application's place, if nothing of its answer was sent; what it sends later goes nowhere.

        It is counted before its client is told: whoever has the 504 may do what brings the application back.
        """
        now = time.monotonic()
        has_lock = self._lock.acquire(timeout=MOMENT)  # a signal handler may have interrupted its holder
        try:
            if not connection.is_busy:  # its thread has come back
                return
            has_begun = connection.output.has_begun
            connection.given_up = OVERDUE if has_begun else OVERDUE | FAILED
            connection.output.break_off()
            if connection.watched:  # so that its thread does not take the short way of `take_back`
                self._epoll.unregister(connection.fd)
                connection.watched = 0
            self.on_given_up(connection, now)
        finally:
            if has_lock:
                self._lock.release()
        if has_begun:
            connection.reset_on_close()
        else:
            text = f"the application did not answer within {self._context.request_timeout:g} s"
            answer = plain_response(HTTPStatus.GATEWAY_TIMEOUT, text, standing=self.clock.standing())
            with suppress(OSError):
                connection.tell(answer)
        tell_given_up(connection, self._context, seconds=now - connection.ready_at)
        self.abandoned += 1
        self.drop(connection)

    def _leave_handover(self, now: float) -> None:
        """Take nothing over any more; when the whole fleet leaves, what is on its way is answered first."""
        if self._handover is not None:
            with suppress(FileNotFoundError):
                self._epoll.unregister(self._handover.taking)
            if self._orders.ends_connections:
                self._take_over(self._handover, now)


def _after(now: float, patience: float) -> float:
    return now + patience if patience else 0.0


def tick_of(policy: HttpPolicy) -> float:
    """Return how often deadlines are looked at, in seconds."""
    shortest = min(
        (t for t in (policy.head, policy.body, policy.write, policy.keepalive) if t), default=LONGEST_TICK
    )
    return min(max(shortest / 4, SHORTEST_TICK), LONGEST_TICK)
