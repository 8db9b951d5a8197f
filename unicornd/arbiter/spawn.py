"""Making a worker: its row, its channel, the fork, and what the child must not keep.

Run by the arbiter's loop; the end of `spawn` runs in the child, which ends in `os._exit` (`kernel.fork`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from unicornd.arbiter.actions import Spawn
from unicornd.arbiter.state import Role
from unicornd.dataclass import dataclass
from unicornd.forking import BOUNDARY, OwnedFd
from unicornd.observe.scoreboard import Row
from unicornd.sockets.credentials import want_credentials
from unicornd.units import Fd
from unicornd.workers.context import Seat
from unicornd.workers.order import send_order

if TYPE_CHECKING:
    from unicornd.arbiter.kernel import Kernel
    from unicornd.sockets.listener import Listener
    from unicornd.units import Generation, Monotonic, Pid, Slot
    from unicornd.workers.handover import Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """How the workers of one generation are made.

    Attributes:
        listeners: what they accept from.
        cells: of each row of their scoreboard: how many requests in flight it shows.
        run: the child's life; returns its exit code.
        mold: a mold's life, of a generation that is molded; else None.
        handover: where its workers hand over idle connections, or None.
    """

    generation: Generation
    listeners: tuple[Listener, ...]
    cells: int
    run: Callable[[Seat], int]
    mold: Callable[[Seat], int] | None = None
    handover: Handover | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHandle:
    """What the arbiter keeps of a worker or a mold: the other ends."""

    pid: Pid
    slot: Slot
    generation: Generation
    age: int
    row: Row
    channel: socket.socket

    def close(self) -> None:
        """Let go of row and channel."""
        self.row.close()
        self.channel.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What the arbiter keeps of a worker that a mold was asked for."""

    mold: Pid
    asked_at: Monotonic
    action: Spawn
    age: int
    row: Row
    channel: socket.socket

    def arrived(self, pid: Pid) -> WorkerHandle:
        """Return what is kept of it when it is there."""
        return WorkerHandle(
            pid=pid,
            slot=self.action.slot,
            generation=self.action.generation,
            age=self.age,
            row=self.row,
            channel=self.channel,
        )

    def close(self) -> None:
        """Let go of row and channel."""
        self.row.close()
        self.channel.close()


Prepare = Callable[[Spawn, int], Mapping[str, Mapping[str, object]]]


def _prepare_nothing(_action: Spawn, _age: int) -> Mapping[str, Mapping[str, object]]:
    return {}


class Spawner:
    """Forks workers and molds, or has molds fork workers.

    Args:
        kernel: forks.
        prepare: called before each worker with its order and age; returns what is left for it (`Seat.kept`).
    """

    def __init__(self, kernel: Kernel, *, prepare: Prepare = _prepare_nothing) -> None:
        self._kernel = kernel
        self._prepare = prepare
        self._age = 0
        reader, writer = os.pipe()
        self._lifeline = Fd(reader)
        self._writer = OwnedFd(writer)  # it ends with the arbiter alone

    @property
    def next_age(self) -> int:
        """The age that the next worker will have."""
        return self._age + 1

    def spawn(self, action: Spawn, blueprint: Blueprint) -> WorkerHandle:
        """Fork a worker into the slot that `action` names, or a mold.

        Raises:
            OSError: no process, no descriptor or no memory can be had.
        """
        is_mold = action.role is Role.MOLD
        run = blueprint.mold if is_mold and blueprint.mold is not None else blueprint.run
        seat, ours = self._seat(action, blueprint, listeners=() if is_mold else blueprint.listeners)
        try:
            pid = self._kernel.fork(
                lambda: run(seat), kept=[seat.row, *(each.sock for each in seat.listeners)]
            )
        except OSError:
            seat.row.close()
            ours.close()
            raise
        finally:
            seat.channel.close()
        self._age += not is_mold
        ours.setblocking(False)
        return WorkerHandle(
            pid=pid,
            slot=action.slot,
            generation=action.generation,
            age=seat.age,
            row=seat.row,
            channel=ours,
        )

    def ask(self, action: Spawn, blueprint: Blueprint, *, mold: WorkerHandle) -> Awaited:
        """Ask a mold to fork the worker.

        Raises:
            OSError: the mold is gone or does not read, or no descriptor or no memory can be had.
        """
        seat, ours = self._seat(action, blueprint, listeners=blueprint.listeners)
        try:
            send_order(mold.channel, seat)
        except OSError:
            seat.row.close()
            ours.close()
            raise
        finally:
            seat.channel.close()
        self._age += 1
        ours.setblocking(False)
        return Awaited(
            mold=mold.pid,
            asked_at=self._kernel.now(),
            action=action,
            age=seat.age,
            row=seat.row,
            channel=ours,
        )

    def _seat(
        self, action: Spawn, blueprint: Blueprint, *, listeners: tuple[Listener, ...]
    ) -> tuple[Seat, socket.socket]:
        kept = {} if action.role is Role.MOLD else self._prepare(action, self.next_age)
        row = BOUNDARY.own(Row.create(blueprint.cells))
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            row.close()
            raise
        BOUNDARY.own(ours)
        for sock in (ours, theirs):  # before anybody can say anything: reports, and a mold's orders
            want_credentials(sock)
        seat = Seat(
            slot=action.slot,
            generation=action.generation,
            pool=action.pool,
            age=self.next_age,
            listeners=listeners,
            row=row,
            channel=theirs,
            lifeline=self._lifeline,
            handover=blueprint.handover,
            kept=kept,
        )
        return seat, ours
