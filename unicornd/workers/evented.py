"""A request in flight of a server that is not ours (tornado, gevent's pywsgi): what is counted and told of it.

Run in the one thread of the worker.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.body import too_large
from unicornd.http.errors import Refusal
from unicornd.http.lines import unknown_version
from unicornd.http.messages import UNKNOWN_LENGTH, Head
from unicornd.observe.scoreboard import FAILED
from unicornd.workers.channel import RetiringReport
from unicornd.workers.context import Served
from unicornd.workers.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.http.environ import Environ
    from unicornd.http.limits import Limits
    from unicornd.workers.context import WorkerContext

SERVER_ERROR = ("5", "")
PROTOCOLS = frozenset({"HTTP/1.1", "HTTP/1.0"})
_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


class Request(Entry):
    """A request in flight.

    Attributes:
        head: what was asked.
        remote: host and port of the client; empty for a Unix socket.
        status: `200 OK` once the answer has begun, else empty.
        headers: of the answer.
        size: bytes of its body.
        is_over: whether it has been counted.
        is_ended: whether its application has been told to end.
    """

    __slots__ = ("head", "headers", "is_ended", "is_over", "remote", "size", "status")

    def __init__(self, began: float, head: Head, *, remote: tuple[str, str]) -> None:
        super().__init__(began, f"{head.method} {head.path}".encode("latin-1", "replace"))
        self.head = head
        self.remote = remote
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.size = 0
        self.is_over = False
        self.is_ended = False


class Register:
    """The requests in flight of one worker.

    Args:
        context: the worker's.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self.ledger: Ledger[Request] = Ledger(context.seat.row)

    def begin(self, request: Request) -> None:
        """Note that a request begins."""
        self.ledger.begin(request)
        if self._context.pre_request is not None:
            self._context.pre_request(request.head)

    def finish(self, request: Request, now: float, *, environ: Environ | None = None) -> None:
        """Note that it is over; the second time does nothing."""
        if request.is_over:
            return
        request.is_over = True
        if request.status[:1] in SERVER_ERROR:
            request.outcome |= FAILED
        self.ledger.finish(request, now)
        self._tell(request, now, environ=environ)
        context = self._context
        if context.recycling is not None and context.recycling.count():
            context.report(RetiringReport(why=f"max_requests reached after {self.ledger.count} requests"))

    def give_up(self, request: Request, now: float) -> None:
        """Count a request that ends with the process, after its client was told that there will be no answer."""
        request.is_over = True
        self.ledger.give_up(request, now)
        self._tell(request, now, environ=None)

    def _tell(self, request: Request, now: float, *, environ: Environ | None) -> None:
        context = self._context
        if context.on_served is not None:
            try:
                context.on_served(_served(request, now - request.began, environ=environ))
            except Exception:
                context.log.exception("the access log or a hook failed")


def head_from(method: str, target: str, *, protocol: str, fields: Iterable[tuple[str, str]]) -> Head:
    """Return the head of a request that another parser has read."""
    head = Head()
    head.method, head.target, head.protocol = method, target, protocol
    head.path, _, head.query = target.partition("?")
    head.is_http11 = protocol == "HTTP/1.1"
    head.fields = {}
    head.has_underscores = False
    for name, value in fields:
        if "_" in name:  # once it is a key, nobody could tell it from a name with a hyphen
            head.has_underscores = True
            continue
        key = name.upper().replace("-", "_")
        key = key if key in _UNPREFIXED else f"HTTP_{key}"
        head.fields[key] = f"{head.fields[key]},{value}" if key in head.fields else value
    length = head.fields.get("CONTENT_LENGTH", "")
    is_chunked = "HTTP_TRANSFER_ENCODING" in head.fields
    head.length = UNKNOWN_LENGTH if is_chunked else int(length) if length.isdecimal() else 0
    head.keep_alive = head.is_http11 and head.fields.get("HTTP_CONNECTION", "").lower() != "close"
    head.expects_continue = head.fields.get("HTTP_EXPECT", "").lower() == "100-continue"
    return head


def refusal_of(head: Head, limits: Limits) -> Refusal | None:
    """Return why a request is refused that another parser has let through, or None."""
    if head.protocol not in PROTOCOLS:
        return unknown_version()
    line = f"{head.method} {head.target} {head.protocol}"
    if limits.request_line and len(line) > limits.request_line:
        return Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long", section="RFC 9112 section 3"
        )
    longest = max((len(name) + len(value) for name, value in head.fields.items()), default=0)
    if (limits.header_count and len(head.fields) > limits.header_count) or (
        limits.header_size and longest > limits.header_size
    ):
        what = "there are too many header fields, or one is too long"
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what, section="RFC 6585 section 5")
    if limits.body_size and head.length > limits.body_size:
        return too_large()
    return None


def _served(request: Request, seconds: float, *, environ: Environ | None) -> Served:
    head = request.head
    if environ is None:
        environ = {
            **head.fields,
            "REQUEST_METHOD": head.method,
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "RAW_URI": head.target,
            "SERVER_PROTOCOL": head.protocol,
            "REMOTE_ADDR": request.remote[0],
            "REMOTE_PORT": request.remote[1],
        }
    return Served(
        head=head,
        remote=request.remote[0],
        status=request.status,
        headers=request.headers,
        size=request.size,
        seconds=seconds,
        environ=environ,
    )
