"""Which slots a pool has, and which of them go when it shrinks.

Pure. A pool of size n has the n lowest slots that are not closed: 1..n, as long as none has been closed. A scale-down takes
the highest ones, so that numbers stay low; TTOU takes the oldest worker's, wherever that is, as gunicorn does: who refreshes
a fleet by TTIN and TTOU wants to keep the new ones. A closed slot is the first one to be opened again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.state import Phase
from unicornd.dataclass import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.arbiter.state import Pool, State
    from unicornd.units import Monotonic, Slot


def resized(pool: Pool, size: int, *, first: Sequence[Slot] = ()) -> Pool:
    """Return the pool with another size.

    Args:
        pool: as it is.
        size: how many workers are wanted.
        first: the slots that go first if it shrinks; then the highest ones.
    """
    surplus = pool.size - size
    closed = sorted(pool.closed)[max(-surplus, 0) :]
    closed += [slot for slot in first if pool.has(slot)][: max(surplus, 0)]
    wanted = replace(pool, size=size, closed=frozenset(closed))
    highest = wanted.slots[-1] if size else 0
    return replace(wanted, closed=frozenset(slot for slot in closed if slot < highest))


def oldest_first(state: State, pool: Pool) -> tuple[Slot, ...]:
    """Return the slots of a pool by the age of their workers, the oldest first; before them, those that are empty.

    Of two workers in a slot the younger one counts: it is the one that stays.
    """
    born: dict[Slot, Monotonic] = {}
    for child in state.children.values():
        if child.pool == pool.name and child.phase <= Phase.READY:
            born[child.slot] = max(child.born_at, born.get(child.slot, child.born_at))
    for each in state.expected.values():
        if each.pool == pool.name:
            born[each.slot] = each.asked_at
    return tuple(sorted(pool.slots, key=lambda slot: (slot in born, born.get(slot, 0.0), slot)))
