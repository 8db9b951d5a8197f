"""`tornado`: a tornado application served by tornado's own HTTP server; a WSGI application through its container.

Run in the worker's main thread: one event loop. What is tornado's: HTTP itself. What is ours: accepting, deadlines,
limits, what is refused and who is told (`kinds.tornado_streams`), counting, the access log, leaving.
"""

from __future__ import annotations

import asyncio
import logging
import select
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, cast

from tornado.httpserver import HTTPServer
from tornado.netutil import ssl_wrap_socket

from unicornd.dataclass import replace
from unicornd.http.errors import Refusal
from unicornd.observe import scoreboard
from unicornd.units import Monotonic
from unicornd.workers.accepting import Acceptor
from unicornd.workers.asgi.firstbyte import begins_with_handshake, tell_plainly
from unicornd.workers.asgi.loop import end_at_next_turn, poller_of, run_loop, stacks_of_tasks
from unicornd.workers.clock import Clock
from unicornd.workers.evented import Register, refusal_of
from unicornd.workers.interface import is_tornado
from unicornd.workers.kinds.tornado_messages import Delegate
from unicornd.workers.kinds.tornado_streams import Refusals, Stream, TlsStream
from unicornd.workers.kinds.tornado_wsgi import Container
from unicornd.workers.reactor import (
    DRAIN_LINGER_SECONDS,
    MOST_LAST_ROUNDS,
    SHORTEST_TICK,
    tick_of,
)
from unicornd.workers.serve import LOOKS_A_LIMIT, OVERDUE, SECOND_CHANCE
from unicornd.workers.signals import LEAVE
from unicornd.workers.stream import too_slow

