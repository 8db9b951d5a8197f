"""Numbers for statsd, with gunicorn's names: by UDP or Unix datagrams, several in one packet.

Used by workers (requests) and by the arbiter (workers, queues). A packet that cannot be sent at once is lost. Nothing
here waits or raises; names are looked up once, when the client is made.
"""

from __future__ import annotations

import logging
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unicornd.config.sections.metrics import MetricsSettings

MAX_PACKET_BYTES = 1432
"""What fits into an Ethernet frame with any usual tunnel (statsd's own documentation)."""
_RESERVED = re.compile(r"[\x00-\x20\x7f|:@#]")
"""What would end a name, a value or a metric."""
_KINDS = {"gauge": "g", "counter": "c|@1.0", "histogram": "h", "timer": "ms"}


class Statsd:
    """Sends metrics.

    Args:
        settings: where to, and what to put around the names.
    """

    def __init__(self, settings: MetricsSettings) -> None:
        self._prefix = f"{settings.statsd_prefix.rstrip('.')}." if settings.statsd_prefix else ""
        self._suffix = f"|#{settings.dogstatsd_tags}" if settings.dogstatsd_tags else ""
        self._socket, self._target = _opened(settings)

    @property
    def is_open(self) -> bool:
        """Whether its name could be looked up."""
        return self._socket is not None

    def line(self, name: str, value: object, *, kind: str) -> str:
        """Return one metric: `shop.gunicorn.requests:1|c|@1.0|#env:prod`; `kind` is gunicorn's `mtype`."""
        return f"{self._prefix}{name}:{value}|{_KINDS[kind]}{self._suffix}"

    def send(self, *lines: str) -> None:
        """Send metrics, in as few packets as they fit into."""
        packet = b""
        for line in lines:
            data = line.encode("utf-8", "replace")
            if packet and len(packet) + 1 + len(data) > MAX_PACKET_BYTES:
                self._send(packet)
                packet = b""
            packet = packet + b"\n" + data if packet else data
        self._send(packet)

    def tell_request(self, status: str, seconds: float) -> None:
        """Count a request."""
        self.send(
            self.line("gunicorn.request.duration", seconds * 1000, kind="timer"),
            self.line("gunicorn.requests", 1, kind="counter"),
            self.line(f"gunicorn.request.status.{_code_of(status)}", 1, kind="counter"),
        )

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, packet: bytes) -> None:
        if self._socket is not None and packet:
            with suppress(OSError):  # nobody listens, or its buffer is full
                self._socket.sendto(packet, socket.MSG_DONTWAIT, self._target)


class StatsdSink(logging.Handler):
    """Counts lines of the error log, and sends what `extra={"metric", "value", "mtype"}` of a log call says.

    Args:
        statsd: sends.
    """

    def __init__(self, statsd: Statsd) -> None:
        super().__init__()
        self._statsd = statsd

    def emit(self, record: logging.LogRecord) -> None:
        """Send what the record is worth."""
        with suppress(Exception):  # what is wrong with a metric is no reason to fail a request
            lines = []
            metric, kind = getattr(record, "metric", None), getattr(record, "mtype", None)
            if metric and kind in _KINDS:
                value = _plain(getattr(record, "value", 1))
                lines.append(self._statsd.line(_plain(metric), value, kind=str(kind)))
            if record.msg and record.levelno >= logging.WARNING:
                lines.append(self._statsd.line(f"gunicorn.log.{_level(record)}", 1, kind="counter"))
            self._statsd.send(*lines)

    def close(self) -> None:
        """Close the client."""
        self._statsd.close()
        super().close()


def _plain(value: object) -> str:
    """Return a name or a number in which nothing ends it."""
    return _RESERVED.sub("_", str(value))


def _code_of(status: str) -> str:
    code = status[:3]
    return code if code.isdecimal() else _plain(code)


def _level(record: logging.LogRecord) -> str:
    if record.levelno >= logging.CRITICAL:
        return "critical"
    if record.levelno >= logging.ERROR:
        return "exception" if record.exc_info else "error"
    return "warning"


def _opened(settings: MetricsSettings) -> tuple[socket.socket | None, Any]:
    where = settings.statsd
    if where is None:
        return None, None
    if where.path:
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), where.path
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)
    except OSError:
        return None, None
    family, _, _, _, target = min(found, key=lambda each: each[0] == socket.AF_INET6)
    return socket.socket(family, socket.SOCK_DGRAM), target
