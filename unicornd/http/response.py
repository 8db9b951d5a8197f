"""An application's status and headers → the bytes of a response head, and how its body is framed.

As strict as the parser: nothing that an application sends can end a line or begin another message (RFC 9112
section 11.1). Hop-by-hop fields are the server's, not the application's (PEP 3333, "Other HTTP Features").
"""

from __future__ import annotations

import html
import re
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from unicornd.http.grammar import CONTENT_LENGTH, STATUS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http import HTTPStatus

    from unicornd.http.errors import Refusal

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_BODY_STATUS = frozenset({"204", "304"})
_KNOWN_NAMES = 256
_LINES = re.compile(r"(?:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")


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


class _Name(IntEnum):
    ORDINARY = 0
    LENGTH = 1
    CONNECTION = 2
    DROPPED = 3
    SERVER = 4
    DATE = 5


_NAMES = {
    "content-length": _Name.LENGTH,
    "connection": _Name.CONNECTION,
    "keep-alive": _Name.DROPPED,
    "proxy-connection": _Name.DROPPED,
    "te": _Name.DROPPED,
    "trailer": _Name.DROPPED,
    "transfer-encoding": _Name.DROPPED,
    "upgrade": _Name.DROPPED,
    "server": _Name.SERVER,
    "date": _Name.DATE,
}


class Standing(NamedTuple):
    r"""What every response says; made anew once a second, since the date is in it (RFC 9110 section 6.6.1)."""

    server: str
    """`Server: unicornd\r\n`."""
    date: str
    """`Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n`."""


# (is chunked, is kept, is 1.1) → the fields that the server adds; HTTP/1.0 is told that the connection is kept.
_CONNECTION_FIELDS = {
    (False, True, True): "",
    (False, False, True): "Connection: close\r\n",
    (False, True, False): "Connection: keep-alive\r\n",
    (False, False, False): "Connection: close\r\n",
    (True, True, True): "Transfer-Encoding: chunked\r\n",
    (True, False, True): "Transfer-Encoding: chunked\r\nConnection: close\r\n",
}


class ResponseHead:
    """A response's head, ready to be sent.

    Attributes:
        data: the bytes, with the empty line.
        framing: how the body ends.
        length: what Content-Length says; -1 without one.
        keep_alive: whether the connection may be used again after it.
    """

    __slots__ = ("data", "framing", "keep_alive", "length")

    def __init__(self, data: bytes, framing: Framing, *, length: int, keep_alive: bool) -> None:
        self.data = data
        self.framing = framing
        self.length = length
        self.keep_alive = keep_alive


@lru_cache(maxsize=_KNOWN_NAMES)
def _name_kind(name: str) -> _Name:
    if TOKEN.fullmatch(name) is None:
        raise ResponseError(f"the header name {name!r} is not a token")
    return _NAMES.get(name.lower(), _Name.ORDINARY)


@lru_cache(maxsize=_KNOWN_NAMES)
def _check_status(status: str) -> bool:
    """Return whether a response with this status has a body."""
    match = STATUS.fullmatch(status)
    if match is None:
        raise ResponseError(f"the status {status!r} is not of the form '200 OK'")
    return match[1] not in NO_BODY_STATUS


def encode_head(
    status: str,
    headers: Sequence[tuple[str, str]],
    *,
    standing: Standing,
    is_http11: bool,
    is_head: bool,
    keep_alive: bool,
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
    has_body = _check_status(status)
    length = -1
    lines = []
    for name, value in headers:
        kind = _name_kind(name)
        if kind:
            if kind is _Name.DROPPED:
                continue
            if kind is _Name.CONNECTION:
                keep_alive = keep_alive and "close" not in value.lower()
                continue
            if kind is _Name.LENGTH:
                length = _declared(value, length)
            else:
                standing = _without(standing, kind)
        lines.append(f"{name}: " + value + "\r\n")
    fields = "".join(lines)
    if _LINES.fullmatch(fields) is None or fields.count("\n") != len(lines):
        raise ResponseError("a header value has a control character or one that is not latin-1")
    if length < 0 <= body_size and has_body:
        length = body_size
        fields += f"Content-Length: {length}\r\n"
    framing = _framing(length, has_body=has_body and not is_head, is_http11=is_http11)
    keep_alive = keep_alive and framing is not Framing.CLOSE
    fields += _CONNECTION_FIELDS[framing is Framing.CHUNKED, keep_alive, is_http11]
    data = f"HTTP/1.1 {status}\r\n{standing.server}{standing.date}{fields}\r\n".encode("latin-1")
    return ResponseHead(data, framing, length=length, keep_alive=keep_alive)


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


def _framing(length: int, *, has_body: bool, is_http11: bool) -> Framing:
    if not has_body:
        return Framing.NONE
    if length >= 0:
        return Framing.LENGTH
    return Framing.CHUNKED if is_http11 else Framing.CLOSE


def _declared(value: str, before: int) -> int:
    if CONTENT_LENGTH.fullmatch(value) is None:
        raise ResponseError("Content-Length is not a number")
    if before not in {-1, int(value)}:
        raise ResponseError("Content-Length is given twice, and not the same")
    return int(value)


def _without(standing: Standing, kind: _Name) -> Standing:
    """Leave out what the application says itself."""
    return standing._replace(server="") if kind is _Name.SERVER else standing._replace(date="")
