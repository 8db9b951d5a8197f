"""sd_notify(3): tells the service manager how the fleet is, as datagrams to `$NOTIFY_SOCKET`.

Used by the arbiter's loop. Never waits and never fails: a manager that does not listen is its own fault.
"""

from __future__ import annotations

import os
import select
import socket
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.escaping import one_line
from unicornd.units import Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import MutableMapping

MICROSECONDS = 1_000_000


class Notifier:
    """Talks to the service manager; without one, to nobody.

    Args:
        address: `$NOTIFY_SOCKET`: a path, or an abstract name that starts with `@`; empty for nobody.
        watchdog: how long the manager waits for a sign of life; 0 for ever.

        is_main: False while another process is the main one: the manager would not listen, and log that.
    """

    def __init__(
        self,
        address: str = "",
        *,
        watchdog: Seconds = Seconds(0),  # noqa: B008 - a NewType's call
        is_main: bool = True,
    ) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self.watchdog = watchdog if address else Seconds(0)
        self._is_main = is_main
        if self._sock is not None:
            self._sock.setblocking(False)

    @property
    def has_manager(self) -> bool:
        """Whether there is a service manager at all."""
        return self._sock is not None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str], pid: int, *, is_main: bool = True) -> Notifier:
        """Read NOTIFY_SOCKET and WATCHDOG_USEC, and take them away: workers have no business there."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval, meant = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(pid))
        is_watched = interval.isdecimal() and meant == str(pid)
        watchdog = Seconds(int(interval) / MICROSECONDS if is_watched else 0.0)
        return cls(address if address.startswith(("/", "@")) else "", watchdog=watchdog, is_main=is_main)

    def speak(self) -> None:
        """This process is the main one from now on."""
        self._is_main = True

    def ready(self, status: str) -> None:
        """The fleet serves (after the start, and after a reload however it ended)."""
        self._send("READY=1", f"STATUS={status}")

    def main(self, pid: int) -> bool:
        """Another process is the main one from now on; it speaks for itself. Return whether that could be said."""
        return self._send(f"MAINPID={pid}")

    def await_hearing(self, patience: Seconds) -> None:
        """Wait until the manager has read what was sent (sd_notify_barrier(3)): not for the arbiter's loop."""
        reader, writer = os.pipe()
        is_sent = self._send("BARRIER=1", fds=(writer,))
        os.close(writer)
        if is_sent:
            poller = select.poll()
            poller.register(reader, 0)
            poller.poll(patience * 1000)  # the end: it has closed its copy
        os.close(reader)

    def reloading(self, status: str, *, now: Monotonic) -> None:
        """A reload begins (systemd 253 wants to know when, by CLOCK_MONOTONIC)."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(now * MICROSECONDS)}", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """Everything ends."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Say in a line how it is."""
        self._send(f"STATUS={text}")

    def extend(self, patience: Seconds) -> None:
        """Ask for more time to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(patience * MICROSECONDS)}")

    def beat(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def store(self, fd: int, name: str) -> bool:
        """Have a copy of a descriptor kept over a restart; return whether that could be said.

        FDPOLL=0: it is kept until it is removed, whatever state it is in.
        """
        return self._send("FDSTORE=1", "FDPOLL=0", f"FDNAME={name}", fds=(fd,))

    def remove_stored(self, name: str) -> None:
        """Have what is kept by this name dropped."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        """Let go of the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, *lines: str, fds: tuple[int, ...] = ()) -> bool:
        """Send one message, with descriptors (SCM_RIGHTS, unix(7)); return whether it has gone out."""
        if self._sock is None or not self._is_main:
            return False
        text = "\n".join(
            one_line(line.replace("\n", " ")) for line in lines
        )  # a line feed would begin a variable
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        with suppress(OSError):
            self._sock.sendmsg([text.encode()], rights, 0, self._address)
            return True
        return False
