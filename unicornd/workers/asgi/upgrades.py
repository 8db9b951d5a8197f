"""Requests that ask for another protocol, in front of uvicorn and its parser.

That parser ends HTTP at such a request: what follows its head, be it the request's body, is no concern of it any more, and
uvicorn goes on as if it were the next request. So an upgrade that is declined is hidden from them: the head is given once
more to a new parser, without the option `upgrade` in Connection. Run in the event loop; only for requests of this kind.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.upgrade import asks_for_websocket, handshake_refusal, without_upgrade
from unicornd.workers.evented import head_from

if TYPE_CHECKING:
    from collections.abc import Iterable


def opens_websocket(
    parser: Any,  # noqa: ANN401 - httptools' parser
    target: bytes,
    *,
    fields: Iterable[tuple[bytes, bytes]],
    is_idle: bool,
) -> bool:
    """Return whether a request for an upgrade opens a WebSocket; False: it is declined.

    Args:
        parser: it has ended at the request's head.
        target: the request target.
        fields: the header fields.
        is_idle: whether all requests before it are answered.

    Raises:
        Refusal: it asks for a WebSocket and cannot open one, or for a tunnel.
    """
    method = parser.get_method().decode("latin-1")
    if method == "CONNECT":
        raise Refusal(
            HTTPStatus.NOT_IMPLEMENTED, "there are no tunnels here", section="RFC 9110 section 9.3.6"
        )
    texts = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)
    protocol = f"HTTP/{parser.get_http_version()}"
    head = head_from(method, target.decode("latin-1"), protocol=protocol, fields=texts)
    if not asks_for_websocket(head):
        return False
    refusal = handshake_refusal(head)
    if refusal is None and not is_idle:  # uvicorn would put it in front of the answer that is still owed
        refusal = bad_request(
            "a WebSocket is asked for before the last request is answered", "RFC 6455 section 4.1"
        )
    if refusal is not None:
        raise refusal
    return True


def parser_of(protocol: object) -> Any:  # noqa: ANN401 - httptools' parser
    """Return a new parser for a connection, set as uvicorn sets it."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def declined(parser: Any, target: bytes, *, fields: Iterable[tuple[bytes, bytes]]) -> bytes:  # noqa: ANN401 - httptools' parser
    """Return the head of a request whose upgrade is declined, without asking for it."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), target, parser.get_http_version().encode())]
    for name, value in fields:
        kept = without_upgrade(value.decode("latin-1")).encode("latin-1") if name == b"connection" else value
        if kept.strip() or name != b"connection":
            lines.append(b"%b: %b" % (name, kept))
    return b"\r\n".join([*lines, b"", b""])
