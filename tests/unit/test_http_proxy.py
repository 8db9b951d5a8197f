"""PROXY headers: whole, in pieces, broken."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prefaces import SIGNATURE, proxy_v2, tls_tlv, tlv
from unicornd.http.errors import Refusal
from unicornd.http.proxy import FACTS, MAX_NAME, MAX_V1, NO_HEADER, crc32c, forbidden, is_proxy, read_proxy

V4 = struct.pack("!4s4sHH", b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", 1234, 80)
V6 = struct.pack("!16s16sHH", b"\x00" * 15 + b"\x01", b"\x00" * 15 + b"\x02", 1234, 80)
MAPPED = bytes(10) + b"\xff\xff"
V4_IN_V6 = struct.pack("!16s16sHH", MAPPED + b"\x0a\x00\x00\x01", MAPPED + b"\x0a\x00\x00\x02", 1234, 80)


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(payload)) + payload


SOURCE, DESTINATION = ("10.0.0.1", "1234"), ("10.0.0.2", "80")
GOOD = {
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\n": (SOURCE, DESTINATION, "TCP4"),
    b"PROXY TCP6 ::1 ::2 1234 80\r\n": (("::1", "1234"), ("::2", "80"), "TCP6"),
    b"PROXY UNKNOWN\r\n": (None, None, ""),
    b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n": (None, None, ""),
    v2(0x21, 0x11, V4): (SOURCE, DESTINATION, "TCP4"),
    v2(0x21, 0x11, V4 + tlv(0xE0, b"abcd") + tlv(0x04, b"") + tlv(0x01, b"h2")): (
        SOURCE,
        DESTINATION,
        "TCP4",
    ),
    v2(0x21, 0x11, V4 + bytes(5001)): (SOURCE, DESTINATION, "TCP4"),
    v2(0x21, 0x21, V4_IN_V6): (("::ffff:10.0.0.1", "1234"), ("::ffff:10.0.0.2", "80"), "TCP6"),
    b"PROXY TCP6 ::ffff:10.0.0.1 ::FFFF:a00:2 1234 80\r\n": (
        ("::ffff:10.0.0.1", "1234"),
        ("::ffff:10.0.0.2", "80"),
        "TCP6",
    ),
    v2(0x20, 0x11, V4 + b"ends inside a TLV"): (None, None, ""),
    v2(0x21, 0x12, V4): (None, None, ""),
    v2(0x21, 0x32, bytes(216)): (None, None, ""),
    v2(0x21, 0x21, V6): (("::1", "1234"), ("::2", "80"), "TCP6"),
    v2(0x20, 0x00, b""): (None, None, ""),
    v2(0x21, 0x31, b"\x00" * 216): (None, None, ""),
    v2(0x21, 0x00, b"whatever"): (None, None, ""),
}
BAD = [
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1234\r\n", b"PROXY TCP4 ::1 ::2 1 2\r\n", b"PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 70000 80\r\n", b"PROXY TCP4\r\n", b"PROXY TCP5 a b 1 2\r\n", b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN " + b"x" * MAX_V1, b"PROXY TCP4 999.0.0.1 10.0.0.2 1 2\r\n",
    v2(0x31, 0x11, V4), v2(0x22, 0x11, V4), v2(0x21, 0x11, V4[:8]), v2(0x21, 0x21, V4), v2(0x21, 0x11, bytes(5000)),
    v2(0x21, 0x31, bytes(215)), v2(0x21, 0x11, V4 + b"\x01"), v2(0x21, 0x11, V4 + b"\xe0\x00\x05abcd"), v2(0x21, 0x11, V4 + tlv(3, b"abcd")),
    v2(0x21, 0x11, V4 + tlv(3, b"abc")), v2(0x21, 0x11, V4 + tlv(0x20, b"\x01abc")),
    v2(0x21, 0x11, V4 + tlv(0x20, b"\x07\x00\x00\x00\x00\x22\x00\x09joe")), b"PROXY TCP6 fe80::1%lo ::2 1 2\r\n",
]  # fmt: skip


@pytest.mark.parametrize("header", GOOD)
def test_a_header_is_read_whole_and_in_pieces(header: bytes) -> None:
    source, destination, protocol = GOOD[header]
    expected = read_proxy(header + b"GET / HTTP/1.1\r\n", "auto")
    assert expected is not None
    assert (expected.size, expected.source) == (len(header), source)
    place = dict(zip(FACTS, (protocol, *destination), strict=False)) if destination else {}
    assert expected.facts == place
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


def facts(header: bytes) -> dict[str, str]:
    found = read_proxy(header, "v2")
    assert found is not None
    return {name: value for name, value in found.facts.items() if not name.startswith("PROXY_")}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (tls_tlv(client=1), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "NONE"}),
        (tls_tlv(client=0), {}),
        (tls_tlv(client=3, name=b"joe"), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN_CN": "joe"}),
        (tls_tlv(client=5, name="é".encode()), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN_CN": "Ã©"}),
        (tls_tlv(client=7), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "SUCCESS"}),
        (tls_tlv(client=7, verify=20, name=b"joe"), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "FAILED:20"}),
        (tls_tlv(client=1, name=b"joe"), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "NONE"}),
        (tls_tlv(name=b"j\noe"), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "SUCCESS"}),
        (tls_tlv(name=b"x" * (MAX_NAME + 1)), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "SUCCESS"}),
        (tlv(0xE0, b"") + tls_tlv(client=1), {"HTTPS": "on", "SSL_CLIENT_VERIFY": "NONE"}),
    ],
)  # fmt: skip
def test_what_a_proxy_tells_of_tls_is_known(said: bytes, expected: dict[str, str]) -> None:
    assert facts(proxy_v2(said)) == expected
    assert facts(proxy_v2(said, family=0x31, addresses=bytes(216))) == expected, "of a Unix socket, too"
    assert set(expected) <= set(FACTS)


def test_nothing_of_a_local_connection_or_an_unknown_family_is_believed() -> None:
    assert facts(proxy_v2(tls_tlv(), command=0x20)) == {}
    assert facts(proxy_v2(tls_tlv(), family=0x00, addresses=b"")) == {}


@pytest.mark.parametrize(
    ("data", "expected"), [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)]
)
def test_the_sum_is_that_of_rfc_9260_and_of_iscsi(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_a_header_has_to_match_its_sum() -> None:
    before, behind = tlv(0xE0, b"abc"), tls_tlv(client=1)
    bare = proxy_v2(before + tlv(0x03, bytes(4)) + behind)
    place = len(bare) - len(behind) - 4
    header = bare[:place] + struct.pack("!I", crc32c(bare)) + bare[place + 4 :]
    found = read_proxy(header + b"GET", "v2")
    assert found is not None
    assert found.facts["HTTPS"] == "on"
    for at in {*range(len(SIGNATURE) + 4, len(header))} - {place - 3}:  # there it would be no sum any more
        with pytest.raises(Refusal):
            read_proxy(header[:at] + bytes([header[at] ^ 0x10]) + header[at + 1 :] + bytes(4096), "v2")


@given(
    st.sampled_from([b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x40" + V4, b""]),
    st.binary(min_size=1, max_size=300),
)
def test_any_bytes_are_a_header_more_to_come_or_a_refusal(start: bytes, rest: bytes) -> None:
    try:
        header = read_proxy(start + rest, "auto")
    except Refusal:
        return
    assert header is None or 0 <= header.size <= len(start + rest)
