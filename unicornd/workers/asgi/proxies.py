"""What is believed of those who forward requests: `proxy.secure_scheme_headers` and X-Forwarded-For.

Whether a peer is trusted is decided once a connection; who connects by a Unix socket always is.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVERYBODY = "*"
FORWARDED_PROTO, FORWARDED_FOR = b"x-forwarded-proto", b"x-forwarded-for"


class Trust:
    """Whose word is taken.

    Args:
        trusted: addresses and networks, or `*`.
        secure: header → its value for https.

    Attributes:
        names: of the headers that say anything.
    """

    def __init__(self, trusted: Iterable[str], secure: Mapping[str, str]) -> None:
        texts = tuple(trusted)
        self._is_blind = EVERYBODY in texts
        self._networks = [ipaddress.ip_network(text) for text in texts if text != EVERYBODY]
        self._secure = {name.lower().encode("latin-1"): {value.lower()} for name, value in secure.items()}
        if FORWARDED_PROTO in self._secure:
            self._secure[FORWARDED_PROTO].add("wss")  # as some proxies say of WebSockets
        self.names = frozenset({*self._secure, FORWARDED_FOR})

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

    def believe(self, scope: Any, headers: Iterable[tuple[bytes, bytes]]) -> bool:  # noqa: ANN401 - an ASGI scope
        """Put what a trusted peer says about scheme and client into the scope; return False if it contradicts itself."""
        secure = self._secure
        hops: list[str] = []
        said: set[bool] = set()
        for name, value in headers:
            if name in secure:
                said.add(value.decode("latin-1").strip().lower() in secure[name])
            elif name == FORWARDED_FOR:
                hops += value.decode("latin-1").split(",")
        if len(said) > 1:
            return False
        if said:
            plain = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = f"{plain}s" if True in said else plain
        if hops:
            self._take_client(scope, hops)
        return True

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
