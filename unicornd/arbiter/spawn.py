"""Making a worker: its row, its channel, the fork, and what the child must not keep.

Run by the arbiter's loop; the end of `spawn` runs in the child, which ends in `os._exit` (`kernel.fork`).
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unicornd.observe.scoreboard import Row
from unicornd.units import Fd
from unicornd.workers.context import Seat

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.actions import Spawn
    from unicornd.arbiter.kernel import Kernel
    from unicornd.sockets.listener import Listener
    from unicornd.units import Generation, Pid, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """How the workers of one generation are made.

    Attributes:
        listeners: what they accept from.
        cells: of each row of their scoreboard: how many requests in flight it shows.
        run: the child's life; returns its exit code.
    """

    generation: Generation
    listeners: tuple[Listener, ...]
    cells: int
    run: Callable[[Seat], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seated:
    """What the arbiter keeps of a worker: the other ends."""

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


class Spawner:
    """Forks workers.

    Args:
        kernel: forks.
        leave_behind: closes, in the child, whatever is the arbiter's; it is given the listeners that are the child's.
    """

    def __init__(self, kernel: Kernel, *, leave_behind: Callable[[tuple[Listener, ...]], None]) -> None:
        self._kernel = kernel
        self._leave_behind = leave_behind
        self._age = 0
        reader, self._writer = os.pipe()
        self._lifeline = Fd(reader)

    @property
    def next_age(self) -> int:
        """The age that the next worker will have."""
        return self._age + 1

    def spawn(self, action: Spawn, blueprint: Blueprint) -> Seated:
        """Fork a worker into the slot that `action` names.

        Raises:
            OSError: no process, no descriptor or no memory can be had.
        """
        row = Row.create(blueprint.cells)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            row.close()
            raise
        seat = Seat(
            slot=action.slot,
            generation=action.generation,
            pool=action.pool,
            age=self.next_age,
            listeners=blueprint.listeners,
            row=row,
            channel=theirs,
            lifeline=self._lifeline,
        )
        try:
            pid = self._kernel.fork(lambda: self._live(seat, blueprint, ours=ours))
        except OSError:
            row.close()
            ours.close()
            raise
        finally:
            theirs.close()
        self._age += 1
        ours.setblocking(False)
        return Seated(
            pid=pid, slot=action.slot, generation=action.generation, age=seat.age, row=row, channel=ours
        )

    def _live(self, seat: Seat, blueprint: Blueprint, *, ours: socket.socket) -> int:
        """The child: drop what is the arbiter's, then be the worker."""
        ours.close()
        os.close(self._writer)
        self._leave_behind(seat.listeners)
        code = blueprint.run(seat)
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit follows; applications rely on theirs being called
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        return code
