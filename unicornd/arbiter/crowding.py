"""Looks whether requests wait and no worker takes them; run by the arbiter's loop.

What waits is in the kernel's queue of a listener, or in a worker that has no thread for it. A worker of an event loop has
no slots that could be full: it accepts whatever comes, unless its loop is blocked or it has all the connections that it may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.state import Halt, Phase
from unicornd.arbiter.troubles import Saturation
from unicornd.sockets.queues import queue_of

if TYPE_CHECKING:
    from unicornd.arbiter.core import Core
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployments
    from unicornd.units import Monotonic

LOOK_SECONDS = 1.0
BOUNDED = frozenset({"sync", "threads"})
"""Kinds that run as many requests as they have threads."""


class Crowding:
    """A ticker of the loop, which wakes nobody: it looks when the rows are read.

    Args:
        core: has the state and takes the event.
        processes: have the workers' rows.
        deployments: have the listeners.
    """

    def __init__(self, core: Core, processes: ProcessTable, *, deployments: Deployments) -> None:
        self._core = core
        self._processes = processes
        self._deployments = deployments
        self._saturation = Saturation()
        self._next_look = 0.0

    def tick(self, now: Monotonic) -> None:
        """Look, if it is time."""
        state = self._core.state
        if now < self._next_look or state.halt is not Halt.NO or state.has_left_listeners:
            return
        self._next_look = now + LOOK_SECONDS
        workers = self._processes.workers
        rows = [workers[pid].row for pid, child in state.children.items()
                if child.phase is Phase.READY and pid in workers]  # fmt: skip
        # Without workers that serve, the fleet is down, which is told as that.
        has_room = not rows or (self._processes.kind in BOUNDED and not all(row.is_full(now) for row in rows))
        waiting = 0 if has_room else sum(row.waiting() for row in rows) + self._queued()
        if (event := self._saturation.look(now, waiting=waiting, has_room=has_room)) is not None:
            self._core.take(event)

    def _queued(self) -> int:
        queues = (queue_of(listener) for listener in self._deployments.present.listeners)
        return sum(queue[0] for queue in queues if queue is not None)
