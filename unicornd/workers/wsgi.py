"""One request through the application: PEP 3333, to the letter.

Run by the thread that has the request; nothing here polls. An exception of the application, of whatever kind
(SystemExit too), ends in a response or in a broken connection, never in a dead worker.
"""

from __future__ import annotations

import os
import stat
import sys
from http import HTTPStatus
from io import BufferedRandom, BufferedReader, BytesIO, FileIO
from typing import IO, TYPE_CHECKING, Any

from unicornd.forking import BOUNDARY
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
from unicornd.observe.scoreboard import FAILED, GONE
from unicornd.workers.line import Interruption
from unicornd.workers.overflow import is_declared_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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
PLAIN_FILES = frozenset({BufferedRandom, BufferedReader, FileIO})
"""What gives by `read` the bytes that its descriptor has."""
NO_HEADERS: Sequence[tuple[str, str]] = ()
NONE, LENGTH, CHUNKED, CLOSE = Framing
# A member costs a look-up in its class each time.


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
    """One request and its response; `Exchanges` makes it.

    Attributes:
        connection: a connection whose request is complete.
        context: the worker's.
        clock: gives the Date.
        request: its head.
        response: the head that was sent; None before.
        status: what the application said, `200 OK`; empty before.
        headers: its headers.
        sent: bytes of the body that were sent or kept.
        is_cut: whether the body was longer than it may be.
        keep_alive: whether the connection can be used again.
        environ: the request's environ.
    """

    __slots__ = (
        "clock",
        "connection",
        "context",
        "environ",
        "headers",
        "is_cut",
        "keep_alive",
        "request",
        "response",
        "sent",
        "status",
    )

    clock: Clock
    connection: Line
    context: WorkerContext
    environ: Environ
    headers: Sequence[tuple[str, str]]
    is_cut: bool
    keep_alive: bool
    request: Head
    response: ResponseHead | None
    sent: int
    status: str

    @property
    def has_begun(self) -> bool:
        """Whether the head of the response has been sent."""
        return self.response is not None

    def run(self) -> int:
        """Run the application and send what it answers; return `FAILED` for an error (5xx), `GONE` if the client has left, else 0."""
        context = self.context
        outcome = 0
        try:
            if context.pre_request is not None:
                context.pre_request(self.request)
            environ = self.environ = self._make_environ()
            result = context.app(environ, self.start_response)
            if BOUNDARY.is_crossed:
                BOUNDARY.end_child()
            if type(result) is list and len(result) == 1 and type(body := result[0]) is bytes:
                self._send_whole(body)  # the usual case; a list has nothing to close
            else:
                self._send_result(result)
        except ClientGoneError:
            self.keep_alive = False
            self.connection.output.close()
            outcome = GONE
        except BaseException as error:  # noqa: BLE001 - whatever an application raises, the worker lives on
            BOUNDARY.end_child(error)
            self._fail(error)
        status = self.status
        return outcome if status and status[0] != "5" else outcome | FAILED

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> _Write:
        """Take status and headers; they are sent with the first part of the body (PEP 3333)."""
        if exc_info is not None:
            try:
                if self.response is not None and exc_info[1] is not None:
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
        head = self.response
        prefix = b""
        if head is None:
            head = self.response = self._encode_head()
            prefix = head.data
        self._send(prefix + self._framed(head, data))
        self.context.orders.on_part(self.connection)

    def _send_result(self, result: Any) -> None:  # noqa: ANN401 - whatever the application has returned
        try:
            if isinstance(result, FileWrapper):
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
        connection = self.connection
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
        """Whether a worker that leaves closes the connection, as no other one goes on with it."""
        return self.context.orders.ends_connections or not self.connection.may_move

    def _encode_head(self, body_size: int = -1) -> ResponseHead:
        if not self.status:
            if self.connection.is_taken:
                raise ClientGoneError("the application has taken the connection over")
            raise AssertionError("the application sent a body before it called start_response()")
        request = self.request
        is_head = request.method == "HEAD"
        if is_head and body_size == 0:  # left out; that of GET may have another length (RFC 9110 section 8.6)
            body_size = -1
        orders = self.context.orders
        is_kept = self.keep_alive
        if is_kept and (orders.is_draining or orders.is_last_call):
            is_kept = not self._ends_connection()
        head = encode_head(
            self.status,
            self.headers,
            self.clock.standing(),
            request.is_http11,
            is_head,
            is_kept,
            body_size,
        )
        self.keep_alive = head.keep_alive
        return head

    def _send_whole(self, body: bytes) -> None:
        """Send head and body of a response that is known as a whole, in one go."""
        if self.response is not None:  # `write` was called before
            self._send_parts((body,))
            return
        size = len(body)
        head = self.response = self._encode_head(size)
        if head.length == size and head.framing is LENGTH:
            self.sent = size
            try:
                self.connection.output.send_whole(head.data + body)
            except OSError as error:
                raise ClientGoneError from error
            return
        if head.framing is LENGTH and head.length < size:
            self.keep_alive = False  # see _framed; here there is time to say so
            head = self.response = self._encode_head(size)
        self._send(head.data + self._framed(head, body) if body else head.data)
        self._finish()

    def _send_parts(self, result: Iterable[bytes]) -> None:
        for data in result:
            self.write(data)
        if self.response is None:
            head = self.response = self._encode_head(0)
            self._send(head.data)
        self._finish()

    def _framed(self, head: ResponseHead, data: bytes) -> bytes:
        """Return `data` as it goes over the wire; what is more than Content-Length promised is cut."""
        if head.framing is NONE:
            return b""
        if head.framing is LENGTH and self.sent + len(data) > head.length:
            data = data[: head.length - self.sent]
            if not self.is_cut:
                self.is_cut = True
                self.keep_alive = False  # whoever counts wrongly is not trusted with a further response
                self._warn(
                    "a response was longer than its Content-Length; it is cut, the connection is closed"
                )
        self.sent += len(data)
        return encode_chunk(data) if head.framing is CHUNKED and data else data

    def _finish(self) -> None:
        """End the body, or the connection if the body did not become what its head had promised."""
        head = self.response
        if head is None:
            return
        if head.framing is CHUNKED:
            self._send(LAST_CHUNK)
        elif head.framing is LENGTH and self.sent < head.length:
            self.keep_alive = False
            self._warn("a response was shorter than its Content-Length; the connection is closed")

    def _send(self, data: bytes) -> None:
        output = self.connection.output
        try:
            output.send(data)
        except OSError as error:
            raise ClientGoneError from error
        if output.size > self.context.http.response_buffer and self.response is not None:
            self._relieve()

    def _relieve(self) -> None:
        """More is kept than may be: put it on the disk, or wait for the client."""
        try:
            is_stored = not is_declared_stream(self.headers) and self.connection.store_output()
        except OSError as error:  # the disk's are told and suppressed
            raise ClientGoneError from error
        if not is_stored:
            self._wait_for_client()

    def _wait_for_client(self) -> None:
        """Wait until the client has taken half of what is kept; a client that does not read is given up."""
        policy = self.context.http
        output = self.connection.output
        while output.size > policy.response_buffer // 2:
            if not self.connection.wait_writable(policy.write):
                raise ClientGoneError("the client does not read")
            try:
                output.flush()
            except OSError as error:
                raise ClientGoneError from error
            self.context.orders.on_part(self.connection)

    def _send_file(self, wrapper: FileWrapper) -> None:
        """Send a file by sendfile(2), or in pieces if it is not a plain file or the body is chunked."""
        span = _plain_file(wrapper.file) if self.context.http.has_sendfile else None
        if span is None:
            for data in wrapper:
                self.write(data)
            if self.response is None:
                self.response = self._encode_head(0)
                self._send(self.response.data)
            return
        fd, offset, count = span
        head = self.response
        if head is None:
            head = self.response = self._encode_head(count)
            self._send(head.data)
        if head.framing is CHUNKED:
            for data in wrapper:
                self.write(data)
        elif head.framing is not NONE and count:
            count = min(count, head.length - self.sent) if head.framing is LENGTH else count
            try:
                self.connection.output.send_file(fd, offset=offset, count=count)
            except (ConnectionError, TimeoutError) as error:  # others are the file's
                raise ClientGoneError from error
            self.sent += count

    def _fail(self, error: BaseException) -> None:
        """Answer 500 if nothing was sent, else break the connection so that nobody takes the rest for whole."""
        self.keep_alive = False
        if (
            self.connection.is_taken
        ):  # there is nobody to be answered; StopIteration is how some say that they are done
            if not isinstance(error, StopIteration | OSError | Interruption | ResponseError):
                self._complain("the application failed", error)
            return
        body = self.connection.spool
        refusal = body.refusal if body is not None else None
        if isinstance(error, Interruption):
            refusal = error.refusal
        if refusal is None:
            self._complain("the application failed", error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if refusal is None else refusal.status
        self.status = f"{status.value} {status.phrase}"
        if self.response is not None:
            self.connection.output.close()
            if self.response.framing is CLOSE:
                self.connection.reset_on_close()
            return
        self._answer_for(error, refusal)

    def _answer_for(self, error: BaseException, refusal: Refusal | None) -> None:
        """Send what the client is told of a failure."""
        is_head = self.request.method == "HEAD"
        standing = self.clock.standing()
        if refusal is not None:
            facts = {**refusal.facts, "path": self.request.path}
            self.context.log.info("request refused", extra=facts)
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
            self.connection.output.send(answer)
        except OSError:
            self.connection.output.close()

    def _complain(self, what: str, error: BaseException) -> None:
        facts = {"method": self.request.method, "path": self.request.path}
        self.context.log.error(what, exc_info=error, extra=facts)

    def _warn(self, what: str) -> None:
        self.context.log.warning(what, extra={"method": self.request.method, "path": self.request.path})


class Exchanges:
    """Makes the exchanges of one worker.

    Once for every request: a class whose `__init__` takes all this costs four times as much to call.

    Args:
        context: the worker's.
        clock: gives the Date.
    """

    __slots__ = ("_clock", "_context", "_is_kept_alive")

    def __init__(self, context: WorkerContext, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self._is_kept_alive = context.http.is_kept_alive

    def make(self, connection: Line, request: Head) -> Exchange:
        """Return the exchange of a request that is complete."""
        exchange = Exchange()
        exchange.connection = connection
        exchange.context = self._context
        exchange.clock = self._clock
        exchange.request = request
        exchange.response = None
        exchange.is_cut = False
        exchange.status = ""
        exchange.environ = {}
        exchange.headers = NO_HEADERS
        exchange.sent = 0
        exchange.keep_alive = request.keep_alive and self._is_kept_alive
        return exchange


_Write = Any  # Callable[[bytes], object]; a name of its own because slots and protocols do not mix


def _plain_file(file: Any) -> tuple[int, int, int] | None:  # noqa: ANN401 - whatever the application has opened
    """Return descriptor, offset and count of what is unread of a regular file, or None.

    Only of what `open` returns, by exact type: anything else with a descriptor (gzip, lzma, a file that decrypts) may give
    by `read` what is not in the file. What is buffered is written first, and `tell` knows what has been read ahead.
    """
    tempfile: Any = sys.modules.get("tempfile")  # whoever has such a file has imported it; it brings much
    if tempfile is not None and type(file) is tempfile._TemporaryFileWrapper:  # noqa: SLF001 - what NamedTemporaryFile returns
        file = file.file
    kind = type(file)
    try:
        if kind not in PLAIN_FILES or (kind is not FileIO and type(file.raw) is not FileIO):
            return None
        if kind is BufferedRandom:
            file.flush()
        info = os.fstat(file.fileno())
        offset = file.tell()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(info.st_mode) or offset > info.st_size:
        return None
    return file.fileno(), offset, info.st_size - offset
