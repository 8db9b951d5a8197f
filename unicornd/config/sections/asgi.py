"""[asgi]: how ASGI applications are served (kind `asgi`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unicornd.config.sections.section import LATER, ROLLING, Section
from unicornd.config.values import Duration, Size


class AsgiSettings(Section):
    """How ASGI applications are served (kind "asgi")."""

    loop: Annotated[Literal["auto", "asyncio", "uvloop"], LATER] = Field(
        default="auto",
        description="The event loop; auto: uvloop if it is installed.",
        json_schema_extra=ROLLING,
    )
    lifespan: Annotated[Literal["auto", "on", "off"], LATER] = Field(
        default="auto",
        description="The lifespan protocol; auto: if the application takes part in it.",
        json_schema_extra=ROLLING,
    )
    disconnect_grace_period: Annotated[Duration, LATER] = Field(
        default=3.0,
        description="How long the application may go on after its client has left.",
        json_schema_extra=ROLLING,
    )
    websocket_max_message_size: Annotated[Size, LATER] = Field(
        default=16 * 2**20,
        description="Bytes of a WebSocket message; beyond: close code 1009. 0: no limit.",
        json_schema_extra=ROLLING,
    )
