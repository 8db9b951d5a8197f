"""Which Host the listener of [admin] answers to, so that no web page reads it through DNS rebinding.

A page of a stranger's may give its own name the address 127.0.0.1, and its visitor's browser then sends that name as
Host. So names have to be declared; an address as Host cannot have been rebound, and probes of Kubernetes send the pod's.
Called by the arbiter's loop, once a request to [admin].
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.control.documents import refuse
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.config.values import Address
    from unicornd.control.exchange import Reply, Request

ANY = "*"
LOCAL = "localhost"
"""Browsers ask no name service for this one and what ends in it (RFC 6761 section 6.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """The names that are answered to, in small letters; `*` is any."""

    names: frozenset[str]

    def authorize(self, request: Request) -> Reply | None:
        """Return None if the request is for us, else what it is told.

        A request without Host (HTTP/1.0) is: every browser sends one.
        """
        if ANY in self.names or not request.host:
            return None
        name = _name_of(request.host)
        if name in self.names or name == LOCAL or name.endswith(f".{LOCAL}") or _is_address(name):
            return None
        return refuse(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"{name} is no name of this listener",
            hint="admin.hosts names the hosts that it answers to, beside localhost, its own address and all numeric ones",
        )


def make_host_rule(hosts: Iterable[str], address: Address) -> HostRule:
    """Return the rule of a listener: the declared names and its own; any at a Unix socket, which no browser reaches."""
    if address.kind in {"unix", "abstract"}:
        return HostRule(names=frozenset({ANY}))
    own = {address.host} if address.host else set()
    return HostRule(names=frozenset(_name_of(host) for host in {*hosts, *own}))


def _name_of(host: str) -> str:
    """Return the name of a Host field's value (RFC 9110 section 7.2): no port, no brackets, no final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, colon, port = host.rpartition(":")
    if not colon or ":" in name or not (port.isdecimal() or not port):
        name = host
    return name.lower().rstrip(".")


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return True
    return False
