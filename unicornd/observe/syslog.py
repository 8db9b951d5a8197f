"""Lines to a syslog daemon: by UDP, by TCP, or by a Unix socket of either kind.

Used by every process in whatever thread logs; each process has a connection of its own. Nothing here waits and nothing
raises: what the daemon does not take now is kept (streams only, up to `MAX_KEPT_BYTES`) or lost, and how much was lost is
the first thing that the daemon hears when it takes lines again.

The form is that of RFC 3164 without time and host, which the daemon adds: `<14>unicornd.shop.error: [812] stopped`. On a
stream a line feed ends a message (RFC 6587 section 3.4.2), so those inside are written `#012`, as rsyslog does.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import socket
import time
from contextlib import suppress
from typing import Literal

from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError
from unicornd.observe.outlet import count_lost

SYSLOG_PORT = 514
MAX_LINE_BYTES = 8192
"""rsyslog's own limit; longer lines are cut."""
MAX_KEPT_BYTES = 256 * 1024
RETRY_SECONDS = 1.0
LAST_PUSH_SECONDS = 0.2
"""How long a process that ends gives the daemon to take what was kept."""

FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
    "cron": 9, "authpriv": 10, "ftp": 11, **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip
_SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
DEBUG_SEVERITY = 7
_NET = re.compile(
    r"(?P<scheme>udp|tcp)://(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)
_UNIX = re.compile(r"unix:(?://)?+(?P<path>[^#]+)(?:#(?P<kind>dgram|stream))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogAddress:
    """Where a syslog daemon listens.

    Attributes:
        kind: `auto` is for Unix sockets: datagrams, else a stream.
        host, port: for UDP and TCP.
        path: of a Unix socket.
    """

    kind: Literal["dgram", "stream", "auto"]
    host: str = ""
    port: int = 0
    path: str = ""


def parse_address(text: str) -> SyslogAddress:
    """Read `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix://PATH`, with `#dgram` or `#stream`.

    Raises:
        ConfigError: it is none of these.
    """
    if match := _UNIX.fullmatch(text):
        kind: Literal["dgram", "stream", "auto"] = "auto"
        if match["kind"]:
            kind = "dgram" if match["kind"] == "dgram" else "stream"
        return SyslogAddress(kind=kind, path=match["path"])
    match = _NET.fullmatch(text)
    port = int(match["port"] or SYSLOG_PORT) if match is not None else 0
    if match is None or not 0 < port < 1 << 16:
        raise ConfigError(
            f"logging.syslog.address: {text} is no address of a syslog daemon",
            hint='write "udp://HOST:PORT", "tcp://HOST:PORT" or "unix:///dev/log" (with "#dgram" or "#stream")',
        )
    kind = "dgram" if match["scheme"] == "udp" else "stream"
    return SyslogAddress(kind=kind, host=match["v6"] or match["host"], port=port)


class Syslog(logging.Handler):
    """Sends lines to a syslog daemon.

    Args:
        address: where it listens. A name is looked up now, and not again.
        facility: of `FACILITIES`.
        program: what the daemon takes for the program's name.
    """

    def __init__(self, address: SyslogAddress, *, facility: str, program: str) -> None:
        super().__init__()
        self._address = address
        self._facility = FACILITIES[facility] << 3
        self._program = program
        self._family, self._target = _looked_up(address)
        self._socket: socket.socket | None = None
        self._is_stream = False
        self._owner = 0
        self._next_try = 0.0
        self._kept = bytearray()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line, or keep it, or lose it."""
        if not record.msg and hasattr(record, "metric"):
            return
        try:
            line = self._encoded(self.format(record), _severity(record.levelno))
            self._send(line)
        except Exception:  # noqa: BLE001 - whatever it is, a request is not to fail for it
            self._lose()

    def push(self) -> None:
        """Send what was kept, as far as the daemon takes it now."""
        if not self._kept:
            return
        self.acquire()
        try:
            if self._is_connected():
                self._flush()
        finally:
            self.release()

    def close(self) -> None:
        """Give the daemon a moment to take what was kept, then close."""
        if self._kept and self._socket is not None and self._owner == os.getpid():
            poller = select.poll()
            poller.register(self._socket, select.POLLOUT)
            deadline = time.monotonic() + LAST_PUSH_SECONDS
            while self._kept and (left := deadline - time.monotonic()) > 0 and poller.poll(left * 1000):
                self.push()
        self._disconnect()
        super().close()

    def _encoded(self, text: str, severity: int) -> bytes:
        head = f"<{self._facility | severity}>{self._program}: "
        return (head + text).encode("utf-8", "backslashreplace")[:MAX_LINE_BYTES]

    def _send(self, line: bytes) -> None:
        if not self._is_connected():
            self._keep(line)
        elif self._is_stream:
            if self.lost and not self._kept:
                self._tell_lost()
            self._keep(line)
            self._flush()
        else:
            if self.lost and self._send_datagram(self._lost_line()):
                self.lost = 0
            if not self._send_datagram(line):
                self._lose()

    def _keep(self, line: bytes) -> None:
        """Keep a line for a stream; a daemon that takes datagrams and is not there gets none of them later."""
        is_for_stream = self._is_stream or self._address.kind == "stream"
        if not is_for_stream or len(self._kept) + len(line) > MAX_KEPT_BYTES:
            self._lose()
        else:
            self._kept += line.replace(b"\r", b"#015").replace(b"\n", b"#012") + b"\n"

    def _flush(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            while self._kept:
                sent = sock.send(self._kept, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                del self._kept[:sent]
                if not self._kept and self.lost:
                    self._tell_lost()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # the connection is still being made
                return
            self._break()

    def _break(self) -> None:
        """The daemon is gone: drop the line that it may have got half of, connect again later."""
        if self._kept and not self._kept.startswith(b"<"):
            end = self._kept.find(b"\n") + 1
            del self._kept[: end or None]
            self._lose()
        self._disconnect()

    def _send_datagram(self, line: bytes) -> bool:
        sock = self._socket
        if sock is None:
            return False
        try:
            sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except ConnectionRefusedError:
            if self._family == socket.AF_UNIX:
                self._disconnect()
                return False
            self._lose()  # said of the datagram before: nobody had been there to take it
            with suppress(OSError):
                sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                return True
            return False
        except BlockingIOError:
            return False
        except OSError:
            self._disconnect()
            return False
        return True

    def _lose(self) -> None:
        self.lost += 1
        count_lost("syslog")

    def _tell_lost(self) -> None:
        self._kept += self._lost_line() + b"\n"
        self.lost = 0

    def _lost_line(self) -> bytes:
        lines = "line was" if self.lost == 1 else "lines were"
        return self._encoded(f"[{os.getpid()}] {self.lost} {lines} lost: nobody took them", 4)

    def _is_connected(self) -> bool:
        """Have a connection of this process's own; at most one try a second."""
        if self._owner != os.getpid():  # forked: two writers would mix their lines on one stream
            self._disconnect()
            self._kept.clear()
            self.lost = 0
            self._owner = os.getpid()
            self._next_try = 0.0
        if self._socket is not None:
            return True
        now = time.monotonic()
        if now < self._next_try or self._target is None:
            return False
        self._next_try = now + RETRY_SECONDS
        return self._connect(self._target)

    def _connect(self, target: object) -> bool:
        kinds = {"dgram": (False,), "stream": (True,), "auto": (False, True)}[self._address.kind]
        for is_stream in kinds:
            sock = socket.socket(self._family, socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(target)  # type: ignore[arg-type] # as the family wants it
            except BlockingIOError:
                if (
                    self._family == socket.AF_UNIX
                ):  # nothing is under way there: the daemon's queue is full (connect(2))
                    sock.close()
                    continue
            except OSError:
                sock.close()
                continue
            self._socket, self._is_stream = sock, is_stream
            return True
        return False

    def _disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()


def _looked_up(address: SyslogAddress) -> tuple[int, object | None]:
    """Return family and socket address; None for a name that is not known."""
    if address.path:
        return socket.AF_UNIX, address.path
    kind = socket.SOCK_STREAM if address.kind == "stream" else socket.SOCK_DGRAM
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind)
    except OSError:
        return socket.AF_INET, None
    family, _, _, _, target = min(found, key=lambda each: each[0] == socket.AF_INET6)
    return family, target


def _severity(level: int) -> int:
    return next((severity for least, severity in _SEVERITIES if level >= least), DEBUG_SEVERITY)
