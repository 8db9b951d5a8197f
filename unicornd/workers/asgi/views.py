"""An ASGI scope → what hooks and access log know a request by: its head, its environ, its end.

Pure. Made only for those who want it: a worker without access log and hooks makes none of this.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from unicornd.http.messages import UNKNOWN_LENGTH, Head
from unicornd.workers.context import Served

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.http.environ import Environ

Scope = dict[str, Any]

_PHRASES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_PLAIN = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


def status_text(status: int) -> str:
    """Return `200 OK`; empty for 0, when there was no answer."""
    return _PHRASES.get(status) or (str(status) if status else "")


def head_of(scope: Scope) -> Head:
    """Return the head of an HTTP or WebSocket request."""
    head = Head()
    raw_path = scope.get("raw_path")
    path = raw_path.decode("latin-1") if raw_path is not None else scope["path"]
    query = scope.get("query_string", b"").decode("latin-1")
    head.method = scope.get("method", "GET")
    head.path = path
    head.query = query
    head.target = f"{path}?{query}" if query else path
    head.is_http11 = scope.get("http_version", "1.1") != "1.0"
    head.protocol = f"HTTP/{scope.get('http_version', '1.1')}"
    head.fields = _fields(scope["headers"])
    length = head.fields.get("CONTENT_LENGTH", "")
    is_chunked = "HTTP_TRANSFER_ENCODING" in head.fields
    head.length = UNKNOWN_LENGTH if is_chunked else int(length) if length.isdecimal() else 0
    head.keep_alive = head.is_http11 and head.fields.get("HTTP_CONNECTION", "").lower() != "close"
    head.expects_continue = head.fields.get("HTTP_EXPECT", "").lower() == "100-continue"
    return head


def environ_of(scope: Scope, head: Head) -> Environ:
    """Return what WSGI would call the request; there is no body and no stream in it."""
    client, server = scope.get("client"), scope.get("server")
    environ: Environ = {
        **head.fields,
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": scope["path"],
        "QUERY_STRING": head.query,
        "RAW_URI": head.target,
        "SERVER_PROTOCOL": head.protocol,
        "SERVER_SOFTWARE": "unicornd",
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.url_scheme": scope.get("scheme", "http"),
    }
    if client and client[1]:
        environ["REMOTE_PORT"] = str(client[1])
    if server:
        environ["SERVER_NAME"] = server[0]
        environ["SERVER_PORT"] = str(server[1] or "")
    return environ


def served_of(
    scope: Scope,
    head: Head,
    *,
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    size: int,
    seconds: float,
) -> Served:
    """Return a request that has been answered."""
    environ = environ_of(scope, head)
    return Served(
        head=head,
        remote=environ["REMOTE_ADDR"],
        status=status_text(status),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
        size=size,
        seconds=seconds,
        environ=environ,
    )


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return header fields under their CGI names, repeated ones joined, as `http.head` has them."""
    fields: dict[str, str] = {}
    for name, value in headers:
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in _PLAIN else f"HTTP_{key}"
        text = value.decode("latin-1")
        separator = "; " if key == "HTTP_COOKIE" else ","
        fields[key] = f"{fields[key]}{separator}{text}" if key in fields else text
    return fields
