"""One request through tornado's server: counted, held against the limits, told of, ended when its time is up.

Run in the worker's event loop, between tornado's server and the application.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from tornado.concurrent import future_add_done_callback
from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import StreamClosedError

from unicornd.http.errors import Refusal
from unicornd.http.response import Framing, ResponseError, ResponseHead, encode_head, plain_response
from unicornd.observe.scoreboard import GONE
from unicornd.workers.evented import Request, head_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPHeaders

    from unicornd.http.messages import Head
    from unicornd.workers.kinds.tornado import Server

BODILESS = ResponseHead()
SWITCHED = "101"
"""What is kept of a head behind which no body of HTTP comes."""
BODILESS.data, BODILESS.framing, BODILESS.length, BODILESS.keep_alive = b"", Framing.NONE, -1, False


class Messages(HTTPMessageDelegate):
    """One request on its way to the application, and its response on its way back, counted.

    Args:
        server: ours.
        connection: tornado's; what it sends is noted.
        begin: makes the application's own delegate.

    Attributes:
        request: once the head has come.
        progress_at: when the last part of the head or the body came; 0 when it is complete.
    """

    def __init__(
        self, server: Server, connection: HTTP1Connection, *, begin: Callable[[], HTTPMessageDelegate]
    ) -> None:
        self._server = server
        self.connection: Any = cast("Any", connection)
        self.request: Request | None = None
        self.progress_at = 0.0
        self._is_refused = self._is_broken_off = False
        self._head: ResponseHead | None = None
        self._prefix = b""
        self._place = ("", "")
        self._write_headers: Any = connection.write_headers
        self._write: Any = connection.write
        self._finish: Any = connection.finish
        self.connection.write_headers = self._begin_response
        self.connection.write = self._go_on
        self.connection.finish = self._end
        self.connection.break_off = self.break_off
        self.connection.note_end = self.note_end
        self.connection.forwarded = None
        self.connection.stream.told = self._note_refusal
        self._inner = begin()

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:  # noqa: ANN401 - tornado's own type
        """A request begins."""
        now = self.progress_at = time.monotonic()
        remote = getattr(self.connection.context, "address", None)
        self._place = (str(remote[0]), str(remote[1])) if isinstance(remote, tuple) else ("", "")
        head = head_from(
            start_line.method, start_line.path, protocol=start_line.version, fields=headers.get_all()
        )
        try:
            self._server.check(head)
            self._forward(head, headers)
        except Refusal as refusal:
            self._is_refused = True
            return self._server.refusals.answer(self.connection.stream, refusal)
        self.request = Request(now, head, remote=self._place)
        self._server.register.begin(self.request)
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:  # noqa: ANN401 - tornado's own type
        """A part of its body has come."""
        self.progress_at = time.monotonic()
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        """It is complete: the application runs."""
        self.progress_at = 0.0
        if not self._is_refused:
            self._inner.finish()

    def on_connection_close(self) -> None:
        """The client has gone before that."""
        self.note_gone(is_unsent=False)
        if not self._is_refused:
            self._inner.on_connection_close()

    def _forward(self, head: Head, headers: HTTPHeaders) -> None:
        """Find what is believed of a forwarder; the scheme is the connection's until its next request.

        Raises:
            Refusal: it contradicts itself.
        """
        connection, forwarding = self.connection, self._server.forwarding
        if forwarding is None:
            return
        is_trusted = forwarding.trust.has(self._place[0])
        underscored = "".join(f"\r\n{name}: {value}" for name, value in headers.get_all() if "_" in name)
        head.forwarded = (
            forwarding.read(head, underscored.encode("latin-1", "replace"), peer=self._place[0])
            if is_trusted
            else forwarding.standing
        )
        connection.forwarded = head.forwarded
        said = head.forwarded.scheme if head.forwarded is not None else ""
        connection.context.protocol = said or connection.context._orig_protocol  # noqa: SLF001 - tornado's own way of X-Scheme

    def _note_refusal(self, refusal: Refusal) -> None:
        if self.request is not None and not self.request.status:
            self.request.status = f"{refusal.status.value} {refusal.status.phrase}"

    def _note_early(self) -> None:
        """An answer is there: if the client still sends its body, it is to read the answer nevertheless."""
        stream = self.connection.stream
        if self.progress_at and stream is not None:
            stream.lingers = True

    def note_gone(self, *, is_unsent: bool) -> None:
        """The connection is closed: was it the client, before the end of its request or of the response?

        Args:
            is_unsent: whether a part of the response had not been sent.
        """
        request = self.request
        is_ours = self._is_broken_off or (request is not None and request.status[:3] == SWITCHED)
        if request is not None and not request.is_over:
            request.outcome |= 0 if is_ours else GONE
        elif is_unsent and not is_ours:  # tornado waits for the next request by now
            self._server.register.ledger.note_gone()
        self.note_end()

    def note_end(self) -> None:
        """The request is over, however it ended."""
        if self.request is not None:
            self._server.register.finish(self.request, time.monotonic())

    def break_off(self, status: HTTPStatus, text: str) -> None:
        """Answer in the application's place, or break the connection; the application is done with the request.

        The end is noted here: tornado goes on to the connection's next request before it tells that it is closed.
        """
        self.answer_instead(status, text)
        self.note_end()

    def answer_instead(self, status: HTTPStatus, text: str) -> None:
        """Answer in the place of an application that still runs, or break the connection if it has begun to answer."""
        request, stream = self.request, self.connection.stream
        if stream is None or stream.closed():
            return
        self._is_broken_off = True
        if request is not None and not request.status:
            request.status = f"{status.value} {status.phrase}"
            standing, is_head = self._server.clock.standing(), request.head.method == "HEAD"
            with suppress(StreamClosedError):
                stream.write(plain_response(status, text, standing=standing, is_head=is_head))
            self._note_early()
        else:
            stream.is_cut = True
            if self._head is not None and self._head.framing is Framing.CLOSE:
                stream.reset_on_close()
        self.connection.close()

    def _begin_response(self, start_line: Any, headers: HTTPHeaders, chunk: bytes | None = None) -> Any:  # noqa: ANN401 - tornado's
        request, connection = self.request, self.connection
        if request is None or connection.stream is None or connection.stream.closed():
            return self._write_headers(start_line, headers, chunk)
        headers.pop("Server", None)  # tornado's own; ours stands in every response
        if start_line.code == HTTPStatus.SWITCHING_PROTOCOLS and self._may_switch(request.head):
            return self._switch(start_line, headers)
        body = chunk or b""
        try:
            head = self._encode_head(start_line, headers)
            if head.framing is Framing.LENGTH and head.length < len(body):
                connection._disconnect_on_finish = True  # noqa: SLF001 - see _fitting; here there is time to say so
                head = self._encode_head(start_line, headers)
        except ResponseError as error:
            return self._fail(error)
        request.status = f"{start_line.code} {start_line.reason}"
        request.headers = list(headers.get_all())
        return self._send_head(start_line, head, body=body)

    def _encode_head(self, start_line: Any, headers: HTTPHeaders) -> ResponseHead:  # noqa: ANN401 - tornado's own type
        request, connection = cast("Request", self.request), self.connection
        return encode_head(
            f"{start_line.code} {start_line.reason}",
            list(headers.get_all()),
            self._server.clock.standing(),
            request.head.is_http11,
            request.head.method == "HEAD",
            not (self._server.ends_connections or connection._disconnect_on_finish),  # noqa: SLF001 - tornado says it nowhere else
        )

    def _send_head(self, start_line: Any, head: ResponseHead, *, body: bytes) -> Any:  # noqa: ANN401 - tornado's own types
        """Do what tornado's `write_headers` does, with our head: what it keeps of it says how the body is framed."""
        connection = self.connection
        self._head = head
        connection._response_start_line = start_line  # noqa: SLF001
        connection._chunking_output = head.framing is Framing.CHUNKED  # noqa: SLF001
        connection._expected_content_remaining = (  # noqa: SLF001
            0 if head.framing is Framing.NONE else head.length if head.framing is Framing.LENGTH else None
        )
        connection._disconnect_on_finish = not head.keep_alive  # noqa: SLF001
        self._prefix = head.data
        return self._go_on(body)

    def _may_switch(self, head: Head) -> bool:
        """Whether an application may take the connection over: tornado's own, if it was asked to."""
        return head.is_http11 and "HTTP_UPGRADE" in head.fields and self._server.speaks_tornado

    def _switch(self, start_line: Any, headers: HTTPHeaders) -> Any:  # noqa: ANN401 - tornado's own types
        """Send the head of another protocol (a WebSocket); whoever sends it takes the connection in the same turn."""
        request, connection = cast("Request", self.request), self.connection
        request.status = f"{start_line.code} {start_line.reason}"
        request.headers = list(headers.get_all())
        self._head = BODILESS
        stream = connection.stream
        asyncio.get_running_loop().call_soon(lambda: connection.stream is stream and connection.close())
        return self._write_headers(start_line, headers, None)

    def _fail(self, error: ResponseError) -> Any:  # noqa: ANN401 - a future, as tornado's
        """Answer 500 for a response that cannot be sent."""
        request = cast("Request", self.request)
        facts = {"method": request.head.method, "path": request.head.path}
        self._server.log.error("the application failed", exc_info=error, extra=facts)
        self.break_off(HTTPStatus.INTERNAL_SERVER_ERROR, "the response cannot be sent")
        return _closed()

    def _fitting(self, request: Request, head: ResponseHead, *, chunk: bytes) -> bytes:
        """Return as much of a body as its head promises: tornado closes without an answer if it is more."""
        if head.framing is Framing.NONE:
            return b""
        if head.framing is not Framing.LENGTH or request.size + len(chunk) <= head.length:
            return chunk
        facts = {"method": request.head.method, "path": request.head.path}
        self._server.log.warning(
            "a response was longer than its Content-Length; it is cut, the connection is closed", extra=facts
        )
        self.connection._disconnect_on_finish = True  # noqa: SLF001 - see _encode_head
        return chunk[: head.length - request.size]

    def _go_on(self, chunk: bytes) -> Any:  # noqa: ANN401 - tornado's own type
        request, head, connection = self.request, self._head, self.connection
        if request is None or head is None:
            return self._write(chunk)
        chunk = self._fitting(request, head, chunk=chunk)
        request.size += len(chunk)
        prefix, self._prefix = self._prefix, b""
        if not prefix:
            return self._write(chunk)
        future = connection._write_future = asyncio.Future()  # noqa: SLF001 - as tornado's `write_headers`
        written = connection.stream.write(prefix + connection._format_chunk(chunk))  # noqa: SLF001
        connection._pending_write = written  # noqa: SLF001
        future_add_done_callback(written, connection._on_write_complete)  # noqa: SLF001
        return future

    def _end(self) -> None:
        self._note_early()
        self._finish()
        self.note_end()


def _closed() -> asyncio.Future[None]:
    """Return what tornado's `write_headers` returns for a connection that is closed."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StreamClosedError())
    future.exception()  # nobody has to ask
    return future


class Delegate(HTTPServerConnectionDelegate):
    """Between tornado's server and the application.

    Args:
        server: ours.
        app: the application as tornado calls it.
    """

    def __init__(self, server: Server, app: HTTPServerConnectionDelegate) -> None:
        self._server = server
        self._app = app

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:  # noqa: ANN401 - tornado's own type
        """See tornado."""
        messages = Messages(
            self._server, request_conn, begin=lambda: self._app.start_request(server_conn, request_conn)
        )
        self._server.note_opened(server_conn, messages)
        return messages
