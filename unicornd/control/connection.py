"""One client of the control server: bytes in, one request at a time, bytes out.

Run by the arbiter's loop, which must never wait for a client: every call does one `recv` and one `send` at most,
every buffer has a bound, every wait a deadline. Whatever a client sends or fails to read, the worst that happens is
that it is cut off. Nor does a defect in a route: it is logged, and answered with 500.
"""

from __future__ import annotations

import logging
import selectors
import socket
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.control.documents import refuse
from unicornd.control.exchange import LongPoll, Reply, Stream
from unicornd.control.reading import Incoming, RequestReader
from unicornd.http.errors import Refusal
from unicornd.http.response import encode_chunk
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.control.exchange import Answer, Request

RECEIVE_BYTES = 16 * 1024

IDLE = 60.0
"""Seconds that a connection may be silent between requests."""

MESSAGE = 10.0
"""Seconds from the first byte of a request to its last."""

WRITE = 30.0
"""Seconds until a client must have taken the next byte of an answer."""

LINGER = 2.0
"""Seconds that what a refused client still sends is read and dropped, so that it can read why."""

LOG = logging.getLogger("unicornd.control")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stage(Enum):
    """What a connection is doing."""

    READING = "reading"
    POLLING = "polling"
    STREAMING = "streaming"
    WRITING = "writing"
    LINGERING = "lingering"
    CLOSED = "closed"


_LISTENS = frozenset({Stage.READING, Stage.POLLING, Stage.STREAMING, Stage.LINGERING})
"""Stages in which what the client sends, or that it has gone, matters."""


