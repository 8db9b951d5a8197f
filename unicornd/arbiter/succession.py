"""The new arbiter's side of an upgrade: it serves beside its predecessor until it is promoted, or left alone.

Run by the loop of the new arbiter. It tells how its start went over the baton, as a daemon tells its terminal; it takes
over control socket and pidfile when the predecessor says so, or is gone.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from unicornd.arbiter.journal import Entry
from unicornd.arbiter.operations import Kind, Operation, Outcome, Step
from unicornd.dataclass import asdict, dataclass
from unicornd.observe.logs import ERROR_LOG
from unicornd.observe.metrics import Totals
from unicornd.sockets.credentials import receive, want_credentials
from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.daemonize import Verdict
    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.upgrade import Origin
    from unicornd.errors import DaemonExit
    from unicornd.sockets.legacy import Legacy
    from unicornd.sockets.notify import Notifier
    from unicornd.units import Pid

MAX_BEQUEST_BYTES = 80 * 1024
MAX_JOURNAL_BYTES = 56 * 1024
"""Of the journal that is left to the new arbiter: the newest entries that fit. A Unix socket takes 200 KiB at once."""
MOST_ENTRIES = 400
"""More would not fit."""
TOLD = ("id", "title", "pool", "started_at", "ended_at", "result")
"""Of an operation that is done."""
LOOK_SECONDS = 0.01
MANAGER_SECONDS = Seconds(60)
"""How long the service manager may take to read what it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bequest:
    """What an arbiter says to the one that takes its place.

    Attributes:
        counted: what it has counted until now.
        upgrade: the operation by which the other one takes over, which has ended: whoever waits for that will ask the
            other one. None: there was no such operation, or it was told already.
        is_promotion: the other one is the only one from now on.
        journal: what has happened until now, oldest first, as far as it fits.
    """

    counted: Totals
    upgrade: Operation | None = None
    is_promotion: bool = False
    journal: tuple[Entry, ...] = ()

    def line(self) -> bytes:
        """Return it as a line of JSON."""
        said: dict[str, object] = {"counted": asdict(self.counted), "is_promotion": self.is_promotion}
        if self.upgrade is not None:
            steps = [asdict(step) for step in self.upgrade.steps]
            said["upgrade"] = {**{name: getattr(self.upgrade, name) for name in TOLD}, "steps": steps}
        said["journal"] = _fitting(self.journal)
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Bequest:
        """Read one."""
        said = json.loads(line)
        upgrade = said.get("upgrade")
        if upgrade is not None:
            steps = tuple(Step(**step) for step in upgrade.pop("steps"))
            upgrade = Operation(kind=Kind.UPGRADE, state=Outcome.DONE, steps=steps, **upgrade)
        journal = tuple(Entry(**entry) for entry in said.get("journal", ()))
        counted = Totals(**said["counted"])
        return cls(counted=counted, upgrade=upgrade, is_promotion=said["is_promotion"], journal=journal)


def _fitting(entries: tuple[Entry, ...]) -> list[dict[str, Any]]:
    """Return the newest entries as JSON has them, as many as fit."""
    found: list[dict[str, Any]] = []
    left = MAX_JOURNAL_BYTES
    for entry in reversed(entries):
        said = asdict(entry)
        left -= len(json.dumps(said)) + 2
        if left < 0:
            break
        found.append(said)
    return found[::-1]


