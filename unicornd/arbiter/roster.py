"""A pool's children, sorted by what is to become of them, slot by slot.

Pure; made for one plan. *Right* children are of the desired generation, in one of the pool's slots, and stay; there is
at most one a slot. *Obsolete* ones are of another generation, asked to be replaced, or sit in a slot too many: they
serve until they are not needed. Children that drain count for nothing, except where a rollout without surge waits for
their memory; children that die are as good as gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.state import Phase
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from typing import Self

    from unicornd.arbiter.state import Child, Expected, Pool, State
    from unicornd.units import Slot

RECYCLE_SURGE = 1
"""How many more than the size may run while single workers are replaced: one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The children of one pool.

    Attributes:
        right: as desired, booting or ready.
        obsolete: ready, to be replaced; `obsolete_booting`: not even ready, to be dropped.
        leaving: draining.
        expected: asked of a mold, of the desired generation and in a slot that there is.
        surge: how many more than the size may run now.
    """

    pool: Pool
    right: tuple[Child, ...]
    obsolete: tuple[Child, ...]
    obsolete_booting: tuple[Child, ...]
    leaving: tuple[Child, ...]
    expected: tuple[Expected, ...]
    surge: int

    @classmethod
    def of(cls, state: State, pool: Pool) -> Self:
        """Sort the children of `pool`."""
        ours = [
            child
            for child in state.children.values()
            if child.pool == pool.name and child.phase is not Phase.DYING
        ]
        staying = [child for child in ours if child.phase <= Phase.READY]
        others = [child for child in staying if not _is_right(child, pool)]
        is_rolling = pool.name in state.rollouts or any(child.generation != pool.generation for child in ours)
        return cls(
            pool=pool,
            right=tuple(child for child in staying if _is_right(child, pool)),
            obsolete=tuple(child for child in others if child.phase is Phase.READY),
            obsolete_booting=tuple(child for child in others if child.phase is Phase.BOOTING),
            leaving=tuple(child for child in ours if child.phase is Phase.DRAINING),
            expected=tuple(
                each
                for each in state.expected.values()
                if each.pool == pool.name and each.generation == pool.generation and pool.has(each.slot)
            ),
            surge=pool.surge if is_rolling else RECYCLE_SURGE,
        )

    @property
    def ready(self) -> tuple[Child, ...]:
        """The right ones that serve."""
        return tuple(child for child in self.right if child.phase is Phase.READY)

    @property
    def is_booting(self) -> bool:
        """Whether any of the right ones is on its way."""
        return bool(self.expected) or any(child.phase is Phase.BOOTING for child in self.right)

    @property
    def is_complete(self) -> bool:
        """Whether enough of the desired generation serve, and all of other generations have been told to leave."""
        new = [child for child in self.obsolete if child.generation == self.pool.generation]
        is_alone = len(new) == len(self.obsolete) and not self.obsolete_booting
        return is_alone and len(self.ready) + len(new) >= self.pool.size

    def replaceable(self) -> tuple[Child, ...]:
        """Return the obsolete ones that can go now without taking what serves below the size.

        Those too many go first, highest slot first; then those whose successor serves. Without surge, one goes before
        its successor comes, when as many serve as should.
        """
        serving = len(self.ready) + len(self.obsolete)
        count = max(0, serving - self.pool.size)
        if self.surge == 0 and serving == self.pool.size:
            count = 1
        return tuple(sorted(self.obsolete, key=self._worth)[:count]) if count else ()

    def _worth(self, child: Child) -> tuple[bool, bool, int]:
        if not self.pool.has(child.slot):
            return False, False, -child.slot
        rivals = (*self.ready, *self.obsolete)
        is_succeeded = any(
            rival.slot == child.slot and _succeeds(rival, child, pool=self.pool) for rival in rivals
        )
        return True, not is_succeeded, child.slot

    def slots_to_fill(self) -> tuple[Slot, ...]:
        """Return the slots to spawn into now: empty ones, then as many as `surge` allows beside who still serves."""
        taken = {child.slot for child in self.right} | {each.slot for each in self.expected}
        occupied = [child.slot for child in self.obsolete if self.pool.has(child.slot)]
        extra = len(taken) + len(occupied) - len(taken.union(occupied))
        closed = taken.union(child.slot for child in self.leaving) if self.surge == 0 else taken
        free = [slot for slot in self.pool.slots if slot not in closed]
        empty = [slot for slot in free if slot not in occupied]
        shared = [slot for slot in free if slot in occupied]
        return (*empty, *shared[: max(0, self.surge - extra)])


def _is_right(child: Child, pool: Pool) -> bool:
    return child.generation == pool.generation and not child.is_retiring and pool.has(child.slot)


def _succeeds(rival: Child, child: Child, *, pool: Pool) -> bool:
    """Whether `rival` is what its slot's `child` was to be replaced by."""
    if _is_right(rival, pool):
        return True
    return (rival.generation, rival.born_at, rival.pid) > (child.generation, child.born_at, child.pid)
