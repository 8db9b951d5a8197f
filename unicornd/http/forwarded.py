"""What is believed of those who forward requests: the scheme, where the application is mounted, names with underscores.

Pure. Whether a peer is trusted is decided once a connection; what it says is read with each head, so that a contradiction
is a refusal and never reaches the application.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from unicornd.dataclass import dataclass, field
from unicornd.http.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unicornd.http.messages import Head

EVERYBODY = "*"
_UNDERSCORED = re.compile(rb"\r\n([A-Za-z0-9-]*_[A-Za-z0-9_-]*):[\t ]*([^\r\n]*)")
SCRIPT_NAME = "SCRIPT_NAME"


class Trust:
    """Whose word is taken.

    Args:
        trusted: addresses and networks, or `*`.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        texts = tuple(trusted)
        self._is_blind = EVERYBODY in texts
        self._networks = [ipaddress.ip_network(text) for text in texts if text != EVERYBODY]

    def has(self, host: str) -> bool:
        """Return whether a peer is trusted; an empty host is one on a Unix socket, which always is."""
        if self._is_blind or not host:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What a forwarder says of a request.

    Attributes:
        scheme: `http` or `https`; empty if it says nothing.
        mount: path under which the application is mounted; empty for none.
        environ: what is put into the environ as it is.
        client: host and port of the client; None if it is whoever is connected.
    """

    scheme: str = ""
    mount: str = ""
    client: tuple[str, str] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def apply(self, environ: dict[str, Any]) -> None:
        """Put it into a request's environ."""
        if self.scheme:
            environ["wsgi.url_scheme"] = self.scheme
            if self.scheme == "https":
                environ["HTTPS"] = "on"
            else:  # although the proxy itself may speak TLS with us
                environ.pop("HTTPS", None)
        if self.mount:
            path = environ["PATH_INFO"]
            environ[SCRIPT_NAME] = self.mount
            if is_below(path, self.mount):
                environ["PATH_INFO"] = path[len(self.mount) :]
        environ.update(self.environ)


def is_below(path: str, mount: str) -> bool:
    """Return whether `path` is `mount` or lies under it."""
    return path.startswith(mount) and path[len(mount) : len(mount) + 1] in {"", "/"}


class Forwarding:
    """How the heads of one worker are read.

    Args:
        trust: whose word is taken.
        secure: header name → its value for https.
        allowed: names with underscores that a trusted peer may send, or `*`.
        mount: where the application is mounted if nobody says otherwise.

    Attributes:
        mount: where the application is mounted if nobody says otherwise.
        standing: what holds for a peer that is not trusted, or says nothing.
        names: CGI names of the headers that tell the scheme.
    """

    def __init__(
        self, trust: Trust, *, secure: Mapping[str, str], allowed: Iterable[str], mount: str = ""
    ) -> None:
        self.trust = trust
        self._secure = {_key(name): value for name, value in secure.items()}
        self.names = frozenset(self._secure)
        self._allowed = frozenset(name.upper() for name in allowed)
        self.standing = Forwarded(mount=mount) if mount else None
        self.mount = mount

    def read(self, head: Head, block: bytes) -> Forwarded | None:
        """Return what a trusted peer says with this head; None for nothing.

        Raises:
            Refusal: 400, headers contradict each other, or the mount is no prefix of the path.
        """
        is_plain = self.names.isdisjoint(head.fields)
        if is_plain and not head.has_underscores:
            return self.standing
        extras = self._extras(block) if head.has_underscores else {}
        if is_plain and not extras:
            return self.standing
        mount = extras.get(SCRIPT_NAME, "")
        if mount and not is_below(head.path, mount):
            raise bad_request("SCRIPT_NAME is no prefix of the path", "RFC 3875 section 4.1.13")
        environ = {f"HTTP_{name}": value for name, value in extras.items()}
        return Forwarded(scheme=self._scheme(head), mount=mount or self.mount, environ=environ)

    def _scheme(self, head: Head) -> str:
        said = {
            "https" if head.fields[key] == value else "http"
            for key, value in self._secure.items()
            if key in head.fields
        }
        if len(said) > 1:
            raise bad_request("headers about the scheme contradict each other", "RFC 9110 section 4.2.2")
        return said.pop() if said else ""

    def _extras(self, block: bytes) -> dict[str, str]:
        """Return the fields with an underscore in their names that are allowed."""
        found = {}
        for name, value in _UNDERSCORED.findall(block):
            key = name.decode("latin-1").upper()
            if EVERYBODY in self._allowed or key in self._allowed:
                found[key.replace("-", "_")] = value.decode("latin-1").rstrip("\t ")
        return found


def _key(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")
