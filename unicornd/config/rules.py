"""What cannot stand together in a configuration: rules that span several keys. Pure.

A rule looks at settings that are each right by itself. It says what is wrong with its first key, which somebody must
have said: the message names the place of that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.settings import Settings

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        keys: what it looks at; the first one is to blame.
        check: returns what is wrong, or an empty text.
    """

    keys: tuple[Key, ...]
    check: Callable[[Settings], str]


def _key_without_certificate(settings: Settings) -> str:
    tls = settings.tls
    if tls.keyfile is not None and tls.certfile is None and settings.hooks.ssl_context is None:
        return "a key needs its certificate: set tls.certfile"
    return ""


def _demand_without_certificate(settings: Settings) -> str:
    tls = settings.tls
    if tls.cert_reqs != "none" and tls.certfile is None and settings.hooks.ssl_context is None:
        return "nobody is asked for a certificate without TLS: set tls.certfile"
    return ""


def _demand_without_authorities(settings: Settings) -> str:
    tls = settings.tls
    if tls.cert_reqs != "none" and tls.certfile is not None and tls.ca_certs is None:
        return "clients' certificates need somebody to vouch for them: set tls.ca_certs"
    return ""


def _proxy_in_front_of_uwsgi(settings: Settings) -> str:
    if settings.server.protocol == "uwsgi" and settings.proxy.protocol != "off":
        return 'with server.protocol = "uwsgi" the client\'s address comes from nginx; leave it out'
    return ""


_SSL_CONTEXT: Key = ("hooks", "ssl_context")

RULES = (
    Rule(
        keys=(("tls", "keyfile"), ("tls", "certfile"), _SSL_CONTEXT),
        check=_key_without_certificate,
    ),
    Rule(
        keys=(("tls", "cert_reqs"), ("tls", "certfile"), _SSL_CONTEXT),
        check=_demand_without_certificate,
    ),
    Rule(
        keys=(("tls", "cert_reqs"), ("tls", "certfile"), ("tls", "ca_certs")),
        check=_demand_without_authorities,
    ),
    Rule(
        keys=(("proxy", "protocol"), ("server", "protocol")),
        check=_proxy_in_front_of_uwsgi,
    ),
)
