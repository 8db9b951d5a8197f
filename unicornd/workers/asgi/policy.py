"""How ASGI applications are served: values made of the settings, once a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unicornd.dataclass import dataclass, field
from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_LIMIT = Seconds(0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsgiPolicy:
    """Times in seconds, 0 for no limit.

    Attributes:
        loop: which event loop; `auto` is uvloop if it is installed.
        lifespan: whether the application takes part in the lifespan protocol.
        warmup: paths that are asked for before the worker is ready.
        root_path: where a proxy has mounted the application.
        trusted: addresses and networks whose X-Forwarded-… are believed, or `*`.
        secure: header → the value by which a trusted peer says that a request came by https.
        request: how long an application may take until its response begins.
        disconnect_grace: how long it may go on after its client has left.
        heartbeat: how often the worker has to give a sign of life, at least.
        graceful: how long a draining worker has.
        websocket_max_message: bytes of a WebSocket message, 0 for no limit.
    """

    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    lifespan: Literal["auto", "on", "off"] = "auto"
    warmup: tuple[str, ...] = ()
    root_path: str = ""
    trusted: tuple[str, ...] = ("127.0.0.1", "::1")
    secure: Mapping[str, str] = field(default_factory=lambda: {"X-FORWARDED-PROTO": "https"})
    request: Seconds = NO_LIMIT
    disconnect_grace: Seconds = NO_LIMIT
    heartbeat: Seconds = NO_LIMIT
    graceful: Seconds = NO_LIMIT
    websocket_max_message: int = 0
