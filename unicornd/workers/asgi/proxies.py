"""What is believed of those who forward requests: `proxy.secure_scheme_headers` and X-Forwarded-For, put into a scope.

The rules are `http.forwarded`'s, as in every kind. Whether a peer is trusted is decided once a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unicornd.http.forwarded import Schemes, Trust, cgi_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORWARDED_FOR = b"x-forwarded-for"
NO_ADDRESS = "-"
"""For a hop without a name: `Trust` takes an empty one for a Unix socket."""


class Proxies:
    """Whose word is taken, and about what.

    Args:
        trusted: addresses and networks, or `*`.
        secure: header → its value for https.

    Attributes:
        names: of the headers that say anything.
    """

    def __init__(self, trusted: Iterable[str], secure: Mapping[str, str]) -> None:
        self._trust = Trust(trusted)
        self._schemes = Schemes(secure)
        self._keys = {name.lower().encode("latin-1"): cgi_name(name) for name in secure}
        self.names = frozenset({*self._keys, FORWARDED_FOR})

    def has(self, host: str | None) -> bool:
        """Return whether a peer is trusted; None is one on a Unix socket."""
        return self._trust.has("" if host is None else host or NO_ADDRESS)

    def believe(self, scope: Any, headers: Iterable[tuple[bytes, bytes]]) -> None:  # noqa: ANN401 - an ASGI scope
        """Put what a trusted peer says about scheme and client into the scope, where it stands as the client until then.

        Raises:
            Refusal: 400, it contradicts itself.
        """
        keys = self._keys
        hops: list[str] = []
        said: list[tuple[str, str]] = []
        for name, value in headers:
            if name in keys:
                said.append((keys[name], value.decode("latin-1")))
            elif name == FORWARDED_FOR:
                hops += value.decode("latin-1").split(",")
        if said:
            plain = "ws" if scope["type"] == "websocket" else "http"
            peer = scope["client"][0] if scope["client"] else ""
            scope["scheme"] = f"{plain}s" if self._schemes.of(said, peer=peer) == "https" else plain
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
