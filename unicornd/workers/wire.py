"""From settings to what is spoken on a connection: tolerance, trust, PROXY, uwsgi.

Run in the worker at boot; pure but for the environment variable SCRIPT_NAME, which is a default as in gunicorn.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

from unicornd.http.forwarded import Forwarding, Trust
from unicornd.http.tolerance import Tolerance, parser_for
from unicornd.workers.context import Proxying
from unicornd.workers.dropped import Dropped

if TYPE_CHECKING:
    import logging

    from unicornd.config.sections.http import HttpSettings
    from unicornd.config.sections.proxy import ProxySettings
    from unicornd.config.sections.server import ServerSettings
    from unicornd.http.tolerance import Parser


class Wire(TypedDict):
    """What `HttpPolicy` has of these."""

    parse: Parser
    forwarding: Forwarding
    proxying: Proxying | None
    uwsgi: Trust | None


def wire_of(
    http: HttpSettings, proxy: ProxySettings, *, server: ServerSettings, root_path: str, log: logging.Logger
) -> Wire:
    """Return what is spoken on the listeners."""
    tolerance = Tolerance(
        header_map=http.header_map,
        folding=http.permit_obsolete_folding,
        spaces=http.strip_header_spaces,
        methods=http.permit_unconventional_method,
        versions=http.permit_unconventional_version,
        casefold=http.casefold_method,
    )
    mount = (root_path or os.environ.get("SCRIPT_NAME", "")).rstrip("/")
    forwarding = Forwarding(
        Trust(proxy.forwarded_allow_ips),
        secure=proxy.secure_scheme_headers,
        allowed=proxy.forwarder_headers,
        mount=mount,
        on_dropped=Dropped(log, setting="proxy.forwarder_headers"),
    )
    proxying = (
        Proxying(mode=proxy.protocol, trust=Trust(proxy.allow_ips)) if proxy.protocol != "off" else None
    )
    uwsgi = Trust(server.uwsgi_allow_ips) if server.protocol == "uwsgi" else None
    return Wire(parse=parser_for(tolerance), forwarding=forwarding, proxying=proxying, uwsgi=uwsgi)
