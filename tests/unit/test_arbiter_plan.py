"""What the decision core does, situation by situation."""

from __future__ import annotations

import pytest

from tests.support.world import PATIENCE, POOL, World, declared, make_pool, started
from unicornd.arbiter import events
from unicornd.arbiter.actions import Command, Spawn
from unicornd.arbiter.fold import HUNG, LONGEST_DELAY, fold
from unicornd.arbiter.plan import plan
from unicornd.arbiter.state import Halt, Order, Patience, Phase, State
from unicornd.dataclass import replace
from unicornd.units import Monotonic, Pid, Seconds


def slots(world: World, *phases: Phase) -> list[int]:
    return sorted(child.slot for child in world.state.children.values() if child.phase in phases)


def reload(world: World, size: int, *, surge: int = 1, max_failures: int = 3) -> None:
    generation = world.state.pools[POOL].generation + 1
    pool = make_pool(size, generation=generation, surge=surge, max_failures=max_failures)
    world.take(events.RolloutStarted(at=world.now, pool=pool))
    world.act()


def fail_boot(world: World, pid: Pid, *, cause: str = "boot") -> None:
    world.take(events.BootFailed(at=world.now, pid=pid, cause=cause, reason="no database\ntraceback"))
    world.exit(pid, code=3)
    world.act()


def test_a_start_fills_all_slots_at_once() -> None:
    assert slots(declared(3), Phase.BOOTING) == [1, 2, 3]


@pytest.mark.parametrize("cause", ["app", "boot"])
def test_a_boot_failure_at_first_start_ends_everything_with_its_reason(cause: str) -> None:
    world = declared(3)
    victim, *others = world.pids()
    fail_boot(world, victim, cause=cause)
    assert [order for _, order in world.orders] == [Order.QUIT, Order.QUIT]
    for pid in others:
        world.exit(pid)
    world.act()
    assert world.left is not None
    assert world.left.cause == cause
    assert world.left.reason == "no database\ntraceback"


@pytest.mark.parametrize(("code", "signal", "says"), [(3, None, "exit code 3"), (None, 11, "signal 11")])
def test_a_silent_death_while_booting_is_told_by_its_ending(
    code: int | None, signal: int | None, says: str
) -> None:
    world = declared(1)
    world.exit(world.pids()[0], code=code, signal=signal)
    world.act()
    assert world.left is not None
    assert says in world.left.reason


def test_a_boot_that_hangs_is_killed_at_its_deadline_and_is_fatal_at_first_start() -> None:
    world = declared(1)
    world.step(PATIENCE.boot - 0.001)
    assert not world.orders
    world.step(0.001)
    assert world.orders == [(world.pids()[0], Order.KILL)]
    world.exit(world.pids()[0], code=None, signal=9)
    world.act()
    assert world.left is not None
    assert f" {HUNG} (" in world.left.reason


def test_a_dead_worker_is_replaced_at_once_in_its_slot() -> None:
    world = started(3)
    victim = next(pid for pid, child in world.state.children.items() if child.slot == 2)
    world.exit(victim, code=None, signal=9)
    world.act()
    assert slots(world, Phase.BOOTING) == [2]


def test_a_worker_that_dies_right_after_it_was_ready_is_replaced_with_a_delay() -> None:
    world = declared(1)
    world.become_ready(world.pids()[0])
    world.exit(world.pids()[0], code=1)
    world.act()
    assert not world.pids()
    world.step(0.1)
    assert slots(world, Phase.BOOTING) == [1]


def test_boots_that_fail_later_are_tried_one_at_a_time_ever_more_slowly() -> None:
    world = started(3)
    for pid in world.pids():
        world.exit(pid, code=1)
    world.act()
    assert len(world.pids()) == 3
    for pid in world.pids():
        fail_boot(world, pid)
    delays: list[float] = []
    while not delays or delays[-1] < LONGEST_DELAY:
        backoff = world.state.backoffs[POOL]
        delays.append(round(backoff.not_before - world.now, 3))
        world.step(delays[-1])
        [probe] = world.pids()
        fail_boot(world, probe)
    assert delays == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert world.left is None
    world.heal()
    world.assert_settled()


