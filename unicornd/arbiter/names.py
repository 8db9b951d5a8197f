"""Host names of statsd and syslog, looked up where the configuration is read.

A name server that does not answer holds getaddrinfo(3) up for half a minute: it may do so to the process that reads the
configuration, not to the arbiter's loop, nor to each worker that boots. So they are given addresses. A name that leads
elsewhere later is looked up again by the next reload.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from unicornd.config.record import replaced
from unicornd.config.values import Statsd
from unicornd.dataclass import replace
from unicornd.observe.syslog import parse_address

if TYPE_CHECKING:
    from unicornd.config.loaded import Loaded
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings


def with_addresses(loaded: Loaded) -> Loaded:
    """Return a configuration with addresses in the place of names; what cannot be looked up is switched off, and told."""
    settings = loaded.settings
    losses: list[str] = []
    metrics = _metrics(settings.metrics, losses)
    logging = _logging(settings.logging, losses)
    if metrics is settings.metrics and logging is settings.logging:
        return loaded
    settings = replaced(settings, metrics=metrics, logging=logging)
    return replace(loaded, settings=settings, losses=(*loaded.losses, *losses))


def _metrics(metrics: MetricsSettings, losses: list[str]) -> MetricsSettings:
    statsd = metrics.statsd
    if statsd is None or not statsd.host:
        return metrics
    try:
        address = _address_of(statsd.host, statsd.port, kind=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        losses.append(
            f"metrics.statsd: {statsd.host} cannot be looked up ({_why(error)}): no metrics are sent"
        )
        return replaced(metrics, statsd=None)
    return replaced(metrics, statsd=Statsd(host=address, port=statsd.port))


def _logging(logging: LoggingSettings, losses: list[str]) -> LoggingSettings:
    syslog = logging.syslog
    where = parse_address(syslog.address) if syslog.enabled else None
    if where is None or not where.host:
        return logging
    kind = socket.SOCK_STREAM if where.kind == "stream" else socket.SOCK_DGRAM
    try:
        address = _address_of(where.host, where.port, kind=kind)
    except (OSError, UnicodeError) as error:
        losses.append(
            f"logging.syslog.address: {where.host} cannot be looked up ({_why(error)}): nothing is sent there"
        )
        return replaced(logging, syslog=replaced(syslog, enabled=False))
    scheme = "tcp" if where.kind == "stream" else "udp"
    shown = f"[{address}]" if ":" in address else address
    return replaced(logging, syslog=replaced(syslog, address=f"{scheme}://{shown}:{where.port}"))


def _address_of(host: str, port: int, *, kind: socket.SocketKind) -> str:
    """Return the address of a host as text, IPv4 before IPv6.

    Raises:
        OSError: it has none (getaddrinfo(3)).
        UnicodeError: it is no name that can be asked for.
    """
    found = socket.getaddrinfo(host, port, type=kind)
    *_, target = min(found, key=lambda each: each[0] == socket.AF_INET6)
    return socket.getnameinfo(target, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def _why(error: OSError | UnicodeError) -> str:
    return str(error.strerror if isinstance(error, OSError) else "it is no name of a host")
