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

from unicornd.dataclass import dataclass
from unicornd.http.errors import Refusal

Mode = Literal["auto", "v1", "v2"]
Endpoint = tuple[str, str]
"""Address and port as texts."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_START = b"PROXY "
MAX_V1 = 107
"""Bytes of a version 1 header, CRLF included (section 2.1)."""
MAX_V2 = 16 + 4096
"""Bytes of a version 2 header that we wait for: addresses and some kilobytes of TLVs."""
_FIXED = struct.Struct("!12sBBH")
_V1 = re.compile(
    rb"PROXY (TCP4|TCP6|UNKNOWN)(?: ([^ \r\n]+) ([^ \r\n]+) ([0-9]{1,5}) ([0-9]{1,5})|[^\r\n]*)\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_INET, _INET6 = 0x11, 0x21
_ADDRESSES = {_INET: (4, ipaddress.IPv4Address), _INET6: (16, ipaddress.IPv6Address)}
MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """What was said.

    Attributes:
        size: bytes of the header, 0 if there is none.
        source: the client, destination: where it connected to; None if that is not said (UNKNOWN, LOCAL, other families).
        protocol: `TCP4`, `TCP6`, or empty.
    """

    size: int
    source: Endpoint | None = None
    destination: Endpoint | None = None
    protocol: str = ""


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
    return ProxyHeader(
        size=end + 1,
        source=_endpoint(family, (source, source_port)),
        destination=_endpoint(family, (destination, destination_port)),
        protocol=protocol.decode(),
    )


def _endpoint(
    family: type[ipaddress.IPv4Address | ipaddress.IPv6Address], said: tuple[bytes, bytes]
) -> Endpoint:
    host, port = said
    try:
        address = family(host.decode("latin-1"))
    except ValueError as error:
        raise _malformed("the PROXY header has an address that is none") from error
    if int(port) > MAX_PORT:
        raise _malformed("the PROXY header has a port that is none")
    return str(address), str(int(port))


def _read_v2(received: bytes) -> ProxyHeader | None:
    if len(received) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(received)
    size = _FIXED.size + length
    if command not in {_LOCAL, _PROXY}:
        raise _malformed("the PROXY header has an unknown version or command")
    if size > MAX_V2:
        raise _malformed("the PROXY header is too long")
    if len(received) < size:
        return None
    if command == _LOCAL or family not in _ADDRESSES:
        return ProxyHeader(size=size)
    width, make = _ADDRESSES[family]
    if length < 2 * width + 4:
        raise _malformed("the PROXY header is shorter than its addresses")
    start = _FIXED.size
    ports = struct.unpack_from("!HH", received, start + 2 * width)
    return ProxyHeader(
        size=size,
        source=(str(make(received[start : start + width])), str(ports[0])),
        destination=(str(make(received[start + width : start + 2 * width])), str(ports[1])),
        protocol="TCP4" if family == _INET else "TCP6",
    )


def _malformed(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, what, section="PROXY protocol section 2")


def forbidden() -> Refusal:
    """Return the refusal of a header from a peer that may not send one."""
    return Refusal(HTTPStatus.FORBIDDEN, "a PROXY header from a peer that may not send one")
