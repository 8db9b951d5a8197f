"""Which workers are to be replaced for their age or their memory: `workers.max_age`, `workers.max_memory`.

Pure, but for the samples that it keeps; asked by the arbiter's loop. One at a time: while a worker waits for its
replacement, nobody else is chosen. Memory counts when several samples in a row are above the limit; and if replacing
does not help, because the new workers soon need as much, it is done ever more rarely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from unicornd.arbiter.state import Phase
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.arbiter.state import Child, State
    from unicornd.units import Monotonic, Pid, Seconds

SPREAD = 0.1
"""By so much, of the limit, ages differ between slots: workers that were born together are not replaced together."""
SLOTS = 10
"""After so many slots the spread begins again."""
SAMPLES = 3
"""So many in a row have to be above the limit: a peak is no leak."""
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
"""Seconds between two replacements for memory that did not help: doubled with each, up to the longest."""
HELPED_FOR = 600.0
"""A replacement has helped if it was below the limit for so long (seconds)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is too much; 0 for no limit. `age` in seconds, `memory` in bytes."""

    age: Seconds
    memory: int


class Retirement(NamedTuple):
    """Who is to be replaced, and why."""

    pid: Pid
    why: str


class _Above(NamedTuple):
    """A worker above the limit: since when, in how many samples."""

    since: Monotonic
    samples: int


class Ageing:
    """Chooses who is to be replaced."""

    def __init__(self) -> None:
        self._above: dict[Pid, _Above] = {}
        self._pause = FIRST_PAUSE
        self._not_before = 0.0

    def choose(
        self, state: State, limits: Limits, *, memory: Mapping[Pid, int], now: Monotonic
    ) -> Retirement | None:
        """Return who is to be replaced now, if anybody.

        Args:
            state: the arbiter's.
            limits: in force.
            memory: a new sample of each worker's own memory (bytes), or nothing.
            now: the time.
        """
        serving = [child for child in state.children.values() if child.phase is Phase.READY]
        self._note(serving, limits, memory=memory, now=now)
        is_quiet = not state.rollouts and all(child.phase is Phase.READY for child in state.children.values())
        if not is_quiet or any(child.is_retiring for child in serving):
            return None
        return self._of_age(serving, limits, now=now) or self._of_memory(serving, limits, now=now)

    def _note(
        self, serving: list[Child], limits: Limits, *, memory: Mapping[Pid, int], now: Monotonic
    ) -> None:
        living = {child.pid for child in serving}
        self._above = {pid: above for pid, above in self._above.items() if pid in living}
        for pid in living.intersection(memory):
            if 0 < limits.memory < memory[pid]:
                before = self._above.get(pid, _Above(since=now, samples=0))
                self._above[pid] = before._replace(samples=before.samples + 1)
            else:
                self._above.pop(pid, None)

    def _of_age(self, serving: list[Child], limits: Limits, *, now: Monotonic) -> Retirement | None:
        if not limits.age:
            return None
        for child in sorted(serving, key=lambda each: each.born_at):
            limit = limits.age * (1 + SPREAD * (child.slot % SLOTS) / SLOTS)
            if now - child.born_at >= limit:
                return Retirement(child.pid, f"max_age reached after {now - child.born_at:.0f} s")
        return None

    def _of_memory(self, serving: list[Child], limits: Limits, *, now: Monotonic) -> Retirement | None:
        heavy = [
            child
            for child in serving
            if child.pid in self._above and self._above[child.pid].samples >= SAMPLES
        ]
        if not heavy or now < self._not_before:
            return None
        oldest = min(heavy, key=lambda each: each.born_at)
        has_helped = self._above[oldest.pid].since - oldest.born_at >= HELPED_FOR
        self._pause = FIRST_PAUSE if has_helped else min(2 * self._pause, LONGEST_PAUSE)
        self._not_before = now + self._pause
        return Retirement(oldest.pid, f"max_memory of {limits.memory // 2**20} MiB passed")
