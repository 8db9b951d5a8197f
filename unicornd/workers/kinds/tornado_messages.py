"""One request through tornado's server: counted, held against the limits, told of, ended when its time is up.

Run in the worker's event loop, between tornado's server and the application.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import StreamClosedError

from unicornd.http.errors import Refusal
from unicornd.http.response import plain_response
from unicornd.workers.evented import Request, head_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from http import HTTPStatus

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPHeaders

    from unicornd.http.messages import Head
    from unicornd.workers.kinds.tornado import Server


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
        self._is_refused = False
        self._place = ("", "")
        self._write_headers: Any = connection.write_headers
        self._write: Any = connection.write
        self._finish: Any = connection.finish
        self.connection.write_headers = self._begin_response
        self.connection.write = self._go_on
        self.connection.finish = self._end
        self.connection.break_off = self.break_off
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
        self.note_end()
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
            forwarding.read(head, underscored.encode("latin-1", "replace"))
            if is_trusted
            else forwarding.standing
        )
        connection.forwarded = head.forwarded
        said = head.forwarded.scheme if head.forwarded is not None else ""
        connection.context.protocol = said or connection.context._orig_protocol  # noqa: SLF001 - tornado's own way of X-Scheme

    def _note_refusal(self, refusal: Refusal) -> None:
        if self.request is not None and not self.request.status:
            self.request.status = f"{refusal.status.value} {refusal.status.phrase}"

    def note_end(self) -> None:
        """The request is over, however it ended."""
        if self.request is not None:
            self._server.register.finish(self.request, time.monotonic())

    def break_off(self, status: HTTPStatus, text: str) -> None:
        """Answer in the application's place, or break the connection if it has begun to answer."""
        request, stream = self.request, self.connection.stream
        if stream is None or stream.closed():
            return
        if request is not None and not request.status:
            request.status = f"{status.value} {status.phrase}"
            with suppress(StreamClosedError):
                stream.write(plain_response(status, text, standing=self._server.clock.standing()))
        else:
            stream.is_cut = True
        self.connection.close()

    def _begin_response(self, start_line: Any, headers: HTTPHeaders, chunk: bytes | None = None) -> Any:  # noqa: ANN401 - tornado's
        request, connection = self.request, self.connection
        headers["Server"] = "unicornd"
        if "Date" not in headers:
            headers["Date"] = self._server.clock.standing().date.strip().partition(": ")[2]
        if self._server.ends_connections or headers.get("Connection", "").lower() == "close":
            headers["Connection"] = "close"
            connection._disconnect_on_finish = True  # noqa: SLF001 - tornado knows no other way to end a connection
        if request is not None:
            chunk = self._fitting(request.head, headers.get("Content-Length", ""), chunk=chunk or b"")
            request.status = f"{start_line.code} {start_line.reason}"
            request.headers = list(headers.get_all())
            request.size += len(chunk)
        return self._write_headers(start_line, headers, chunk)

    def _fitting(self, head: Head, length: str, *, chunk: bytes) -> bytes:
        """Return as much of a body as its head promises: tornado closes without an answer if it is more."""
        if head.method == "HEAD":
            return b""
        if not length.isdecimal() or len(chunk) <= int(length):
            return chunk
        facts = {"method": head.method, "path": head.path}
        self._server.log.warning(
            "a response was longer than its Content-Length; the rest was cut", extra=facts
        )
        return chunk[: int(length)]

    def _go_on(self, chunk: bytes) -> Any:  # noqa: ANN401 - tornado's own type
        if self.request is not None:
            chunk = b"" if self.request.head.method == "HEAD" else chunk
            self.request.size += len(chunk)
        return self._write(chunk)

    def _end(self) -> None:
        self._finish()
        self.note_end()


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