def test_a_scale_up_fills_the_lowest_free_slots_and_a_scale_down_empties_the_highest() -> None:
    world = started(2)
    world.take(events.Resized(at=world.now, pool=POOL, size=4))
    world.act()
    assert slots(world, Phase.BOOTING) == [3, 4]
    world.take(events.Resized(at=world.now, pool=POOL, size=1))
    world.act()
    assert [order for _, order in world.orders] == [Order.QUIT, Order.QUIT, Order.DRAIN]
    assert slots(world, Phase.READY) == [1]
    assert slots(world, Phase.DRAINING) == [2]


def test_ttin_and_ttou_by_turns_replace_the_oldest_workers() -> None:
    world = started(2)
    for opened, gone in ((3, 1), (1, 2), (2, 3)):
        world.step(1.0)
        world.take(events.Resized(at=world.now, pool=POOL, size=3))
        world.act()
        assert slots(world, Phase.BOOTING) == [opened]
        world.heal()
        world.take(events.Resized(at=world.now, pool=POOL, size=2, from_oldest=True))
        world.act()
        assert slots(world, Phase.DRAINING) == [gone]
        world.heal()
        world.assert_settled()


def test_the_oldest_worker_goes_when_the_newest_is_ready_and_an_empty_slot_goes_before_it() -> None:
    world = started(2)
    world.take(events.Resized(at=world.now, pool=POOL, size=3))
    world.act()
    world.take(events.Resized(at=world.now, pool=POOL, size=2, from_oldest=True))
    world.act()
    assert slots(world, Phase.READY) == [1, 2], "nobody leaves before another serves"
    world.take(events.Resized(at=world.now, pool=POOL, size=3))
    world.act()
    assert slots(world, Phase.READY, Phase.BOOTING) == [1, 2, 3], "it stays after all"
    for pid in world.pids(Phase.BOOTING):
        fail_boot(world, pid)
    world.take(events.Resized(at=world.now, pool=POOL, size=2, from_oldest=True))
    world.act()
    assert slots(world, Phase.READY) == [1, 2]
    assert world.state.pools[POOL].slots == (1, 2)


def test_a_reload_keeps_the_slots_and_a_scale_down_takes_the_highest() -> None:
    world = started(3)
    world.take(events.Resized(at=world.now, pool=POOL, size=2, from_oldest=True))
    world.heal()
    assert world.state.pools[POOL].slots == (2, 3)
    world.take(events.RolloutStarted(at=world.now, pool=make_pool(2, generation=2)))
    world.act()
    assert slots(world, Phase.BOOTING) == [2], "one beside those that serve"
    world.heal()
    world.assert_settled()
    assert slots(world, Phase.READY) == [2, 3]
    world.take(events.Resized(at=world.now, pool=POOL, size=1))
    world.heal()
    assert slots(world, Phase.READY) == [2]
    world.take(events.Resized(at=world.now, pool=POOL, size=0))
    world.heal()
    assert world.state.pools[POOL].slots == ()
    assert not world.state.pools[POOL].closed


def test_a_worker_that_asks_for_it_is_replaced_before_it_leaves() -> None:
    world = started(2)
    for pid in world.pids():
        world.take(events.ReplacementAsked(at=world.now, pid=pid, why="max_requests"))
    world.act()
    assert slots(world, Phase.BOOTING) == [1], "one at a time"
    assert slots(world, Phase.READY) == [1, 2]
    world.heal()
    world.assert_settled()


