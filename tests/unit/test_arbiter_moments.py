"""Single moments of the decision core that a random schedule seldom meets exactly."""

from __future__ import annotations

import math

import pytest

from tests.support.core_world import Process, World
from unicornd.arbiter import events
from unicornd.arbiter.actions import AbandonRollout, FinishRollout
from unicornd.arbiter.fold import CALM, NO_REASON, SHORT_LIFE, fold
from unicornd.arbiter.state import Halt, Order, Patience, Phase, Pool, State
from unicornd.dataclass import replace
from unicornd.units import Generation, Monotonic, Pid, Seconds, Slot

PATIENCE = Patience(
    boot=Seconds(7.0),
    request=Seconds(11.0),
    heartbeat=Seconds(3.0),
    graceful=Seconds(13.0),
    kill=Seconds(1.5),
)
POOL = Pool(
    name="alpha", size=2, generation=Generation(1), surge=1, max_failures=2, patience=PATIENCE
)  # fmt: skip
NEXT = replace(POOL, generation=Generation(2))


def make_world(pool: Pool = POOL, *, serves: bool = True) -> World:
    world = World()
    world.declare(pool)
    if serves:
        world.settle()
    else:
        world.turn()
    return world


def in_slot(world: World, slot: int) -> Process:
    [process] = [each for each in world.processes.values() if each.slot == slot and each.is_staying]
    return process


def wait(world: World, seconds: float) -> None:
    world.now = Monotonic(world.now + seconds)


def orders(process: Process) -> list[Order]:
    return [order for order, _ in process.orders]


def test_a_report_of_failure_counts_at_once_and_its_exit_not_again() -> None:
    world = make_world()
    world.exit(in_slot(world, 1), code=None, signal=9)
    wait(world, 0.1)
    world.turn()
    probe = in_slot(world, 1)
    world.fail(probe)
    failures = world.state.backoffs["alpha"].failures
    world.exit(probe, code=3)
    assert world.state.backoffs["alpha"].failures == failures


def test_a_child_that_said_it_cannot_boot_and_does_not_leave_is_killed() -> None:
    world = make_world(serves=False)
    process = in_slot(world, 1)
    world.fail(process, cause="app")
    wait(world, PATIENCE.kill)
    world.turn()
    assert orders(process) == [Order.KILL]
    world.settle()
    assert world.left is not None
    assert (world.left.cause, world.left.reason) == ("app", "it raised\nTraceback")


def test_a_failure_without_a_reason_is_a_failure() -> None:
    world = make_world(serves=False)
    world.fail(in_slot(world, 1), reason="")
    assert world.state.fatal == NO_REASON


def test_a_child_that_was_given_up_does_not_become_ready_any_more() -> None:
    world = make_world(serves=False)
    process = in_slot(world, 1)
    world.fail(process)
    world.ready(process)
    assert world.state.children[process.pid].phase is Phase.DYING
    assert not world.state.served


def test_a_child_that_dies_while_everything_stops_is_no_failure() -> None:
    world = make_world(serves=False)
    world.halt(Halt.GRACEFUL)
    world.exit(in_slot(world, 1), code=1)
    world.settle()
    assert world.left is not None
    assert world.left.cause == "halt"


@pytest.mark.parametrize(
    ("seconds", "is_early"), [(math.nextafter(SHORT_LIFE, 0.0), True), (SHORT_LIFE, False)]
)
def test_who_dies_within_a_second_of_ready_is_replaced_with_a_delay(
    seconds: float, *, is_early: bool
) -> None:
    state = fold(State(), events.PoolDeclared(at=Monotonic(0.0), pool=POOL))
    pid = Pid(7)
    for event in (
        events.Spawned(at=Monotonic(0.0), pid=pid, pool="alpha", slot=Slot(1), generation=Generation(1)),
        events.BecameReady(at=Monotonic(0.0), pid=pid),
        events.Exited(at=Monotonic(seconds), pid=pid, code=1, signal=None),
    ):
        state = fold(state, event)
    assert ("alpha" in state.backoffs) is is_early


@pytest.mark.parametrize(
    ("pause", "is_delayed"), [(math.nextafter(CALM, 0.0), True), (CALM, False)], ids=["again", "later"]
)
def test_who_is_killed_from_outside_as_soon_as_it_is_ready_is_replaced_at_once_but_not_again_and_again(
    pause: float, *, is_delayed: bool
) -> None:
    state = fold(State(), events.PoolDeclared(at=Monotonic(0.0), pool=POOL))
    for at in (0.0, pause):
        pid, now = Pid(int(at) + 7), Monotonic(at)
        for event in (
            events.Spawned(at=now, pid=pid, pool="alpha", slot=Slot(1), generation=Generation(1)),
            events.BecameReady(at=now, pid=pid),
        ):
            state = fold(state, event)
        assert "alpha" not in state.backoffs
        state = fold(state, events.Exited(at=now, pid=pid, code=None, signal=9))
        assert ("alpha" in state.backoffs) is (is_delayed and at > 0)


def test_a_generation_that_dies_as_soon_as_it_is_ready_is_given_up() -> None:
    world = make_world()
    world.roll(NEXT)
    world.settle("die early")
    assert [type(end) for end in world.ended] == [AbandonRollout]
    assert world.ended[0] == AbandonRollout(
        pool="alpha", generation=Generation(2), reason="worker 1 died as soon as it was ready (signal 11)"
    )


