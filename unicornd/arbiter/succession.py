"""The new arbiter's side of an upgrade: it serves beside its predecessor until it is promoted, or left alone.

Run by the loop of the new arbiter. It tells how its start went over the baton, as a daemon tells its terminal; it takes
over control socket and pidfile when the predecessor says so, or is gone.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.dataclass import asdict, dataclass
from unicornd.observe.metrics import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.daemonize import Verdict
    from unicornd.arbiter.upgrade import Origin
    from unicornd.errors import DaemonExit
    from unicornd.sockets.legacy import Legacy
    from unicornd.units import Pid

MAX_BEQUEST_BYTES = 65536


def bequest(counted: Totals, *, is_promoted: bool) -> bytes:
    """Return what an arbiter says to the one that takes its place: a line of JSON."""
    return json.dumps({"promoted": is_promoted, "counted": asdict(counted)}).encode() + b"\n"


class Baton:
    """The new arbiter's end of the baton; has what `daemonize.Verdict` has.

    Args:
        legacy: what the predecessor has left.
    """

    def __init__(self, legacy: Legacy) -> None:
        self._sock = socket.socket(fileno=legacy.baton)
        self._sock.setblocking(False)
        self._has_spoken = False
        self._heard = b""
        self.predecessor = legacy.pid
        self.is_promoted = False

    def fill_streams(self, fd: int) -> None:
        """Standard output and error are the predecessor's already."""

    def give(self, code: DaemonExit, text: str = "") -> None:
        """Say how the start ended; only the first time counts."""
        if not self._has_spoken:
            self._has_spoken = True
            with suppress(OSError):  # the predecessor is gone
                self._sock.send(json.dumps({"code": int(code), "text": text}).encode())

    def watch(
        self,
        selector: selectors.BaseSelector,
        promoted: Callable[[], None],
        *,
        counted: Callable[[Totals], None],
    ) -> None:
        """Listen to the predecessor, until it is gone.

        Args:
            selector: hears it.
            promoted: called, once, when this is the only arbiter.
            counted: called with what the predecessor has counted, each time that it says so.
        """

        def read(_mask: int) -> None:
            try:
                said = self._sock.recv(MAX_BEQUEST_BYTES)
            except BlockingIOError:
                return
            except OSError:  # it has left without reading what we have said
                said = b""
            *lines, self._heard = (self._heard + said).split(b"\n")
            words = [json.loads(line) for line in lines]
            for word in words:
                counted(Totals(**word["counted"]))
            if not said:
                selector.unregister(self._sock)
                self._sock.close()
            is_over = not said or any(word["promoted"] for word in words)
            if is_over and not self.is_promoted:
                self.is_promoted = True
                promoted()

        selector.register(self._sock, selectors.EVENT_READ, read)

    def close(self) -> None:
        """Let go of it, in a forked child."""
        with suppress(OSError):
            self._sock.close()

    @property
    def is_alone(self) -> bool:
        """Whether there is no predecessor any more that listens, too."""
        return self.is_promoted or os.getppid() != self.predecessor


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """Where this process comes from.

    Attributes:
        origin: how it was started.
        verdict: tells whoever started it how that went, or None.
        legacy: what the predecessor in an upgrade has left, or None; baton: leads to it.
    """

    origin: Origin
    verdict: Verdict | Baton | None
    legacy: Legacy | None
    baton: Baton | None

    @property
    def predecessor(self) -> Pid | None:
        """The old arbiter, or None."""
        return self.legacy.pid if self.legacy is not None else None

    @property
    def is_alone(self) -> bool:
        """Whether no predecessor has what we have."""
        return self.baton is None or self.baton.is_alone
