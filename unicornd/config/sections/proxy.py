"""[proxy]: what is believed of those who forward requests."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import Networks

LOOPBACK = ("127.0.0.1", "::1")
SECURE_SCHEME_HEADERS = {
    "X-FORWARDED-PROTOCOL": "ssl",
    "X-FORWARDED-PROTO": "https",
    "X-FORWARDED-SSL": "on",
}


class ProxySettings(Section):
    """What is believed of those who forward requests. Peers on a Unix socket are always trusted."""

    forwarded_allow_ips: Networks = Field(
        default=LOOPBACK,
        description='Addresses and networks whose headers about scheme and origin are believed; "*" for everybody.',
        examples=[["127.0.0.1", "10.0.0.0/8"]],
        json_schema_extra=ROLLING,
    )
    secure_scheme_headers: dict[str, str] = Field(
        default=SECURE_SCHEME_HEADERS,
        description="Headers of a trusted peer, and the value of each that means https; any other value means http. Case does not "
        "matter, and wss counts as https. If headers, lines or values of a list contradict each other, the request is refused with 400, "
        "and the log names them.",
        json_schema_extra=ROLLING,
    )
    forwarder_headers: tuple[str, ...] = Field(
        default=(),
        description='Headers with an underscore that a trusted peer may send, "*" for any; others are dropped, which is logged once '
        "for each peer and name. With SCRIPT_NAME, that header says where the application is mounted: only for a proxy that drops or replaces what clients send under that name.",
        examples=[["SCRIPT_NAME"]],
        json_schema_extra=ROLLING,
    )
    protocol: Literal["off", "auto", "v1", "v2"] = Field(
        default="off",
        description="Expect the PROXY protocol's header in front of a connection's first request. v1 and v2 require it in that version "
        "of each peer in proxy.allow_ips (else 400); auto takes both versions, and connections without it.",
        json_schema_extra=ROLLING,
    )
    allow_ips: Networks = Field(
        default=LOOPBACK,
        description='Addresses and networks that may send the PROXY header; what it says about client and TLS is believed. "*" for '
        "everybody. A header from anybody else is refused with 403.",
        json_schema_extra=ROLLING,
    )
