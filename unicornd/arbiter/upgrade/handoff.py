"""What crosses from the old arbiter to the new one in an upgrade, and in which words.

`Handoff` crosses execve(2): open descriptors, which keep their numbers, and an environment variable that says which is
which. `StateTransfer` crosses the baton later, as often as there is something to say: counts, journal, the promotion.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from unicornd.arbiter.journal import Entry
from unicornd.arbiter.operations import Kind, Operation, Outcome, Step
from unicornd.config.values import Address
from unicornd.dataclass import asdict, dataclass
from unicornd.observe.metrics import Totals
from unicornd.sockets.inherit import Passed
from unicornd.sockets.listener import Listener

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from unicornd.units import Pid

VARIABLE = "UNICORND_UPGRADE"
MAX_TRANSFER_BYTES = 80 * 1024
MAX_JOURNAL_BYTES = 56 * 1024
"""Of the journal that is left to the new arbiter: the newest entries that fit. A Unix socket takes 200 KiB at once."""
MOST_ENTRIES = 400
"""More would not fit."""
TOLD = ("id", "title", "pool", "started_at", "ended_at", "result")
"""Of an operation that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """What is left.

    Attributes:
        pid: of the old arbiter.
        baton: socket between both: how the start went one way, the promotion the other; EOF when one is gone.
        control: the listening control socket, or None; `control_address`: where it is.
        admin: the listener of [admin], or None.
        handover: both ends of the old workers' handover, or empty.
        listeners: that the old arbiter has opened.
        passed: descriptors that were passed on to it by systemd.
        generation: the last number that it has given to one.
        size: how many workers it wanted; file_size: how many its configuration said. 0: it does not say.
    """

    pid: Pid
    baton: int
    control: int | None
    control_address: str
    admin: Listener | None
    handover: tuple[int, ...]
    listeners: tuple[Listener, ...]
    passed: tuple[Passed, ...]
    generation: int = 0
    size: int = 0
    file_size: int = 0

    def descriptors(self) -> tuple[int, ...]:
        """Return everything that must survive execve(2)."""
        control = () if self.control is None else (self.control,)
        admin = () if self.admin is None else (self.admin,)
        opened = (listener.sock.fileno() for listener in (*self.listeners, *admin))
        return (self.baton, *control, *self.handover, *opened, *(each.fd for each in self.passed))

    def text(self) -> str:
        """Return what the variable says."""
        said = {
            "pid": self.pid,
            "baton": self.baton,
            "control": self.control,
            "control_address": self.control_address,
            "admin": None if self.admin is None else _said(self.admin),
            "handover": self.handover,
            "listeners": [_said(each) for each in self.listeners],
            "passed": [[each.fd, each.name] for each in self.passed],
            "generation": self.generation,
            "size": self.size,
            "file_size": self.file_size,
        }
        return json.dumps(said)


def take_handoff(environ: MutableMapping[str, str]) -> Handoff | None:
    """Return what the predecessor has left, and take the variable away; None for a start that is no upgrade."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    said = json.loads(text)
    handoff = Handoff(
        pid=said["pid"],
        baton=said["baton"],
        control=said["control"],
        control_address=said["control_address"],
        admin=None if said["admin"] is None else _listener(said["admin"]),
        handover=tuple(said["handover"]),
        listeners=tuple(_listener(each) for each in said["listeners"]),
        passed=tuple(Passed(fd=fd, name=name) for fd, name in said["passed"]),
        **{
            name: said.get(name, 0) for name in ("generation", "size", "file_size")
        },  # another release may not say them
    )
    for fd in handoff.descriptors():
        os.set_inheritable(fd, False)
    return handoff


def _said(listener: Listener) -> list[object]:
    return [str(listener.address), listener.sock.fileno(), list(listener.inode or ())]


def _listener(said: tuple[str, int, list[int]]) -> Listener:
    address, fd, inode = said
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return Listener(
        address=Address.parse(address), sock=sock, inode=(inode[0], inode[1]) if len(inode) > 1 else None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTransfer:
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
    def of(cls, line: bytes) -> StateTransfer:
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
