"""Bytes of a head → `Head`, or a `Refusal` that names what is wrong.

The head is decoded and split once; each line is looked up in what `lines` remembers, and read by its grammar when it
is not there.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.framing import body_length, is_kept_alive, wants_continue
from unicornd.http.grammar import WRONG_END
from unicornd.http.lines import KnownFields, KnownRequestLines
from unicornd.http.messages import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.http.limits import Limits

END_OF_HEAD = b"\r\n\r\n"
EMPTY_LINE = b"\r\n"
TLS_HANDSHAKE = 22
"""The first byte of TLS (RFC 8446 section 5.1)."""

_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})

_DECIDING = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_CONNECTION", "HTTP_EXPECT"})
"""What says how the request goes on behind its head."""

_read_request_line = KnownRequestLines().__getitem__
_read_field = KnownFields().__getitem__


def skip_empty_line(buffer: bytes | bytearray) -> int:
    """Return how many bytes to ignore before a request line: one empty line (RFC 9112 section 2.2)."""
    return len(EMPTY_LINE) if buffer.startswith(EMPTY_LINE) else 0


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return the index behind the empty line that ends a head, or -1.

    Args:
        buffer: what has been received, beginning with a request line.
        start: where to begin; what was searched before, less 3 bytes.
    """
    found = buffer.find(END_OF_HEAD, start)
    return found + len(END_OF_HEAD) if found >= 0 else -1


def parse_head(block: bytes | bytearray, limits: Limits) -> Head:
    """Parse a whole head, from the request line to its empty line.

    Raises:
        Refusal: 400, 414, 417, 431, 501 or 505.
    """
    text = block.decode("latin-1")
    if not text.endswith("\r\n\r\n"):
        raise bad_request("the head is not one", "RFC 9112 section 2.1")
    lines = text[:-4].split("\r\n")
    request_line = lines.pop(0)
    if len(request_line) > limits.request_line:
        raise Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long", section="RFC 9112 section 3"
        )
    if len(lines) > limits.header_count or len(text) > limits.header_size:
        _check_sizes(lines, limits)
    head = Head()
    head.method, head.target, head.path, head.query, is_http11, authority = _read_request_line(request_line)
    fields = dict(map(_read_field, lines))
    head.has_underscores = has_underscores = None in fields
    if has_underscores or len(fields) != len(lines):
        fields = _merged(lines)
    head.forwarded = None
    head.fields = fields  # type: ignore[assignment] # _merged has dropped the None key
    head.is_http11 = is_http11
    head.protocol = "HTTP/1.1" if is_http11 else "HTTP/1.0"
    if is_http11 and "HTTP_HOST" not in fields:
        raise bad_request("Host is missing", "RFC 9112 section 3.2")
    if _DECIDING.isdisjoint(fields):
        head.length, head.keep_alive, head.expects_continue = 0, is_http11, False
    else:
        is_bodied = "CONTENT_LENGTH" in fields or "HTTP_TRANSFER_ENCODING" in fields
        head.length = body_length(head) if is_bodied else 0
        head.keep_alive = is_kept_alive(head) if "HTTP_CONNECTION" in fields else is_http11
        head.expects_continue = "HTTP_EXPECT" in fields and wants_continue(head)
    if authority:
        _take_authority(head, authority)
    return head


def refuse_long_head(part: bytes | bytearray, limits: Limits) -> NoReturn:
    """Say which limit is passed by a head that has not ended, and is longer than `Limits.head_size` or its line allows.

    Raises:
        Refusal: always; what is wrong with the part that is there comes first.
    """
    parse_head(bytes(part).rstrip(b"\r\n") + END_OF_HEAD, limits)
    raise Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long", section="RFC 6585 section 5"
    )


def check_beginning(part: bytes | bytearray, limits: Limits, *, start: int) -> None:
    """Refuse a head that has not ended and never will, so that its client does not wait for our patience to end.

    Args:
        part: what has been received, not empty, beginning with a request line.
        limits: what is wrong with the part that is there comes first, as if it were whole.
        start: where to begin, as in `find_head_end`.

    Raises:
        Refusal: its empty line is not CRLF, or it is TLS.
    """
    if part[0] == TLS_HANDSHAKE:
        raise bad_request("this port speaks HTTP without TLS", "RFC 9112 section 3")
    if WRONG_END.search(part, start) is not None:
        parse_head(bytes(part) + END_OF_HEAD, limits)


def _check_sizes(lines: Sequence[str], limits: Limits) -> None:
    if len(lines) > limits.header_count:
        what = "there are too many header fields"
    elif max(map(len, lines), default=0) > limits.header_size:
        what = "a header field is too long"
    else:
        return
    raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what, section="RFC 6585 section 5")


def _merged(lines: Sequence[str]) -> dict[str | None, str]:
    """Join repeated fields, drop names with underscores."""
    fields: dict[str | None, str] = {}
    for key, value in map(_read_field, lines):
        if key is None:
            continue
        if key not in fields:
            fields[key] = value
        elif key in _SINGLE:
            name = key.removeprefix("HTTP_").replace("_", "-").title()
            raise bad_request(f"{name} is repeated", "RFC 9110 section 5.3")
        else:
            fields[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
    return fields


def _take_authority(head: Head, authority: str) -> None:
    if head.method == "CONNECT":
        head.keep_alive = False  # what follows a tunnel's request is not for us (RFC 9110 section 9.3.6)
    else:
        head.fields["HTTP_HOST"] = authority  # it takes the place of Host (RFC 9112 section 3.2.2)
