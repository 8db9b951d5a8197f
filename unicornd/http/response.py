"""An application's status and headers → the bytes of a response head, and how its body is framed.

As strict as the parser: nothing that an application sends can end a line or begin another message (RFC 9112
section 11.1). Hop-by-hop fields are the server's, not the application's (PEP 3333, "Other HTTP Features").
"""

from __future__ import annotations

import html
import re
from enum import IntEnum
from typing import TYPE_CHECKING

from unicornd.http.grammar import STATUS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http import HTTPStatus

    from unicornd.http.errors import Refusal

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_MOST_KNOWN = 4096
"""Names, statuses, numbers in Content-Length that are remembered of each: to look one up takes a fifth of the time to read it."""
_LONGEST_KNOWN = 64
"""Characters of them."""
_LENGTH_DIGITS = 19
"""Of the largest Content-Length, 2^63 - 1."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*+")


class ResponseError(Exception):
    """An application's status or headers cannot be sent."""


class Framing(IntEnum):
    """How the end of a response's body is told (RFC 9112 section 6.3)."""

    NONE = 0
    """There is no body: the answer to HEAD, 204, 304."""
    LENGTH = 1
    """Content-Length says it."""
    CHUNKED = 2
    CLOSE = 3
    """The end of the connection: HTTP/1.0 without a length."""


# What a status says of the body. 304 may say how long it would be; 204 must not (RFC 9110 section 8.6).
_BODY, _ONLY_LENGTH, _NOTHING = range(3)
_BODIES = {"204": _NOTHING, "304": _ONLY_LENGTH}

# What a header's name means here; plain numbers, since this is asked for every header of every response.
_ORDINARY, _LENGTH, _CONNECTION, _DROPPED, _SERVER, _DATE = range(6)

_NAMES = {
    "content-length": _LENGTH,
    "connection": _CONNECTION,
    "keep-alive": _DROPPED,
    "proxy-connection": _DROPPED,
    "te": _DROPPED,
    "trailer": _DROPPED,
    "transfer-encoding": _DROPPED,
    "upgrade": _DROPPED,
    "server": _SERVER,
    "date": _DATE,
}


class Standing:
    r"""What every response says; made anew once a second, since the date is in it (RFC 9110 section 6.6.1).

    Args:
        server: `Server: unicornd\r\n`.
        date: `Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n`.

    Attributes:
        lines: both.
    """

    __slots__ = ("date", "lines", "server")

    def __init__(self, server: str, date: str) -> None:
        self.server = server
        self.date = date
        self.lines = server + date


_NO_BODY, _SIZED, _CHUNKED, _CLOSE = Framing


class ResponseHead:
    """A response's head, ready to be sent; a plain class as `messages.Head` is, and as little changed after.

    Attributes:
        data: the bytes, with the empty line.
        framing: how the body ends.
        length: what Content-Length says; -1 without one.
        keep_alive: whether the connection may be used again after it.
    """

    __slots__ = ("data", "framing", "keep_alive", "length")

    data: bytes
    framing: Framing
    keep_alive: bool
    length: int


# What was right is remembered in plain dictionaries: `lru_cache` costs three times as much to ask, and nobody sends
# so many different ones that it mattered which are forgotten.
_known_names: dict[str, int] = {}
_known_statuses: dict[str, int] = {}
_known_lengths: dict[str, int] = {}


def _name_kind(name: str) -> int:
    if TOKEN.fullmatch(name) is None:
        raise ResponseError(f"the header name {name!r} is not a token")
    return _remembered(_known_names, name, kind=_NAMES.get(name.lower(), _ORDINARY))


def _body_of(status: str) -> int:
    """Return whether a response with this status has a body, or at least its length."""
    match = STATUS.fullmatch(status)
    if match is None:
        raise ResponseError(f"the status {status!r} is not of the form '200 OK', from 200 on")
    return _remembered(_known_statuses, status, kind=_BODIES.get(match[1], _BODY))


def _remembered(known: dict[str, int], text: str, *, kind: int) -> int:
    if len(text) <= _LONGEST_KNOWN:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[text] = kind
    return kind


