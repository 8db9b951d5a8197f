"""What is believed of those who forward requests: X-Forwarded-Proto and X-Forwarded-For.

Whether a peer is trusted is decided once a connection; who connects by a Unix socket always is.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERYBODY = "*"
PROTO, FOR = b"x-forwarded-proto", b"x-forwarded-for"
_SCHEMES = frozenset({"http", "https", "ws", "wss"})


class Trust:
    """Whose word is taken.

    Args:
        trusted: addresses and networks, or `*`.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        texts = tuple(trusted)
        self._is_blind = EVERYBODY in texts
        self._networks = [ipaddress.ip_network(text) for text in texts if text != EVERYBODY]

    def has(self, host: str | None) -> bool:
        """Return whether a peer is trusted; None is one on a Unix socket."""
        if self._is_blind or host is None:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def believe(self, scope: Any, headers: Iterable[tuple[bytes, bytes]]) -> None:  # noqa: ANN401 - an ASGI scope
        """Put what a trusted peer says about scheme and client into the scope."""
        hops: list[str] = []
        for name, value in headers:
            if name == PROTO:
                scheme = value.decode("latin-1").strip().lower()
                if scheme in _SCHEMES:
                    is_websocket = scope["type"] == "websocket"
                    scope["scheme"] = scheme.replace("http", "ws") if is_websocket else scheme
            elif name == FOR:
                hops += value.decode("latin-1").split(",")
        if hops:
            self._take_client(scope, hops)

    def _take_client(self, scope: Any, hops: list[str]) -> None:  # noqa: ANN401 - an ASGI scope
        """The client is the last hop that no trusted proxy is; with `*`, the first one of all."""
        found = [_host_and_port(hop.strip()) for hop in hops]
        strangers = [hop for hop in found if not self.has(hop[0])]
        host, port = strangers[-1] if strangers else found[0]
        if host:
            scope["client"] = (host, port)


def _host_and_port(text: str) -> tuple[str, int]:
    """Read `1.2.3.4`, `1.2.3.4:80`, `[::1]:80` or `::1`; the port is 0 if there is none."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port.isascii() and port.isdigit() else 0