def _understood(line: bytes) -> Bequest | None:
    """Return what the predecessor says; None for what another release says in another way: its end says enough."""
    try:
        return Bequest.of(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        text = "what the old unicornd has counted is not understood: %s"
        logging.getLogger(ERROR_LOG).warning(text, error)
        return None


class Baton:
    """The new arbiter's end of the baton; has what `daemonize.Verdict` has.

    Args:
        legacy: what the predecessor has left.
    """

    def __init__(self, legacy: Legacy) -> None:
        self._sock = socket.socket(fileno=legacy.baton)
        self._sock.setblocking(False)
        want_credentials(self._sock)
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
        heard: Callable[[Bequest], None],
        gone: Callable[[], None],
    ) -> None:
        """Listen to the predecessor, until it is gone.

        Args:
            selector: hears it.
            promoted: called, once, when this is the only arbiter.
            heard: called with whatever the predecessor says, before.
            gone: called when the predecessor has gone, after all else.
        """

        def read(_mask: int) -> None:
            try:
                said = self._hear()
            except BlockingIOError:
                return
            *lines, self._heard = (self._heard + said).split(b"\n")
            self._heard = self._heard[:MAX_BEQUEST_BYTES]  # what goes on without an end is not understood
            bequests = [bequest for line in lines if (bequest := _understood(line)) is not None]
            for bequest in bequests:
                heard(bequest)
            if not said:
                selector.unregister(self._sock)
                self._sock.close()
            is_over = not said or any(bequest.is_promotion for bequest in bequests)
            if is_over and not self.is_promoted:
                self.is_promoted = True
                promoted()
            if not said:
                gone()

        selector.register(self._sock, selectors.EVENT_READ, read)

    def _hear(self) -> bytes:
        """Return what the predecessor says; empty when it is gone.

        Raises:
            BlockingIOError: nothing, or somebody else says something.
        """
        try:
            message = receive(self._sock, MAX_BEQUEST_BYTES)
        except BlockingIOError:
            raise
        except OSError:  # it has left without reading what we have said
            return b""
        if message is None:
            return b""
        if (message.sender, message.uid) != (self.predecessor, os.getuid()):
            text = "process %s speaks for the old unicornd, which is %s: ignored"
            logging.getLogger(ERROR_LOG).warning(text, message.sender, self.predecessor)
            raise BlockingIOError
        return message.text

    def close(self) -> None:
        """Let go of it, in a forked child."""
        with suppress(OSError):
            self._sock.close()

    @property
    def is_alone(self) -> bool:
        """Whether there is no predecessor any more that listens, too."""
        return self.is_promoted or os.getppid() != self.predecessor


def confirm_main(
    notifier: Notifier, kernel: Kernel, *, predecessor: int | None, leave_behind: Callable[[], None]
) -> None:
    """Have the service manager know that we are its child now.

    When it was told that we are the main process, we were the predecessor's child; so systemd takes us for one whose end
    it cannot wait for, and at a stop kills the whole service at once (service_set_main_pid, main_pid_alien). It looks
    again only when the main process changes: a process that stands in for us becomes it for a moment, and names us.

    Args:
        notifier: leads to the manager.
        kernel: forks.
        predecessor: whose child we were.
        leave_behind: closes what is the arbiter's, in the child.
    """
    if not notifier.has_manager:
        return
    me = os.getpid()
    reader, writer = os.pipe()

    def stand_in() -> int:
        leave_behind()
        os.close(writer)
        os.read(reader, 1)  # until the manager was told
        until = time.monotonic() + MANAGER_SECONDS
        while (parent := _parent_of(me)) == predecessor or (parent and not notifier.main(me)):
            if time.monotonic() >= until:  # it does not read what it is told
                return 1
            time.sleep(LOOK_SECONDS)
        notifier.await_hearing(MANAGER_SECONDS)
        return 0

    try:
        notifier.main(kernel.fork(stand_in))
    except OSError:
        logging.getLogger(ERROR_LOG).warning("no process can be made to tell the service manager who it is")
    finally:
        os.close(writer)
        os.close(reader)


def _parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if that has gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line
            return int(file.read().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


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

    def size(self, in_file: int) -> int:
        """Return how many workers are wanted: what the predecessor had, unless the configuration has changed that.

        Args:
            in_file: what the configuration says.
        """
        left = self.legacy
        return left.size if left is not None and left.size and left.file_size == in_file else in_file

    @property
    def is_alone(self) -> bool:
        """Whether no predecessor has what we have."""
        return self.baton is None or self.baton.is_alone
