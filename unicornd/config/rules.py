"""What cannot stand together in a configuration: rules that span several keys. Pure.

A rule looks at settings that are each right by itself. It says what is wrong with its first key, which somebody must
have said: the message names the place of that one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unicornd.config.kinds import SYNC
from unicornd.config.values import MAX_PORT, quoted
from unicornd.dataclass import dataclass

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


def _threads_of_sync(settings: Settings) -> str:
    if settings.workers.kind == SYNC and settings.workers.threads > 1:
        return 'kind "sync" has one thread; use kind = "threads"'
    return ""


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


def _odd_syslog_address(settings: Settings) -> str:
    address = settings.logging.syslog.address
    match = _SYSLOG.fullmatch(address)
    if match is not None and int(match["port"] or 1) <= MAX_PORT:
        return ""
    return f'expected "udp://HOST:PORT", "tcp://HOST:PORT" or "unix://PATH", got {quoted(address)}'


def _two_logging_configurations(settings: Settings) -> str:
    logging = settings.logging
    if logging.config and logging.config_object is not None:
        return "there is a table logging.config, too: leave one of them out"
    return ""


_SYSLOG = re.compile(
    r"(?:udp|tcp)://(?:\[[^\]]+\]|[\w.-]*)(?::(?P<port>[0-9]{1,5}))?|unix://[^#\0]+(?:#dgram|#stream)?",
    re.ASCII,
)
_SSL_CONTEXT: Key = ("hooks", "ssl_context")

RULES = (
    Rule(keys=(("workers", "threads"), ("workers", "kind")), check=_threads_of_sync),
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
    Rule(keys=(("logging", "config_object"), ("logging", "config")), check=_two_logging_configurations),
    Rule(keys=(("logging", "syslog", "address"),), check=_odd_syslog_address),
)