class Connection:
    """One accepted client.

    Args:
        sock: its non-blocking socket.
        route: what answers requests.
        now: the time.
    """

    def __init__(self, sock: socket.socket, *, route: Callable[[Request], Answer], now: Monotonic) -> None:
        self.sock = sock
        self.stage = Stage.READING
        self.deadline: Monotonic | None = Monotonic(now + IDLE)
        self._route = route
        self._reader = RequestReader()
        self._outgoing = bytearray()
        self._pending: LongPoll | Stream | None = None
        self._incoming: Incoming | None = None
        self._is_last = False
        self._has_work = False

    @property
    def interest(self) -> int:
        """The events of the selector that this connection waits for; 0 once it is closed."""
        reading = selectors.EVENT_READ if self.stage in _LISTENS else 0
        # Work left over (a request that was sent ahead) is done in the next turn: being writable calls us back.
        writing = selectors.EVENT_WRITE if self._outgoing or self._has_work else 0
        return 0 if self.stage is Stage.CLOSED else reading | writing

    def respond(self, mask: int, *, now: Monotonic) -> None:
        """The selector says that the socket is readable or writable."""
        try:
            if mask & selectors.EVENT_READ:
                self._receive(now)
            if mask & selectors.EVENT_WRITE:
                self._send(now)
                self._look(now)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the client has gone: reset, broken pipe
            self.hang_up()

    def tick(self, now: Monotonic) -> None:
        """Time has passed and the arbiter's state may be another: answer what waits, end what takes too long."""
        try:
            self._go_on(now)
        except Exception:
            LOG.exception("a control route has a defect")
            self.hang_up()

    def _go_on(self, now: Monotonic) -> None:
        is_late = self.deadline is not None and self.deadline <= now
        match self._pending:
            case LongPoll() as poll:
                answer = poll.poll() or (poll.expire() if is_late else None)
                if isinstance(answer, LongPoll):
                    self._await(answer)
                elif answer is not None:
                    self._write(answer, now=now)
                return
            case Stream() as stream if not self._outgoing:
                self._queue_chunk(stream.pull(), now=now)
                return
            case _:
                pass
        if is_late:
            self._expire(now)

    def hang_up(self) -> None:
        """End it; the server, which owns the socket, closes it."""
        self.stage, self.deadline, self._pending = Stage.CLOSED, None, None

    def finish(self, now: Monotonic) -> None:
        """The server ends: say what can be said at once, and hang up."""
        self.tick(now)
        if self._outgoing and self.stage is not Stage.CLOSED:
            self.respond(selectors.EVENT_WRITE, now=now)
        self.hang_up()

    # In.

    def _receive(self, now: Monotonic) -> None:
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            self.hang_up()
        elif self.stage is not Stage.LINGERING:
            was_empty = self._reader.is_empty
            self._feed(data, now=now)
            if was_empty and self.stage is Stage.READING:
                self.deadline = Monotonic(now + MESSAGE)

    def _feed(self, data: bytes, *, now: Monotonic) -> None:
        try:
            self._reader.feed(data)
            if self.stage is Stage.READING:
                self._take(now)
        except Refusal as refusal:
            section = f" ({refusal.section})" if refusal.section else ""
            self._write(refuse(refusal.status, refusal.detail + section, is_last=True), now=now)

    def _look(self, now: Monotonic) -> None:
        """Take up a request that was sent ahead."""
        if self._has_work and self.stage is Stage.READING:
            self._has_work = False
            self._feed(b"", now=now)

    def _take(self, now: Monotonic) -> None:
        incoming = self._reader.take()
        if incoming is None:
            if self._reader.wants_continue and not self._outgoing:
                self._outgoing += CONTINUE
            return
        self._incoming = incoming
        match self._ask(incoming.request):
            case Reply() as reply:
                self._write(reply, now=now)
            case LongPoll() as poll:
                self._await(poll)
            case Stream() as stream:
                self._start_stream(stream, now=now)

    def _await(self, poll: LongPoll) -> None:
        self._pending, self.stage, self.deadline = poll, Stage.POLLING, poll.until

    def _ask(self, request: Request) -> Answer:
        try:
            return self._route(request)
        except Exception:
            LOG.exception("a control route has a defect: %s %s", request.method, request.path)
            return refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "unicornd has a defect; its log says where")

    def _expire(self, now: Monotonic) -> None:
        if self.stage is Stage.READING and not self._reader.is_empty:
            message = f"the request was not complete within {MESSAGE:.0f} s"
            self._write(refuse(HTTPStatus.REQUEST_TIMEOUT, message, is_last=True), now=now)
        else:
            self.hang_up()

    # Out.

    def _write(self, reply: Reply, *, now: Monotonic) -> None:
        incoming, self._incoming = self._incoming, None
        self._is_last = reply.is_last or incoming is None or not incoming.keep_alive
        fields = {"Content-Type": reply.content_type, "Content-Length": str(len(reply.body)), **reply.headers}
        if self._is_last:
            fields["Connection"] = "close"
        self._outgoing += _encode_head(reply.status, fields)
        if incoming is None or incoming.request.method != "HEAD":
            self._outgoing += reply.body
        self._pending, self.stage, self.deadline = None, Stage.WRITING, Monotonic(now + WRITE)

    def _start_stream(self, stream: Stream, *, now: Monotonic) -> None:
        incoming = self._incoming
        fields = {"Content-Type": stream.content_type, "Cache-Control": "no-store", "Connection": "close"}
        is_chunked = incoming is not None and incoming.is_http11
        if is_chunked:
            fields["Transfer-Encoding"] = "chunked"
        self._outgoing += _encode_head(HTTPStatus.OK, fields)
        self._is_last = True
        if incoming is not None and incoming.request.method == "HEAD":
            self.stage, self.deadline = Stage.WRITING, Monotonic(now + WRITE)
            return
        self._pending, self.stage = stream, Stage.STREAMING
        self.deadline = Monotonic(now + WRITE)

    def _queue_chunk(self, data: bytes, *, now: Monotonic) -> None:
        if not data:
            self.deadline = None  # nothing to take: a quiet stream may last for days
            return
        is_chunked = self._incoming is not None and self._incoming.is_http11
        self._outgoing += encode_chunk(data) if is_chunked else data
        self.deadline = Monotonic(now + WRITE)

    def _send(self, now: Monotonic) -> None:
        if self._outgoing:
            sent = self.sock.send(self._outgoing)
            del self._outgoing[:sent]
            if sent and self.stage in {Stage.WRITING, Stage.STREAMING}:
                self.deadline = Monotonic(now + WRITE)
        if self._outgoing or self.stage is not Stage.WRITING:
            return
        if self._is_last:
            self._linger(now)
        else:
            self.stage, self.deadline = Stage.READING, Monotonic(now + IDLE)
            self._has_work = not self._reader.is_empty

    def _linger(self, now: Monotonic) -> None:
        """End our side and drop what still comes: closing at once would destroy an answer that is not read yet."""
        self.sock.shutdown(socket.SHUT_WR)
        self.stage, self.deadline = Stage.LINGERING, Monotonic(now + LINGER)


def _encode_head(status: HTTPStatus, fields: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode("latin-1")
