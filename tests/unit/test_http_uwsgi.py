"""Packets of the uwsgi protocol."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.http.environ import build_environ
from unicornd.http.errors import Refusal
from unicornd.http.limits import Limits
from unicornd.http.uwsgi import MAX_VARIABLES, forbidden, packet_size, read_uwsgi

LIMITS = Limits()
REQUEST = {
    "REQUEST_METHOD": "POST", "REQUEST_URI": "/shop/caf%C3%A9?a=1", "QUERY_STRING": "a=1", "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "4", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "1.2.3.4", "REMOTE_PORT": "99",
    "SERVER_NAME": "shop.example", "SERVER_PORT": "443", "HTTPS": "on", "HTTP_HOST": "shop.example", "HTTP_X_A": "b",
    "SCRIPT_NAME": "/shop", "HTTP_TRANSFER_ENCODING": "chunked", "DOCUMENT_ROOT": "/srv",
}  # fmt: skip


def packet(variables: dict[str, str], *, modifier: int = 0) -> bytes:
    body = b"".join(
        struct.pack("<H", len(text)) + text.encode("latin-1") for pair in variables.items() for text in pair
    )
    return struct.pack("<BHB", modifier, len(body), 0) + body


def changed(**changes: str) -> bytes:
    return packet({**REQUEST, **changes})


def test_a_packet_becomes_a_head_and_an_environ() -> None:
    head = read_uwsgi(packet(REQUEST), LIMITS)
    assert (head.method, head.path, head.query, head.length) == ("POST", "/shop/caf%C3%A9", "a=1", 4)
    assert not head.keep_alive
    assert not head.is_http11, "the answer is not chunked"
    environ = build_environ({"SCRIPT_NAME": ""}, head)
    assert environ["PATH_INFO"] == "/caf\u00c3\u00a9"
    expected = {
        "SCRIPT_NAME": "/shop", "wsgi.url_scheme": "https", "HTTPS": "on", "REMOTE_ADDR": "1.2.3.4", "SERVER_PORT": "443",
        "HTTP_HOST": "shop.example", "CONTENT_LENGTH": "4", "CONTENT_TYPE": "text/plain", "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    assert {key: environ[key] for key in expected} == expected
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert "DOCUMENT_ROOT" not in environ


def test_a_bare_packet_has_defaults() -> None:
    head = read_uwsgi(packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/a"}), LIMITS)
    assert (head.path, head.query, head.length, head.protocol) == ("/a", "", 0, "HTTP/1.0")
    assert build_environ({"wsgi.url_scheme": "http"}, head)["wsgi.url_scheme"] == "http"
    assert read_uwsgi(
        packet({"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "REQUEST_SCHEME": "https"}), LIMITS
    ).forwarded


def test_the_size_is_known_when_its_beginning_has_come() -> None:
    whole = packet(REQUEST)
    assert [packet_size(whole[:size]) for size in range(5)] == [0, 0, 0, 0, len(whole)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (changed(REQUEST_METHOD="G T"), 400), (changed(REQUEST_URI="/a b"), 400), (changed(REQUEST_URI="", PATH_INFO=""), 400),
        (changed(CONTENT_LENGTH="-1"), 400), (changed(HTTP_X="a\nb"), 400), (changed(**{"HTTP X": "a"}), 400),
        (changed(REQUEST_URI="/" + "x" * 5000), 414), (changed(**{f"HTTP_{n}": "x" for n in range(200)}), 431),
        (packet({**REQUEST, **{f"V{n}": "" for n in range(MAX_VARIABLES)}}), 431),
        (packet(REQUEST)[:-3], 400), (packet(REQUEST) + b"\x01", 400), (packet(REQUEST) + b"\x01\x00a", 400),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_is_never_our_fault(raw: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        read_uwsgi(raw, LIMITS)
    assert refused.value.status == status


def test_other_modifiers_are_refused() -> None:
    with pytest.raises(Refusal):
        packet_size(packet(REQUEST, modifier=5))
    assert forbidden().status == 403


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        read_uwsgi(b"\x00\x00\x00\x00" + body, LIMITS)
