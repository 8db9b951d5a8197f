"""Which requests ask for a WebSocket, and which of them can open one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.http.head import parse_head
from unicornd.http.limits import Limits
from unicornd.http.upgrade import asks_for_websocket, handshake_refusal, opens_websocket, without_upgrade

if TYPE_CHECKING:
    from unicornd.http.messages import Head

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
ASKS = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"


def head_of(fields: str, *, line: str = "GET / HTTP/1.1") -> Head:
    return parse_head(f"{line}\r\nHost: a\r\n{fields}\r\n".encode(), Limits())


def test_a_whole_handshake_opens_a_websocket() -> None:
    assert opens_websocket(head_of(ASKS + VERSION + KEY))
    assert opens_websocket(head_of("Upgrade: WebSocket\r\nConnection: UPGRADE\r\n" + VERSION + KEY))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ("", "GET / HTTP/1.1"),
        ("Upgrade: websocket\r\n" + VERSION + KEY, "GET / HTTP/1.1"),
        ("Connection: Upgrade\r\n" + VERSION + KEY, "GET / HTTP/1.1"),
        ("Upgrade: h2c\r\nConnection: Upgrade\r\n", "GET / HTTP/1.1"),
        ("Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n", "GET / HTTP/1.1"),
        (ASKS + VERSION + KEY, "GET / HTTP/1.0"),
    ],
)
def test_other_requests_ask_for_none(fields: str, line: str) -> None:
    assert not asks_for_websocket(head_of(fields, line=line))
    assert not opens_websocket(head_of(fields, line=line))


@pytest.mark.parametrize(
    ("fields", "line", "status"),
    [
        (VERSION + KEY, "POST / HTTP/1.1", 400),
        (VERSION + KEY + "Content-Length: 3\r\n", "GET / HTTP/1.1", 400),
        (VERSION + KEY + "Transfer-Encoding: chunked\r\n", "GET / HTTP/1.1", 400),
        (KEY, "GET / HTTP/1.1", 426),
        ("Sec-WebSocket-Version: 8\r\n" + KEY, "GET / HTTP/1.1", 426),
        (VERSION, "GET / HTTP/1.1", 400),
        (VERSION + "Sec-WebSocket-Key: short\r\n", "GET / HTTP/1.1", 400),
        (VERSION + KEY + KEY, "GET / HTTP/1.1", 400),
    ],
)
def test_a_handshake_that_is_not_whole_is_refused(fields: str, line: str, status: int) -> None:
    head = head_of(ASKS + fields, line=line)
    refusal = handshake_refusal(head)
    assert refusal is not None
    assert refusal.status == status
    assert asks_for_websocket(head)
    assert not opens_websocket(head)


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        ("Upgrade", ""),
        ("keep-alive, Upgrade", "keep-alive"),
        ("upgrade ,close", "close"),
        ("a;upgrade, b", "b"),
    ],
)
def test_the_option_upgrade_can_be_left_out(value: str, rest: str) -> None:
    assert without_upgrade(value) == rest
