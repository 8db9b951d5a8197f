"""Which settings a kind cannot honour: refused, rather than accepted without effect.

Asked by the arbiter before anything is forked, and by the worker for a kind that follows from the application.
"""

from __future__ import annotations

import select
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from unicornd.config.kinds import GREEN
from unicornd.errors import BootError, ConfigError

if TYPE_CHECKING:
    from unicornd.config.sections.asgi import AsgiSettings
    from unicornd.config.sections.hooks import HooksSettings
    from unicornd.config.sections.http import HttpSettings
    from unicornd.config.sections.proxy import ProxySettings
    from unicornd.config.sections.server import ServerSettings
    from unicornd.config.sections.tls import TlsSettings
    from unicornd.config.sections.workers import WorkersSettings

OUR_CONNECTIONS = frozenset({"sync", "threads", "gevent", "eventlet"})
"""Kinds whose connections are ours from the first byte."""
OUR_HEADS = OUR_CONNECTIONS | {"gevent_pywsgi"}
"""Kinds whose heads are read by `http`."""
OWN_POLLER = frozenset({"sync", "threads"})
TOLERANCE = (
    "header_map", "permit_obsolete_folding", "strip_header_spaces", "permit_unconventional_method",
    "permit_unconventional_version", "casefold_method",
)  # fmt: skip
SCHEMES = ("forwarded_allow_ips", "secure_scheme_headers")
BUFFERING = ("body_memory", "tmp_upload_dir")
"""Settings of [http] about bodies that wait for their end; an ASGI application takes its body as it comes."""

_BODIES = {"": "the application reads a body as it comes", "tornado": "it keeps a body in memory"}
"""Where a body is, by kind."""


def speaks_tls(tls: TlsSettings, hooks: HooksSettings) -> bool:
    """Return whether TCP listeners speak TLS."""
    return tls.certfile is not None or hooks.ssl_context is not None


def check_tls_fit(kind: str, found: object, *, tls: TlsSettings, hooks: HooksSettings) -> None:
    """Hold the settings about TLS against a kind.

    Args:
        kind: its name.
        found: the kind itself, one of the operator's own; all of ours do.
        tls: settings.
        hooks: settings, too.

    Raises:
        ConfigError: it speaks plain HTTP only.
    """
    if speaks_tls(tls, hooks) and not getattr(found, "SPEAKS_TLS", False):
        setting = "tls.certfile" if tls.certfile is not None else "hooks.ssl_context"
        raise ConfigError(
            f'{setting}: the kind "{kind}" does not speak TLS: it has no SPEAKS_TLS',
            hint='set kind = "threads" under [workers], or leave TLS to a proxy in front',
        )


def check_unpatched(kind: str) -> None:
    """Look whether a kind that polls itself has what it polls with: gevent and eventlet take it out of the library.

    Raises:
        BootError: something has patched the standard library, the application or a file of hooks.
    """
    if kind in OWN_POLLER and not hasattr(select, "epoll"):
        raise BootError(
            f'the kind "{kind}" needs the standard library as it is, and something has patched it',
            hint='set kind = "gevent" or "eventlet" under [workers], or leave the patching out',
        )


def check_tls_wire(server: ServerSettings, proxy: ProxySettings) -> None:
    """Hold TLS against what else is spoken on the listeners.

    Raises:
        ConfigError: they cannot be spoken on one connection in this version.
    """
    if server.protocol != "http":
        raise ConfigError(
            f'server.protocol: "{server.protocol}" is not spoken over TLS',
            hint="leave [tls] out, or speak http",
        )
    if proxy.protocol != "off":
        raise ConfigError(
            "proxy.protocol: a PROXY header in front of TLS is not read in this version",
            hint='let the proxy end TLS and send X-Forwarded-For, or set protocol = "off"',
        )


def check_green_fit(kind: str, *, workers: WorkersSettings, http: HttpSettings) -> None:
    """Hold the settings against a kind, if it is one with greenlets, or tornado.

    Raises:
        ConfigError: one that was set has no effect there.
    """
    if kind not in GREEN | {"tornado"}:
        return
    if workers.threads > 1 and kind in GREEN:
        raise ConfigError(
            f'workers.threads has no effect on the kind "{kind}": a connection has a greenlet of its own',
            hint="leave it out; workers.connections bounds how many there are",
        )
    if kind not in OUR_CONNECTIONS:
        _check_spool(f'the kind "{kind}"', http)
    for name in BUFFERING:
        if name in http.said and not (name == "tmp_upload_dir" and kind in OUR_CONNECTIONS):
            raise ConfigError(
                f'http.{name} has no effect on the kind "{kind}": {_BODIES.get(kind, _BODIES[""])}',
                hint="leave it out; http.max_body_size and timeouts.body hold",
            )


def _check_spool(what: str, http: HttpSettings) -> None:
    if "response_spool" in http.said:
        raise ConfigError(
            f"http.response_spool has no effect on {what}: a response waits in memory, and its application for the client",
            hint="leave it out",
        )


def check_fit(interface: Literal["wsgi", "asgi"], *, http: HttpSettings, asgi: AsgiSettings) -> None:
    """Hold the settings against the interface that a kind serves.

    Raises:
        ConfigError: one that was set has no effect there.
    """
    if interface == "wsgi":
        _check_wsgi(asgi)
        return
    _check_spool("ASGI", http)
    for name in BUFFERING:
        if name in http.said:
            raise ConfigError(
                f"http.{name} has no effect on ASGI: the application takes a body as it comes",
                hint="leave it out; http.max_body_size and timeouts.body hold",
            )
    if "sendfile" in http.said and http.sendfile:
        raise ConfigError(
            "http.sendfile has no effect on ASGI: there is no such message", hint="leave it out"
        )
    if asgi.loop == "uvloop" and find_spec("uvloop") is None:
        raise ConfigError(
            'asgi.loop: "uvloop" is not installed', hint="pip install 'unicornd[asgi]', or loop = \"auto\""
        )


def check_wire(kind: str, *, http: HttpSettings, proxy: ProxySettings, server: ServerSettings) -> None:
    """Hold what is spoken on the listeners against what a kind reads of it.

    Raises:
        ConfigError: a setting would have no effect.
    """
    spoken = ["proxy.protocol"] if proxy.protocol != "off" else []
    spoken += ["server.protocol"] if server.protocol != "http" else []
    loose = [
        f"http.{name}"
        for name in TOLERANCE
        if name in http.said and getattr(http, name) not in {False, "drop"}
    ]
    schemes = [f"proxy.{name}" for name in SCHEMES if name in proxy.said]
    forwarded = ["proxy.forwarder_headers"] if "forwarder_headers" in proxy.said else []
    for said, kinds in (
        (spoken, OUR_CONNECTIONS),
        (loose, OUR_HEADS),
        (schemes, OUR_HEADS | {"tornado", "asgi"}),
        (forwarded, OUR_HEADS | {"tornado"}),
    ):
        if said and kind not in kinds:
            raise ConfigError(
                f'{said[0]} has no effect on the kind "{kind}"',
                hint=f"leave it out, or use one of the kinds {', '.join(sorted(kinds))}",
            )


def _check_wsgi(asgi: AsgiSettings) -> None:
    if asgi.said:
        name = min(asgi.said)
        raise ConfigError(
            f"asgi.{name} is set, but the application is served as WSGI",
            hint='set kind = "asgi" under [workers], or leave the table [asgi] out',
        )
