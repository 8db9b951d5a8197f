"""One request through an ASGI application: counted, told of, and ended when its time is up.

Run in the worker's event loop, as the application that the server protocol calls: the real application gets the
exchange's own `send`. What is not wanted (hooks, access log) is decided once a worker: the plain exchange does no more
than count. An exception of the application, of whatever kind, ends in a 500 or a broken connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from unicornd.forking import BOUNDARY
from unicornd.http.response import Framing
from unicornd.observe.scoreboard import FAILED
from unicornd.workers.asgi.proxies import Proxies
from unicornd.workers.asgi.views import head_of, served_of
from unicornd.workers.asgi.writer import HEAD, LONE_HEAD
from unicornd.workers.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from unicornd.http.messages import Head
    from unicornd.workers.asgi.tlsfacts import TlsFacts
    from unicornd.workers.asgi.writer import Writer
    from unicornd.workers.context import WorkerContext

Message = Any  # dict[str, Any]; the server's types are TypedDicts
Scope = Any
Receive = Any  # Callable[[], Awaitable[Message]]
Send = Any  # Callable[[Message], Awaitable[None]]

SERVER_ERROR = 500
LEAVING = 503
GATEWAY_TIMEOUT = 504
FORBIDDEN = 403
SWITCHING = 101
CLOSE = (b"connection", b"close")
EVENT_STREAM = b"\r\ncontent-type: text/event-stream"
_VERBS = {verb: f"{verb} ".encode() for verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_TEXTS = {
    500: b"the application failed\n",
    503: b"the server is leaving\n",
    504: b"the application did not answer in time\n",
}


class Exchange(Entry):
    """A request in flight.

    Attributes:
        status: of the response, 0 before it has begun.
        is_answered: whether the response is complete; what the application does then is its own affair.
        verdict: the status that ends it: 504, 503; 0 while it may run.
        is_warned: whether `receive` has said http.disconnect, since the worker leaves; its client is there.
        left_at: when its client was found to have left (monotonic), 0 for not.
        scope: the request's.
        task: the one that runs the application.
        server_send: the protocol's `send`.
        writer: what that writes to, or None where it is the connection itself.
    """

    status: int = 0
    is_answered: bool = False
    verdict: int = 0
    is_warned: bool = False
    left_at: float = 0.0
    task: asyncio.Task[None] | None = None
    writer: Writer | None = None

    room: Room
    """Of the class: each worker makes its own one (`Room`)."""

    def __init__(self, scope: Scope, send: Send) -> None:  # not by super(): 0.1 µs
        self.began = self.since = time.monotonic()
        self.text = (_VERBS.get(scope.get("method")) or _verb_of(scope)) + scope["raw_path"]
        self.scope = scope
        self.server_send = send

    @property
    def facts(self) -> tuple[str, str]:
        """Method and path."""
        method, _, path = self.text.decode("latin-1").partition(" ")
        return method, path

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`: note what it says, and pass it on."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.writer is not None and not self.status:
                self.writer.expects = LONE_HEAD if self.scope["method"] == "HEAD" else HEAD
            self.status = int(message.get("status", 0))
            if self.room.orders.is_draining or not self.room.is_kept_alive:
                message = {**message, "headers": _with_close(message.get("headers", ()))}
        elif kind == "http.response.body" and self.status and not self.is_answered:
            if not message.get("more_body"):
                self.is_answered = True
                self.room.finish(self)
            elif not self.is_stream:
                self.room.ledger.begin_stream(self)
        return self.server_send(message)  # type: ignore[no-any-return] # the protocol's coroutine


class ToldExchange(Exchange):
    """A request that hooks or the access log want to hear of."""

    headers: Iterable[tuple[bytes, bytes]] = ()
    size: int = 0
    _head: Head | None = None

    @property
    def head(self) -> Head:
        """The request's head."""
        if self._head is None:
            self._head = head_of(self.scope)
        return self._head

    def send(self, message: Message) -> Awaitable[None]:
        """As `Exchange.send`; remembers what the access log says."""
        self.note(message)
        return super().send(message)

    def note(self, message: Message) -> None:
        """Remember what the access log says."""
        match message["type"]:
            case "http.response.start" | "websocket.accept" | "websocket.http.response.start":
                self.headers = tuple(message.get("headers", ()))
            case "http.response.body":
                self.size += len(message.get("body", b""))
            case "websocket.send":
                self.size += len(message.get("bytes") or message.get("text") or b"")
            case _:
                pass


