"""The decision core under random schedules: whatever happens, every promise holds (they are in `core_world`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.core_world import World
from unicornd.arbiter.actions import AbandonRollout, FinishRollout
from unicornd.arbiter.state import Halt, Order, Patience, Pool
from unicornd.dataclass import replace
from unicornd.units import Generation, Monotonic, Seconds

if TYPE_CHECKING:
    from tests.support.core_world import Process

# Distinct, so that no deadline is another one by accident; 0 is "no limit".
PATIENCES = st.builds(
    Patience,
    boot=st.sampled_from([7.0, 0.0]).map(Seconds),
    request=st.sampled_from([11.0, 0.0]).map(Seconds),
    heartbeat=st.sampled_from([3.0, 0.0]).map(Seconds),
    graceful=st.sampled_from([13.0, 2.0, 0.0]).map(Seconds),
    drain=st.sampled_from([0.0, 4.0]).map(Seconds),
    kill=st.sampled_from([4.5, 1.5, 0.1]).map(Seconds),
    spares_siblings=st.booleans(),
)
SIZES = st.integers(0, 4)
PICK = st.integers(0, 30)
NAMES = ("alpha", "beta")


def pools(name: str, *, generation: int = 1) -> st.SearchStrategy[Pool]:
    return st.builds(
        Pool,
        name=st.just(name),
        size=SIZES,
        generation=st.just(Generation(generation)),
        surge=st.integers(0, 3),
        max_failures=st.integers(1, 3),
        patience=PATIENCES,
        is_molded=st.booleans(),
        folders=st.sampled_from([(), ("/1",), ("/2",), ("/lib", "/1"), ("/lib", "/2")]),
    )


class Core(RuleBasedStateMachine):
    """Deaths, readies, silence, requests, time, wishes; in any order, between any two turns of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.generation = 1
        self.is_eager = False
        self.ends = False

    @invariant()
    def the_loop_turns(self) -> None:
        """The loop may turn after each event, or take many at once."""
        if self.is_eager and self.is_alive():
            self.world.turn()

    @initialize(
        alpha=pools("alpha"),
        beta=st.none() | pools("beta"),
        starts=st.booleans(),
        is_eager=st.booleans(),
        ends=st.booleans(),
    )
    def declare(self, alpha: Pool, beta: Pool | None, *, starts: bool, is_eager: bool, ends: bool) -> None:
        self.is_eager, self.ends = is_eager, ends
        for pool in (alpha, beta):
            if pool is not None:
                self.world.declare(pool)
        if starts:  # most of life is after the start
            self.world.settle("ready")

    def pick(self, number: int, *, state: str) -> Process:
        """One of the processes that are in some state."""
        some = [
            process
            for process in self.world.processes.values()
            if state == "any" or getattr(process, f"is_{state}")
        ]
        assume(some)
        return some[number % len(some)]

    def is_alive(self) -> bool:
        return self.world.left is None

    @rule()
    def turn(self) -> None:
        if self.is_alive():
            self.world.turn()

    @precondition(is_alive)
    @rule(number=PICK, side=st.sampled_from([-math.inf, 0.0, math.inf]))
    def let_time_pass_to_a_deadline(self, number: int, side: float) -> None:
        moments = self.world.moments()
        assume(moments)
        moment = moments[number % len(moments)]
        self.world.now = Monotonic(math.nextafter(moment, side) if side else moment)
        self.world.turn()

    @precondition(is_alive)
    @rule(seconds=st.sampled_from([0.1, 0.999, 1.5, 3.0, 5.0, 7.0, 11.0, 40.0]), turns=st.booleans())
    def let_time_pass(self, seconds: float, *, turns: bool) -> None:
        self.world.now = Monotonic(self.world.now + seconds)
        if turns:
            self.world.turn()

    @precondition(is_alive)
    @rule(number=PICK)
    def a_process_becomes_ready(self, number: int) -> None:
        self.world.ready(self.pick(number, state="booting"))

    @precondition(is_alive)
    @rule(number=PICK)
    def a_process_that_was_told_something_says_ready(self, number: int) -> None:
        process = self.pick(number, state="any")
        assume(not process.is_staying)
        self.world.ready(process)

    @precondition(is_alive)
    @rule(number=PICK, cause=st.sampled_from(["app", "boot"]), reason=st.sampled_from(["it raised", ""]))
    def a_process_cannot_boot(self, number: int, cause: str, reason: str) -> None:
        self.world.fail(self.pick(number, state="any"), cause=cause, reason=reason)

    @precondition(is_alive)
    @rule(number=PICK, state=st.sampled_from(["booting", "ready", "any"]), code=st.sampled_from([None, 0, 3]))
    def a_process_dies(self, number: int, state: str, code: int | None) -> None:
        self.world.exit(self.pick(number, state=state), code=code, signal=9 if code is None else None)

    @precondition(is_alive)
    @rule()
    def everybody_obeys(self) -> None:
        for process in tuple(self.world.processes.values()):
            if not process.is_staying:
                self.world.exit(process)

    @precondition(is_alive)
    @rule()
    def everybody_gives_a_sign_of_life(self) -> None:
        for process in self.world.processes.values():
            self.world.beat(process)

    @precondition(is_alive)
    @rule(number=PICK)
    def a_request_begins(self, number: int) -> None:
        process = self.pick(number, state="ready")
        assume(not process.is_mold)
        self.world.begin(process)

    @precondition(is_alive)
    @rule(number=PICK)
    def a_request_ends(self, number: int) -> None:
        process = self.pick(number, state="any")
        assume(process.ready_at is not None and process.busy_since is not None and not process.is_mold)
        self.world.finish(process)

    @precondition(is_alive)
    @rule(number=PICK, keeps=st.booleans())
    def a_mold_forks_or_cannot(self, number: int, *, keeps: bool) -> None:
        owed = [(mold, ticket) for mold in self.world.processes.values() for ticket in mold.owes]
        assume(owed)
        mold, ticket = owed[number % len(owed)]
        if keeps:
            self.world.keep_promise(mold, ticket)
        else:
            self.world.break_promise(mold, ticket)

    @precondition(is_alive)
    @rule(number=PICK)
    def a_process_asks_to_be_replaced(self, number: int) -> None:
        process = self.pick(number, state="any")
        assume(not process.is_mold)
        self.world.ask_replacement(process)

    @precondition(is_alive)
    @rule(count=st.integers(1, 3))
    def the_kernel_refuses_to_fork(self, count: int) -> None:
        self.world.forks_to_refuse = count

    @precondition(is_alive)
    @rule(number=PICK, size=SIZES, from_oldest=st.booleans())
    def somebody_scales(self, number: int, size: int, *, from_oldest: bool) -> None:
        names = sorted(self.world.state.pools)
        self.world.resize(names[number % len(names)], size, from_oldest=from_oldest)

    @precondition(is_alive)
    @rule(pool=st.one_of([pools(name) for name in NAMES]))
    def somebody_reloads(self, pool: Pool) -> None:
        assume(pool.name in self.world.served)  # before that, a reload is refused
        self.generation += 1
        self.world.roll(replace(pool, generation=Generation(self.generation)))

    @precondition(is_alive)
    @rule(halt=st.sampled_from([Halt.GRACEFUL, Halt.QUICK]))
    def somebody_stops_it(self, halt: Halt) -> None:
        assume(self.ends)
        self.world.halt(halt)

    @precondition(is_alive)
    @rule(fate=st.sampled_from(["ready", "fail", "exit", "hang", "no fork", "die early"]))
    def time_passes_in_peace(self, fate: str) -> None:
        may_hang = any(not pool.patience.boot for pool in self.world.state.pools.values())
        assume(fate != "hang" or not may_hang)
        self.world.settle(fate)
        if self.world.left is None:
            assert not self.world.rolling, "a rollout always ends"

    def teardown(self) -> None:
        """Whatever it was: a healthy world settles, a stopping one halts."""
        world = self.world
        world.settle("ready")
        if world.state.halt is Halt.NO:
            world.assert_settled()
            world.halt(Halt.GRACEFUL)
            world.settle("ready")
        assert world.left is not None, "a stopping pool halts"
        assert (world.left.cause == "halt") is not world.doomed


