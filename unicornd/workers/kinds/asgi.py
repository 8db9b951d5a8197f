"""`asgi`: ASGI applications, hosted by uvicorn: its HTTP and WebSocket protocols, our listeners, signals, logs and limits.

Run in the worker's main thread: one event loop. What is uvicorn's: reading and writing HTTP and WebSockets. What is ours:
who is accepted and until when (`asgi.accepting`), the lifespan (`asgi.lifespan`), the life of a request
(`asgi.exchange`), and everything that has lasted too long (`asgi.watch`). The worker is ready when the application's
startup has completed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from unicornd.dataclass import dataclass
from unicornd.http.body import too_large
from unicornd.http.errors import Refusal
from unicornd.http.messages import UNKNOWN_LENGTH
from unicornd.http.response import plain_response
from unicornd.workers.asgi.accepting import Door
from unicornd.workers.asgi.exchange import Room
from unicornd.workers.asgi.hosting import config_of, take_over_logs
from unicornd.workers.asgi.lifespan import Lifespan
from unicornd.workers.asgi.lingering import Lingering
from unicornd.workers.asgi.loop import listen_to_orders, loop_factory, run_loop, stacks_of_tasks
from unicornd.workers.asgi.parting import Parting
from unicornd.workers.asgi.responding import refusal_bytes, respond
from unicornd.workers.asgi.sizes import refusal_of_sizes
from unicornd.workers.asgi.timers import Timers
from unicornd.workers.asgi.upgrades import declined, opens_websocket, parser_of
from unicornd.workers.asgi.warmup import warm_up
from unicornd.workers.asgi.watch import SHORTEST_TICK, Watch
from unicornd.workers.asgi.writer import Writer
from unicornd.workers.clock import Clock
from unicornd.workers.dropped import Dropped
from unicornd.workers.stream import too_slow

if TYPE_CHECKING:
    import logging

    from unicornd.http.limits import Limits
    from unicornd.workers.context import HttpPolicy, WorkerContext

INTERFACE: Literal["asgi"] = "asgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True

LINE_REST = len(b"  HTTP/1.1")
_HEAD_TOO_LARGE = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large")
"""What a request line has beside method and target."""


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    take_over_logs(context.log)
    run_loop(_live(context), loop_factory(context.asgi.loop), log=context.log, orders=context.orders)


# Looked up once: several of these for each request.
_complete_message = HttpToolsProtocol.on_message_complete
_complete_head = HttpToolsProtocol.on_headers_complete


class Refused(Exception):  # noqa: N818 - ends the parser's work, is no error
    """Raised in a callback of the parser: the rest of what the client sends is not read."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol within our limits.

    Args:
        means: what all connections of the worker share.
        more: uvicorn's own.
    """

    __slots__ = (
        "_body_size", "_head_since", "_head_size", "_is_trusted", "_is_upgrade", "_made_at", "_means", "_opens_websocket",
        "_policy", "_progress_at", "_size", "_stuck", "_writer", "idle_since", "is_refused",
    )  # fmt: skip

    def __init__(self, means: Means, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(**more)
        self.loop = cast("asyncio.AbstractEventLoop", means.timers)
        self._means = means
        self._policy = means.policy
        self._is_trusted = False
        self.idle_since = 0.0
        self._made_at = time.monotonic()
        self._size = self._head_size = self._body_size = 0
        self._head_since = self._progress_at = 0.0
        self._stuck: tuple[int, float] = (0, 0.0)
        self.is_refused = self._is_upgrade = self._opens_websocket = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: Any = self.cycle  # None before the first request, which uvicorn's type does not say
        return cycle is None or bool(cycle.response_complete)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        connected = cast("asyncio.Transport", transport)
        super().connection_made(connected)
        connected.set_write_buffer_limits(high=self._policy.response_buffer)
        self._writer = Writer(connected)
        self._is_trusted = self._means.room.trust.has(self.client[0] if self.client else None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        super().connection_lost(exc)
        if (rest := self._writer.rest) is not None:
            self._means.lingering.begin(rest)
        cycle: Any = self.cycle
        if cycle is not None:
            if not (cycle.response_complete or getattr(cycle, "is_broken_off", False)):
                self._means.room.ledger.note_gone()
            cycle.on_response = _nothing  # it refers to us: two that only the collector would find

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.is_refused:
            return
        self._size = len(data) if b"_" not in data else sys.maxsize  # an underscore has to be looked at, too
        self._feed(data)
        scope: Any = self.scope  # None before the first byte
        if scope is not None and "method" in scope:
            self._head_since = 0.0
            return
        if not self._head_since:
            self._head_since, self._head_size = time.monotonic(), 0
        self._head_size += len(data)
        if self._head_size > self._policy.limits.head_size and not self.is_refused:
            self.refuse(_HEAD_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        """Have the parser read, by as many parsers as there are upgrades that are declined."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except HttpParserError:
                self.send_400_response("the request is malformed")
            except HttpParserUpgrade as upgrade:
                data = self._take_upgrade(data[upgrade.args[0] :])
                continue
            return

    def _note_upgrade(self) -> None:
        """A request asks for another protocol: decide now, for the parser calls nothing back any more."""
        try:
            self._opens_websocket = opens_websocket(
                self.parser, self.url, fields=self.headers, is_idle=self.is_idle
            )
        except Refusal as refusal:
            self._refuse_head(refusal)
        self._is_upgrade = True

    def _take_upgrade(self, rest: bytes) -> bytes:
        """The parser has ended at the head of a request for an upgrade; return what is to be read now."""
        self._is_upgrade = False
        if self._opens_websocket:
            cast("Any", self.scope)["method"] = "GET"
            self.handle_websocket_upgrade()
            return b""
        parser, self.parser = self.parser, parser_of(self)
        return declined(parser, self.url, fields=self.headers) + rest

    def on_headers_complete(self) -> None:
        """A request's head has come; hold it against the limits before the application sees it."""
        means = self._means
        if self._size > means.small or self._head_since or len(self.headers) > means.limits.header_count:
            self._check_sizes()
        if self.parser.get_method() != b"GET":
            self._check_length()
        if self._is_trusted and not means.forwarding.isdisjoint(dict(self.headers)):
            self._believe()
        if self.parser.should_upgrade():
            self._note_upgrade()
        else:
            _complete_head(self)

    def on_message_complete(self) -> None:
        """A request is complete, or the parser has ended at one that asks for an upgrade."""
        if not self._is_upgrade:
            self._body_size = 0
            _complete_message(self)

    def _believe(self) -> None:
        """Take a trusted peer's word for scheme and client."""
        try:
            self._means.room.trust.believe(self.scope, self.headers)
        except Refusal as refusal:
            self._refuse_head(refusal)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401, ARG002 - uvicorn's
        """Run the application in a task of ours: one coroutine and one callback less than by `run_asgi`."""
        room = self._means.room
        cycle.clock, cycle.head = self._means.clock, None
        exchange = room.begin(cycle.scope, MethodType(respond, cycle))
        exchange.writer = cycle.transport = self._writer
        exchange.task = task = room.loop.create_task(room.serve(exchange, cycle.receive))
        self.tasks.add(task)

    def on_chunk_header(self) -> None:
        """A chunk begins, the last one too: trailers follow it, which are no fields of the head (RFC 9110 6.5.1)."""
        self.headers = self.headers.copy()

    def on_body(self, body: bytes) -> None:
        """A piece of a body has come."""
        self._progress_at = time.monotonic()
        self._body_size += len(body)
        most = self._policy.limits.body_size
        if most and self._body_size > most:
            self.refuse(too_large())
            raise Refused
        HttpToolsProtocol.on_body(self, body)

    def send_400_response(self, msg: str) -> None:
        """The parser has found a fault, or one of ours was told already."""
        if not self.is_refused:
            self.refuse(Refusal(HTTPStatus.BAD_REQUEST, msg.rstrip(".")))

    def refuse(self, refusal: Refusal) -> None:
        """Answer a request that is not served, if its client expects an answer now, and end the connection."""
        self.is_refused = True
        self._means.log.info("request refused", extra=refusal.facts)
        self._unset_keepalive_if_required()
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            if (
                cycle.response_started or not cycle.more_body
            ):  # an answer is on its way: no other one can be sent
                cycle.keep_alive = False
                if cycle.more_body:
                    self._writer.linger_on_close()
                    self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        answer = refusal_bytes(refusal.status, refusal.detail, standing=self.server_state.default_headers)
        self.transport.write(answer)
        self._writer.linger_on_close()
        self.transport.close()

    def look(self, now: float) -> None:
        """End what has lasted too long."""
        policy = self._policy
        scope: Any = self.scope
        if self.is_refused:
            return
        if policy.head and self._head_since and now - self._head_since > policy.head:
            self.refuse(too_slow("head"))
        elif self.timeout_keep_alive_task is not None:
            if now - self.idle_since > policy.keepalive:
                self.transport.close()
        elif policy.head and scope is None and now - self._made_at > policy.head:
            self.transport.close()
        elif policy.body and not self.is_idle and self.cycle.more_body and not self.flow.read_paused:
            self._progress_at = self._progress_at or now
            if now - self._progress_at > policy.body:
                self.refuse(too_slow("body"))
        if policy.write:
            self._look_at_output(now)

    def answer_at_once(self, answer: bytes) -> None:
        """Answer a request whose response has not begun, though the loop does not run: uvloop would only note it."""
        cycle: Any = self.cycle
        if self.is_idle or cycle.response_started:
            return
        if self.transport.get_extra_info("sslcontext") is not None:
            self.transport.write(answer)
        else:
            os.write(self.transport.get_extra_info("socket").fileno(), answer)

    def _look_at_output(self, now: float) -> None:
        """Give up a client that takes nothing of its response."""
        size = self.transport.get_write_buffer_size()
        if not size or size != self._stuck[0]:
            self._stuck = (size, now)
        elif now - self._stuck[1] > self._policy.write:
            self.transport.abort()

    def _check_sizes(self) -> None:
        """Hold a head that did not come as one small piece against the limits; drop names with an underscore.

        Whatever makes an environ of them, as Django does, cannot tell X_Real_IP from X-Real-IP.
        """
        line = len(self.parser.get_method()) + len(self.url) + LINE_REST
        refusal = refusal_of_sizes(self._means.limits, line=line, fields=self.headers)
        if refusal is not None:
            self._refuse_head(refusal)
        kept = [field for field in self.headers if b"_" not in field[0]]
        if len(kept) < len(self.headers):
            if self._is_trusted:
                for name, _ in self.headers:
                    if b"_" in name:
                        self._means.dropped(self.client[0] if self.client else "", name.decode("latin-1"))
            self.headers[:] = kept

    def _check_length(self) -> None:
        """Begin to count a body; refuse one whose announced length is too large before it is sent."""
        self._body_size = 0
        self._progress_at = 0.0
        most = self._policy.limits.body_size
        if most:
            length = max(
                (int(value) for name, value in self.headers if name == b"content-length" and value.isdigit()),
                default=UNKNOWN_LENGTH,
            )
            if length > most:
                self._refuse_head(too_large())

    def _refuse_head(self, refusal: Refusal) -> None:
        self.refuse(refusal)
        raise Refused