def test_a_reload_replaces_one_after_the_other_by_ready_workers_only() -> None:
    world = started(3)
    reload(world, 3)
    for slot in (1, 2, 3):
        assert slots(world, Phase.BOOTING) == [slot]
        assert len(world.pids(Phase.READY)) == 3
        world.become_ready(world.pids(Phase.BOOTING)[0])
        world.act()
        for pid in world.pids(Phase.DRAINING):
            assert world.state.children[pid].slot == slot
            world.exit(pid)
        world.act()
    assert world.finished == [2]
    world.assert_settled()


def test_a_reload_with_full_surge_boots_everybody_at_once() -> None:
    world = started(3)
    reload(world, 3, surge=3)
    assert slots(world, Phase.BOOTING) == [1, 2, 3]
    world.heal()
    world.assert_settled()


def test_a_reload_without_surge_waits_until_an_old_one_has_gone() -> None:
    world = started(2)
    reload(world, 2, surge=0)
    assert not world.pids(Phase.BOOTING)
    [leaving] = world.pids(Phase.DRAINING)
    world.exit(leaving)
    world.act()
    assert slots(world, Phase.BOOTING) == [1]
    assert len(world.pids(Phase.READY)) == 1
    world.heal()
    world.assert_settled()


def test_a_reload_is_abandoned_after_so_many_failures_and_the_old_generation_stays() -> None:
    world = started(2)
    before = world.pids()
    reload(world, 2, max_failures=2)
    fail_boot(world, world.pids(Phase.BOOTING)[0])
    assert not world.abandoned
    world.step(0.1)
    fail_boot(world, world.pids(Phase.BOOTING)[0])
    assert world.abandoned == ["no database\ntraceback"]
    assert world.pids() == before
    assert world.state.pools[POOL].generation == 1
    world.assert_settled()


def test_a_reload_that_hangs_is_abandoned_after_the_boot_timeout() -> None:
    world = started(1)
    reload(world, 1)
    world.step(PATIENCE.boot / 2)
    world.beat(world.pids(Phase.READY)[0])
    world.step(PATIENCE.boot / 2)
    assert [f" {HUNG} (" in reason for reason in world.abandoned] == [True]


def test_a_reload_is_abandoned_when_forks_fail() -> None:
    world = started(1)
    world.fork_works = False
    reload(world, 1, max_failures=2)
    world.step(0.2)
    assert world.abandoned == ["EAGAIN"]


def test_new_workers_of_an_abandoned_reload_serve_until_old_ones_are_back() -> None:
    world = started(2)
    reload(world, 2, max_failures=1)
    world.become_ready(world.pids(Phase.BOOTING)[0])
    world.act()
    for pid in world.pids(Phase.DRAINING):
        world.exit(pid)
    world.act()
    fail_boot(world, world.pids(Phase.BOOTING)[0])
    assert world.abandoned
    assert len(world.pids(Phase.READY)) == 2
    world.heal()
    world.assert_settled()


def test_a_second_reload_takes_the_place_of_the_first_and_would_go_back_to_the_last_good_one() -> None:
    world = started(1)
    reload(world, 1)
    booting = world.pids(Phase.BOOTING)
    reload(world, 1, max_failures=1)
    assert (booting[0], Order.QUIT) in world.orders
    world.exit(booting[0])
    world.act()
    fail_boot(world, world.pids(Phase.BOOTING)[0])
    assert world.state.pools[POOL].generation == 1


def test_a_scale_during_a_reload_survives_its_rollback() -> None:
    world = started(1)
    reload(world, 1, max_failures=1)
    world.take(events.Resized(at=world.now, pool=POOL, size=2))
    world.act()
    fail_boot(world, world.pids(Phase.BOOTING)[0])
    assert world.state.pools[POOL].size == 2


def test_a_request_that_runs_too_long_gets_its_worker_aborted_then_killed() -> None:
    world = started(1)
    [pid] = world.pids()
    world.beat(pid, busy_since=world.now)
    world.step(PATIENCE.request - 0.001)
    assert not world.orders
    world.step(0.001)
    world.step(PATIENCE.kill)
    world.step(5.0)
    assert [order for _, order in world.orders] == [Order.ABORT, Order.KILL, Order.KILL]
    assert slots(world, Phase.BOOTING) == [1], "its replacement boots meanwhile"


