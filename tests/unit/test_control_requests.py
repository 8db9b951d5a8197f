from __future__ import annotations

from http import HTTPStatus
from types import MappingProxyType

import pytest

from tests.support.control_port import make_child, make_state
from unicornd.arbiter.events import HaltAsked, ReplacementAsked, Resized
from unicornd.arbiter.operations import Kind, Operation, Operations
from unicornd.arbiter.requests import (
    Granted,
    Recycle,
    Refusal,
    Reload,
    Reopen,
    Scale,
    Stop,
    Upgrade,
    Wish,
    decide,
    refusal_of,
    rehearse,
)
from unicornd.arbiter.state import Child, Halt, Phase, State
from unicornd.config.resolved import MAX_WORKERS
from unicornd.dataclass import replace
from unicornd.errors import ConfigError, CtlExit, ListenError, UnicorndError
from unicornd.units import Monotonic, Pid, Slot

NOW = Monotonic(10.0)
EVERY_CHANGE: tuple[Wish, ...] = (Reload(), Scale(count=3), Recycle(slot=Slot(1)))


def running(kind: Kind) -> Operation:
    return Operations().begin(kind, title="replace it", pool="web", now=NOW)


def granted(wish: Wish, *, state: State | None = None, operation: Operation | None = None) -> Granted:
    decision = decide(wish, state=state or make_state(2), running=operation, now=NOW)
    assert isinstance(decision, Granted)
    return decision


def refused(wish: Wish, *, state: State | None = None, operation: Operation | None = None) -> Refusal:
    decision = decide(wish, state=state or make_state(2), running=operation, now=NOW)
    assert isinstance(decision, Refusal)
    return decision


@pytest.mark.parametrize(
    ("wish", "size"),
    [(Scale(count=8), 8), (Scale(count=2, is_relative=True), 4), (Scale(count=-1, is_relative=True), 1),
     (Scale(count=2), 2), (Scale(count=MAX_WORKERS), MAX_WORKERS)],
)  # fmt: skip
def test_a_scale_becomes_the_event_that_resizes(wish: Scale, size: int) -> None:
    decision = granted(wish)
    assert decision.events == (Resized(at=NOW, pool="web", size=size),)
    assert decision.size == size
    assert decision.title == f"scale from 2 to {size} workers"


@pytest.mark.parametrize(
    "wish",
    [Scale(count=0), Scale(count=-5), Scale(count=100_000), Scale(count=MAX_WORKERS + 1),
     Scale(count=-2, is_relative=True), Scale(count=0, is_relative=True)],
)  # fmt: skip
def test_a_size_that_makes_no_sense_is_refused_as_usage(wish: Scale) -> None:
    refusal = refused(wish)
    assert (refusal.status, refusal.exit_code) == (HTTPStatus.UNPROCESSABLE_ENTITY, CtlExit.USAGE)
    assert "1 to 1024" in refusal.message


@pytest.mark.parametrize("wish", EVERY_CHANGE)
def test_one_change_at_a_time_and_the_refusal_names_the_other(wish: Wish) -> None:
    refusal = refused(wish, operation=running(Kind.RELOAD))
    assert (refusal.status, refusal.exit_code) == (HTTPStatus.CONFLICT, CtlExit.BUSY)
    assert refusal.operation == "reload-1"


@pytest.mark.parametrize("wish", EVERY_CHANGE)
def test_nothing_is_changed_in_a_fleet_that_is_stopping(wish: Wish) -> None:
    assert refused(wish, state=replace(make_state(2), halt=Halt.GRACEFUL)).exit_code is CtlExit.BUSY


@pytest.mark.parametrize("wish", [*EVERY_CHANGE, Stop(), Reopen()])
def test_before_there_is_a_pool_nothing_can_be_asked(wish: Wish) -> None:
    assert refused(wish, state=State()).exit_code is CtlExit.BUSY


def test_a_stop_and_reopening_logs_are_always_allowed() -> None:
    assert granted(Stop(), operation=running(Kind.RELOAD)).events == (HaltAsked(at=NOW, halt=Halt.GRACEFUL),)
    assert granted(Reopen(), operation=running(Kind.RELOAD)).kind is Kind.REOPEN


def test_a_second_stop_joins_the_first_unless_it_is_quicker() -> None:
    stopping, stop = replace(make_state(2), halt=Halt.GRACEFUL), running(Kind.STOP)
    assert granted(Stop(), state=stopping, operation=stop).joins == stop
    quick = granted(Stop(halt=Halt.QUICK), state=stopping, operation=stop)
    assert quick.joins is None
    assert quick.events == (HaltAsked(at=NOW, halt=Halt.QUICK),)


def test_a_fleet_that_was_never_ready_is_not_reloaded() -> None:
    assert refused(Reload(), state=replace(make_state(2), served=frozenset())).exit_code is CtlExit.BUSY


def test_a_recycle_asks_for_a_replacement_of_the_worker_in_the_slot() -> None:
    decision = granted(Recycle(slot=Slot(2)))
    (event,) = decision.events
    assert isinstance(event, ReplacementAsked)
    assert event.pid == decision.pid == Pid(8102)


def test_an_unknown_slot_is_refused_with_those_that_there_are() -> None:
    refusal = refused(Recycle(slot=Slot(9)))
    assert refusal.status is HTTPStatus.NOT_FOUND
    assert "9" in refusal.message
    assert "1, 2" in refusal.hint


@pytest.mark.parametrize(
    "child", [make_child(1, phase=Phase.BOOTING), replace(make_child(1), is_retiring=True)]
)
def test_a_worker_that_is_not_settled_is_not_recycled(child: Child) -> None:
    state = replace(make_state(1), children=MappingProxyType({Pid(8101): child}))
    assert refused(Recycle(slot=Slot(1)), state=state).exit_code is CtlExit.BUSY


def test_a_rehearsal_says_what_the_plan_would_do_first() -> None:
    state = make_state(2)
    lines = rehearse(granted(Scale(count=4), state=state), state=state, now=NOW)
    assert [line for line in lines if line.startswith("boot worker")] == [
        "boot worker 3 (generation 1)",
        "boot worker 4 (generation 1)",
    ]
    lines = rehearse(granted(Stop(), state=state), state=state, now=NOW)
    assert lines[0] == "leave the listeners"
    assert sorted(lines[1:]) == ["drain worker 1 (pid 8101)", "drain worker 2 (pid 8102)"]


def test_an_upgrade_needs_a_fleet_that_has_served() -> None:
    assert granted(Upgrade()).kind is Kind.UPGRADE
    refusal = refused(Upgrade(), state=replace(make_state(2), served=frozenset()))
    assert refusal.exit_code is CtlExit.BUSY


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConfigError("it is wrong", hint="do this", detail="line 3"), 422, CtlExit.CONFIG),
        (ListenError("the address is in use", hint="do this", detail="line 3"), 409, CtlExit.FAILED),
    ],
)
def test_an_error_becomes_a_refusal_that_says_what_goes_on(
    error: UnicorndError, status: int, code: CtlExit
) -> None:
    found = refusal_of(error, make_state(2))
    assert (found.status, found.exit_code) == (status, code)
    assert found.message == f"{error.message}; still serving generation 1"
    assert (found.hint, found.detail) == ("do this", "line 3")
