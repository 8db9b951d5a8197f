"""One request through an ASGI application: counted, told of, and ended when its time is up.

Run in the worker's event loop, as the application that the server protocol calls: the real application gets the
exchange's own `send`. What is not wanted (hooks, access log) is decided once a worker: the plain exchange does no more
than count. An exception of the application, of whatever kind, ends in a 500 or a broken connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from unicornd.workers.asgi.views import head_of, served_of
from unicornd.workers.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from unicornd.http.messages import Head
    from unicornd.workers.context import WorkerContext

Message = Any  # dict[str, Any]; the server's types are TypedDicts
Scope = Any
Receive = Any  # Callable[[], Awaitable[Message]]
Send = Any  # Callable[[Message], Awaitable[None]]

SERVER_ERROR = 500
FORBIDDEN = 403
SWITCHING = 101
CLOSE = (b"connection", b"close")
_VERBS = {verb: f"{verb} ".encode() for verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_TEXTS = {
    503: b"the server is leaving\n",
    504: b"the application did not answer in time\n",
}


class Exchange(Entry):
    """A request in flight.

    Attributes:
        status: of the response, 0 before it has begun.
        is_answered: whether the response is complete; what the application does then is its own affair.
        verdict: the status that ends it: 504, 503; 0 while it may run.
        left_at: when its client was found to have left (monotonic), 0 for not.
        task: the one that runs the application.
        server_send: the protocol's `send`.
    """

    __slots__ = ("_room", "is_answered", "left_at", "server_send", "status", "task", "verdict")

    def __init__(self, began: float, text: bytes, *, room: Room, send: Send) -> None:
        self.began = self.since = began
        self.text = text
        self.cell = None
        self.is_stream = self.is_answered = False
        self._room = room
        self.server_send = send
        self.status = self.verdict = 0
        self.left_at = 0.0
        self.task = asyncio.current_task()

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`: note what it says, and pass it on."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message.get("status", 0)
            if self._room.closes or self._room.orders.is_draining:
                message = {**message, "headers": _with_close(message.get("headers", ()))}
        elif kind == "http.response.body" and self.status and not self.is_answered:
            if not message.get("more_body"):
                self.is_answered = True
                self._room.finish(self)
            elif not self.is_stream:
                self._room.ledger.begin_stream(self)
        return self.server_send(message)  # type: ignore[no-any-return] # the protocol's coroutine


class ToldExchange(Exchange):
    """A request that hooks or the access log want to hear of."""

    __slots__ = ("_head", "headers", "scope", "size")

    def __init__(self, began: float, text: bytes, *, room: Room, send: Send) -> None:
        super().__init__(began, text, room=room, send=send)
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        self.size = 0
        self.scope: Scope = None
        self._head: Head | None = None

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

    Attributes:
        ledger: the requests in flight.
        closes: whether all responses end their connection.
        orders: what the arbiter says; those of a draining worker do.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._app: Any = context.app
        self.orders = context.orders
        is_told = context.on_served is not None or context.pre_request is not None
        self._make: type[Exchange] = ToldExchange if is_told else Exchange
        self.ledger: Ledger[Exchange] = Ledger(context.seat.row)
        self.closes = not context.http.is_kept_alive
        self._refusals: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the application that the server calls."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send=send)
        else:
            await self._serve_websocket(scope, receive, send=send)

    def finish(self, exchange: Exchange) -> None:
        """Count a request whose response is complete, or that has none."""
        now = time.monotonic()
        self.ledger.finish(exchange, now, is_error=exchange.status >= SERVER_ERROR)
        context = self._context
        if isinstance(exchange, ToldExchange):
            self._tell(exchange, now)
        if context.recycling is not None and context.recycling.count():
            from unicornd.workers.channel import RetiringReport  # noqa: PLC0415 - once in a worker's life

            context.report(RetiringReport(why=f"max_requests reached after {self.ledger.count} requests"))

    def _begin(self, scope: Scope, send: Send) -> Exchange:
        method = scope.get("method", "WS")
        text = (_VERBS.get(method) or f"{method} ".encode("latin-1")) + (
            scope.get("raw_path") or scope["path"].encode()
        )
        exchange = self._make(time.monotonic(), text, room=self, send=send)
        self.ledger.begin(exchange)
        if isinstance(exchange, ToldExchange):
            exchange.scope = scope
            if self._context.pre_request is not None:
                self._context.pre_request(exchange.head)
        return exchange

    async def _serve(self, scope: Scope, receive: Receive, *, send: Send) -> None:
        exchange = self._begin(scope, send)
        try:
            await self._app(scope, receive, exchange.send)
        except BaseException as error:
            if exchange.verdict and isinstance(error, asyncio.CancelledError):
                await self.refuse(exchange)
                return
            self._complain(exchange, error)
            if exchange.is_answered:  # in what it did after its response: the connection may serve on
                return
            if not exchange.status:
                exchange.status = SERVER_ERROR  # which the protocol answers
            raise
        finally:
            if not exchange.is_answered:
                exchange.is_answered = True
                self._end_unanswered(exchange)
                self.finish(exchange)

    async def _serve_websocket(self, scope: Scope, receive: Receive, *, send: Send) -> None:
        exchange = self._begin(scope, send)

        def watch(message: Message) -> Any:  # noqa: ANN401 - the protocol's coroutine
            if isinstance(exchange, ToldExchange):
                exchange.note(message)
            if message["type"] == "websocket.accept":
                exchange.status = SWITCHING
                self.ledger.begin_stream(exchange)
            elif message["type"] == "websocket.close" and not exchange.status:
                exchange.status = FORBIDDEN
            elif message["type"] == "websocket.http.response.start":
                exchange.status = message.get("status", 0)
            return send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as error:
            if exchange.verdict and isinstance(error, asyncio.CancelledError):
                return
            self._complain(exchange, error)
            if not exchange.status:
                exchange.status = SERVER_ERROR
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
        """Answer a request that was ended, if nothing has been answered yet; else its connection is broken off."""
        if exchange.status:
            break_off(exchange)
            return
        exchange.status = exchange.verdict
        text = _TEXTS[exchange.verdict]
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), CLOSE]
        await exchange.server_send(
            {"type": "http.response.start", "status": exchange.verdict, "headers": headers}
        )
        await exchange.server_send({"type": "http.response.body", "body": text})

    def _end_unanswered(self, exchange: Exchange) -> None:
        """An application that returns without an answer is told of by the protocol, which answers 500 or breaks off."""
        if not exchange.status and not exchange.left_at:
            exchange.status = SERVER_ERROR

    def _complain(self, exchange: Exchange, error: BaseException) -> None:
        method, _, path = exchange.text.decode("latin-1").partition(" ")
        self._context.log.error(
            "the application failed", exc_info=error, extra={"method": method, "path": path}
        )

    def _tell(self, exchange: ToldExchange, now: float) -> None:
        if self._context.on_served is None:
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


def protocol_of(exchange: Exchange) -> Any:  # noqa: ANN401 - a cycle of the HTTP protocol, or the WebSocket protocol
    """Return what the server's `send` belongs to, or None."""
    return getattr(exchange.server_send, "__self__", None)


def break_off(exchange: Exchange) -> None:
    """Close the connection, so that nobody takes what was sent for the whole response."""
    transport = getattr(protocol_of(exchange), "transport", None)
    if transport is not None:
        transport.close()


def _with_close(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*(field for field in headers if field[0].lower() != b"connection"), CLOSE]
