"""Who is replaced for age or memory, and when."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import pytest

from tests.support.control_port import make_child, make_state
from unicornd.arbiter.ageing import Ageing, Limits, Retirement
from unicornd.arbiter.state import Phase, Rollout, State
from unicornd.dataclass import replace
from unicornd.units import Monotonic, Pid, Seconds

NO_AGE, HUNDRED = Seconds(0.0), Seconds(100.0)
MIB = 2**20


def choose(
    ageing: Ageing,
    state: State,
    *,
    at: float,
    age: Seconds = NO_AGE,
    limit: int = 0,
    memory: int | None = None,
) -> Retirement | None:
    sample = {} if memory is None else dict.fromkeys(state.children, memory)
    return ageing.choose(state, Limits(age=age, memory=limit), memory=sample, now=Monotonic(at))


def test_without_limits_nobody_is_replaced() -> None:
    assert choose(Ageing(), make_state(2), at=1e9, memory=2**40) is None


def test_the_oldest_goes_first_when_its_time_is_up() -> None:
    state = make_state(2, make_child(1, at=50.0), make_child(2, at=0.0))
    assert choose(Ageing(), state, at=101.9, age=HUNDRED) is None, "slot 2 has two hundredths more"
    found = choose(Ageing(), state, at=102.0, age=HUNDRED)
    assert found == Retirement(Pid(8102), "max_age reached after 102 s")


@pytest.mark.parametrize("phase", [Phase.BOOTING, Phase.DRAINING])
def test_while_somebody_comes_or_goes_nobody_is_chosen(phase: Phase) -> None:
    state = make_state(2, make_child(1), make_child(2, phase=phase))
    assert choose(Ageing(), state, at=1000.0, age=HUNDRED) is None


def test_one_at_a_time() -> None:
    state = make_state(2, make_child(1), replace(make_child(2), is_retiring=True))
    assert choose(Ageing(), state, at=1000.0, age=HUNDRED) is None


def test_during_a_rollout_nobody_is_chosen() -> None:
    state = make_state(1)
    rollout = Rollout(previous=state.pools["web"], started_at=Monotonic(0.0))
    state = replace(state, rollouts=MappingProxyType({"web": rollout}))
    assert choose(Ageing(), state, at=1000.0, age=HUNDRED) is None


def test_memory_counts_when_it_is_too_much_several_times_in_a_row() -> None:
    ageing, state = Ageing(), make_state(1)
    found = [choose(ageing, state, at=float(at), limit=MIB, memory=size) for at, size in enumerate(
        [2 * MIB, 2 * MIB, MIB, 2 * MIB, 2 * MIB]
    )]  # fmt: skip
    assert found == [None] * 5
    assert choose(ageing, state, at=6.0, limit=MIB) is None, "no sample is no news"
    found = [choose(ageing, state, at=7.0, limit=MIB, memory=2 * MIB)]
    assert found == [Retirement(Pid(8101), "max_memory of 1 MiB passed")]


def test_what_does_not_help_is_done_ever_more_rarely_until_it_helps() -> None:
    ageing = Ageing()
    pid, born = 1, 0.0
    times = []
    now = 0.0
    for step in range(8000):
        now = step * 5.0
        state = make_state(1, replace(make_child(1, at=born), pid=Pid(pid)))
        if choose(ageing, state, at=now, limit=MIB, memory=2 * MIB) is not None:
            times.append(now)
            pid, born = pid + 1, now
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (120.0, 3600.0)
    start = now + 10_000.0
    state = make_state(1, replace(make_child(1, at=start), pid=Pid(pid)))
    assert choose(ageing, state, at=start + 600.0, limit=MIB, memory=MIB) is None
    samples = [choose(ageing, state, at=start + 700.0, limit=MIB, memory=2 * MIB) for _ in range(3)]
    assert samples[-1] is not None, "it had been below the limit for long"
    again = replace(make_child(1, at=start + 701.0), pid=Pid(pid + 1))
    samples = [
        choose(ageing, make_state(1, again), at=start + at, limit=MIB, memory=2 * MIB)
        for at in (710, 720, 759, 760)
    ]
    assert [found is not None for found in samples] == [False, False, False, True]
