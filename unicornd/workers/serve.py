"""Connections served by one greenlet each: the kinds gevent and eventlet.

One thread. Code runs either in the greenlet of a connection, which may wait, or in the loop (accepting, orders, the
regular look), which may not. No library of greenlets is named here: what is needed of it is a `Loop`.

Sockets are raw, non-blocking in effect (MSG_DONTWAIT); a greenlet waits for one explicitly. There is no timer for a
connection: what has lasted too long is found by the look, a few times a second, and is interrupted only while it waits.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from unicornd.forking import BOUNDARY
from unicornd.http.errors import Refusal
from unicornd.http.response import refusal_response
from unicornd.observe import scoreboard
from unicornd.units import Fd, Monotonic
from unicornd.workers.accepting import Acceptor
from unicornd.workers.channel import RetiringReport
from unicornd.workers.clock import Clock
from unicornd.workers.connection import HEAD, IDLE
from unicornd.workers.ledger import Ledger
from unicornd.workers.line import Interruption
from unicornd.workers.offered import SWITCHING
from unicornd.workers.reactor import (
    DRAIN_LINGER_SECONDS,
    MOST_LAST_ROUNDS,
    SHORTEST_TICK,
    tick_of,
)
from unicornd.workers.signals import LEAVE
from unicornd.workers.strand import OverdueError, Request, Strand
from unicornd.workers.stream import Stream, too_slow
from unicornd.workers.telling import GIVEN_UP, tell
from unicornd.workers.wsgi import Exchanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.http.messages import Head
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.greenloop import Loop
    from unicornd.workers.handover import Handover
    from unicornd.workers.wsgi import Exchange

MOST_DISCARDED = 256 * 1024
"""Bytes of a body that its application has not read, beyond which a connection is closed rather than kept."""
LOOKS_A_LIMIT = 20
"""How often `timeouts.request` is looked at while it runs: a request is ended this part of it early, so that its client
has been answered when the arbiter loses patience."""
SECOND_CHANCE = 2.0
"""Seconds that an application has after it was told to end, before the arbiter ends the worker."""
LONGEST_MOMENT = 1.0
"""Seconds before the end of `timeouts.graceful` at which what still runs is told to end."""
OVERDUE = Refusal(HTTPStatus.GATEWAY_TIMEOUT, "the application did not answer in time")
LEAVING = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is leaving")


class Server:
    """All connections of one worker.

    Args:
        context: of `greenloop.with_raw_listeners`, unless `converse` wants other sockets.
        loop: where they run.
        converse: serves a connection to its end in another way than ours.

    Attributes:
        ledger: the requests in flight.
        clock: for the Date of responses.
        drains: whether the listeners have been left.
    """

    def __init__(
        self,
        context: WorkerContext,
        loop: Loop,
        *,
        converse: Callable[[Server, Strand], None] | None = None,
    ) -> None:
        self._converse = converse or Server.converse
        self._context = context
        self._loop = loop
        self._policy = context.http
        self._orders = context.orders
        self._row = context.seat.row
        self._epoll = loop.make_epoll()
        context.orders.pollers.append(self._epoll.fileno())
        self._acceptor = Acceptor(context, self._epoll)
        self._strands: dict[Strand, None] = {}
        self.ledger: Ledger[Request] = Ledger(context.seat.row)
        self.clock = Clock()
        self._exchanges = Exchanges(context, self.clock)
        self._limit = context.request_timeout
        tick = tick_of(context.http)
        self._tick = max(SHORTEST_TICK, min(tick, self._limit / LOOKS_A_LIMIT)) if self._limit else tick
        self.drains = False
        self._last_call = 0.0
        self._stop_accepting: Callable[[], None] = lambda: None
        self._stop_taking: Callable[[], None] = lambda: None
        self._handover = self._orders.handover = context.seat.handover

    def run(self) -> None:
        """Serve until told to drain; return when nothing is in flight."""
        loop, lifeline = self._loop, self._context.seat.lifeline
        self._stop_accepting = loop.watch(self._epoll.fileno(), self._accept)
        loop.watch(self._orders.wake.fileno(), self._take_order)
        stop_watching = loop.watch(lifeline, lambda: self._take_end(stop_watching))
        if self._handover is not None:
            self._stop_taking = loop.watch(self._handover.taking.fileno(), self._take_over)
        self._orders.give_up = self._give_up
        self._look()
        loop.every(self._tick, self._look)
        self._context.ready()
        if self._orders.is_draining:
            self._drain()
        loop.run()
        self._epoll.close()

    # In the loop: accepting, orders, the regular look. Nothing here may wait or raise.

    def _accept(self) -> None:
        now = time.monotonic()
        for fd, _mask in self._epoll.poll(0):
            self._accept_from(Fd(fd), now)

    def _accept_from(self, fd: Fd, now: float) -> bool:
        """Accept what waits at a listener, one at a time if there are siblings: the one that is least busy comes first.

        Returns:
            Whether anything was accepted.
        """
        is_any = False
        for connection in self._acceptor.accept(fd, room=self._room(), now=now):
            is_any = True
            connection.deadline = self._first_deadline(now)
            self._welcome(Strand(connection))
            if self._context.is_multiprocess and not self.drains:
                break
        return is_any

    def _welcome(self, strand: Strand) -> None:
        self._strands[strand] = None
        self._loop.spawn(self._live, strand)

    def _take_over(self) -> None:
        """Go on with connections that another worker had."""
        handover = cast("Handover", self._handover)
        now = time.monotonic()
        for handed in handover.take():
            connection = self._acceptor.receive(handed._replace(sock=self._loop.raw(handed.sock)))
            connection.deadline = now + (self._policy.keepalive or self._policy.head)
            self._welcome(Strand(connection, handed.received))
        if not handover.is_open:  # readable for ever
            self._stop_taking()

    def _hand_over(self, strand: Strand) -> bool:
        """Give an idle connection to a worker that stays; False if it stays here."""
        connection = strand.connection
        if self._handover is None or self._orders.ends_connections or connection.stage not in {IDLE, HEAD}:
            return False
        handed = self._acceptor.handed(connection, connection.leftover)
        connection.has_no_end = handed is not None and self._handover.give(handed)
        return connection.has_no_end

    def _first_deadline(self, now: float) -> float:
        if self.drains:
            return now + DRAIN_LINGER_SECONDS
        return now + self._policy.head if self._policy.head else 0.0

    def _room(self) -> int:
        return sys.maxsize if self.drains else self._policy.connections - len(self._strands)

    def _take_order(self) -> None:
        with suppress(BlockingIOError):
            if not LEAVE.isdisjoint(self._orders.wake.recv(4096)):
                self._orders.is_draining = True
        if self._orders.is_draining:
            self._drain()

    def _take_end(self, stop_watching: Callable[[], None]) -> None:
        stop_watching()
        self._context.log.warning("the arbiter is gone; finishing what is in flight")
        self._orders.is_draining = True
        if self._handover is not None:  # the others leave, too
            self._handover.shut()
        self._drain()

    def _drain(self) -> None:
        """Leave the listeners after a last look at what the kernel has queued."""
        if self.drains:
            return
        self.drains = True
        now = time.monotonic()
        self._stop_taking()
        if self._handover is not None and self._orders.ends_connections:  # the whole fleet leaves
            self._take_over()
        self._stop_accepting()
        for fd in self._acceptor.fds:
            for _ in range(MOST_LAST_ROUNDS):
                if not self._accept_from(Fd(fd), now):
                    break
        self._acceptor.close()
        for strand in list(self._strands):
            if not strand.is_waiting:
                continue
            if self._hand_over(strand):
                strand.pause.interrupt(Interruption(LEAVING))
            elif strand.connection.stage is IDLE:
                strand.connection.deadline = now + DRAIN_LINGER_SECONDS
        if graceful := self._context.asgi.graceful:
            self._last_call = now + graceful - min(LONGEST_MOMENT, graceful / 4)
        self._loop.every(SHORTEST_TICK, self._look)
        if not self._strands:
            self._loop.stop()

    def _look(self) -> None:
        """Give a sign of life, and end what has lasted too long."""
        now = time.monotonic()
        self._row.beat(Monotonic(now))
        self._orders.look(now)
        self.ledger.look(now, tick=self._tick, limit=self._limit)
        self._row.set_connections(len(self._strands))
        if self._acceptor.is_paused and not self.drains:
            self._acceptor.resume(room=self._room(), now=now)
        is_last_call = bool(self._last_call) and now >= self._last_call
        for strand in list(self._strands):
            request = strand.request
            if strand.is_waiting:
                if 0.0 < strand.connection.deadline < now:
                    strand.pause.interrupt(OverdueError())
                    continue
                if request is not None and not request.is_ended:
                    self.ledger.postpone(request, now)  # the client's time, not the application's
            if request is not None and not request.is_ended:
                if is_last_call:
                    _end(strand, request, refusal=LEAVING)
                else:
                    self._look_at(strand, request, now=now)

    def _look_at(self, strand: Strand, request: Request, *, now: float) -> None:
        """End a request that has run too long; one whose answer has begun may take its time."""
        if request.is_stream or not self._limit:
            return
        if request.exchange.has_begun:
            self.ledger.begin_stream(request)
        elif now - request.since >= self._limit - 2 * self._tick:
            head = request.exchange.request
            facts = {"method": head.method, "path": head.path, "seconds": round(now - request.began, 3)}
            self._context.log.error("a request ran into timeouts.request and is ended", extra=facts)
            self.ledger.postpone(request, now + SECOND_CHANCE - self._limit)
            request.outcome = scoreboard.OVERDUE
            _end(strand, request, refusal=OVERDUE)

    def _give_up(self) -> None:
        """This process is about to end, whatever its greenlets do: tell the clients that there will be no answer."""
        answer = refusal_response(OVERDUE, standing=self.clock.standing())
        for strand in self._strands:
            if strand.request is None or strand.is_taken:
                continue
            if strand.request.exchange.has_begun:
                strand.reset_on_close()
            else:
                self._note_given_up(strand.request)
                with suppress(OSError):
                    strand.connection.tell(answer)

    def _note_given_up(self, request: Request) -> None:
        """Count a request that ends with the process, and tell of it; in a signal handler."""
        now = time.monotonic()
        self.ledger.give_up(request, now)
        request.exchange.status = GIVEN_UP
        tell(request.exchange, self._context, seconds=now - request.began)

    # In the greenlet of a connection.

    def _live(self, strand: Strand) -> None:
        """Serve a connection from its first byte to its end."""
        strand.pause = self._loop.pause(strand.connection.fd)
        try:
            self._converse(self, strand)
        except (OSError, EOFError, OverdueError, Interruption):
            pass  # the client has gone or is too slow, or the worker leaves
        except Exception:
            self._context.log.exception("a connection is dropped because of a defect in the server")
        finally:
            BOUNDARY.end_child()  # the application has forked in this greenlet, and returned in both
            strand.close()
            self._strands.pop(strand, None)
            if self.drains and not self._strands:
                self._loop.stop()

    def converse(self, strand: Strand) -> None:
        """Answer request after request."""
        try:
            if strand.received:
                strand.is_ready = strand.connection.resume(strand.received, time.monotonic())
            while self._has_request(strand) and self._answer(strand):
                pass
        except OverdueError:
            if strand.connection.stage is not HEAD:
                raise
            self.refuse(strand, too_slow("head"))
        except Refusal as refusal:
            self.refuse(strand, refusal)

    def _has_request(self, strand: Strand) -> bool:
        """Wait until the head of a request has come."""
        connection = strand.connection
        if strand.is_ready:  # a pipeline must not keep the others out
            strand.is_ready = False
            self._loop.let_others_run()
            return True
        if connection.keeps_alive:
            strand.wait_readable()
        while True:
            try:
                if connection.receive(time.monotonic()):
                    connection.deadline = 0.0
                    return True
            except BlockingIOError:
                pass
            strand.wait_ready()

    def _answer(self, strand: Strand) -> bool:
        """Run a request; True if the connection goes on."""
        connection = strand.connection
        head = cast("Head", connection.request)
        strand.base, strand.remote = connection.base, connection.remote  # as a proxy has told
        if head.length:
            received = connection.take_leftover()
            strand.spool = Stream(strand, head, received=received, limits=self._policy.limits)
        exchange = self._exchanges.make(strand, head)
        request = strand.request = Request(time.monotonic(), exchange)
        if strand.spool is not None:
            _bind(strand.spool, exchange)
        self.ledger.begin(request)
        # A socket with TLS is of no use to an application: what comes there is encrypted.
        if connection.may_move and ("HTTP_UPGRADE" in head.fields or head.method == "CONNECT"):
            outcome = self._run_offering_socket(strand, request)
        else:
            outcome = exchange.run()
        strand.request = None
        self.count(request, outcome=outcome)
        return not strand.is_taken and self._conclude(strand, exchange)

    def _run_offering_socket(self, strand: Strand, request: Request) -> int:
        """Run a request whose application may take the connection over, for a protocol of its own (a WebSocket)."""
        connection = strand.connection

        def on_use() -> None:
            if not strand.is_taken:
                strand.take()
                self.ledger.begin_stream(request)

        sock = self._loop.make_socket(connection.sock, on_use, received=connection.take_leftover)
        strand.base = {**strand.base, "unicornd.socket": sock, "gunicorn.socket": sock}
        exchange = request.exchange
        try:
            outcome = exchange.run()
        finally:
            sock.close()
            strand.base = connection.base
        if strand.is_taken:
            exchange.status = SWITCHING
            outcome, exchange.keep_alive = 0, False
        return outcome

    def count(self, request: Request, *, outcome: int) -> None:
        """Note that a request is over; `outcome` as that of `wsgi.Exchange.run`."""
        now = time.monotonic()
        context = self._context
        if outcome:
            request.outcome |= outcome
        self.ledger.finish(request, now)
        if context.on_served is not None:
            tell(request.exchange, context, seconds=now - request.began)
        if context.recycling is not None and context.recycling.count():
            context.report(RetiringReport(why=f"max_requests reached after {self.ledger.count} requests"))

    def _conclude(self, strand: Strand, exchange: Exchange) -> bool:
        """A response is there: have it sent whole, then read on or close. True if the connection goes on."""
        connection = strand.connection
        if strand.output.is_pending:
            self._flush(strand)
        keeps_alive = exchange.keep_alive
        if strand.spool is not None:
            keeps_alive = keeps_alive and strand.spool.discard(MOST_DISCARDED)
            connection.put_back(strand.spool.leftover)
            has_rest, strand.spool = not keeps_alive, None
        else:
            has_rest = False
        connection.keeps_alive = keeps_alive
        if not keeps_alive:
            if has_rest or connection.has_leftover:
                self.linger(strand)
            return False
        now = time.monotonic()
        if not connection.rest():
            strand.is_ready = connection.next_request(now)
        if self.drains and not strand.is_ready and self._hand_over(strand):
            return False
        if connection.stage is IDLE:
            connection.deadline = now + (DRAIN_LINGER_SECONDS if self.drains else self._policy.keepalive)
        return True

    def _flush(self, strand: Strand) -> None:
        try:
            strand.flush(self._policy.write)
        except OSError:
            self.ledger.note_gone()
            raise

    def refuse(self, strand: Strand, refusal: Refusal) -> None:
        """Answer a request that is not served, and close: what follows it cannot be read."""
        strand.connection.tell(refusal_response(refusal, standing=self.clock.standing()))
        self._context.log.info("request refused", extra=refusal.facts)
        self.linger(strand)

    @staticmethod
    def linger(strand: Strand) -> None:
        """End our side and read what the client still sends, lest a reset destroys our answer (RFC 9112 9.6).

        Raises:
            EOFError: the client has ended its side.
            OverdueError: it has not, for as long as it may take.
            OSError: the connection is broken.
        """
        connection = strand.connection
        connection.linger(time.monotonic())
        while True:
            strand.wait_readable()  # also when more is there: one that sends fast must not keep the others out
            with suppress(BlockingIOError):
                connection.discard(time.monotonic())


def _bind(stream: Stream, exchange: Exchange) -> None:
    """Have a connection kept only if its body can be read to the end."""
    is_wanted = exchange.keep_alive

    def look() -> None:
        exchange.keep_alive = is_wanted and stream.refusal is None and not stream.awaits_continue

    stream.on_change = look
    look()


def _end(strand: Strand, request: Request, *, refusal: Refusal) -> None:
    """Have an application end; what it still does then is under no limit of ours."""
    request.is_ended = True
    strand.pause.interrupt(Interruption(refusal))
