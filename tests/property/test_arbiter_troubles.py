"""What is wrong with a fleet although its workers are there: crash loops, saturation, what is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.control_port import make_child, make_facts, make_pool, make_state
from unicornd.arbiter import events, view
from unicornd.arbiter.fold import fold
from unicornd.arbiter.operations import Kind, Operation, Operations, Outcome
from unicornd.arbiter.state import Order, Phase, Role, State
from unicornd.arbiter.troubles import (
    CALM_AFTER,
    LOOP_DEATHS,
    LOOP_SECONDS,
    SATURATED_AFTER,
    Saturation,
    Trouble,
    crash_loop,
    saturation,
    trouble_of,
)
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.units import Monotonic, Pid

NOW = Monotonic(100.0)
POOL = make_pool(2)


def dying(state: State, *, at: float, slot: int = 1) -> State:
    """A worker dies unasked, and another one takes its place."""
    child = make_child(slot)
    state = fold(state, events.Exited(at=Monotonic(at), pid=child.pid, code=3, signal=None))
    return replace(state, children={**state.children, child.pid: child})


@given(st.lists(st.floats(min_value=0.1, max_value=90.0), max_size=12))
def test_a_crash_loop_is_so_many_deaths_in_so_many_seconds(gaps: list[float]) -> None:
    state, at = make_state(2), 100.0
    times = []
    for gap in gaps:
        at += gap
        times.append(at)
        state = dying(state, at=at)
    recent = [time for time in times if at - time < LOOP_SECONDS]
    assert bool(crash_loop(state, Monotonic(at))) is (len(recent) >= LOOP_DEATHS)
    assert not crash_loop(state, Monotonic(at + LOOP_SECONDS))


def test_a_crash_loop_is_told_with_its_last_death_and_ended_by_a_reload() -> None:
    state = make_state(2)
    for at in range(100, 115, 3):
        state = dying(state, at=float(at))
    name, reason = view.fleet_state(state, pool=POOL, running=None, now=Monotonic(114.0))
    assert name == "crash-looping"
    assert (
        reason
        == "2 of 2 workers are ready; the last 5 workers died within 12s: worker 1 ended by exit code 3, 2.0s ago"
    )
    assert view.readiness(state, pool=POOL).ok, "requests are served"
    reloaded = fold(state, events.RolloutStarted(at=NOW, pool=make_pool(2, generation=2)))
    assert not crash_loop(reloaded, Monotonic(114.0))


@given(st.lists(st.tuples(st.booleans(), st.floats(min_value=0.5, max_value=3.0)), max_size=60))
def test_a_fleet_is_saturated_once_something_has_waited_at_each_look(looks: list[tuple[bool, float]]) -> None:
    subject, now, told = Saturation(), 0.0, False
    crowded_since: float | None = None
    calm_since: float | None = None
    for is_crowded, gap in looks:
        now += gap
        event = subject.look(Monotonic(now), waiting=int(is_crowded))
        if is_crowded:
            crowded_since, calm_since = now if crowded_since is None else crowded_since, None
        else:
            calm_since = now if calm_since is None else calm_since
            crowded_since = crowded_since if told else None
        if event is None:
            continue
        assert (event.since is not None) is not told, "each time something else is told"
        told = event.since is not None
        if told:
            assert crowded_since is not None
            assert now - crowded_since >= SATURATED_AFTER
        else:
            assert calm_since is not None
            assert now - calm_since >= CALM_AFTER
            crowded_since = None


def test_a_fleet_is_called_saturated_until_it_has_been_calm_for_a_while() -> None:
    found = Saturation()
    assert found.look(NOW, waiting=3) is None
    news = found.look(Monotonic(NOW + SATURATED_AFTER), waiting=4)
    assert news == events.SaturationChanged(at=Monotonic(NOW + SATURATED_AFTER), since=NOW, waiting=4)
    calm = Monotonic(NOW + 2 * SATURATED_AFTER)
    assert found.look(calm, waiting=0) is None
    news = found.look(Monotonic(calm + CALM_AFTER), waiting=0)
    assert news == events.SaturationChanged(at=Monotonic(calm + CALM_AFTER), since=None, waiting=0)


def test_a_worker_with_a_free_thread_makes_no_fleet_saturated() -> None:
    subject = Saturation()
    assert all(subject.look(Monotonic(at), waiting=9, has_room=True) is None for at in range(60))


def test_saturation_is_told_with_numbers() -> None:
    state = fold(make_state(2), events.SaturationChanged(at=NOW, since=Monotonic(90.0), waiting=4))
    facts = make_facts()
    status = view.status(state, replace(facts, slots=6), pool=POOL, running=None)
    assert (status.state, status.reason.endswith("waiting, for 10s")) == ("saturated", True)
    assert saturation(Monotonic(0.0), Monotonic(60.0), waiting=34, busy=6, slots=6) == (
        "6 of 6 request slots are busy, 34 connections waiting, for 1m"
    )
    assert saturation(Monotonic(0.0), Monotonic(60.0), waiting=1, busy=6, slots=0) == (
        "no worker accepts, 1 connection waiting, for 1m"
    )
    health = view.readiness(state, pool=POOL)
    assert (health.ok, "saturated" in health.reason) == (True, True)
    over = fold(state, events.SaturationChanged(at=NOW, since=None, waiting=0))
    assert view.fleet_state(over, pool=POOL, running=None, now=NOW) == ("ready", "")


def counted(state: State, event: events.Event) -> Trouble | None:
    return trouble_of(event, previous=state, state=fold(state, event))


def test_each_worker_that_ends_badly_is_counted_once() -> None:
    pid = make_child(1).pid
    ready, booting = make_state(2), make_state(2, make_child(1, phase=Phase.BOOTING))
    died = events.Exited(at=NOW, pid=pid, code=3, signal=None)
    failed = events.BootFailed(at=NOW, pid=pid, cause="app", reason="no")
    assert counted(ready, died) is Trouble.RESTART
    assert counted(booting, died) is Trouble.BOOT_FAILURE
    assert counted(booting, failed) is Trouble.BOOT_FAILURE
    assert counted(fold(booting, failed), died) is None
    for order in Order:
        ordered = events.Ordered(at=NOW, pid=pid, order=order)
        ends_badly = order in {Order.EXPIRE, Order.ABORT, Order.KILL}
        assert counted(ready, ordered) is (Trouble.RESTART if ends_badly else None)
        assert counted(fold(ready, ordered), died) is None
    assert counted(booting, events.Ordered(at=NOW, pid=pid, order=Order.KILL)) is Trouble.BOOT_FAILURE
    assert counted(booting, events.Ordered(at=NOW, pid=pid, order=Order.QUIT)) is None
    assert counted(ready, events.Exited(at=NOW, pid=Pid(1), code=0, signal=None)) is None
    assert counted(ready, events.ListenersLeft(at=NOW)) is None


def test_a_mold_that_dies_after_it_was_ready_is_no_worker_and_no_crash() -> None:
    mold = replace(make_child(1), role=Role.MOLD, pid=Pid(9000))
    state = replace(make_state(2), molds={mold.pid: mold})
    event = events.Exited(at=NOW, pid=mold.pid, code=3, signal=None)
    assert counted(state, event) is None
    assert fold(state, event).deaths == ()


def reload_that_is(outcome: Outcome, *, refused: CtlExit | None = None) -> Operation:
    operations = Operations()
    operations.begin(Kind.RELOAD, title="reload", pool="web", now=Monotonic(40.0))
    if refused is not None:
        operations.refuse(refused, result="workers.count: too many", now=Monotonic(40.0), hint="fewer")
    else:
        operations.end(outcome, result="because", now=Monotonic(40.0))
    for number in range(60):
        operations.begin(Kind.RECYCLE, title=f"recycle {number}", pool="web", now=NOW)
    assert operations.last_reload is not None, "whatever has happened since then"
    return operations.last_reload


def test_the_last_reload_is_told_until_one_works() -> None:
    for outcome, refused, name, told in (
        (Outcome.ROLLED_BACK, None, "rolled_back", "the last reload was rolled back 1m ago"),
        (Outcome.FAILED, CtlExit.CONFIG, "refused", "the last reload was refused 1m ago"),
        (Outcome.FAILED, None, "failed", "the last reload was not finished 1m ago"),
        (Outcome.DONE, None, "done", ""),
    ):
        facts = replace(make_facts(), last_reload=reload_that_is(outcome, refused=refused))
        status = view.status(make_state(2), facts, pool=POOL, running=None)
        assert status.last_reload is not None
        assert (status.state, status.reason, status.last_reload.state) == ("ready", told, name)
    rolled_back = replace(make_facts(), last_reload=reload_that_is(Outcome.ROLLED_BACK))
    pool = replace(POOL, is_disk_newer=True)
    reason = view.status(make_state(2), rolled_back, pool=pool, running=None).reason
    assert reason.startswith("the last reload was rolled back 1m ago; a replaced worker would run")
    assert view.status(make_state(2), make_facts(), pool=POOL, running=None).last_reload is None