def encode_head(  # noqa: PLR0917 - once a response, see `is_http11`
    status: str,
    headers: Sequence[tuple[str, str]],
    standing: Standing,
    is_http11: bool,  # noqa: FBT001 - by position: to sort keywords would take a tenth of the whole
    is_head: bool,  # noqa: FBT001
    keep_alive: bool,  # noqa: FBT001
    body_size: int = -1,
) -> ResponseHead:
    r"""Make a response's head.

    Args:
        status: `200 OK`.
        headers: name and value, as the application gave them.
        standing: what every response says, for the fields that the application does not send itself.
        is_http11: whether the request was HTTP/1.1.
        is_head: whether it was a HEAD request.
        keep_alive: whether client and server want the connection kept.
        body_size: the body's size if the server knows it, for an application that did not tell it; else -1.

    Raises:
        ResponseError: status or headers cannot be sent; values are not in the message.
    """
    try:
        body = _known_statuses[status]
    except KeyError:
        body = _body_of(status)
    length = -1
    fields = ""
    for name, value in headers:
        try:
            kind = _known_names[name]
        except KeyError:
            kind = _name_kind(name)
        if kind:
            if kind == _DROPPED:
                continue
            if kind == _CONNECTION:
                keep_alive = keep_alive and "close" not in value.lower()
                continue
            if kind == _LENGTH:
                try:
                    declared = _known_lengths[value]
                except KeyError:
                    declared = _number(value)
                if length not in (-1, declared):
                    raise ResponseError("Content-Length is given twice, and not the same")
                length = declared
                continue
            standing = _without(standing, kind)
        if not value.isprintable() and _VALUE.fullmatch(value) is None:
            raise ResponseError(f"the value of {name} has a control character or one that is not latin-1")
        fields = f"{fields}{name}: {value}\r\n"  # faster than a list to join, up to dozens of headers
    if length < 0 and not body:
        length = body_size
    head = ResponseHead()
    if length >= 0 and keep_alive and is_http11 and not (body or is_head):
        head.framing, head.length, head.keep_alive = _SIZED, length, True  # the usual case
        fields = f"{fields}Content-Length: {length}\r\n"
    else:
        head.length = -1 if body == _NOTHING else length
        head.keep_alive = keep_alive
        fields += _end_of_head(head, is_bodiless=bool(body) or is_head, is_http11=is_http11)
    try:
        head.data = f"HTTP/1.1 {status}\r\n{standing.lines}{fields}\r\n".encode("latin-1")
    except UnicodeEncodeError as error:
        raise ResponseError("a header value has a character that is not latin-1") from error
    return head


def _end_of_head(head: ResponseHead, *, is_bodiless: bool, is_http11: bool) -> str:
    """Settle how the body ends and whether the connection goes on, and return the fields that say so."""
    length = head.length
    framing = _NO_BODY if is_bodiless else _SIZED if length >= 0 else _CHUNKED if is_http11 else _CLOSE
    head.framing = framing
    head.keep_alive = head.keep_alive and framing is not _CLOSE
    fields = ""
    if length >= 0:  # said once, and by us
        fields = f"Content-Length: {length}\r\n"
    elif framing is _CHUNKED:
        fields = "Transfer-Encoding: chunked\r\n"
    if not head.keep_alive:
        fields += "Connection: close\r\n"
    elif not is_http11:
        fields += "Connection: keep-alive\r\n"
    return fields


def encode_chunk(data: bytes) -> bytes:
    """Return `data`, which is not empty, as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal_response(refusal: Refusal, *, standing: Standing, is_head: bool = False) -> bytes:
    """Return the whole response to a request that is refused; it closes the connection."""
    section = f" ({refusal.section})" if refusal.section else ""
    return plain_response(refusal.status, f"{refusal.detail}{section}", standing=standing, is_head=is_head)


def plain_response(status: HTTPStatus, text: str, *, standing: Standing, is_head: bool = False) -> bytes:
    """Return a whole response of the server's own, which closes the connection."""
    title = f"{status.value} {status.phrase}"
    body = f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<p>{html.escape(text)}</p>\n"
    head = encode_head(
        title,
        [("Content-Type", "text/html; charset=utf-8")],
        standing=standing,
        is_http11=True,
        is_head=is_head,
        keep_alive=False,
        body_size=len(body.encode()),
    )
    return head.data if is_head else head.data + body.encode()


def _number(value: str) -> int:
    """Return what a Content-Length says."""
    if not (value.isdecimal() and value.isascii() and len(value) <= _LENGTH_DIGITS):
        raise ResponseError("Content-Length is not a number")
    return _remembered(_known_lengths, value, kind=int(value))


def _without(standing: Standing, kind: int) -> Standing:
    """Leave out what the application says itself."""
    return Standing("", standing.date) if kind == _SERVER else Standing(standing.server, "")