def test_an_idle_worker_without_a_sign_of_life_is_aborted_a_busy_one_is_not() -> None:
    world = started(2)
    silent, busy = world.pids()
    world.beat(silent)
    world.beat(busy, busy_since=world.now)
    for _ in range(4):
        world.step(PATIENCE.request - 0.5)
        world.beat(busy, busy_since=world.now)
    assert world.orders == [(silent, Order.ABORT), (silent, Order.KILL)]


def test_a_worker_that_does_not_drain_is_killed() -> None:
    world = started(2)
    world.take(events.Resized(at=world.now, pool=POOL, size=1))
    world.act()
    world.step(PATIENCE.graceful)
    assert [order for _, order in world.orders] == [Order.DRAIN, Order.KILL]


def test_a_graceful_stop_drains_who_serves_and_ends_who_boots() -> None:
    world = started(1)
    world.take(events.Resized(at=world.now, pool=POOL, size=2))
    world.act()
    world.take(events.HaltAsked(at=world.now, halt=Halt.GRACEFUL))
    world.act()
    assert [order for _, order in world.orders] == [Order.DRAIN, Order.QUIT]
    world.heal()
    assert world.left is not None
    assert world.left.cause == "halt"


def test_a_quick_stop_overrides_a_graceful_one_and_not_the_other_way_round() -> None:
    world = started(1)
    world.take(events.HaltAsked(at=world.now, halt=Halt.GRACEFUL))
    world.act()
    world.take(events.HaltAsked(at=world.now, halt=Halt.QUICK))
    world.act()
    world.take(events.HaltAsked(at=world.now, halt=Halt.GRACEFUL))
    world.act()
    assert [order for _, order in world.orders] == [Order.DRAIN, Order.QUIT]
    assert world.state.halt is Halt.QUICK
    world.step(PATIENCE.kill)
    assert world.orders[-1][1] is Order.KILL


def test_without_limits_nothing_is_killed() -> None:
    world = World()
    pool = make_pool(1)
    none = Seconds(0.0)
    for_ever = Patience(boot=none, request=none, heartbeat=none, graceful=none, kill=Seconds(2.0))
    world.take(events.PoolDeclared(at=world.now, pool=replace(pool, patience=for_ever)))
    world.act()
    world.step(10_000.0)
    world.become_ready(world.pids()[0])
    world.beat(world.pids()[0], busy_since=world.now)
    world.step(10_000.0)
    assert not world.orders


def test_pools_do_not_mix() -> None:
    world = started(1)
    other = replace(make_pool(2), name="tasks")
    world.take(events.PoolDeclared(at=world.now, pool=other))
    actions = plan(world.state, world.now).actions
    assert [(action.pool, action.slot) for action in actions if isinstance(action, Spawn)] == [
        ("tasks", 1),
        ("tasks", 2),
    ]
    assert not [action for action in actions if isinstance(action, Command)]


def test_events_about_strangers_change_nothing() -> None:
    state = started(1).state
    now, stranger = Monotonic(1.0), Pid(1)
    for event in (
        events.BecameReady(at=now, pid=stranger),
        events.BootFailed(at=now, pid=stranger, cause="boot", reason=""),
        events.Ordered(at=now, pid=stranger, order=Order.KILL),
        events.Exited(at=now, pid=stranger, code=0, signal=None),
        events.RolloutAbandoned(at=now, pool=POOL),
    ):
        assert fold(state, event) is state


def test_ready_is_only_said_once() -> None:
    world = started(1)
    before = world.state
    world.become_ready(world.pids()[0])
    assert world.state is before


def test_an_empty_state_asks_for_nothing() -> None:
    assert not plan(State(), Monotonic(0.0)).actions
    assert plan(State(), Monotonic(0.0)).wake_at is None
