"""Which slots a pool has after any sequence of sizes; `core_world` judges each change by the processes that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_arbiter_schedules import SIZES, pools
from tests.support.control_port import make_child, make_pool, make_state
from tests.support.core_world import World
from unicornd.arbiter import events
from unicornd.arbiter.fold import fold
from unicornd.arbiter.slots import oldest_first, resized
from unicornd.dataclass import replace
from unicornd.units import Generation, Monotonic, Pid, Seconds, Slot

if TYPE_CHECKING:
    from unicornd.arbiter.state import Pool

CHANGES = st.lists(st.tuples(SIZES, st.booleans(), st.booleans()), max_size=8)


@settings(max_examples=40)
@given(pool=pools("alpha"), changes=CHANGES)
def test_whoever_is_kept_is_younger_than_the_oldest_that_went_and_is_not_disturbed(
    pool: Pool, changes: list[tuple[int, bool, bool]]
) -> None:
    world = World()
    world.declare(
        replace(pool, patience=replace(pool.patience, heartbeat=Seconds(0.0), request=Seconds(0.0)))
    )
    world.settle()
    for number, (size, from_oldest, is_reloaded) in enumerate(changes):
        world.now = Monotonic(world.now + 2.0)
        before = set(world.processes)
        world.resize("alpha", size, from_oldest=from_oldest)
        world.settle()
        now = set(world.processes)
        assert before <= now or now <= before, "a change of size replaces nobody"
        if is_reloaded:
            pool = world.pool("alpha")
            world.roll(replace(pool, generation=Generation(number + 2), closed=frozenset()))
            assert world.pool("alpha").slots == pool.slots
            world.settle()
    world.assert_settled()


@given(
    pool=pools("alpha"),
    changes=st.lists(st.tuples(SIZES, st.permutations([Slot(each) for each in range(1, 9)]))),
)
def test_a_pool_has_as_many_slots_as_it_wants_and_leaves_none_out_above_them(
    pool: Pool, changes: list[tuple[int, list[Slot]]]
) -> None:
    for wanted, first in changes:
        pool = resized(pool, wanted, first=first)
        assert len(pool.slots) == pool.size == wanted
        assert all(pool.has(slot) for slot in pool.slots)
        assert all(slot < pool.slots[-1] for slot in pool.closed)
        assert set(pool.slots) | pool.closed == set(range(1, len(pool.slots) + len(pool.closed) + 1))


def test_a_worker_that_a_mold_was_asked_for_is_the_youngest_and_other_pools_do_not_count() -> None:
    alpha, beta = make_pool(2), replace(make_pool(2), name="beta")
    state = make_state(2, make_child(1, at=5.0))
    state = replace(state, pools={alpha.name: alpha, beta.name: beta})
    for number, name in enumerate((alpha.name, beta.name)):
        asked = events.SpawnAsked(
            at=Monotonic(9.0), ticket=number, mold=Pid(7), pool=name, slot=Slot(2), generation=Generation(1)
        )
        state = fold(state, asked)
    assert oldest_first(state, alpha) == (1, 2)
    assert oldest_first(state, beta) == (1, 2), "the first one is empty there"
    assert oldest_first(replace(state, expected={}), alpha) == (2, 1)
