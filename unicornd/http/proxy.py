"""The PROXY protocol, versions 1 and 2: who the client of a proxy is, said in front of the first request.

Pure (HAProxy's "The PROXY protocol", sections 2.1 and 2.2). A header is read from what was received so far; more may
have to come. What is no header is told apart from what cannot become one by its first bytes.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from http import HTTPStatus
from typing import Literal

from unicornd.dataclass import dataclass, field
from unicornd.http.errors import Refusal

Mode = Literal["auto", "v1", "v2"]
Endpoint = tuple[str, str]
"""Address and port as texts."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_START = b"PROXY "
MAX_V1 = 107
"""Bytes of a version 1 header, CRLF included (section 2.1)."""
_FIXED = struct.Struct("!12sBBH")
_TLV = struct.Struct("!BH")
_SUM = struct.Struct("!I")
_CLIENT = struct.Struct("!BI")
_V1 = re.compile(
    rb"PROXY (TCP4|TCP6|UNKNOWN)(?: ([^ \r\n]+) ([^ \r\n]+) ([0-9]{1,5}) ([0-9]{1,5})|[^\r\n]*)\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_INET, _INET6 = 0x11, 0x21
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ADDRESSES: dict[int, tuple[int, type[Address]]] = {
    _INET: (4, ipaddress.IPv4Address),
    _INET6: (16, ipaddress.IPv6Address),
}
_SIZES = {0x1: 12, 0x2: 36, 0x3: 216}
"""Bytes of both addresses, by address family: of IPv4, IPv6, Unix sockets."""
MAX_PORT = 65535
_CRC32C, _SSL = 0x03, 0x20
_SUBJECT_CN = 0x22
_CLIENT_SSL, _CLIENT_CERTIFICATE = 0x01, 0x06
"""Bits of what a client has spoken: TLS, with a certificate in this connection or this session (section 2.2.6)."""
MAX_NAME = 256
"""Bytes of the name in a certificate that is told; four times what X.520 has for it."""
_NAME = re.compile(rb"[\x20-\x7e\x80-\xff]+")
FACTS = ("PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT", "HTTPS", "SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN_CN")
"""What a header may put into the environ; no field of a request can have these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """What was said.

    Attributes:
        size: bytes of the header, 0 if there is none.
        source: the client, destination: where it connected to; None if that is not said (UNKNOWN, LOCAL, other families).
        facts: what is told of the connection, by names of `FACTS`.
    """

    size: int
    source: Endpoint | None = None
    destination: Endpoint | None = None
    facts: dict[str, str] = field(default_factory=dict)


NO_HEADER = ProxyHeader(size=0)


def read_proxy(received: bytes, mode: Mode) -> ProxyHeader | None:
    """Read the header; None if more has to come.

    Args:
        received: from the beginning of the connection, at least one byte.
        mode: which version has to be there; with `auto` either may, or none.

    Raises:
        Refusal: 400, it is malformed, or missing.
    """
    if mode != "v2" and _is_start(received, V1_START):
        return _read_v1(received)
    if mode != "v1" and _is_start(received, SIGNATURE):
        return _read_v2(received)
    if mode == "auto":
        return NO_HEADER
    raise _malformed(f"the PROXY header ({mode}) is missing")


def is_proxy(received: bytes) -> bool:
    """Return whether a header of either version begins what was received."""
    return received.startswith((V1_START, SIGNATURE))


def _is_start(received: bytes, start: bytes) -> bool:
    return received.startswith(start) or start.startswith(received)


def _read_v1(received: bytes) -> ProxyHeader | None:
    end = received.find(b"\n", 0, MAX_V1)
    if end < 0:
        if len(received) >= MAX_V1:
            raise _malformed("the PROXY header is too long")
        return None
    match = _V1.fullmatch(received[: end + 1])
    if match is None:
        raise _malformed("the PROXY header is malformed")
    protocol, source, destination, source_port, destination_port = match.groups()
    if protocol == b"UNKNOWN":
        return ProxyHeader(size=end + 1)
    if source is None:
        raise _malformed("the PROXY header has no addresses")
    family = ipaddress.IPv4Address if protocol == b"TCP4" else ipaddress.IPv6Address
    client = _endpoint(family, (source, source_port))
    server = _endpoint(family, (destination, destination_port))
    return ProxyHeader(
        size=end + 1, source=client, destination=server, facts=_place_facts(protocol.decode(), server)
    )


def _place_facts(protocol: str, destination: Endpoint) -> dict[str, str]:
    return {"PROXY_PROTOCOL": protocol, "PROXY_ADDR": destination[0], "PROXY_PORT": destination[1]}


def _endpoint(family: type[Address], said: tuple[bytes, bytes]) -> Endpoint:
    host, port = said
    try:
        # A zone is the proxy's, not ours; `ipaddress` would take any text for one.
        address = family("" if b"%" in host else host.decode("latin-1"))
    except ValueError as error:
        raise _malformed("the PROXY header has an address that is none") from error
    if int(port) > MAX_PORT:
        raise _malformed("the PROXY header has a port that is none")
    return _text_of(address), str(int(port))


def _text_of(address: Address) -> str:
    """Return an address as inet_ntop(3) does: one of IPv4 in IPv6 with its dots (RFC 5952 section 5)."""
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped is not None else str(address)


def _read_v2(received: bytes) -> ProxyHeader | None:
    if len(received) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(received)
    size = _FIXED.size + length
    if command not in {_LOCAL, _PROXY}:
        raise _malformed("the PROXY header has an unknown version or command")
    if len(received) < size:
        return None
    width = _SIZES.get(family >> 4)
    if command == _LOCAL or width is None:
        # LOCAL is to be skipped whole; behind addresses of an unknown size, nobody can find the TLVs.
        return ProxyHeader(size=size)
    if length < width:
        raise _malformed("the PROXY header is shorter than its addresses")
    tlvs = _tlvs(received, _FIXED.size + width, end=size)
    _check_sum(received[:size], tlvs)
    facts = _tls_facts(received, tlvs[_SSL]) if _SSL in tlvs else {}
    if family not in _ADDRESSES:
        return ProxyHeader(size=size, facts=facts)
    source, destination = _endpoints(received, family)
    facts |= _place_facts("TCP4" if family == _INET else "TCP6", destination)
    return ProxyHeader(size=size, source=source, destination=destination, facts=facts)


def _endpoints(received: bytes, family: int) -> tuple[Endpoint, Endpoint]:
    width, make = _ADDRESSES[family]
    start = _FIXED.size
    middle, end = start + width, start + 2 * width
    ports = struct.unpack_from("!HH", received, end)
    return (
        (_text_of(make(received[start:middle])), str(ports[0])),
        (_text_of(make(received[middle:end])), str(ports[1])),
    )


def _tlvs(data: bytes, start: int, *, end: int) -> dict[int, tuple[int, int]]:
    """Return where the value of each TLV begins and ends, by type; of several of a type the first (section 2.2)."""
    found: dict[int, tuple[int, int]] = {}
    while start < end:
        if start + _TLV.size > end:
            raise _malformed("the PROXY header ends inside a TLV")
        kind, length = _TLV.unpack_from(data, start)
        start += _TLV.size
        if start + length > end:
            raise _malformed("the PROXY header ends inside a TLV")
        found.setdefault(kind, (start, start + length))
        start += length
    return found


def _check_sum(header: bytes, tlvs: dict[int, tuple[int, int]]) -> None:
    """Hold a header against its sum, if it has one (section 2.2.3)."""
    if _CRC32C not in tlvs:
        return
    start, end = tlvs[_CRC32C]
    if end - start != _SUM.size:
        raise _malformed("the PROXY header has a CRC32C that is none")
    (told,) = _SUM.unpack_from(header, start)
    if crc32c(header[:start] + bytes(_SUM.size) + header[end:]) != told:
        raise _malformed("the PROXY header does not match its CRC32C")


def _tls_facts(data: bytes, span: tuple[int, int]) -> dict[str, str]:
    """Return what is told of TLS between client and proxy (section 2.2.6), with mod_ssl's names."""
    start, end = span
    if end - start < _CLIENT.size:
        raise _malformed("the PROXY header has a TLV about TLS that is too short")
    client, verify = _CLIENT.unpack_from(data, start)
    if not client & _CLIENT_SSL:
        return {}
    facts = {"HTTPS": "on", "SSL_CLIENT_VERIFY": "NONE"}
    if client & _CLIENT_CERTIFICATE:
        facts["SSL_CLIENT_VERIFY"] = f"FAILED:{verify}" if verify else "SUCCESS"
        parts = _tlvs(data, start + _CLIENT.size, end=end)
        name = data[slice(*parts.get(_SUBJECT_CN, (0, 0)))]
        if not verify and len(name) <= MAX_NAME and _NAME.fullmatch(name):
            facts["SSL_CLIENT_S_DN_CN"] = name.decode("latin-1")  # of UTF-8 (PEP 3333)
    return facts


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of RFC 9260 appendix A."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_POLYNOMIAL = 0x82F63B78
_CRC_TABLE = tuple(map(_crc_of_byte, range(256)))


def _malformed(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, what, section="PROXY protocol section 2")


def forbidden() -> Refusal:
    """Return the refusal of a header from a peer that may not send one."""
    return Refusal(HTTPStatus.FORBIDDEN, "a PROXY header from a peer that may not send one")
