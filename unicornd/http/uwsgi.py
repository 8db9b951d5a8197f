"""The uwsgi protocol: a request as a packet of variables, as nginx sends it with `uwsgi_pass`.

Pure (uWSGI's "The uwsgi (lowercase) Protocol"). Only requests for Python applications (modifier1 0) are read. Names and
values are what a CGI environment has; the answer is HTTP, ended by its length or by the end of the connection.
"""

from __future__ import annotations

import re
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal
from unicornd.http.forwarded import Forwarded
from unicornd.http.grammar import CONTENT_LENGTH, TOKEN
from unicornd.http.messages import Head

if TYPE_CHECKING:
    from unicornd.http.limits import Limits

_PACKET = struct.Struct("<BHB")
_SIZE = struct.Struct("<H")
MAX_VARIABLES = 1000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*+")
_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]++")
_TOLD = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "REMOTE_USER")
"""Taken from the packet as they are: only who is trusted may speak uwsgi at all."""


def packet_size(received: bytes) -> int:
    """Return the size of the packet of variables, or 0 if its beginning has not come.

    Raises:
        Refusal: 400, it is no request for a Python application.
    """
    if len(received) < _PACKET.size:
        return 0
    modifier, size, _ = _PACKET.unpack_from(received)
    if modifier != 0:
        raise _malformed("the packet is no request of the uwsgi protocol")
    return _PACKET.size + int(size)


def read_uwsgi(packet: bytes, limits: Limits) -> Head:
    """Read a whole packet of variables.

    Raises:
        Refusal: 400, 413, 414 or 431.
    """
    variables = _variables(packet[_PACKET.size :])
    method = variables.get("REQUEST_METHOD", "")
    target = variables.get("REQUEST_URI") or variables.get("PATH_INFO", "")
    if TOKEN.fullmatch(method) is None:
        raise _malformed("REQUEST_METHOD is not a method")
    if _TARGET.fullmatch(target) is None:
        raise _malformed("REQUEST_URI is not a request target")
    if len(target) > limits.request_line:
        raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the request target is too long")
    fields = {name: value for name, value in variables.items() if name.startswith("HTTP_")}
    if len(fields) > limits.header_count:
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many header fields")
    if content_type := variables.get("CONTENT_TYPE"):
        fields["CONTENT_TYPE"] = content_type
    head = Head()
    head.method, head.target, head.fields = method, target, fields
    path, _, query = target.partition("?")
    head.path, head.query = path, variables.get("QUERY_STRING", query)
    head.length = _length(variables.get("CONTENT_LENGTH", ""), fields)
    # The answer is not framed by chunks (the server in front would pass them on), and ends the connection.
    head.is_http11 = head.keep_alive = head.expects_continue = head.has_underscores = False
    head.protocol = variables.get("SERVER_PROTOCOL", "HTTP/1.0")
    head.forwarded = _forwarded(variables)
    return head


def _variables(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    try:
        while position < len(body):
            texts = []
            for _ in range(2):
                (size,) = _SIZE.unpack_from(body, position)
                start = position + _SIZE.size
                position = start + size
                if position > len(body):
                    raise _malformed("a variable is longer than its packet")
                texts.append(body[start:position].decode("latin-1"))
            _take(found, *texts)
    except struct.error as error:
        raise _malformed("the packet ends inside a variable") from error
    return found


def _take(found: dict[str, str], *pair: str) -> None:
    name, value = pair
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise _malformed("a variable has a forbidden character")
    if len(found) >= MAX_VARIABLES:
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many variables")
    found[name] = value


def _length(text: str, fields: dict[str, str]) -> int:
    fields.pop("HTTP_TRANSFER_ENCODING", None)  # undone by whoever has made the packet
    if not text:
        return 0
    if CONTENT_LENGTH.fullmatch(text) is None:
        raise _malformed("CONTENT_LENGTH is not a number")
    fields["CONTENT_LENGTH"] = text
    return int(text)


def _forwarded(variables: dict[str, str]) -> Forwarded:
    is_https = variables.get("HTTPS", "").lower() in {"on", "1"} or variables.get("REQUEST_SCHEME") == "https"
    told = {name: variables[name] for name in _TOLD if variables.get(name)}
    return Forwarded(
        scheme="https" if is_https else "", mount=variables.get("SCRIPT_NAME", "").rstrip("/"), environ=told
    )


def _malformed(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, what, section="uwsgi protocol")


def forbidden() -> Refusal:
    """Return the refusal of a peer that may not speak uwsgi."""
    return Refusal(HTTPStatus.FORBIDDEN, "this peer may not speak uwsgi")