TestCore = pytest.mark.timeout(600)(Core.TestCase)
TestCore.settings = settings(
    max_examples=50,
    stateful_step_count=50,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@given(
    pool=pools("alpha"), surge=st.integers(1, 6), fate=st.sampled_from(["fail", "exit", "hang", "no fork"])
)
def test_a_broken_generation_is_given_up_and_nobody_who_serves_is_disturbed(
    pool: Pool, surge: int, fate: str
) -> None:
    if fate == "hang":
        pool = replace(pool, patience=replace(pool.patience, boot=Seconds(7.0)))
    pool = replace(pool, size=pool.size + 1)
    world = World()
    world.declare(pool)
    world.settle()
    before = set(world.processes)
    world.roll(replace(pool, generation=Generation(2), surge=surge))
    world.settle(fate)
    assert [type(end) for end in world.ended] == [AbandonRollout]
    assert set(world.processes) == before
    world.assert_settled()


@given(pool=pools("alpha"), surge=st.integers(0, 4), size=SIZES)
def test_a_sound_generation_replaces_the_old_one_by_draining_only(pool: Pool, surge: int, size: int) -> None:
    world = World()
    world.declare(pool)
    world.settle()
    old = dict(world.processes)
    world.roll(replace(pool, generation=Generation(2), surge=surge, size=size))
    world.settle()
    assert [type(end) for end in world.ended] == [FinishRollout]
    told = {(process.is_mold, order) for process in old.values() for order, _ in process.orders}
    assert told <= {(False, Order.DRAIN), (True, Order.QUIT)}
    world.assert_settled()