if TYPE_CHECKING:
    import ssl

    from unicornd.http.messages import Head
    from unicornd.workers.connection import Connection
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.evented import Request
    from unicornd.workers.kinds.tornado_messages import Messages

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    for name in ("tornado.general", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers[:] = context.log.handlers
        logger.propagate = False
    logging.getLogger("tornado.access").disabled = True
    run_loop(_live(context), None, log=context.log, orders=context.orders)


async def _live(context: WorkerContext) -> None:
    await Server(context).serve()


class Server:
    """All connections of one worker.

    Args:
        context: the worker's.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._orders = context.orders
        self._orders.more_stacks = partial(stacks_of_tasks, asyncio.get_running_loop())
        self._orders.give_up = self._give_up
        self._policy = context.http
        self._loop = asyncio.get_running_loop()
        self._orders.on_fork = partial(end_at_next_turn, self._loop)
        self._epoll = select.epoll()
        context.orders.pollers += [self._epoll.fileno(), poller_of(self._loop)]
        self._acceptor = Acceptor(replace(context, tls=None), self._epoll)  # tornado speaks TLS itself
        self._opening: set[asyncio.Task[None]] = set()
        self._limit = context.request_timeout
        tick = tick_of(context.http)
        self._tick = max(SHORTEST_TICK, min(tick, self._limit / LOOKS_A_LIMIT)) if self._limit else tick
        self._open: dict[Any, Messages] = {}
        self._since: dict[Any, float] = {}
        self._written: dict[Any, tuple[int, float]] = {}
        self._leaves = asyncio.Event()
        self._drains = False
        self.forwarding = context.http.forwarding
        self.speaks_tornado = is_tornado(context.app)
        self.log = context.log
        self.register = Register(context)
        self.clock = Clock()
        self.refusals = Refusals(self.clock, self._note_refusal, most=context.http.connections)
        self._most = self._policy.limits.body_size or sys.maxsize
        self._http = self._make_server()

    @property
    def ends_connections(self) -> bool:
        """Whether responses end their connection."""
        return not self._policy.is_kept_alive or self._orders.is_draining or self._orders.is_last_call

    async def serve(self) -> None:
        """Accept and serve until told to leave; then finish what has been begun."""
        loop = self._loop
        signal.set_wakeup_fd(
            self._orders.wake_fd, warn_on_full_buffer=False
        )  # the loop has put its own there
        loop.add_reader(self._epoll.fileno(), self._accept)
        loop.add_reader(self._orders.wake, self._take_order)
        loop.add_reader(self._context.seat.lifeline, self._take_end)
        self._look()
        self._context.ready()
        self._take_order()
        while not self._leaves.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tick):
                    await self._leaves.wait()
            self._look()
            if (
                self._orders.is_draining
            ):  # as in `asgi`: an application that listens to signals has the wake-up socket
                self._leaves.set()
        self._leave_listeners()
        if self._opening:
            _, late = await asyncio.wait(self._opening, timeout=DRAIN_LINGER_SECONDS)
            for task in late:
                task.cancel()
        await asyncio.sleep(0)  # tornado begins with a connection in a task of its own
        while self._open or self.refusals.running:
            await asyncio.sleep(SHORTEST_TICK)
            self._look()

    def check(self, head: Head) -> None:
        """Hold a head that tornado has let through against the limits.

        Raises:
            Refusal: it is over one.
        """
        refusal = refusal_of(head, self._policy.limits)
        if refusal is not None:
            raise refusal

    def _note_refusal(self, refusal: Refusal) -> None:
        """Write that a request was refused."""
        self._context.log.info("request refused", extra=refusal.facts)

    def note_opened(self, server_conn: object, messages: Messages) -> None:
        """A connection waits for a request."""
        cast("Any", server_conn).is_kept = server_conn in self._open
        self._open[server_conn] = messages
        self._since[server_conn] = time.monotonic()

    def note_closed(self, server_conn: object) -> None:
        """A connection is gone."""
        messages = self._open.pop(server_conn, None)
        self._since.pop(server_conn, None)
        self._written.pop(server_conn, None)
        if messages is not None:
            stream: Any = cast("Any", server_conn).stream
            sent, given = stream._total_write_done_index, stream._total_write_index  # noqa: SLF001 - nothing else says it
            messages.note_gone(is_unsent=sent < given)

    def _make_server(self) -> HTTPServer:
        context, limits = self._context, self._policy.limits
        app: Any = context.app
        if not self.speaks_tornado:
            executor = ThreadPoolExecutor(context.threads) if context.threads > 1 else None
            app = Container(context, executor)
        inner = HTTPServer(app)
        server = HTTPServer(
            cast("Any", Delegate(self, inner)),
            no_keep_alive=not self._policy.is_kept_alive,
            max_header_size=limits.head_size,
            max_body_size=self._most,
            max_buffer_size=self._most,
        )
        on_close = server.on_close

        def note_and_close(server_conn: object) -> None:
            self.note_closed(server_conn)
            on_close(server_conn)

        cast("Any", server).on_close = note_and_close  # the only one that it tells
        return server

    def _accept(self) -> None:
        now = time.monotonic()
        for fd, _mask in self._epoll.poll(0):
            self._accept_from(fd, now)

    def _accept_from(self, fd: int, now: float) -> bool:
        """Accept what waits at a listener, one at a time if there are siblings; return whether anything was accepted."""
        is_any = False
        room = (
            sys.maxsize if self._drains else self._policy.connections - len(self._open) - len(self._opening)
        )
        for connection in self._acceptor.accept(fd, room=room, now=now):
            is_any = True
            sock = connection.sock
            if self._context.tls is not None and sock.family != socket.AF_UNIX:
                sock.setblocking(False)
                task = self._loop.create_task(self._welcome_with_tls(connection, self._context.tls))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            else:
                self._welcome(Stream(sock, max_buffer_size=self._most), connection.remote)
            if self._context.is_multiprocess and not self._drains:
                break
        return is_any

    def _welcome(self, stream: Stream, remote: tuple[str, str]) -> None:
        stream.refusals = self.refusals
        self._http.handle_stream(stream, cast("Any", remote if remote[0] else ""))

    async def _welcome_with_tls(self, connection: Connection, tls: ssl.SSLContext) -> None:
        """Have tornado shake hands, under `timeouts.head`; a client that speaks plainly is told."""
        sock = connection.sock
        try:
            async with asyncio.timeout(self._policy.head or None):
                await begins_with_handshake(sock, self._loop)
        except Refusal as refusal:
            self._note_refusal(refusal)
            await tell_plainly(sock, self._loop, refusal=refusal)
        except (EOFError, OSError):
            sock.close()
        else:
            wrapped = ssl_wrap_socket(sock, tls, server_side=True, do_handshake_on_connect=False)
            self._welcome(TlsStream(wrapped, ssl_options=tls, max_buffer_size=self._most), connection.remote)

    def _take_order(self) -> None:
        with suppress(BlockingIOError):
            if not LEAVE.isdisjoint(self._orders.wake.recv(4096)):
                self._orders.is_draining = True
        if self._orders.is_draining:
            self._leaves.set()

    def _take_end(self) -> None:
        self._loop.remove_reader(self._context.seat.lifeline)
        self._context.log.warning("the arbiter is gone; finishing what is in flight")
        self._orders.is_draining = True
        self._leaves.set()

    def _leave_listeners(self) -> None:
        self._drains = True
        self._loop.remove_reader(self._epoll.fileno())
        now = time.monotonic()
        for fd in self._acceptor.fds:
            for _ in range(MOST_LAST_ROUNDS):
                if not self._accept_from(fd, now):
                    break
        self._acceptor.close()
        for server_conn, messages in self._open.items():
            if messages.request is None:
                self._since[server_conn] = now

    def _look(self) -> None:
        """Give a sign of life, and end what has lasted too long."""
        now = time.monotonic()
        row = self._context.seat.row
        row.beat(Monotonic(now))
        self._orders.look(now)
        self.register.ledger.look(now, tick=self._tick, limit=self._limit)
        row.set_connections(len(self._open))
        if self._acceptor.is_paused and not self._drains:
            self._acceptor.resume(room=self._policy.connections - len(self._open), now=now)
        for server_conn, messages in list(self._open.items()):
            self._look_at(server_conn, messages, now=now)

    def _look_at(self, server_conn: Any, messages: Messages, *, now: float) -> None:  # noqa: ANN401 - tornado's own type
        request = messages.request
        if request is None or request.is_over:
            self._look_at_idle(server_conn, messages, now=now)
        elif messages.progress_at:  # the client's time, not the application's
            self.register.ledger.postpone(request, now)
            if self._policy.body and now - messages.progress_at > self._policy.body:
                messages.break_off(HTTPStatus.REQUEST_TIMEOUT, "the request's body did not arrive in time")
        elif request.status and not request.is_stream:
            self.register.ledger.begin_stream(request)
        elif not request.status and self._limit and not request.is_ended:
            self._look_at_request(messages, request, now=now)
        self._look_at_output(server_conn, now=now)

    def _look_at_idle(self, server_conn: Any, messages: Messages, *, now: float) -> None:  # noqa: ANN401 - tornado's own type
        """Close a connection that waits for a request for too long, or whose head does not come."""
        if messages.request is not None:
            return
        is_first = not getattr(server_conn, "is_kept", False)
        patience = self._policy.head if is_first else self._policy.keepalive
        if self._drains:
            patience = cast("Any", DRAIN_LINGER_SECONDS)
        if not patience or now - self._since[server_conn] <= patience:
            return
        if is_first and not self._drains and server_conn.stream._read_buffer_size:  # noqa: SLF001 - nothing else says whether a head has begun
            self.refusals.answer_and_close(server_conn.stream, too_slow("head"))
        else:
            server_conn.stream.close()

    def _look_at_request(self, messages: Messages, request: Request, *, now: float) -> None:
        if now - request.since < self._limit - 2 * self._tick:
            return
        request.is_ended = True
        head = request.head
        facts = {"method": head.method, "path": head.path, "seconds": round(now - request.began, 3)}
        self._context.log.error("a request ran into timeouts.request and is given up", extra=facts)
        self.register.ledger.postpone(request, now + SECOND_CHANCE - self._limit)
        request.outcome = scoreboard.OVERDUE
        messages.answer_instead(OVERDUE.status, OVERDUE.detail)

    def _give_up(self) -> None:
        """This process is about to end, since its loop is stuck: tell the clients that there will be no answer.

        Run by a signal handler in the middle of anything; what is written goes out at once.
        """
        for messages in list(self._open.values()):
            request = messages.request
            if request is not None and not request.is_over:
                has_begun = bool(request.status)
                with suppress(Exception):
                    messages.answer_instead(OVERDUE.status, OVERDUE.detail)
                if not has_begun:
                    self.register.give_up(request, time.monotonic())

    def _look_at_output(self, server_conn: Any, *, now: float) -> None:  # noqa: ANN401 - tornado's own type
        """Give up a client that takes nothing of its response."""
        stream = server_conn.stream
        if not stream.writing() or not self._policy.write:
            self._written.pop(server_conn, None)
            return
        done = stream._total_write_done_index  # noqa: SLF001 - nothing else says whether it goes on
        before, since = self._written.get(server_conn, (-1, now))
        if done != before:
            self._written[server_conn] = (done, now)
        elif now - since > self._policy.write:
            stream.close()
