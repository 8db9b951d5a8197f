"""One line of a head → what it says, or a `Refusal`.

Clients send the same lines again and again: a browser its User-Agent, a site's pages their paths. What a line says
follows from its text alone, so lines that were right are remembered; to find one is five times as fast as to read it.
What is remembered is bounded in number and in size, and never a secret: no cookies, credentials or query strings.

Any thread: a line that two threads read at the same moment is read twice.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.faults import fault_of_field, fault_of_request_line
from unicornd.http.grammar import (
    ABSOLUTE_FORM,
    AUTHORITY_FORM,
    CONVENTIONAL_METHOD,
    FIELD_LINE,
    HOST,
    ORIGIN_FORM,
    REQUEST_LINE,
)

RequestLine = tuple[str, str, str, str, bool, str]
"""Method, target, path, query, whether it is HTTP/1.1; and the authority, of an absolute or authority form."""
Field = tuple[str | None, str]
"""The CGI name (RFC 3875 section 4.1.18) and the value; no name if it would be taken for another's."""

_LINES_KEPT = 512
"""A site's clients send some dozens of fields, and its hottest paths are not many more; strangers' inventions only
make it forget all and begin anew."""
_LONGEST_KEPT = 256
"""Bytes of a line: a browser's User-Agent has 120."""
_SECRET = frozenset({"HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION"})
_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


class KnownRequestLines(dict[str, RequestLine]):
    """Request lines that were right; a new one is read when it is looked up."""

    __slots__ = ()

    def __missing__(self, line: str) -> RequestLine:
        said = read_request_line(line)
        if len(line) <= _LONGEST_KEPT and "?" not in line:
            if len(self) >= _LINES_KEPT:
                self.clear()
            self[line] = said
        return said


class KnownFields(dict[str, Field]):
    """Field lines that were right; a new one is read when it is looked up."""

    __slots__ = ()

    def __missing__(self, line: str) -> Field:
        said = read_field(line)
        if len(line) <= _LONGEST_KEPT and said[0] not in _SECRET:
            if len(self) >= _LINES_KEPT:
                self.clear()
            self[line] = said
        return said


def read_request_line(line: str) -> RequestLine:
    """Read a request line (RFC 9112 section 3).

    Raises:
        Refusal: 400 or 505.
    """
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise fault_of_request_line(line)
    method, target, version = match.groups()
    if CONVENTIONAL_METHOD.fullmatch(method) is None:
        raise bad_request("the method is unconventional", "RFC 9110 section 9.1")
    is_http11 = version == "1.1"
    if not is_http11 and version != "1.0":
        raise unknown_version()
    if target[0] == "/" and "#" not in target and method != "CONNECT":
        path, _, query = target.partition("?")
        return method, target, path, query, is_http11, ""
    path, query, authority = _read_other_form(method, target)
    return method, target, path, query, is_http11, authority


def read_field(line: str) -> Field:
    """Read a field line (RFC 9112 section 5).

    Raises:
        Refusal: 400.
    """
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise fault_of_field(line)
    name, value = match.groups()
    key = cgi_name(name)
    value = value.rstrip("\t ")
    if key == "HTTP_HOST" and HOST.fullmatch(value) is None:
        raise bad_request("Host is not a host", "RFC 9112 section 3.2")
    return key, value


@lru_cache(maxsize=_LINES_KEPT)
def cgi_name(name: str) -> str | None:
    """Return the environ key of a field name, or None for a name that would spoof another (RFC 3875 4.1.18)."""
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in _UNPREFIXED else f"HTTP_{key}"


def unknown_version() -> Refusal:
    """Return the refusal of a version that is not ours.

    A higher minor version should be taken for the highest that we have (RFC 9110 section 2.5). None was ever published, so
    who says one tries whether the next server reads it as this one does; `http.permit_unconventional_version` lets it pass.
    """
    return Refusal(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "the version is neither HTTP/1.1 nor HTTP/1.0",
        section="RFC 9110 section 15.6.6",
    )


def _read_other_form(method: str, target: str) -> tuple[str, str, str]:
    """Return path, query and authority of a target that does not simply begin with a slash (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        if AUTHORITY_FORM.fullmatch(target) is None:
            raise bad_request("CONNECT needs a host and a port", "RFC 9112 section 3.2.3")
        return "", "", target
    if target == "*":
        if method != "OPTIONS":
            raise bad_request("only OPTIONS may ask for *", "RFC 9112 section 3.2.4")
        return "", "", ""
    match = ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        what = "has a fragment" if ORIGIN_FORM.match(target) else "has none of the forms that there are"
        raise bad_request(f"the request target {what}", "RFC 9112 section 3.2")
    authority, path, query = match.groups()
    if HOST.fullmatch(authority) is None or authority[0] == ":":  # RFC 9110 section 4.2.1: not without a host
        raise bad_request("the target's host is not a host", "RFC 9112 section 3.2.2")
    return path or "/", query[1:], authority
