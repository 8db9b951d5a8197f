"""A request that asks for another protocol on its connection (RFC 9110 section 7.8), and the one that is spoken: WebSocket.

Pure. A server may ignore what it does not speak: then the request is an ordinary one, with its body.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal, bad_request

if TYPE_CHECKING:
    from unicornd.http.messages import Head

WEBSOCKET_VERSION = "13"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (RFC 6455 section 4.1)."""


def asks_for_websocket(head: Head) -> bool:
    """Return whether WebSocket is the one protocol that is asked for; in HTTP/1.0 nothing can be (RFC 9110 section 7.8)."""
    fields = head.fields
    return (
        head.is_http11
        and _options(fields.get("HTTP_UPGRADE", "")) == ["websocket"]
        and "upgrade" in _options(fields.get("HTTP_CONNECTION", ""))
    )


def handshake_refusal(head: Head) -> Refusal | None:
    """Return why a request that asks for a WebSocket cannot open one (RFC 6455 section 4.2.1); None if it can."""
    fields = head.fields
    if head.method != "GET":
        return bad_request("a WebSocket is asked for with another method than GET", "RFC 6455 section 4.1")
    if head.length:
        return bad_request("the request for a WebSocket has a body", "RFC 6455 section 4.1")
    if fields.get("HTTP_SEC_WEBSOCKET_VERSION") != WEBSOCKET_VERSION:
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            f"the version of WebSocket that is spoken here is {WEBSOCKET_VERSION}",
            section="RFC 6455 section 4.4",
        )
    if _KEY.fullmatch(fields.get("HTTP_SEC_WEBSOCKET_KEY", "")) is None:
        return bad_request("Sec-WebSocket-Key is not 16 bytes in base64", "RFC 6455 section 4.1")
    return None


def opens_websocket(head: Head) -> bool:
    """Return whether a request is a handshake that can open a WebSocket."""
    return asks_for_websocket(head) and handshake_refusal(head) is None


def without_upgrade(connection: str) -> str:
    """Return the value of a Connection field without the option `upgrade`, or what a lax parser could take for it."""
    options = (option.strip("\t ") for option in connection.split(","))
    return ", ".join(option for option in options if "upgrade" not in option.lower())


def _options(value: str) -> list[str]:
    return [option.strip("\t ").lower() for option in value.split(",")]
