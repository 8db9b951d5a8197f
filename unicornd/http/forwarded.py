"""What is believed of those who forward requests: the scheme, where the application is mounted, names with underscores.

Pure. Whether a peer is trusted is decided once a connection; what it says is read with each head, so that a contradiction
is a refusal and never reaches the application.
"""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from unicornd.dataclass import dataclass, field
from unicornd.http.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from unicornd.http.messages import Head

EVERYBODY = "*"
_UNDERSCORED = re.compile(rb"\r\n([A-Za-z0-9-]*_[A-Za-z0-9_-]*):[\t ]*([^\r\n]*)")
SCRIPT_NAME = "SCRIPT_NAME"
HTTPS = "https"
WSS = "wss"
"""What some proxies say of WebSockets in a header that says `https` of other requests."""
MOST_SHOWN = 100
"""Characters of a value that the log shows."""


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


class Schemes:
    """How headers tell the scheme: `proxy.secure_scheme_headers`.

    One rule for all kinds. Case does not matter; a header may come in several lines, or with several values: a list is what
    lines of a name are joined to, by whatever proxy (RFC 9110 section 5.3). All that is said has to be the same.

    Args:
        secure: header name → its value for https.

    Attributes:
        names: CGI names of the headers.
    """

    def __init__(self, secure: Mapping[str, str]) -> None:
        self._secure = {cgi_name(name): value.lower() for name, value in secure.items()}
        self.names = frozenset(self._secure)

    def of(self, said: Iterable[tuple[str, str]], *, peer: str) -> str:
        """Return `http` or `https`; empty if nothing is said.

        Args:
            said: CGI names and values of fields, others too.
            peer: who has said it.

        Raises:
            Refusal: 400, they contradict each other.
        """
        heard = [(key, value) for key, value in said if key in self._secure]
        schemes = {scheme for key, value in heard for scheme in self._schemes(key, value)}
        if len(schemes) > 1:
            fields = "; ".join(
                f"{key.removeprefix('HTTP_').replace('_', '-').title()}: {value[:MOST_SHOWN]}"
                for key, value in heard
            )
            raise _contradiction(
                "headers about the scheme contradict each other",
                section="RFC 9110 section 4.2.2",
                extra={"headers": fields, "peer": name_of(peer), "setting": "proxy.secure_scheme_headers"},
            )
        return schemes.pop() if schemes else ""

    def _schemes(self, key: str, value: str) -> set[str]:
        secure = self._secure[key]
        said = {each.strip().lower() for each in value.split(",")}
        said = (said - {""}) or said
        return {HTTPS if each == secure or (each == WSS and secure == HTTPS) else "http" for each in said}


def name_of(peer: str) -> str:
    """Return how a peer is called in a log; an empty one is on a Unix socket."""
    return peer or "a Unix socket"


class Forwarding:
    """How the heads of one worker are read.

    Args:
        trust: whose word is taken.
        secure: header name → its value for https.
        allowed: names with underscores that a trusted peer may send, or `*`.
        mount: where the application is mounted if nobody says otherwise.
        on_dropped: told of each field of a trusted peer that is dropped for its name: by whom, which name.

    Attributes:
        mount: where the application is mounted if nobody says otherwise.
        standing: what holds for a peer that is not trusted, or says nothing.
        names: CGI names of the headers that tell the scheme.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        secure: Mapping[str, str],
        allowed: Iterable[str],
        mount: str = "",
        on_dropped: Callable[[str, str], None] = lambda _peer, _name: None,
    ) -> None:
        self.trust = trust
        self._schemes = Schemes(secure)
        self.names = self._schemes.names
        self._on_dropped = on_dropped
        self._allowed = frozenset(name.upper() for name in allowed)
        self.standing = Forwarded(mount=mount) if mount else None
        self.mount = mount

    def read(self, head: Head, block: bytes, *, peer: str) -> Forwarded | None:
        """Return what a trusted peer says with this head; None for nothing.

        Args:
            head: parsed.
            block: as received.
            peer: who has sent it, for the log.

        Raises:
            Refusal: 400, headers contradict each other, or the mount is no prefix of the path.
        """
        is_plain = self.names.isdisjoint(head.fields)
        if is_plain and not head.has_underscores:
            return self.standing
        extras = self._extras(block, peer) if head.has_underscores else {}
        if is_plain and not extras:
            return self.standing
        mount = extras.get(SCRIPT_NAME, "")
        if mount and not is_below(head.path, mount):
            raise _contradiction(
                "SCRIPT_NAME is no prefix of the path",
                section="RFC 3875 section 4.1.13",
                extra={
                    "headers": f"{SCRIPT_NAME}: {mount[:MOST_SHOWN]}",
                    "peer": name_of(peer),
                    "setting": "proxy.forwarder_headers",
                },
            )
        environ = {f"HTTP_{name}": value for name, value in extras.items()}
        scheme = "" if is_plain else self._schemes.of(head.fields.items(), peer=peer)
        return Forwarded(scheme=scheme, mount=mount or self.mount, environ=environ)

    def _extras(self, block: bytes, peer: str) -> dict[str, str]:
        """Return the fields with an underscore in their names that are allowed."""
        found = {}
        for name, value in _UNDERSCORED.findall(block):
            key = name.decode("latin-1").upper()
            if EVERYBODY in self._allowed or key in self._allowed:
                found[key.replace("-", "_")] = value.decode("latin-1").rstrip("\t ")
            else:
                self._on_dropped(peer, name.decode("latin-1"))
        return found


def _contradiction(what: str, *, section: str, extra: Mapping[str, str]) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, what, section=section, extra=extra)


def cgi_name(name: str) -> str:
    """Return a header's name as an environ has it (RFC 3875 section 4.1.18)."""
    return "HTTP_" + name.upper().replace("-", "_")
