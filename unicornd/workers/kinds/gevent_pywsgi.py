"""`gevent_pywsgi`: the WSGI handler of gevent's own server, for those who rely on its ways (gunicorn's kind of that name).

Run in the worker's main thread; one greenlet a connection, accepted and watched over by `serve`. Heads and bodies are
read by our grammar under our limits; the application is called and its response is written by gevent's handler. Where
gevent-websocket is installed, its handler stands in between: applications find `wsgi.websocket` in their environ.
"""

from __future__ import annotations

import socket
import time
from http import HTTPStatus
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from gevent import pywsgi

from unicornd.dataclass import replace
from unicornd.forking import BOUNDARY
from unicornd.http.errors import Refusal
from unicornd.http.head import EMPTY_LINE
from unicornd.http.response import CONTINUE, Framing, encode_head, refusal_response
from unicornd.http.upgrade import opens_websocket
from unicornd.observe.scoreboard import FAILED, GONE
from unicornd.workers.connection import HEAD, IDLE, RESPONSE
from unicornd.workers.greenloop import stacks_of_greenlets
from unicornd.workers.kinds.gevent import GeventLoop
from unicornd.workers.kinds.gevent import prepare as prepare  # noqa: PLC0414 - a kind has one (`registry`)
from unicornd.workers.kinds.gevent_pywsgi_tls import encrypted, shake_hands
from unicornd.workers.line import Interruption
from unicornd.workers.serve import MOST_DISCARDED, Server
from unicornd.workers.strand import OverdueError, Request
from unicornd.workers.stream import Stream, too_slow
from unicornd.workers.tlssocket import TlsSocket

if TYPE_CHECKING:
    from unicornd.http.environ import Environ
    from unicornd.http.messages import Head
    from unicornd.http.response import ResponseHead
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.strand import Strand

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True

Handling: Any = pywsgi.WSGIHandler
"""Without its types: they know less than half of it."""
LONGEST_LINE = 64 * 1024
"""Bytes of a line whose limit is none."""
LENGTH = "content-length"
SWITCHING = 101
PIECE_BYTES = 64 * 1024
"""Of a response, under one time limit."""


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    context.orders.more_stacks = stacks_of_greenlets
    context = replace(context, threads=max(2, context.http.connections))
    make = _visit_class()
    servers: dict[int, Any] = {}

    def converse(server: Server, strand: Strand) -> None:
        sock: Any = strand.connection.sock
        if tls is not None and sock.family != socket.AF_UNIX:
            sock = encrypted(strand, tls)
            try:
                shake_hands(strand, sock)
            except Refusal as refusal:
                server.refuse(strand, refusal)
                return
        base = servers.get(id(strand.base))
        if base is None:
            base = servers[id(strand.base)] = _gevent_server(context, strand.base)
        visit = make(sock, strand.remote, base)
        visit.said_by_tls = strand.connection.base if isinstance(sock, TlsSocket) else {}
        visit.live(server, strand, context=context)

    # The acceptor makes plain connections: what handlers get is a socket, not a connection.
    tls, context = context.tls, replace(context, tls=None)
    Server(context, GeventLoop(context.log, orders=context.orders), converse=converse).run()


def _gevent_server(context: WorkerContext, base: Environ) -> Any:  # noqa: ANN401 - gevent's own type
    """Return what the handler asks for application and environ; it never listens."""
    return pywsgi.WSGIServer(("127.0.0.1", 0), context.app, log=None, error_log=context.errors, environ=base)


class Answer:
    """What the access log and the hooks see of a request and its response (as `wsgi.Exchange`)."""

    def __init__(self, head: Head) -> None:
        self.request = head
        self.environ: Environ = {}
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.has_begun = False
        self.keep_alive = False
        self.outcome = 0


class Rest:
    """What gevent's handler discards of a body when the application is done."""

    def __init__(self, visit: Visit, stream: Stream | None) -> None:
        self._visit = visit
        self._stream = stream

    def _discard(self) -> None:
        if self._stream is not None and not self._stream.discard(MOST_DISCARDED):
            self._visit.close_connection = True


