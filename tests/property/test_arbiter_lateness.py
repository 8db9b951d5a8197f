"""The arbiter's own lateness: what it owes the others, for every deadline and any schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import given

from unicornd.arbiter import events
from unicornd.arbiter.deadlines import deadlines_of
from unicornd.arbiter.fold import fold
from unicornd.arbiter.lateness import REMEMBERED, Spell, owed
from unicornd.arbiter.state import Child, Order, Patience, Phase, Role, State
from unicornd.units import Generation, Monotonic, Pid, Seconds, Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = st.floats(0.0, 1000.0).map(Monotonic)
LONG = st.floats(0.001, 3600.0)
PATIENCE = Patience(
    boot=Seconds(60.0),
    request=Seconds(30.0),
    heartbeat=Seconds(20.0),
    graceful=Seconds(15.0),
    kill=Seconds(5.0),
    spares_siblings=True,
)


@st.composite
def spells(draw: st.DrawFn) -> tuple[Spell, ...]:
    """Spells one after the other, as the arbiter has them."""
    at = sorted(draw(st.lists(TIMES, max_size=8, unique=True)))
    return tuple(Spell(since, until) for since, until in zip(at[::2], at[1::2], strict=False))


@st.composite
def children(draw: st.DrawFn) -> Child:
    """Any child all of whose times are before 1000."""
    ordered = draw(st.sampled_from([None, *Order]))
    return Child(
        pid=Pid(1),
        pool="web",
        slot=Slot(1),
        generation=Generation(1),
        phase=draw(st.sampled_from(Phase)),
        born_at=draw(TIMES),
        phase_since=draw(TIMES),
        beat_at=draw(TIMES),
        busy_since=draw(st.none() | TIMES),
        ordered=ordered,
        ordered_at=draw(TIMES) if ordered is not None else None,
        role=draw(st.sampled_from(Role)),
    )


@given(spells=spells(), first=TIMES, second=TIMES)
def test_what_began_later_is_owed_no_more_and_nobody_more_than_all(
    spells: Sequence[Spell], first: Monotonic, second: Monotonic
) -> None:
    first, second = min(first, second), max(first, second)
    everything = math.fsum(spell.until - spell.since for spell in spells)
    assert 0.0 <= owed(spells, second) <= owed(spells, first) + 1e-9
    assert owed(spells, first) <= everything + 1e-9
    assert owed(spells, Monotonic(1001.0)) == 0.0, "what began after all of them is owed nothing"
    assert owed(spells, Monotonic(-1.0)) == pytest.approx(everything), (
        "what ran through all of them is owed all"
    )


@given(child=children(), late=LONG)
def test_every_deadline_that_ran_is_later_by_what_the_arbiter_was_late(child: Child, late: float) -> None:
    """Boot, request, heartbeat, graceful, kill: it is as if no time had passed."""
    since, until = Monotonic(1000.0), Monotonic(1000.0 + late)
    state = fold(State(), events.WokeLate(at=until, since=since))
    before = list(deadlines_of(child, PATIENCE))
    after = list(deadlines_of(child, PATIENCE, lateness=state.lateness))
    assert [each.at for each in after] == [pytest.approx(each.at + late) for each in before]
    assert [each.order for each in after] == [each.order for each in before]


@given(child=children(), late=LONG)
def test_no_deadline_that_begins_afterwards_is_later(child: Child, late: float) -> None:
    state = fold(State(), events.WokeLate(at=Monotonic(0.0), since=Monotonic(-late)))
    assert list(deadlines_of(child, PATIENCE, lateness=state.lateness)) == list(deadlines_of(child, PATIENCE))


@given(count=st.integers(0, 3 * REMEMBERED))
def test_the_latest_spells_are_remembered(count: int) -> None:
    state = State()
    for number in range(count):
        state = fold(state, events.WokeLate(at=Monotonic(number + 0.7), since=Monotonic(number)))
    kept = [spell.since for spell in state.lateness]
    assert kept == [float(number) for number in range(max(0, count - REMEMBERED), count)]
