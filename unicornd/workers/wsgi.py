"""One request through the application: PEP 3333, to the letter.

Run by the thread that has the request; nothing here polls. An exception of the application, of whatever kind
(SystemExit too), ends in a response or in a broken connection, never in a dead worker.
"""

from __future__ import annotations

import os
import stat
from http import HTTPStatus
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from unicornd.http.environ import build_environ, split_host
from unicornd.http.response import (
    LAST_CHUNK,
    Framing,
    ResponseError,
    encode_chunk,
    encode_head,
    plain_response,
    refusal_response,
)
from unicornd.workers.line import Interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from unicornd.http.environ import Environ
    from unicornd.http.errors import Refusal
    from unicornd.http.messages import Head
    from unicornd.http.response import ResponseHead
    from unicornd.workers.clock import Clock
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.line import Line

ExcInfo = tuple[type[BaseException], BaseException, "TracebackType"] | tuple[None, None, None]
FILE_BLOCK = 64 * 1024
SERVER_ERROR = ("5", "")


class ClientGoneError(OSError):
    """The client does not take its response: it has closed, or it reads too slowly."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file to send; by sendfile(2) where that is possible (PEP 3333, "Optional …").

    Args:
        file: anything with `read`.
        block: bytes to read at a time.
    """

    def __init__(self, file: IO[bytes], block: int = FILE_BLOCK) -> None:
        self.file = file
        self.block = block
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        while data := self.file.read(self.block):
            yield data