class Room:
    """Where an application's requests are: begins them, and ends them.

    Args:
        context: the worker's.
        tasks: those that run applications, which the server counts.
        client_left: what the server raises in an application that sends to a WebSocket whose client has left.

    Attributes:
        ledger: the requests in flight.
        loop: the event loop.
        trust: who is believed about the client of a request; of HTTP requests, the connection has asked.
        tls: what connections that speak TLS tell of it, or None where nobody does; of HTTP, the connection has asked.
        orders: what the arbiter says; a draining worker keeps no connection.
        finished_at: when the last response was complete.
    """

    def __init__(
        self, context: WorkerContext, tasks: set[asyncio.Task[None]], *, client_left: type[OSError]
    ) -> None:
        self._context = context
        self.tasks = tasks
        self._app: Any = context.app
        self.orders = context.orders
        self.trust = Proxies(context.asgi.trusted, context.asgi.secure)
        self.tls = _facts_of_tls(context)
        self.loop = asyncio.get_running_loop()
        self._is_told = context.on_served is not None or context.pre_request is not None
        kind = ToldExchange if self._is_told else Exchange
        self._make: type[Exchange] = type(kind.__name__, (kind,), {"room": self})
        self.ledger: Ledger[Exchange] = Ledger(context.seat.row)
        self.is_kept_alive = context.http.is_kept_alive
        self._client_left = client_left
        self._refusals: set[asyncio.Task[None]] = set()
        self.finished_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the application that the server calls, with a task of its own making."""
        if scope["type"] != "http":
            await self._serve_websocket(scope, receive, send=send)
            return
        exchange = self.begin(scope, send)
        exchange.task = asyncio.current_task(self.loop)
        await self.serve(exchange, receive)

    def begin(self, scope: Scope, send: Send) -> Exchange:
        """Note a request that has come; `serve` has to follow."""
        exchange = self._make(scope, send)
        self.ledger.begin(exchange)
        if self._is_told:
            self._announce(exchange)
        return exchange

    async def serve(self, exchange: Exchange, receive: Receive) -> None:
        """Run the application for a request; never raises."""
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except BaseException as error:  # noqa: BLE001 - whatever an application raises, the worker lives on
            BOUNDARY.end_child(error)
            await self._take_failure(exchange, error)
        if not exchange.is_answered:
            await self._end_unanswered(exchange)
        self.tasks.discard(exchange.task)

    def finish(self, exchange: Exchange) -> None:
        """Count a request whose response is complete, or that has none."""
        now = self.finished_at = time.monotonic()
        if exchange.status >= SERVER_ERROR:
            exchange.outcome |= FAILED
        self.ledger.finish(exchange, now)
        context = self._context
        if self._is_told:
            self._tell(exchange, now)
        if context.recycling is not None and context.recycling.count():
            from unicornd.workers.channel import RetiringReport  # noqa: PLC0415 - once in a worker's life

            context.report(RetiringReport(why=f"max_requests reached after {self.ledger.count} requests"))

    def give_up(self, exchange: Exchange, now: float) -> None:
        """Count a request that ends with the process, after its client was told that there will be no answer."""
        exchange.status = GATEWAY_TIMEOUT
        self.ledger.give_up(exchange, now)
        if self._is_told:
            self._tell(exchange, now)

    def _announce(self, exchange: Exchange) -> None:
        """Call the hook that comes before a request."""
        if isinstance(exchange, ToldExchange) and self._context.pre_request is not None:
            self._context.pre_request(exchange.head)

    async def _take_failure(self, exchange: Exchange, error: BaseException) -> None:
        """Answer for an application that has raised, or break off what it had begun to answer."""
        is_ended = isinstance(error, asyncio.CancelledError) and (exchange.verdict or exchange.is_answered)
        if not is_ended:
            self._complain(exchange, error)
        if exchange.is_answered:  # the end of its response was refused, or it did something after it
            if not getattr(protocol_of(exchange), "response_complete", True):
                break_off(exchange)
            return
        exchange.verdict = exchange.verdict or SERVER_ERROR
        await self.refuse(exchange)

    async def _serve_websocket(self, scope: Scope, receive: Receive, *, send: Send) -> None:
        if self.tls is not None:
            scope.setdefault("extensions", {}).update(self.tls.of(getattr(send.__self__, "transport", None)))
        if self.trust.has(scope["client"][0] if scope["client"] else None):
            self.trust.believe(scope, scope["headers"])
        exchange = self.begin(scope, send)
        exchange.task = asyncio.current_task(self.loop)

        def watch(message: Message) -> Any:  # noqa: ANN401 - the protocol's coroutine
            if isinstance(exchange, ToldExchange):
                exchange.note(message)
            if message["type"] == "websocket.accept":
                exchange.status = SWITCHING
                self.ledger.begin_stream(exchange)
            elif message["type"] == "websocket.close" and not exchange.status:
                exchange.status = FORBIDDEN
            elif message["type"] == "websocket.http.response.start":
                exchange.status = int(message.get("status", 0))
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as error:
            if exchange.verdict and isinstance(error, asyncio.CancelledError):
                return
            if not isinstance(error, self._client_left):  # else it was told by `send`, and has ended
                self._complain(exchange, error)
                exchange.status = exchange.status or SERVER_ERROR
            raise
        finally:
            exchange.is_answered = True
            self.finish(exchange)

    def refuse_for(self, exchange: Exchange) -> None:
        """Answer in the place of an application that goes on although it was cancelled."""
        task = asyncio.get_running_loop().create_task(self.refuse(exchange))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    async def refuse(self, exchange: Exchange) -> None:
        """Answer with the verdict, if nothing has been sent yet; else break the connection off."""
        if exchange.is_warned and await _complete(exchange):
            return
        if exchange.status and not _withdraw(exchange):
            break_off(exchange)
            return
        exchange.status = exchange.verdict
        text = _TEXTS[exchange.verdict]
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), CLOSE]
        await exchange.server_send(
            {"type": "http.response.start", "status": exchange.verdict, "headers": headers}
        )
        await exchange.server_send({"type": "http.response.body", "body": text})

    async def _end_unanswered(self, exchange: Exchange) -> None:
        """The application has ended without a whole answer, or we have answered for it."""
        if exchange.is_warned and not exchange.verdict:
            exchange.verdict = LEAVING
            await self.refuse(exchange)
        elif not exchange.verdict and not self._has_left(exchange):
            what = "before the end of its response" if exchange.status else "without a response"
            method, path = exchange.facts
            self._context.log.error(
                "the application returned %s", what, extra={"method": method, "path": path}
            )
            exchange.verdict = SERVER_ERROR
            await self.refuse(exchange)
        exchange.is_answered = True
        self.finish(exchange)

    def _has_left(self, exchange: Exchange) -> bool:
        return bool(exchange.left_at or getattr(protocol_of(exchange), "disconnected", False))

    def _complain(self, exchange: Exchange, error: BaseException) -> None:
        method, path = exchange.facts
        self._context.log.error(
            "the application failed", exc_info=error, extra={"method": method, "path": path}
        )

    def _tell(self, exchange: Exchange, now: float) -> None:
        if self._context.on_served is None or not isinstance(exchange, ToldExchange):
            return
        try:
            served = served_of(
                exchange.scope,
                exchange.head,
                status=exchange.status,
                headers=exchange.headers,
                size=exchange.size,
                seconds=now - exchange.began,
            )
            self._context.on_served(served)
        except Exception:
            self._context.log.exception("the access log or a hook failed")


def _facts_of_tls(context: WorkerContext) -> TlsFacts | None:
    if context.tls is None:
        return None
    from unicornd.workers.asgi.tlsfacts import TlsFacts  # noqa: PLC0415 - only those pay for it that speak TLS

    return TlsFacts(context.tls)


def protocol_of(exchange: Exchange) -> Any:  # noqa: ANN401 - a cycle of the HTTP protocol, or the WebSocket protocol
    """Return what the server's `send` belongs to, or None."""
    return getattr(exchange.server_send, "__self__", None)