class TlsConnection(Connection):
    """A connection at a port that speaks TLS: its requests are told of that."""

    __slots__ = ("_extensions",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        super().connection_made(transport)
        tls = self._means.room.tls
        self._extensions = tls.of(transport) if tls is not None else {}

    def on_headers_complete(self) -> None:
        """A request's head has come."""
        if self._extensions:
            scope: Any = self.scope
            scope["extensions"] = self._extensions.copy()
        super().on_headers_complete()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all connections of a worker share.

    Attributes:
        small: bytes that hold no line and no field above its limit, however they are spread.
        forwarding: names of the headers in which a trusted peer says something.
        dropped: logs fields that are dropped for their names.
    """

    policy: HttpPolicy
    limits: Limits
    small: int
    forwarding: frozenset[bytes]
    dropped: Dropped
    log: logging.Logger
    room: Room
    timers: Timers
    clock: Clock
    lingering: Lingering


class Server:
    """One worker's event loop at work.

    Args:
        context: the worker's.
        lifespan: of the application, started.
    """

    def __init__(self, context: WorkerContext, lifespan: Lifespan) -> None:
        self._context = context
        self._state = ServerState()
        self._room = Room(context, self._state.tasks, client_left=ClientDisconnected)
        config = config_of(context, self._room)
        self._watch = Watch(context, self._room, connections=self._state.connections)
        self._next_date = 0.0
        context.orders.give_up = self._give_up
        self._lingering = Lingering(context.http.connections)

        loop = asyncio.get_running_loop()
        limits = context.http.limits
        means = Means(
            policy=context.http,
            limits=limits,
            small=min(limits.request_line, limits.header_size),
            forwarding=self._room.trust.names,
            dropped=Dropped(context.log, setting=""),
            log=context.log,
            room=self._room,
            timers=Timers(loop, self._room),
            clock=Clock(),
            lingering=self._lingering,
        )

        make = Connection if context.tls is None else TlsConnection

        def make_protocol() -> asyncio.Protocol:
            return make(means, config=config, server_state=self._state, app_state=lifespan.state, _loop=loop)

        self._door = Door(context, make_protocol, connections=self._state.connections)

    async def serve(self, is_told_to_leave: asyncio.Event) -> None:
        """Accept and serve until told to leave; then finish what has been begun."""
        self._look()
        self._door.open()
        self._context.ready()
        while not is_told_to_leave.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._watch.tick):
                    await is_told_to_leave.wait()
            self._look()
            if self._context.orders.is_draining:
                # Told by the handler alone: the wake-up socket is another one's where the application has called
                # loop.add_signal_handler(), for whatever signal.
                is_told_to_leave.set()
        await self._drain()

    def _give_up(self) -> None:
        """This process is about to end, since its loop is stuck: tell the clients that there will be no answer."""
        status = HTTPStatus.GATEWAY_TIMEOUT
        answer = plain_response(status, "the application did not answer in time", standing=Clock().standing())
        for connection in list(self._state.connections):
            if isinstance(connection, Connection):
                with suppress(Exception):  # in the middle of anything
                    connection.answer_at_once(answer)
        now = time.monotonic()
        for exchange in list(self._room.ledger.running):
            if not exchange.status and not exchange.is_stream:
                self._room.give_up(exchange, now)

    async def _drain(self) -> None:
        await self._door.close()
        graceful = self._context.asgi.graceful
        parting = Parting(self._room, self._state.connections, graceful=graceful, now=time.monotonic())
        while self._state.connections or self._state.tasks or self._lingering.running:
            now = self._look()
            self._watch.look_for_idle(now)
            parting.look(now)
            await asyncio.sleep(SHORTEST_TICK)

    def _look(self) -> float:
        now = time.monotonic()
        self._watch.look(now)
        if now >= self._next_date:
            self._next_date = now + 1.0
            date = (b"date", formatdate(usegmt=True).encode())
            self._state.default_headers = [date, (b"server", b"unicornd")]
        return now


async def _live(context: WorkerContext) -> None:
    """Start the application, serve, end the application."""
    loop = asyncio.get_running_loop()
    if context.threads > 1:
        loop.set_default_executor(ThreadPoolExecutor(context.threads, thread_name_prefix="asyncio"))
    is_told_to_leave = asyncio.Event()
    listen_to_orders(context, is_told_to_leave)
    context.orders.more_stacks = partial(stacks_of_tasks, loop)
    lifespan = Lifespan(cast("Any", context.app), mode=context.asgi.lifespan, log=context.log)
    await lifespan.start()
    try:
        asgi = context.asgi
        app = cast("Any", context.app)
        await warm_up(app, asgi.warmup, root_path=asgi.root_path, state=lifespan.state)
        if not is_told_to_leave.is_set():
            await Server(context, lifespan).serve(is_told_to_leave)
    finally:
        context.orders.attend()
        await lifespan.stop()


def _nothing() -> None:
    """Do nothing."""
