"""[asgi]: how ASGI applications are served (kind `asgi`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import Duration, Size


class AsgiSettings(Section):
    """How ASGI applications are served (kind "asgi")."""

    loop: Literal["auto", "asyncio", "uvloop"] = Field(
        default="auto",
        description="The event loop; auto: uvloop if it is installed.",
        json_schema_extra=ROLLING,
    )
    lifespan: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the application takes part in the lifespan protocol; auto: as it shows itself.",
        json_schema_extra=ROLLING,
    )
    disconnect_grace_period: Duration = Field(
        default=3.0,
        description="How long the application may go on with a request whose client has left; 0: as long as it likes.",
        json_schema_extra=ROLLING,
    )
    websocket_max_message_size: Size = Field(
        default=16 * 2**20,
        description="Bytes of a WebSocket message; beyond: close code 1009. 0: no limit.",
        json_schema_extra=ROLLING,
    )