class Visit(Handling):  # type: ignore[misc] # see there
    """A connection, as gevent's handler serves it."""

    strand: Strand
    answer: Answer
    headers_sent: bool
    head: Head
    stream: Stream | None = None
    said_by_tls: Environ
    is_cut = False
    """Whether the response was broken off, and nobody is to take it for whole."""
    is_handshake = False
    """Whether the request can open a WebSocket."""
    framing = Framing.CLOSE
    """Of the response's body, once its head was sent."""
    length = -1
    """Of it, if that is how it is framed."""
    unconsumed = 0
    """Bytes at the front of `rfile` that the body's decoder has seen."""

    def live(self, server: Server, strand: Strand, *, context: WorkerContext) -> None:
        """Serve the connection to its end."""
        self.strand, self.our, self.context = strand, server, context
        self.policy = context.http
        strand.connection.keeps_alive = False
        self.handle()

    # Reading: ours.

    def handle_one_request(self) -> bool | None:
        """Read a head, have the application answer; None if the connection ends, else True."""
        self.stream, self.is_cut = None, False
        refused = None
        result = self._serve_one()
        if isinstance(result, tuple):
            _, refused = result
            self.socket.sendall(refused)
        elif result:
            return True
        if refused or (not self.is_cut and not self.is_handshake and self._is_sending()):
            self.our.linger(self.strand)
        return None

    def _is_sending(self) -> bool:
        """Return whether the client goes on with its request: to close now would reset what it has not read yet."""
        if self.stream is not None and not self.stream.is_complete:
            return True
        try:
            return self.strand.connection.has_leftover
        except (OSError, ValueError):  # it is closed already
            return False

    def _serve_one(self) -> Any:  # noqa: ANN401 - see gevent: None, True, or status and answer
        connection = self.strand.connection
        try:
            head = self._read_head()
        except Refusal as refusal:
            return self._refused(refusal)
        if head is None:
            return None
        connection.stage, connection.deadline = RESPONSE, 0.0
        self.response_length, self.framing = 0, Framing.CLOSE
        try:
            self._take(head)
        except Refusal as refusal:
            return self._refused(refusal)
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        connection.keeps_alive = True
        if self.is_handshake:  # what has been read of it behind the head is not known
            return None
        return None if self.close_connection or self.rfile.closed else True

    def receive_body(self) -> bytes:
        """See `stream.Source`; what is given stays in `rfile` until it is known to be of the body."""
        self.rfile.read(self.unconsumed)
        patience = self.policy.body
        try:
            received = self._waited(patience, lambda: self.rfile.peek(1))
        except OverdueError:
            raise too_slow("body") from None
        if not received:
            raise EOFError
        self.unconsumed = len(received)
        return bytes(received)

    def send_continue(self) -> None:
        """See `stream.Source`."""
        self.socket.sendall(CONTINUE)

    def _read_head(self) -> Head | None:
        connection, policy = self.strand.connection, self.policy
        connection.stage = IDLE
        patience = policy.keepalive if connection.keeps_alive else policy.head
        try:
            if not self._waited(patience, lambda: self.rfile.peek(1)):
                return None
            connection.stage = HEAD
            block = self._waited(policy.head, self._read_block)
        except OverdueError:
            if connection.stage is HEAD:
                raise too_slow("head") from None
            return None
        except OSError:
            return None
        if not block:
            return None
        head = policy.parse(block, policy.limits)
        if policy.forwarding is not None:
            is_trusted, forwarding = connection.is_trusted, policy.forwarding
            head.forwarded = (
                forwarding.read(head, block, peer=connection.peer) if is_trusted else forwarding.standing
            )
        return head

    def _read_block(self) -> bytes:
        """Return a whole head; empty if the client has left it unfinished."""
        limits = self.policy.limits
        line = self._line(limits.request_line)
        if line == EMPTY_LINE:
            line = self._line(limits.request_line)
        lines = [line]
        while line and line != EMPTY_LINE:
            line = self._line(limits.header_size)
            lines.append(line)
            if not line.endswith(b"\n") or (limits.header_count and len(lines) > limits.header_count + 2):
                break
        if not lines[-1].endswith(b"\n") and len(lines[-1]) <= (limits.header_size or LONGEST_LINE):
            return b""  # the client has closed
        block = b"".join(lines)
        return block if block.endswith(b"\r\n\r\n") else block.rstrip(b"\r\n") + b"\r\n\r\n"

    def _line(self, limit: int) -> bytes:
        return bytes(self.rfile.readline((limit or LONGEST_LINE) + len(EMPTY_LINE)))

    def _waited(self, patience: float, wait: Any) -> Any:  # noqa: ANN401 - what `wait` returns
        """Wait for the client; the look of `serve` interrupts it when the time is up."""
        strand, now = self.strand, time.monotonic()
        strand.connection.deadline = now + patience if patience else 0.0
        if self.our.drains and strand.connection.stage is IDLE:
            strand.connection.deadline = now + 1.0
        strand.is_waiting = True
        try:
            return wait()
        finally:
            strand.is_waiting = False
            strand.connection.deadline = 0.0

    def _take(self, head: Head) -> None:
        self.head = head
        self.command, self.path, self.request_version = head.method, head.target, head.protocol
        self.requestline = f"{head.method} {head.target} {head.protocol}"
        fields = {k.removeprefix("HTTP_").replace("_", "-"): v for k, v in head.fields.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.headers = self.MessageClass(BytesIO(f"{text}\r\n".encode("latin-1")), 0)
        self.content_length = head.length if head.length > 0 else None
        self.close_connection = not (head.keep_alive and self.policy.is_kept_alive)
        self.stream, self.unconsumed = None, 0
        self.is_handshake = opens_websocket(head)
        if head.length:
            self.stream = Stream(self, head, received=b"", limits=self.policy.limits)
            self.stream.awaits_continue = head.expects_continue

    def _refused(self, refusal: Refusal) -> tuple[str, bytes]:
        self.answer = Answer(Any)  # type: ignore[arg-type] # nobody asks
        self.context.log.info("request refused", extra=refusal.facts)
        return str(refusal.status.value), refusal_response(refusal, standing=self.our.clock.standing())

    def get_environ(self) -> Environ:
        """Return the environ: gevent's, with what our head says."""
        environ: Environ = {**super().get_environ(), **self.said_by_tls, **self.head.fields}
        environ["RAW_URI"] = self.head.target
        environ["PATH_INFO"] = environ["PATH_INFO"] if self.head.path else ""
        if self.head.forwarded is not None:
            self.head.forwarded.apply(environ)
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.strand.remote
        environ["gunicorn.sock"] = environ["unicornd.socket"] = self.socket
        self.wsgi_input = Rest(self, self.stream)
        if not self.is_handshake:  # who takes it for a WebSocket finds the socket by gevent's input
            environ["wsgi.input"] = self.stream.rewound() if self.stream is not None else BytesIO()
        return environ

    # The application and its response: gevent's, counted.

    def handle_one_response(self) -> None:
        """Run the application."""
        strand = self.strand
        answer = self.answer = Answer(self.head)
        answer.environ = self.environ
        request = strand.request = Request(time.monotonic(), answer)  # type: ignore[arg-type] # as much of an Exchange as is asked for
        self.our.ledger.begin(request)
        if self.context.pre_request is not None:
            self.context.pre_request(self.head)
        try:
            super().handle_one_response()
        finally:
            strand.request = None
            answer.status = str(self._orig_status or "")
            self._hold_to_length()
            self.our.count(
                request, outcome=answer.outcome | (FAILED if answer.status[:1] in {"5", ""} else 0)
            )
            if self.stream is not None:
                self.rfile.read(self.unconsumed - len(self.stream.leftover))

    def start_response(self, *said: Any, exc_info: Any = None) -> Any:  # noqa: ANN401 - as in PEP 3333
        """As gevent's; to answer twice is a failure of the application."""
        exc_info = said[2] if len(said) > len(("status", "headers")) else exc_info
        if self.status and exc_info is None:
            raise AssertionError("start_response() was called again without exc_info")
        status, headers = said[0], list(said[1])
        # gevent has an opinion of its own about some lengths; whether one can be sent is asked of `encode_head`.
        super().start_response(status, [field for field in headers if field[0].lower() != LENGTH], exc_info)
        self.answer.headers = headers
        return self.write

    def write(self, data: Any) -> None:  # noqa: ANN401 - whatever an application gives
        """Send a part of the body; what are no bytes fails before anything is sent."""
        if data and not isinstance(data, bytes | bytearray | memoryview):  # gevent-websocket writes ""
            raise TypeError(f"the body must be bytes, not {type(data).__name__}")
        if self.headers_sent:
            self._write(data)
        elif self.status:
            self._write_with_headers(data)
        else:
            raise AssertionError("the application sent a body before it called start_response()")

    def run_application(self) -> None:
        """As gevent-websocket's for a handshake that can open a WebSocket, else as gevent's."""
        if self._connection_upgrade_requested():
            super().run_application()
            return
        pywsgi.WSGIHandler.run_application(self)
        if not self.status:
            if "HTTP_UPGRADE" not in self.head.fields and self.command != "CONNECT":
                raise AssertionError("the application did not call start_response()")
            self.close_connection = True  # it has taken the connection over

    def _connection_upgrade_requested(self) -> bool:
        """Return whether the connection may become a WebSocket: gevent then leaves the input alone, which has no body."""
        return self.is_handshake

    def _write_with_headers(self, data: bytes) -> None:
        """Send the head: ours, but for that of gevent-websocket, which has taken the connection over."""
        answer = self.answer
        if self.code == SWITCHING and getattr(self, "websocket", None) is not None:
            answer.has_begun = True
            super()._write_with_headers(data)
            return
        size = self._size_of_result(data)
        head = self._encode_head(size)
        if head.framing is Framing.LENGTH and head.length < size:
            self.close_connection = True  # see _write; here there is time to say so
            head = self._encode_head(size)
        self.framing, self.length = head.framing, head.length
        self.response_use_chunked = head.framing is Framing.CHUNKED  # gevent makes the chunks
        self.close_connection = not head.keep_alive
        self.headers_sent = answer.has_begun = True
        self._sendall(head.data)
        self._write(data)

    def _encode_head(self, size: int) -> ResponseHead:
        orders, stream = self.context.orders, self.stream
        is_broken = stream is not None and (stream.awaits_continue or stream.refusal is not None)
        is_over = is_broken or self.is_handshake or orders.is_draining or orders.is_last_call
        return encode_head(
            str(self._orig_status),
            self.answer.headers,
            self.our.clock.standing(),
            self.head.is_http11,
            self.command == "HEAD",
            not (self.close_connection or is_over),
            size,
        )

    def _size_of_result(self, data: bytes) -> int:
        """Return the size of a body that is there as a whole, else -1."""
        result = self.result
        if not isinstance(result, list | tuple) or not all(isinstance(part, bytes) for part in result):
            return -1
        size = sum(map(len, result))
        return -1 if self.command == "HEAD" and not (size or data) else size

    def _write(self, data: bytes, *_more: object) -> None:
        if self.framing is Framing.NONE:
            return
        answer = self.answer
        answer.sent += len(data)
        if (
            self.framing is Framing.LENGTH and answer.sent > self.length
        ):  # the rest would be the next response
            data = data[: max(0, len(data) - answer.sent + self.length)]
        super()._write(data)

    def _hold_to_length(self) -> None:
        """Tell of a body that is not as long as its head says, and end the connection if it is too short."""
        if self.framing is not Framing.LENGTH or not self.headers_sent:
            return
        if self.answer.sent > self.length:
            self._warn("a response was longer than its Content-Length; it is cut, the connection is closed")
            self.answer.sent, self.close_connection = self.length, True
        elif self.answer.sent < self.length and not self.close_connection:
            self.close_connection = True
            self._warn("a response was shorter than its Content-Length; the connection is closed")

    def _warn(self, text: str) -> None:
        self.context.log.warning(text, extra={"method": self.head.method, "path": self.head.path})

    def _sendall(self, data: bytes) -> None:
        BOUNDARY.end_child()  # the application has forked, and returned in both
        try:
            for start in range(0, len(data), PIECE_BYTES):
                piece = bytes(data[start : start + PIECE_BYTES])
                self._waited(self.policy.write, lambda piece=piece: self.socket.sendall(piece))
        except OverdueError:
            self.close_connection = True
            raise ConnectionResetError(104, "the client does not read") from None
        except OSError:
            self.answer.outcome = 0 if self.is_cut else GONE
            raise
        self.response_length += len(data)

    def handle_error(self, kind: Any, error: Any, traceback: Any) -> None:  # noqa: ANN401 - as gevent calls it
        """Tell the client of a failure, or break the connection if its answer has begun."""
        BOUNDARY.end_child(error)
        self.close_connection = True
        refusal = error.refusal if isinstance(error, Interruption) else None
        if refusal is None and self.stream is not None:
            refusal = self.stream.refusal
        facts = {"method": self.head.method, "path": self.head.path}
        if refusal is None:
            self.context.log.error("the application failed", exc_info=(kind, error, traceback), extra=facts)
            refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed")
        else:
            self.context.log.info("request refused", extra={**refusal.facts, **facts})
        self._orig_status = f"{refusal.status.value} {refusal.status.phrase}"
        if not self.headers_sent:
            self.headers_sent = True
            is_head = self.command == "HEAD"
            standing = self.our.clock.standing()
            self.socket.sendall(refusal_response(refusal, standing=standing, is_head=is_head))
        else:
            self.is_cut = True
            self.strand.reset_on_close()

    def log_request(self) -> None:
        """Our access log says it."""


def _visit_class() -> type[Visit]:
    """Return the handler, with that of gevent-websocket where it is installed."""
    if find_spec("geventwebsocket") is None:
        return Visit
    from geventwebsocket.handler import WebSocketHandler  # noqa: PLC0415 - not installed everywhere

    return type("WebSocketVisit", (Visit, WebSocketHandler), {})
