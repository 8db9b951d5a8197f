"""[server]: where requests come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from unicornd.config.parsers import as_tuple
from unicornd.config.resolved import USUAL_SOCKET_MODE
from unicornd.config.sections.section import RESTART, ROLLING, Section
from unicornd.config.texts import AddressText, Mode, Networks
from unicornd.config.values import Address

if TYPE_CHECKING:
    from pydantic.config import JsonDict

MAX_BACKLOG = 2**31 - 1
"""What listen(2) takes."""
_BIND_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "string", "x-form": "address"},
        {"type": "array", "items": {"type": "string", "x-form": "addresses"}, "minItems": 1},
    ]
}


class ServerSettings(Section):
    """Where requests come in."""

    bind: Annotated[
        tuple[AddressText, ...], BeforeValidator(as_tuple), Field(min_length=1), WithJsonSchema(_BIND_SCHEMA)
    ] = Field(
        default=(Address(kind="tcp", host="127.0.0.1", port=8000),),
        description='Addresses to listen on: "HOST:PORT", ":PORT", "[IPV6]:PORT", "unix:PATH", "unix:@NAME", '
        '"fd://N" or "fd://NAME" for a socket that systemd opened, "fd://" for all of them.',
        examples=["127.0.0.1:8000", ["0.0.0.0:8000", "unix:/run/shop/web.sock"]],
        json_schema_extra=ROLLING,
    )
    backlog: int = Field(
        default=2048,
        ge=1,
        le=MAX_BACKLOG,
        description="How many connections the kernel queues; it queues no more than net.core.somaxconn.",
        json_schema_extra=RESTART,
    )
    socket_mode: Mode = Field(
        default=USUAL_SOCKET_MODE,
        description="Permission bits of Unix sockets that are listened on; of 0666, process.umask is taken away.",
        json_schema_extra=RESTART,
    )
    reuse_port: bool = Field(
        default=False,
        description="Let other fleets of the same user, that set this too, listen on the same TCP ports (SO_REUSEPORT): "
        "the kernel spreads new connections over them. A fleet that stops leads them to the others first and answers "
        "what it has; stop one after the other. Sockets that systemd opened are as their unit says (ReusePort=).",
        json_schema_extra=RESTART,
    )
    protocol: Literal["http", "uwsgi"] = Field(
        default="http",
        description='What is spoken on the listeners; "uwsgi" is what nginx speaks with uwsgi_pass, one request a connection.',
        json_schema_extra=ROLLING,
    )
    uwsgi_allow_ips: Networks = Field(
        default=("127.0.0.1", "::1"),
        description='Addresses and networks that may speak uwsgi; "*" for everybody. What they say about client, scheme and path is believed.',
        json_schema_extra=ROLLING,
    )
