"""The uwsgi protocol: a request as a packet of variables, as nginx sends it with `uwsgi_pass`.

Pure (uWSGI's "The uwsgi (lowercase) Protocol"). Only requests for Python applications (modifier1 0) are read. Names and
values are what a CGI environment has; the answer is HTTP, ended by its length or by the end of the connection, and says
nothing of the connection: that is between the server in front and us.
"""

from __future__ import annotations

import re
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from unicornd.http.errors import Refusal
from unicornd.http.forwarded import Forwarded, is_below
from unicornd.http.grammar import CONTENT_LENGTH, TOKEN
from unicornd.http.messages import Head

if TYPE_CHECKING:
    from unicornd.http.limits import Limits

_PACKET = struct.Struct("<BHB")
_SIZE = struct.Struct("<H")
MAX_VARIABLES = 1000
_CLOSE = b"\r\nConnection: close"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*+")
_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]++")
_TOLD = ("SERVER_NAME", "SERVER_PORT", "REMOTE_USER")
"""Taken from the packet as they are: only who is trusted may speak uwsgi at all."""
_SCHEMES = ("REQUEST_SCHEME", "UWSGI_SCHEME", "wsgi.url_scheme")
"""Variables with the scheme: of nginx's uwsgi_params, uWSGI and gunicorn."""
NO_PORT = "0"
"""Of a client whose server does not name it."""
_DECODED = frozenset({"PATH_INFO", "SCRIPT_NAME", "DOCUMENT_URI", "PATH_TRANSLATED", "SCRIPT_FILENAME"})
"""Made of a path that is decoded, so any byte may be in it."""
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE"})
"""What a request has once (as in `head`)."""


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


def read_uwsgi(packet: bytes, limits: Limits, *, mount: str = "") -> Head:
    """Read a whole packet of variables.

    Args:
        packet: it.
        limits: of a request.
        mount: where the application is mounted if the packet does not say it.

    Raises:
        Refusal: 400, 413, 414 or 431.
    """
    variables = _variables(packet[_PACKET.size :])
    method = variables.get("REQUEST_METHOD", "")
    target = variables.get("REQUEST_URI") or quote(variables.get("PATH_INFO", ""), encoding="latin-1")
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
    head.path, _, query = target.partition("?")
    head.query = variables.get("QUERY_STRING", query)
    head.length = _length(variables.get("CONTENT_LENGTH", ""), fields)
    # The answer is not framed by chunks (the server in front would pass them on), and ends the connection.
    head.is_http11 = head.keep_alive = head.expects_continue = head.has_underscores = False
    head.protocol = variables.get("SERVER_PROTOCOL", "HTTP/1.0")
    head.forwarded = _forwarded(variables, _place(variables, head.path, mount=mount))
    return head


def _variables(body: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    position = count = 0
    try:
        while position < len(body):
            count += 1
            if count > MAX_VARIABLES:
                raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many variables")
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
    """Add a variable.

    Of the client's fields those of a name are joined, as in a head (RFC 9110 section 5.3; Cookie: RFC 6265 section 5.4);
    of the others the last counts, so that what stands behind `include uwsgi_params` replaces what is in there.
    """
    name, value = pair
    if _NAME.fullmatch(name) is None or not (name in _DECODED or _VALUE.fullmatch(value)):
        raise _malformed("a variable has a forbidden character")
    if name in found and name in _SINGLE and found[name] != value:
        raise _malformed(f"{name} is there twice, and not the same")
    if name in found and name.startswith("HTTP_") and name not in _SINGLE:
        value = f"{found[name]}{'; ' if name == 'HTTP_COOKIE' else ', '}{value}"
    found[name] = value


def _place(variables: dict[str, str], path: str, *, mount: str) -> dict[str, str]:
    """Return SCRIPT_NAME and PATH_INFO (RFC 3875 sections 4.1.5 and 4.1.13).

    PATH_INFO is what the server in front has made of the path, by a rewrite or a mapping. SCRIPT_NAME may be taken off it
    already, which REQUEST_URI shows, or not. It is a variable of that server's own configuration: a client's header of
    that name would be HTTP_SCRIPT_NAME, so it needs no permission beside that to speak uwsgi.
    """
    whole = unquote_to_bytes(path).decode("latin-1")
    script = variables.get("SCRIPT_NAME", "").rstrip("/")
    info = variables.get("PATH_INFO", "")
    if not info:  # lighttpd leaves it out where nothing is left
        info = whole
    elif script and script == whole and info not in {whole, "/"}:
        script = ""  # Apache, whose mapping has changed the path, says all of it
    script = script or mount
    if script and script + info != whole and is_below(info, script):
        info = info[len(script) :]
    return {"SCRIPT_NAME": script, "PATH_INFO": info}


def _length(text: str, fields: dict[str, str]) -> int:
    fields.pop("HTTP_TRANSFER_ENCODING", None)  # undone by whoever has made the packet
    if not text:
        return 0
    if CONTENT_LENGTH.fullmatch(text) is None:
        raise _malformed("CONTENT_LENGTH is not a number")
    fields["CONTENT_LENGTH"] = text
    return int(text)


def _forwarded(variables: dict[str, str], place: dict[str, str]) -> Forwarded:
    is_https = variables.get("HTTPS", "").lower() in {"on", "1"} or any(
        variables.get(name) == "https" for name in _SCHEMES
    )
    told = {name: variables[name] for name in _TOLD if variables.get(name)}
    host, port = variables.get("REMOTE_ADDR", ""), variables.get("REMOTE_PORT", "")
    return Forwarded(
        scheme="https" if is_https else "",
        environ=told | place,
        client=(host, port or NO_PORT) if host else None,
    )


def without_connection(data: bytes) -> bytes:
    """Return the beginning of one of our responses without `Connection: close`, the last field of its head.

    That field is for the next hop (RFC 9110 section 7.6.1), which in this protocol is told by the end of the connection;
    a server in front may pass it on to its client as if it were the client's.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.endswith(_CLOSE, 0, end):
        return data
    return data[: end - len(_CLOSE)] + data[end:]


def _malformed(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, what, section="uwsgi protocol")


def forbidden() -> Refusal:
    """Return the refusal of a peer that may not speak uwsgi."""
    return Refusal(HTTPStatus.FORBIDDEN, "this peer may not speak uwsgi")
