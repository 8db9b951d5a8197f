"""Bytes of a head → `Head`, or a `Refusal` that names what is wrong.

One regular expression validates the whole head in one pass; only when it does not match, `faults` finds out why.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.faults import fault_of
from unicornd.http.framing import body_length, is_kept_alive, wants_continue
from unicornd.http.grammar import ABSOLUTE_FORM, AUTHORITY_FORM, HEAD, HOST, ORIGIN_FORM
from unicornd.http.messages import Head

if TYPE_CHECKING:
    from unicornd.http.limits import Limits

END_OF_HEAD = b"\r\n\r\n"
EMPTY_LINE = b"\r\n"
_KNOWN_NAMES = 1024
"""Names remembered: a site's clients send some dozens; strangers' inventions push each other out."""

# After `HEAD` has matched, this splits what is known to be right.
_FIELDS = re.compile(r"([^:\r]++):[\t ]*+([^\r]*+)\r\n")
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})


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


@lru_cache(maxsize=_KNOWN_NAMES)
def cgi_name(name: str) -> str | None:
    """Return the environ key of a field name, or None for a name that would spoof another (RFC 3875 4.1.18)."""
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


@lru_cache(maxsize=_KNOWN_NAMES)
def is_host(text: str) -> bool:
    """Return whether `text` is a valid Host field value (RFC 9110 section 7.2)."""
    return HOST.fullmatch(text) is not None


def parse_head(block: bytes | bytearray, limits: Limits) -> Head:
    """Parse a whole head, from the request line to its empty line.

    Raises:
        Refusal: 400, 414, 417, 431, 501 or 505.
    """
    text = block.decode("latin-1")
    match = HEAD.fullmatch(text)
    if match is None:
        raise fault_of(text, limits)
    head = Head()
    head.method, target, version, lines = match.groups()
    pairs = _FIELDS.findall(lines)
    if len(text) > limits.header_size or len(pairs) > limits.header_count:
        _check_sizes(match.start(4), lines, limits=limits)
    fields = {cgi_name(name): value for name, value in pairs}
    if len(fields) != len(pairs) or None in fields or " \r\n" in lines or "\t\r\n" in lines:
        fields = _merged(pairs)
    head.fields = fields  # type: ignore[assignment] # _merged has dropped the None key
    head.target = target
    head.is_http11 = is_http11 = version == "1.1" or _is_newer(version)
    head.protocol = "HTTP/1.1" if is_http11 else "HTTP/1.0"
    host = fields.get("HTTP_HOST")
    if host is None:
        if is_http11:
            raise bad_request("Host is missing", "RFC 9112 section 3.2")
    elif not is_host(host):
        raise bad_request("Host is not a host", "RFC 9112 section 3.2")
    if target[0] == "/" and "#" not in target and head.method != "CONNECT":
        head.path, _, head.query = target.partition("?")
    else:
        _read_other_form(head, target)
    head.length = body_length(head) if "CONTENT_LENGTH" in fields or "HTTP_TRANSFER_ENCODING" in fields else 0
    head.keep_alive = is_kept_alive(head) if "HTTP_CONNECTION" in fields else is_http11
    head.expects_continue = "HTTP_EXPECT" in fields and wants_continue(head)
    return head


def _is_newer(version: str) -> bool:
    if version == "1.0":
        return False
    if version[0] == "1":
        return True  # RFC 9110 section 2.5: the highest minor version that we have
    raise Refusal(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "the version is not HTTP/1.x",
        section="RFC 9110 section 15.6.6",
    )


def _check_sizes(request_line: int, lines: str, *, limits: Limits) -> None:
    if request_line - len(EMPTY_LINE) > limits.request_line:
        raise Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long", section="RFC 9112 section 3"
        )
    sizes = [len(line) for line in lines.split("\r\n")[:-1]]
    if len(sizes) > limits.header_count or max(sizes, default=0) > limits.header_size:
        what = (
            "there are too many header fields"
            if len(sizes) > limits.header_count
            else "a header field is too long"
        )
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what, section="RFC 6585 section 5")


def _merged(pairs: list[tuple[str, str]]) -> dict[str | None, str]:
    """Join repeated fields, drop names with underscores, cut white space behind values."""
    fields: dict[str | None, str] = {}
    for name, value in pairs:
        key = cgi_name(name)
        if key is None:
            continue
        stripped = value.rstrip("\t ")
        if key not in fields:
            fields[key] = stripped
        elif key in _SINGLE:
            raise bad_request(f"{name.title()} is repeated", "RFC 9110 section 5.3")
        else:
            fields[key] += ("; " if key == "HTTP_COOKIE" else ",") + stripped
    return fields


def _read_other_form(head: Head, target: str) -> None:
    """Set path and query for a target that does not simply begin with a slash (RFC 9112 section 3.2)."""
    if head.method == "CONNECT":
        if AUTHORITY_FORM.fullmatch(target) is None:
            raise bad_request("CONNECT needs a host and a port", "RFC 9112 section 3.2.3")
        head.path = head.query = ""
    elif target == "*":
        if head.method != "OPTIONS":
            raise bad_request("only OPTIONS may ask for *", "RFC 9112 section 3.2.4")
        head.path, head.query = "*", ""
    elif match := ABSOLUTE_FORM.fullmatch(target):
        _scheme, authority, path, query = match.groups()
        if not is_host(authority):
            raise bad_request("the target's host is not a host", "RFC 9112 section 3.2.2")
        head.fields["HTTP_HOST"] = authority  # it takes the place of Host
        head.path, head.query = path or "/", query[1:]
    else:
        what = "a fragment" if ORIGIN_FORM.match(target) else "no form of a request target"
        raise bad_request(f"the request target is or has {what}", "RFC 9112 section 3.2")
