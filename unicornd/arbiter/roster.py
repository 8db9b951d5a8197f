"""A pool's children, sorted by what is to become of them.

Pure; made for one plan. *Right* children are of the desired generation and stay; *obsolete* ones are of another
generation, or asked to be replaced, and serve until somebody else does. Children that drain or die count for nothing,
except where a rollout without surge waits for their memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unicornd.arbiter.state import Phase

if TYPE_CHECKING:
    from typing import Self

    from unicornd.arbiter.state import Child, Pool, State

RECYCLE_SURGE = 1
"""How many more than the size may run while single workers are replaced: one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The children of one pool.

    Attributes:
        right: of the desired generation, booting or ready.
        obsolete: ready, to be replaced; `obsolete_booting`: not even ready, to be dropped.
        leaving: draining or dying.
        surge: how many more than the size may run now.
    """

    pool: Pool
    right: tuple[Child, ...]
    obsolete: tuple[Child, ...]
    obsolete_booting: tuple[Child, ...]
    leaving: tuple[Child, ...]
    surge: int

    @classmethod
    def of(cls, state: State, pool: Pool) -> Self:
        """Sort the children of `pool`."""
        ours = [child for child in state.children.values() if child.pool == pool.name]
        leaving = [child for child in ours if child.phase >= Phase.DRAINING]
        staying = [child for child in ours if child not in leaving]
        right = [child for child in staying if child.generation == pool.generation and not child.is_retiring]
        others = [child for child in staying if child not in right]
        is_rolling = any(child.generation != pool.generation for child in others)
        return cls(
            pool=pool,
            right=tuple(right),
            obsolete=tuple(child for child in others if child.phase is Phase.READY),
            obsolete_booting=tuple(child for child in others if child.phase is Phase.BOOTING),
            leaving=tuple(leaving),
            surge=pool.surge if is_rolling else RECYCLE_SURGE,
        )

    @property
    def ready(self) -> tuple[Child, ...]:
        """The right ones that serve."""
        return tuple(child for child in self.right if child.phase is Phase.READY)

    @property
    def booting(self) -> tuple[Child, ...]:
        """The right ones that do not serve yet."""
        return tuple(child for child in self.right if child.phase is Phase.BOOTING)

    @property
    def is_complete(self) -> bool:
        """Whether the desired generation serves alone."""
        return (
            len(self.ready) == len(self.right) == self.pool.size
            and not self.obsolete
            and not self.obsolete_booting
        )

    def surplus(self) -> tuple[Child, ...]:
        """Return the right ones that are too many: those that only boot first, then the highest slots."""
        by_worth = sorted(self.right, key=lambda child: (child.phase is Phase.READY, -child.slot))
        return tuple(by_worth[: max(0, len(self.right) - self.pool.size)])

    def replaceable(self) -> tuple[Child, ...]:
        """Return the obsolete ones that can go now without taking what serves below the size.

        Without surge, one goes before its replacement: when everybody serves and nobody is leaving.
        """
        serving = min(len(self.ready), self.pool.size) + len(self.obsolete)
        count = max(0, serving - self.pool.size)
        if (
            self.surge == 0
            and count == 0
            and serving == self.pool.size
            and not self.booting
            and not self.leaving
        ):
            count = 1
        covered = {child.slot for child in self.ready}
        by_need = sorted(self.obsolete, key=lambda child: (child.slot not in covered, child.slot))
        return tuple(by_need[:count])

    def slots_to_fill(self) -> tuple[int, ...]:
        """Return the slots to spawn into now: empty ones first, then those of children that are to be replaced."""
        missing = self.pool.size - len(self.right)
        present = len(self.right) + len(self.obsolete)
        if self.surge == 0 and self.obsolete:
            present += len(self.leaving)
        room = self.pool.size + (self.surge if self.obsolete else 0) - present
        taken = {child.slot for child in self.right}
        occupied = {child.slot for child in self.obsolete}
        free = sorted(set(range(1, self.pool.size + 1)) - taken, key=lambda slot: (slot in occupied, slot))
        return tuple(free[: max(0, min(missing, room))])
