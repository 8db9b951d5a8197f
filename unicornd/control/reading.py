"""Requests out of the bytes that a control client sends.

No socket here: `feed` takes what has arrived, `take` gives the next whole request. What is kept is bounded by
`MAX_BUFFER` (what was sent ahead) and `MAX_BODY`; anything that is not a request raises `Refusal`, which ends the
connection.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from unicornd.control.exchange import Request
from unicornd.dataclass import dataclass
from unicornd.http.body import decoder_for
from unicornd.http.errors import Refusal
from unicornd.http.head import check_beginning, find_head_end, parse_head, skip_empty_line
from unicornd.http.limits import Limits

if TYPE_CHECKING:
    from unicornd.http.body import Decoder
    from unicornd.http.messages import Head

MAX_BUFFER = 64 * 1024
"""Bytes kept of what a client sends: a head, a body, or requests that it sent ahead."""

MAX_BODY = 16 * 1024
"""The largest body of a request; a real one has about fifty bytes."""

LIMITS = Limits(request_line=4094, header_count=32, header_size=1024, body_size=MAX_BODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A whole request, and what its version and its fields say about the answer."""

    request: Request
    is_http11: bool
    keep_alive: bool


class RequestReader:
    """The bytes of one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Head | None = None
        self._decoder: Decoder | None = None
        self._body = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a request has arrived."""
        return self._head is None and not self._buffer

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self._head is not None and self._head.expects_continue and not self._body

    def feed(self, data: bytes) -> None:
        """Keep what has arrived.

        Raises:
            Refusal: the client sends far more than it gets answers for.
        """
        if len(self._buffer) + len(data) > MAX_BUFFER:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "more was sent ahead than is kept")
        self._buffer += data

    def take(self) -> Incoming | None:
        """Return the next request if all of it is here.

        Raises:
            Refusal: what is here is not a request, or too large.
        """
        if self._head is None:
            self._take_head()
        return None if self._head is None else self._finish(self._head)

    def _take_head(self) -> None:
        start = skip_empty_line(self._buffer)
        end = find_head_end(self._buffer, start)
        if end >= 0:
            self._head = parse_head(bytes(self._buffer[start:end]), LIMITS)
            self._decoder = decoder_for(self._head.length, LIMITS)
            del self._buffer[:end]
        elif len(self._buffer) > LIMITS.head_size:
            detail = f"the head is longer than {LIMITS.head_size} bytes"
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        elif len(self._buffer) > start:
            check_beginning(self._buffer[start:], LIMITS, start=0)

    def _finish(self, head: Head) -> Incoming | None:
        if self._decoder is not None and not self._decoder.is_complete:
            self._body += self._decoder.feed(bytes(self._buffer))
            self._buffer = bytearray(self._decoder.leftover)
            if not self._decoder.is_complete:
                return None
        request = Request(
            method=head.method,
            path=unquote(head.path),
            query=dict(parse_qsl(head.query, keep_blank_values=True)),
            body=bytes(self._body),
            host=head.fields.get("HTTP_HOST", ""),
        )
        self._head, self._decoder, self._body = None, None, bytearray()
        return Incoming(request=request, is_http11=head.is_http11, keep_alive=head.keep_alive)