def test_a_fork_that_is_refused_at_first_start_is_tried_again() -> None:
    world = World(forks_to_refuse=1)
    world.declare(POOL)
    world.turn()
    assert world.state.backoffs["alpha"].failures == 1
    assert world.state.halt is Halt.NO
    world.settle()
    world.assert_settled()


def test_a_sign_of_life_does_not_lengthen_a_boot() -> None:
    world = make_world(serves=False)
    process = in_slot(world, 1)
    wait(world, 6.0)
    world.beat(process)
    wait(world, 1.0)
    world.turn()
    assert orders(process) == [Order.KILL]


def test_both_deadlines_of_a_draining_child_at_once_and_it_is_killed() -> None:
    world = make_world()
    process = in_slot(world, 1)
    world.halt(Halt.GRACEFUL)
    world.turn()
    wait(world, 2.0)
    world.begin(process)
    wait(world, 11.0)
    world.begin(anybody_in_slot(world, 2))
    world.turn()
    assert orders(process) == [Order.DRAIN, Order.KILL]


def anybody_in_slot(world: World, slot: int) -> Process:
    [process] = [each for each in world.processes.values() if each.slot == slot]
    return process


def test_a_killed_boot_waits_for_the_back_off_before_its_slot_is_filled() -> None:
    world = make_world()
    wait(world, 2.0)
    world.beat(in_slot(world, 2))
    world.exit(in_slot(world, 1), code=None, signal=9)
    world.turn()
    hung = in_slot(world, 1)
    wait(world, 7.0)
    world.beat(in_slot(world, 2))
    world.turn()
    assert orders(hung) == [Order.KILL]
    assert [each for each in world.processes.values() if each.slot == 1] == [hung]


def test_a_slot_too_many_goes_before_one_that_waits_for_its_successor() -> None:
    world = make_world(replace(POOL, size=3))
    old = in_slot(world, 1)
    world.ask_replacement(old)
    world.resize("alpha", 2)
    highest = in_slot(world, 3)
    world.turn()
    assert orders(highest) == [Order.DRAIN]
    assert orders(old) == []


def test_a_higher_slot_serves_on_until_a_lower_one_is_ready_again() -> None:
    world = make_world(replace(POOL, size=3))
    wait(world, 2.0)
    for process in world.processes.values():
        world.beat(process)
    highest = in_slot(world, 3)
    world.exit(in_slot(world, 1), code=None, signal=9)
    world.resize("alpha", 2)
    world.turn()
    assert orders(highest) == []
    world.ready(in_slot(world, 1))
    world.turn()
    assert orders(highest) == [Order.DRAIN]
    world.settle()
    world.assert_settled()


def test_the_last_slot_of_a_reload_without_surge_waits_for_its_old_child_too() -> None:
    world = make_world(replace(POOL, size=1))
    old = in_slot(world, 1)
    world.roll(replace(NEXT, size=1, surge=0))
    world.turn()
    assert orders(old) == [Order.DRAIN]
    assert set(world.processes) == {old.pid}
    world.exit(old)
    world.turn()
    assert in_slot(world, 1).generation == 2


def test_a_reload_ends_though_one_of_its_children_asks_to_be_replaced() -> None:
    world = make_world(replace(POOL, size=1))
    world.roll(replace(NEXT, size=1))
    world.turn()
    new = next(each for each in world.processes.values() if each.generation == 2)
    world.ready(new)
    world.ask_replacement(new)
    world.turn()
    assert [type(end) for end in world.ended] == [FinishRollout]


def test_only_who_serves_is_replaced_on_request() -> None:
    world = make_world(serves=False)
    process = in_slot(world, 1)
    world.ask_replacement(process)
    assert not world.state.children[process.pid].is_retiring


def test_an_order_never_leads_back() -> None:
    world = make_world()
    pid = in_slot(world, 1).pid
    for order in (Order.ABORT, Order.DRAIN):
        world.tell(events.Ordered(at=world.now, pid=pid, order=order))
    assert world.state.children[pid].phase is Phase.DYING


def test_a_graceful_stop_does_not_soften_a_quick_one() -> None:
    world = make_world()
    for halt in (Halt.QUICK, Halt.GRACEFUL):
        world.halt(halt)
    assert world.state.halt is Halt.QUICK


def test_two_reloads_and_a_scale_go_back_to_the_last_good_generation_at_the_new_size() -> None:
    world = make_world()
    world.roll(NEXT)
    world.turn()
    world.roll(replace(POOL, generation=Generation(3)))
    world.resize("alpha", 3)
    world.settle("fail", rounds=12)
    assert world.state.pools["alpha"] == replace(POOL, size=3, is_disk_newer=True)


@pytest.mark.parametrize(
    "event",
    [
        events.BecameReady(at=Monotonic(1.0), pid=Pid(1)),
        events.BootFailed(at=Monotonic(1.0), pid=Pid(1), cause="boot", reason="x"),
        events.ReplacementAsked(at=Monotonic(1.0), pid=Pid(1), why="x"),
        events.Beaten(at=Monotonic(1.0), pid=Pid(1), beat_at=Monotonic(1.0), busy_since=None),
        events.Ordered(at=Monotonic(1.0), pid=Pid(1), order=Order.KILL),
        events.Exited(at=Monotonic(1.0), pid=Pid(1), code=0, signal=None),
        events.RolloutAbandoned(at=Monotonic(1.0), pool="alpha"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_news_of_strangers_and_of_no_rollout_change_nothing(event: events.Event) -> None:
    state = make_world().state
    assert fold(state, event) == state