class Exchange:
    """One request and its response.

    Args:
        connection: a connection whose request is complete.
        context: the worker's.
        clock: gives the Date.

    Attributes:
        status: what the application said, `200 OK`; empty before.
        headers: its headers.
        sent: bytes of the body that were sent or kept.
        keep_alive: whether the connection can be used again.
        environ: the request's environ.
    """

    __slots__ = (
        "_clock",
        "_connection",
        "_context",
        "_head",
        "_is_cut",
        "environ",
        "headers",
        "keep_alive",
        "request",
        "sent",
        "status",
    )

    def __init__(self, connection: Line, request: Head, *, context: WorkerContext, clock: Clock) -> None:
        self._connection = connection
        self._context = context
        self._clock = clock
        self._head: ResponseHead | None = None
        self._is_cut = False
        self.request = request
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.keep_alive = request.keep_alive and context.http.is_kept_alive
        self.environ: Environ = {}

    @property
    def has_begun(self) -> bool:
        """Whether the head of the response has been sent."""
        return self._head is not None

    def run(self) -> bool:
        """Run the application and send what it answers; return whether that was an error (5xx)."""
        try:
            if self._context.pre_request is not None:
                self._context.pre_request(self.request)
            self.environ = self._make_environ()
            self._run_app()
        except ClientGoneError:
            self.keep_alive = False
            self._connection.output.close()
        except BaseException as error:  # noqa: BLE001 - whatever an application raises, the worker lives on
            self._fail(error)
        return self.status[:1] in SERVER_ERROR

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> _Write:
        """Take status and headers; they are sent with the first part of the body (PEP 3333)."""
        if exc_info is not None:
            try:
                if self._head is not None and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the traceback refers to this frame
        elif self.status:
            raise AssertionError("start_response() was called again without exc_info")
        if type(status) is not str or type(headers) is not list:
            raise TypeError("start_response() takes a str and a list of tuples")
        self.status = status
        self.headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body; may have to wait for the client (PEP 3333)."""
        if type(data) is not bytes and not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"the body must be bytes, not {type(data).__name__}")
        if not data:
            return
        data = bytes(data)
        head = self._head
        prefix = b""
        if head is None:
            head = self._head = self._encode_head()
            prefix = head.data
        self._send(prefix + self._framed(head, data))

    def _run_app(self) -> None:
        result = self._context.app(self.environ, self.start_response)
        try:
            if type(result) is list and len(result) == 1 and self._head is None and type(result[0]) is bytes:
                self._send_whole(result[0])
            elif isinstance(result, FileWrapper):
                self._send_file(result)
                self._finish()
            else:
                self._send_parts(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                self._close(close)

    def _close(self, close: Callable[[], object]) -> None:
        """Call `close()` of the body; what it raises comes too late to change the response."""
        try:
            close()
        except BaseException as error:  # noqa: BLE001 - as `run`
            self._complain("the response's close() failed", error)

    def _make_environ(self) -> Environ:
        connection = self._connection
        environ = build_environ(connection.base, self.request)
        host, port = connection.remote
        environ["REMOTE_ADDR"] = host
        if port:
            environ["REMOTE_PORT"] = port
        else:  # a Unix socket has no name and port of its own
            environ["SERVER_NAME"], environ["SERVER_PORT"] = split_host(environ.get("HTTP_HOST", ""))
        environ["wsgi.input"] = connection.spool.rewound() if connection.spool is not None else BytesIO()
        return environ

    def _ends_connection(self) -> bool:
        orders = self._context.orders
        return (orders.is_draining or orders.is_last_call) and (
            orders.ends_connections or not self._connection.may_move
        )

    def _encode_head(self, body_size: int = -1) -> ResponseHead:
        if not self.status:
            if self._connection.is_taken:
                raise ClientGoneError("the application has taken the connection over")
            raise AssertionError("the application sent a body before it called start_response()")
        request = self.request
        is_head = request.method == "HEAD"
        if is_head and body_size == 0:  # left out; that of GET may have another length (RFC 9110 section 8.6)
            body_size = -1
        head = encode_head(
            self.status,
            self.headers,
            standing=self._clock.standing(),
            is_http11=request.is_http11,
            is_head=is_head,
            keep_alive=self.keep_alive and not self._ends_connection(),
            body_size=body_size,
        )
        self.keep_alive = head.keep_alive
        return head

    def _send_whole(self, body: bytes) -> None:
        """Send head and body of a response that is known as a whole, in one go."""
        head = self._head = self._encode_head(len(body))
        if head.framing is Framing.LENGTH and head.length == len(body):
            self.sent = len(body)
            try:
                self._connection.output.send_whole(head.data + body)
            except OSError as error:
                raise ClientGoneError from error
            return
        if head.framing is Framing.LENGTH and head.length < len(body):
            self.keep_alive = False  # see _framed; here there is time to say so
            head = self._head = self._encode_head(len(body))
        self._send(head.data + self._framed(head, body) if body else head.data)
        self._finish()

    def _send_parts(self, result: Iterable[bytes]) -> None:
        for data in result:
            self.write(data)
        if self._head is None:
            head = self._head = self._encode_head(0)
            self._send(head.data)
        self._finish()

    def _framed(self, head: ResponseHead, data: bytes) -> bytes:
        """Return `data` as it goes over the wire; what is more than Content-Length promised is cut."""
        if head.framing is Framing.NONE:
            return b""
        if head.framing is Framing.LENGTH and self.sent + len(data) > head.length:
            data = data[: head.length - self.sent]
            if not self._is_cut:
                self._is_cut = True
                self.keep_alive = False  # whoever counts wrongly is not trusted with a further response
                self._warn(
                    "a response was longer than its Content-Length; it is cut, the connection is closed"
                )
        self.sent += len(data)
        return encode_chunk(data) if head.framing is Framing.CHUNKED and data else data

    def _finish(self) -> None:
        """End the body, or the connection if the body did not become what its head had promised."""
        head = self._head
        if head is None:
            return
        if head.framing is Framing.CHUNKED:
            self._send(LAST_CHUNK)
        elif head.framing is Framing.LENGTH and self.sent < head.length:
            self.keep_alive = False
            self._warn("a response was shorter than its Content-Length; the connection is closed")

    def _send(self, data: bytes) -> None:
        output = self._connection.output
        try:
            output.send(data)
        except OSError as error:
            raise ClientGoneError from error
        if output.size > self._context.http.response_buffer and self._head is not None:
            self._wait_for_client()

    def _wait_for_client(self) -> None:
        """Wait until the client has taken half of what is kept; a client that does not read is given up."""
        policy = self._context.http
        output = self._connection.output
        while output.size > policy.response_buffer // 2:
            if not self._connection.wait_writable(policy.write):
                raise ClientGoneError("the client does not read")
            try:
                output.flush()
            except OSError as error:
                raise ClientGoneError from error

    def _send_file(self, wrapper: FileWrapper) -> None:
        """Send a file by sendfile(2), or in pieces if it is not a plain file or the body is chunked."""
        span = _plain_file(wrapper.file) if self._context.http.has_sendfile else None
        if span is None:
            for data in wrapper:
                self.write(data)
            if self._head is None:
                self._head = self._encode_head(0)
                self._send(self._head.data)
            return
        fd, offset, count = span
        head = self._head
        if head is None:
            head = self._head = self._encode_head(count)
            self._send(head.data)
        if head.framing is Framing.CHUNKED:
            for data in wrapper:
                self.write(data)
        elif head.framing is not Framing.NONE and count:
            count = min(count, head.length - self.sent) if head.framing is Framing.LENGTH else count
            try:
                self._connection.output.send_file(fd, offset=offset, count=count)
            except (ConnectionError, TimeoutError) as error:  # others are the file's
                raise ClientGoneError from error
            self.sent += count

    def _fail(self, error: BaseException) -> None:
        """Answer 500 if nothing was sent, else break the connection so that nobody takes the rest for whole."""
        self.keep_alive = False
        if (
            self._connection.is_taken
        ):  # there is nobody to be answered; StopIteration is how some say that they are done
            if not isinstance(error, StopIteration | OSError | Interruption):
                self._complain("the application failed", error)
            return
        body = self._connection.spool
        refusal = body.refusal if body is not None else None
        if isinstance(error, Interruption):
            refusal = error.refusal
        if refusal is None:
            self._complain("the application failed", error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if refusal is None else refusal.status
        self.status = f"{status.value} {status.phrase}"
        if self._head is not None:
            self._connection.output.close()
            if self._head.framing is Framing.CLOSE:
                self._connection.reset_on_close()
            return
        self._answer_for(error, refusal)

    def _answer_for(self, error: BaseException, refusal: Refusal | None) -> None:
        """Send what the client is told of a failure."""
        is_head = self.request.method == "HEAD"
        standing = self._clock.standing()
        if refusal is not None:
            facts = {"status": refusal.status.value, "why": str(refusal), "path": self.request.path}
            self._context.log.info("request refused", extra=facts)
            answer = refusal_response(refusal, standing=standing, is_head=is_head)
        else:
            what = (
                "the response cannot be sent"
                if isinstance(error, ResponseError)
                else "the application failed"
            )
            answer = plain_response(
                HTTPStatus.INTERNAL_SERVER_ERROR, what, standing=standing, is_head=is_head
            )
        try:
            self._connection.output.send(answer)
        except OSError:
            self._connection.output.close()

    def _complain(self, what: str, error: BaseException) -> None:
        facts = {"method": self.request.method, "path": self.request.path}
        self._context.log.error(what, exc_info=error, extra=facts)

    def _warn(self, what: str) -> None:
        self._context.log.warning(what, extra={"method": self.request.method, "path": self.request.path})


_Write = Any  # Callable[[bytes], object]; a name of its own because slots and protocols do not mix


def _plain_file(file: Any) -> tuple[int, int, int] | None:  # noqa: ANN401 - whatever the application has opened
    """Return descriptor, offset and count of what is unread of a regular file, or None."""
    try:
        fd = file.fileno()
        info = os.fstat(fd)
        offset = file.tell()
    except (AttributeError, OSError, ValueError):
        return None
    if not stat.S_ISREG(info.st_mode) or offset > info.st_size:
        return None
    return fd, offset, info.st_size - offset
