"""PROXY headers: whole, in pieces, broken."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.http.errors import Refusal
from unicornd.http.proxy import MAX_V1, NO_HEADER, SIGNATURE, ProxyHeader, forbidden, is_proxy, read_proxy

V4 = struct.pack("!4s4sHH", b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", 1234, 80)
V6 = struct.pack("!16s16sHH", b"\x00" * 15 + b"\x01", b"\x00" * 15 + b"\x02", 1234, 80)


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(payload)) + payload


SOURCE, DESTINATION = ("10.0.0.1", "1234"), ("10.0.0.2", "80")
GOOD = {
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\n": (SOURCE, DESTINATION, "TCP4"),
    b"PROXY TCP6 ::1 ::2 1234 80\r\n": (("::1", "1234"), ("::2", "80"), "TCP6"),
    b"PROXY UNKNOWN\r\n": (None, None, ""),
    b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n": (None, None, ""),
    v2(0x21, 0x11, V4): (SOURCE, DESTINATION, "TCP4"),
    v2(0x21, 0x11, V4 + b"\x03\x00\x04abcd"): (SOURCE, DESTINATION, "TCP4"),
    v2(0x21, 0x21, V6): (("::1", "1234"), ("::2", "80"), "TCP6"),
    v2(0x20, 0x00, b""): (None, None, ""),
    v2(0x21, 0x31, b"\x00" * 216): (None, None, ""),
    v2(0x21, 0x00, b"whatever"): (None, None, ""),
}
BAD = [
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1234\r\n", b"PROXY TCP4 ::1 ::2 1 2\r\n", b"PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 70000 80\r\n", b"PROXY TCP4\r\n", b"PROXY TCP5 a b 1 2\r\n", b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN " + b"x" * MAX_V1, b"PROXY TCP4 999.0.0.1 10.0.0.2 1 2\r\n",
    v2(0x31, 0x11, V4), v2(0x22, 0x11, V4), v2(0x21, 0x11, V4[:8]), v2(0x21, 0x21, V4), v2(0x21, 0x11, b"\x00" * 5000),
]  # fmt: skip


@pytest.mark.parametrize("header", GOOD)
def test_a_header_is_read_whole_and_in_pieces(header: bytes) -> None:
    source, destination, protocol = GOOD[header]
    expected = ProxyHeader(size=len(header), source=source, destination=destination, protocol=protocol)
    assert read_proxy(header + b"GET / HTTP/1.1\r\n", "auto") == expected
    for size in range(1, len(header)):
        assert read_proxy(header[:size], "auto") is None
    own = "v2" if header.startswith(SIGNATURE) else "v1"
    assert read_proxy(header, own) == expected  # type: ignore[arg-type] # one of them


@pytest.mark.parametrize("header", BAD)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        read_proxy(header, "auto")
    assert refused.value.status == 400


@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_a_missing_header_is_refused_where_it_has_to_be_there(mode: str) -> None:
    with pytest.raises(Refusal, match="missing"):
        read_proxy(b"GET / HTTP/1.1\r\n", mode)  # type: ignore[arg-type] # one of them
    assert read_proxy(b"GET / HTTP/1.1\r\n", "auto") == NO_HEADER


def test_the_other_version_is_no_header() -> None:
    with pytest.raises(Refusal, match="missing"):
        read_proxy(next(iter(GOOD)), "v2")
    with pytest.raises(Refusal, match="missing"):
        read_proxy(v2(0x21, 0x11, V4), "v1")


def test_a_header_of_a_peer_that_may_not_send_one_is_recognized() -> None:
    assert is_proxy(b"PROXY TCP4 ")
    assert is_proxy(v2(0x21, 0x11, V4))
    assert not is_proxy(b"GET / HTTP/1.1\r\n")
    assert forbidden().status == 403


@given(st.sampled_from([b"PROXY ", SIGNATURE, b""]), st.binary(min_size=1, max_size=300))
def test_any_bytes_are_a_header_more_to_come_or_a_refusal(start: bytes, rest: bytes) -> None:
    try:
        header = read_proxy(start + rest, "auto")
    except Refusal:
        return
    assert header is None or 0 <= header.size <= len(start + rest)
