"""Has workers replaced that have become too old or too large; run by the arbiter's loop, which gives it a turn.

The limits are those of the present configuration: a reload changes them without replacing anybody for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.ageing import Ageing, Limits
from unicornd.arbiter.events import ReplacementAsked
from unicornd.arbiter.state import Halt
from unicornd.observe.memory import own_memory_of
from unicornd.units import Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.core import Core
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.config.sections.workers import WorkersSettings

LOOK_SECONDS = 1.0
SAMPLE_SECONDS = 5.0
"""How often memory is looked at: it costs half a millisecond a worker."""


class Retiring:
    """A ticker of the loop.

    Args:
        core: the state.
        processes: the workers that are looked at.
        settings: returns the present ones.
    """

    def __init__(
        self, core: Core, processes: ProcessTable, *, settings: Callable[[], WorkersSettings]
    ) -> None:
        self._core = core
        self._processes = processes
        self._settings = settings
        self._ageing = Ageing()
        self._next_look = 0.0
        self._next_sample = 0.0

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Look if it is time; return when to come again."""
        workers = self._settings()
        if not (workers.max_age or workers.max_memory) or self._core.state.halt is not Halt.NO:
            return None
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(workers, now)
        return Monotonic(self._next_look)

    def _look(self, workers: WorkersSettings, now: Monotonic) -> None:
        memory = {}
        if workers.max_memory and now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            for pid in self._processes.workers:
                size = own_memory_of(pid)
                if size is not None:
                    memory[pid] = size
        limits = Limits(age=Seconds(workers.max_age), memory=workers.max_memory)
        retirement = self._ageing.choose(self._core.state, limits, memory=memory, now=now)
        if retirement is not None:
            self._core.take(ReplacementAsked(at=now, pid=retirement.pid, why=retirement.why))
