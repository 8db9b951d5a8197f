"""What proxies and web servers say in front of requests: PROXY headers and packets of the uwsgi protocol, as bytes."""

from __future__ import annotations

import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SOURCE = ("8.8.8.8", "77")
DESTINATION = ("9.9.9.9", "80")
PROXY_V1 = b"PROXY TCP4 8.8.8.8 9.9.9.9 77 80\r\n"


def proxy_v2(
    tlvs: bytes = b"", *, command: int = 0x21, family: int = 0x11, addresses: bytes | None = None
) -> bytes:
    """A header of version 2 from SOURCE to DESTINATION."""
    if addresses is None:
        addresses = struct.pack("!4s4sHH", b"\x08\x08\x08\x08", b"\x09\x09\x09\x09", 77, 80)
    payload = addresses + tlvs
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(payload)) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def tls_tlv(*, client: int = 0x07, verify: int = 0, name: bytes = b"") -> bytes:
    """PP2_TYPE_SSL; as given: TLS, with a certificate that was checked."""
    parts = tlv(0x21, b"TLSv1.3") + (tlv(0x22, name) if name else b"")
    return tlv(0x20, struct.pack("!BI", client, verify) + parts)


PROXY_V2 = proxy_v2()


def uwsgi_packet(*more: tuple[str, str], **variables: str) -> bytes:
    """A packet with these variables; `more` may repeat names."""
    pairs = [*variables.items(), *more]
    body = b"".join(struct.pack("<H", len(text)) + text.encode("latin-1") for pair in pairs for text in pair)
    return struct.pack("<BHB", 0, len(body), 0) + body