def is_event_stream(server: Any) -> bool:  # noqa: ANN401 - see `protocol_of`
    """Return whether a response has begun that may end anywhere.

    Clients of server-sent events drop an event that is not complete, and connect again when the stream ends (HTML, 9.2.6).
    """
    head = getattr(server, "head", None)
    return head is not None and head.framing is not Framing.LENGTH and EVENT_STREAM in head.data.lower()


async def _complete(exchange: Exchange) -> bool:
    """End a response that may end anywhere; False if it is another one, or its client does not read."""
    server = protocol_of(exchange)
    if not is_event_stream(server) or server.flow.write_paused:
        return False
    await exchange.server_send({"type": "http.response.body"})
    return True


def _withdraw(exchange: Exchange) -> bool:
    """Have another response be sent, if nothing was sent of the first; return whether that is so."""
    if exchange.writer is None or not exchange.writer.withdraw():
        return False
    server = protocol_of(exchange)
    server.response_started = False
    return True


def break_off(exchange: Exchange) -> None:
    """Close the connection, so that nobody takes what was sent for the whole response."""
    server = protocol_of(exchange)
    transport = getattr(server, "transport", None)
    if transport is None:
        return
    server.is_broken_off = True
    head = getattr(server, "head", None)
    if head is not None and head.framing is Framing.CLOSE:
        transport.reset_on_close()
    transport.close()


def _verb_of(scope: Scope) -> bytes:
    return f"{scope.get('method', 'WS')} ".encode("latin-1")


def _with_close(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*(field for field in headers if field[0].lower() != b"connection"), CLOSE]
