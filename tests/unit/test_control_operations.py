from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.support.control_port import make_child, make_pool, make_state
from unicornd.arbiter import events
from unicornd.arbiter.fold import fold
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.operations import MAX_STEPS, REMEMBERED, Kind, Operations, Outcome
from unicornd.arbiter.state import DISK_IS_NEWER, Child, Halt, Order, Phase, Rollout, State
from unicornd.arbiter.upgrade.handoff import MAX_TRANSFER_BYTES, StateTransfer
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.observe.metrics import Totals
from unicornd.units import Monotonic, Pid, Slot

if TYPE_CHECKING:
    from unicornd.arbiter.operations import Operation

NOW = Monotonic(10.0)
LATER = Monotonic(12.0)


def begun(kind: Kind, *, pid: Pid | None = None) -> Operations:
    operations = Operations()
    operations.begin(kind, title=f"try to {kind}", pool="web", now=NOW, pid=pid)
    return operations


def watch(operations: Operations, previous: State, state: State, event: events.Event) -> None:
    operations.observe(event, previous=previous, state=state)


def ended(operations: Operations, operation_id: str) -> Operation:
    operation = operations.find(operation_id)
    assert operation is not None
    return operation


def texts(operation: Operation) -> list[str]:
    return [step.text for step in operation.steps]


def rolling(*children: Child, reason: str = "") -> State:
    old = make_pool(2)
    rollout = Rollout(previous=old, started_at=NOW, failures=3, reason=reason)
    return replace(
        make_state(2, *children),
        pools=MappingProxyType({"web": make_pool(2, generation=2)}),
        rollouts=MappingProxyType({"web": rollout}),
    )


def finished(*children: Child) -> State:
    return replace(rolling(*children), rollouts=MappingProxyType({}))


def test_ids_name_what_is_done_and_count_up() -> None:
    operations = begun(Kind.SCALE)
    operations.end(Outcome.DONE, result="done", now=NOW)
    assert operations.begin(Kind.RELOAD, title="t", pool="web", now=NOW).id == "reload-2"


# Scale.


def test_a_scale_to_the_size_that_is_there_is_done_at_once() -> None:
    operations = begun(Kind.SCALE)
    state = make_state(2)
    watch(operations, state, state, events.Resized(at=NOW, pool="web", size=2))
    operation = ended(operations, "scale-1")
    assert (operation.state, operation.result, operation.ended_at) == (Outcome.DONE, "2 workers ready", NOW)
    assert operations.running is None


def test_a_scale_up_is_done_when_the_last_new_worker_is_ready() -> None:
    operations = begun(Kind.SCALE)
    booting = make_state(2, make_child(1), make_child(2, phase=Phase.BOOTING, at=NOW))
    watch(operations, booting, booting, events.Resized(at=NOW, pool="web", size=2))
    assert operations.running is not None
    watch(operations, booting, make_state(2), events.BecameReady(at=LATER, pid=Pid(8102)))
    operation = ended(operations, "scale-1")
    assert operation.state is Outcome.DONE
    assert texts(operation) == ["worker 2 is ready (pid 8102, generation 1, 2.0s)"]


def test_a_scale_down_is_done_when_those_too_many_have_left() -> None:
    operations = begun(Kind.SCALE)
    two, draining = (
        make_state(1, make_child(1), make_child(2)),
        replace(make_child(2, phase=Phase.DRAINING), ordered=Order.DRAIN, ordered_at=NOW),
    )
    watch(operations, two, two, events.Resized(at=NOW, pool="web", size=1))
    going = make_state(1, make_child(1), draining)
    watch(operations, two, going, events.Ordered(at=NOW, pid=draining.pid, order=Order.DRAIN))
    assert operations.running is not None, "it still drains"
    watch(operations, going, make_state(1), events.Exited(at=LATER, pid=draining.pid, code=0, signal=None))
    operation = ended(operations, "scale-1")
    assert operation.state is Outcome.DONE
    assert texts(operation) == ["worker 2 of generation 1 has left (pid 8102)"]


def test_a_scale_does_not_wait_for_a_worker_that_is_recycled_after_the_size_was_reached() -> None:
    operations = begun(Kind.SCALE)
    leaving = replace(make_child(2, phase=Phase.DRAINING), ordered=Order.DRAIN)
    before = make_state(1, make_child(1), make_child(2))
    shaped = make_state(1, make_child(1), leaving)
    watch(operations, before, shaped, events.Ordered(at=NOW, pid=leaving.pid, order=Order.DRAIN))
    other = replace(make_child(1), phase=Phase.DRAINING, ordered=Order.DRAIN)
    recycled = make_state(1, other, leaving, make_child(3))
    watch(operations, shaped, recycled, events.Ordered(at=NOW, pid=other.pid, order=Order.DRAIN))
    gone = make_state(1, other, make_child(3))
    watch(operations, recycled, gone, events.Exited(at=LATER, pid=leaving.pid, code=0, signal=None))
    assert ended(operations, "scale-1").state is Outcome.DONE


def test_a_scale_fails_when_as_many_workers_as_a_rollout_may_lose_do_not_boot() -> None:
    operations = begun(Kind.SCALE)
    booting = make_state(2, make_child(1), make_child(2, phase=Phase.BOOTING))
    for _ in range(3):
        assert operations.running is not None
        reason = "RuntimeError: no database\nTraceback: line 3"
        watch(
            operations,
            booting,
            booting,
            events.BootFailed(at=LATER, pid=Pid(8102), cause="boot", reason=reason),
        )
    operation = ended(operations, "scale-1")
    assert (operation.state, operation.detail) == (Outcome.FAILED, "Traceback: line 3")
    assert "3 workers failed to boot" in operation.result
    assert texts(operation)[0] == "worker 2 (pid 8102) cannot boot: RuntimeError: no database"


def test_a_worker_that_said_why_it_cannot_boot_is_not_counted_again_when_it_exits() -> None:
    operations = begun(Kind.SCALE)
    failed = replace(make_child(2, phase=Phase.BOOTING), failure="it raised")
    state = make_state(2, make_child(1), failed)
    watch(
        operations,
        state,
        make_state(2, make_child(1)),
        events.Exited(at=NOW, pid=failed.pid, code=3, signal=None),
    )
    assert operations.running is not None
    assert operations.running.failures == 0


@pytest.mark.parametrize("is_hung", [True, False], ids=["hung", "not believed"])
def test_a_worker_that_was_killed_because_it_did_not_boot_in_time_or_is_not_believed_is_a_failure(
    *, is_hung: bool
) -> None:
    operations = begun(Kind.SCALE)
    hung = replace(
        make_child(2, phase=Phase.DYING), ordered=Order.KILL, failure="it was not ready in time",
        is_hung=is_hung, is_distrusted=not is_hung,
    )  # fmt: skip
    state = make_state(2, make_child(1), hung)
    watch(
        operations,
        state,
        make_state(2, make_child(1)),
        events.Exited(at=NOW, pid=hung.pid, code=None, signal=9),
    )
    assert operations.running is not None
    assert operations.running.failures == 1
    assert texts(operations.running) == ["worker 2 (pid 8102) was killed: it was not ready in time"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (events.Exited(at=NOW, pid=Pid(8101), code=None, signal=9), "worker 1 (pid 8101) died by signal 9"),
        (events.Exited(at=NOW, pid=Pid(8102), code=7, signal=None), "worker 2 (pid 8102) died while booting: exit code 7"),
        (events.SpawnFailed(at=NOW, pool="web", slot=Slot(3), generation=make_pool(1).generation, reason="no memory"),
         "worker 3 cannot be started: no memory"),
    ],
)  # fmt: skip
def test_what_goes_wrong_meanwhile_is_a_step(event: events.Event, text: str) -> None:
    operations = begun(Kind.SCALE)
    state = make_state(3, make_child(1), make_child(2, phase=Phase.BOOTING))
    watch(operations, state, state, event)
    assert operations.running is not None
    assert texts(operations.running) == [text]


def test_a_kill_says_how_long_was_waited() -> None:
    operations = begun(Kind.STOP)
    slow = replace(make_child(1, phase=Phase.DRAINING), ordered=Order.DRAIN, ordered_at=Monotonic(0.0))
    state = replace(make_state(1, slow), halt=Halt.GRACEFUL)
    watch(operations, state, state, events.Ordered(at=Monotonic(30.0), pid=slow.pid, order=Order.KILL))
    assert operations.running is not None
    assert texts(operations.running) == ["worker 1 (pid 8101) is killed: it had not ended after 30 s"]


# Reload.


def test_a_reload_is_done_when_the_old_generation_has_left() -> None:
    operations = begun(Kind.RELOAD)
    new = make_child(1, generation=2)
    old = replace(make_child(1, phase=Phase.DRAINING), ordered=Order.DRAIN)
    watch(operations, rolling(new, old), finished(new, old), events.RolloutFinished(at=NOW, pool="web"))
    assert operations.running is not None
    assert texts(operations.running) == ["generation 2 serves"]
    watch(
        operations,
        finished(new, old),
        finished(new),
        events.Exited(at=LATER, pid=old.pid, code=0, signal=None),
    )
    assert ended(operations, "reload-1").result == "generation 2 has replaced the old one"


def test_an_abandoned_rollout_is_a_rolled_back_reload_with_the_traceback() -> None:
    operations = begun(Kind.RELOAD)
    before = rolling(make_child(1), make_child(2), reason="RuntimeError: broken\nTraceback\n  line 7")
    watch(operations, before, make_state(2), events.RolloutAbandoned(at=LATER, pool="web"))
    operation = ended(operations, "reload-1")
    assert operation.state is Outcome.ROLLED_BACK
    assert operation.result == "rolled back; still serving generation 1: RuntimeError: broken"
    assert operation.detail == "Traceback\n  line 7"


@pytest.mark.parametrize("is_molded", [False, True])
def test_a_rollback_tells_that_a_replaced_worker_would_run_what_is_on_disk_unless_a_mold_has_the_old_code(
    *, is_molded: bool
) -> None:
    before = rolling(make_child(1), make_child(2), reason="RuntimeError: broken")
    rollout = before.rollouts["web"]
    previous = replace(rollout.previous, is_molded=is_molded)
    before = replace(before, rollouts=MappingProxyType({"web": replace(rollout, previous=previous)}))
    event = events.RolloutAbandoned(at=LATER, pool="web")
    after = fold(before, event)
    assert after.pools["web"].is_disk_newer is not is_molded
    operations = begun(Kind.RELOAD)
    watch(operations, before, after, event)
    assert ended(operations, "reload-1").detail == ("" if is_molded else DISK_IS_NEWER)


def test_a_stop_ends_a_running_reload_as_failed() -> None:
    operations = begun(Kind.RELOAD)
    state = rolling(make_child(1))
    stopping = replace(state, halt=Halt.GRACEFUL)
    watch(operations, state, stopping, events.HaltAsked(at=NOW, halt=Halt.GRACEFUL))
    assert ended(operations, "reload-1").result == "the fleet is being stopped"


# Recycle, stop, reopen.


def test_a_recycle_is_done_when_the_worker_is_gone_and_the_fleet_is_complete() -> None:
    operations = begun(Kind.RECYCLE, pid=Pid(8101))
    leaving = replace(make_child(1, phase=Phase.DRAINING), ordered=Order.DRAIN)
    fresh = replace(make_child(1, generation=2), generation=make_pool(1).generation)
    both, after = make_state(1, leaving, fresh), make_state(1, fresh)
    watch(operations, both, both, events.BecameReady(at=NOW, pid=fresh.pid))
    assert operations.running is not None
    watch(operations, both, after, events.Exited(at=LATER, pid=leaving.pid, code=0, signal=None))
    assert ended(operations, "recycle-1").state is Outcome.DONE


def test_a_stop_is_done_when_no_child_is_left() -> None:
    operations = begun(Kind.STOP)
    stopping = replace(make_state(1), halt=Halt.GRACEFUL)
    empty = replace(stopping, children=MappingProxyType({}))
    watch(operations, make_state(1), stopping, events.HaltAsked(at=NOW, halt=Halt.GRACEFUL))
    assert operations.running is not None
    watch(operations, stopping, empty, events.Exited(at=LATER, pid=Pid(8101), code=0, signal=None))
    assert ended(operations, "stop-1").state is Outcome.DONE


def test_logs_are_reopened_at_once_and_beside_a_running_operation() -> None:
    operations = begun(Kind.RELOAD)
    assert operations.begin(Kind.REOPEN, title="t", pool="web", now=NOW).state is Outcome.DONE
    failed = operations.begin(Kind.REOPEN, title="t", pool="web", now=NOW, failure="cannot reopen a.log")
    assert (failed.state, failed.result) == (Outcome.FAILED, "cannot reopen a.log")
    assert operations.running is not None
    assert operations.running.id == "reload-1"


# Bookkeeping.


def test_an_operation_that_meets_another_supersedes_it() -> None:
    operations = begun(Kind.RELOAD)
    operations.begin(Kind.STOP, title="t", pool="web", now=LATER)
    assert ended(operations, "reload-1").result == "superseded by stop-2"


def test_an_ended_operation_never_changes_again() -> None:
    operations = begun(Kind.SCALE)
    operations.end(Outcome.DONE, result="done", now=NOW)
    before = ended(operations, "scale-1")
    operations.note("late", now=LATER)
    watch(operations, make_state(1), make_state(1), events.Resized(at=LATER, pool="web", size=1))
    operations.end(Outcome.FAILED, result="late", now=LATER)
    assert ended(operations, "scale-1") == before


def test_only_so_many_are_remembered_and_never_the_running_one_is_forgotten() -> None:
    operations = begun(Kind.RELOAD)
    for _ in range(REMEMBERED + 5):
        operations.begin(Kind.REOPEN, title="t", pool="web", now=NOW)
    assert operations.running is not None
    assert operations.find("reopen-2") is None
    assert operations.find(f"reopen-{REMEMBERED + 6}") is not None


def test_the_steps_of_an_operation_are_bounded() -> None:
    operations = begun(Kind.RELOAD)
    for number in range(MAX_STEPS + 5):
        operations.note(f"step {number}", now=NOW)
    assert operations.running is not None
    assert len(operations.running.steps) == MAX_STEPS


def asking(kind: Kind) -> Operations:
    operations = Operations()
    operations.begin(kind, title=f"try to {kind}", pool="web", now=NOW, asking="somebody is asked")
    return operations


def test_an_operation_that_may_not_happen_yet_has_not_reached_its_goal() -> None:
    operations = asking(Kind.SCALE)
    state = make_state(2)
    watch(operations, state, state, events.Exited(at=NOW, pid=Pid(1), code=0, signal=None))
    assert ended(operations, "scale-1").state is Outcome.RUNNING
    operations.accept()
    watch(operations, state, state, events.Exited(at=NOW, pid=Pid(1), code=0, signal=None))
    assert ended(operations, "scale-1").state is Outcome.DONE


def test_a_refusal_ends_it_with_what_is_wrong_and_what_to_do() -> None:
    operations = asking(Kind.RELOAD)
    operations.refuse(CtlExit.CONFIG, result="it is wrong", now=LATER, detail="line 3", hint="do this")
    found = ended(operations, "reload-1")
    assert (found.state, found.refused, found.ended_at) == (Outcome.FAILED, CtlExit.CONFIG, LATER)
    assert (found.result, found.detail, found.hint, found.asking) == ("it is wrong", "line 3", "do this", "")
    assert operations.running is None


def test_a_stop_does_not_wait_for_whoever_is_asked() -> None:
    operations = asking(Kind.RELOAD)
    operations.begin(Kind.STOP, title="stop", pool="web", now=LATER)
    found = ended(operations, "reload-1")
    assert (found.state, found.asking, found.refused) == (Outcome.FAILED, "", None)


def test_without_an_operation_there_is_nothing_to_accept_or_refuse() -> None:
    operations = Operations()
    operations.accept()
    operations.refuse(CtlExit.CONFIG, result="it is wrong", now=NOW)
    assert operations.running is None


def test_what_the_predecessor_has_done_is_known_and_counted_on_from() -> None:
    before = begun(Kind.RELOAD)
    before.end(Outcome.DONE, result="done", now=NOW)
    before.begin(Kind.UPGRADE, title="execute unicornd anew", pool="web", now=NOW)
    before.note("a step", now=LATER)
    before.end(Outcome.DONE, result="taken over", now=LATER)
    upgrade = ended(before, "upgrade-2")
    journal = Journal(lambda: 5.0)
    for number in range(1, 1001):
        journal.append("thing.happened", "x" * 500, number=number)
    entries = journal.since(0)
    line = StateTransfer(
        counted=Totals(requests=3), upgrade=upgrade, is_promotion=True, journal=entries
    ).line()
    assert len(line) < MAX_TRANSFER_BYTES
    told = StateTransfer.of(line)
    assert told.journal == entries[-len(told.journal) :], "the newest ones that fit"
    assert len(told.journal) > 50
    assert (told.counted, told.is_promotion, told.upgrade) == (Totals(requests=3), True, upgrade)
    after = Operations()
    after.inherit(upgrade)
    assert ended(after, "upgrade-2") == upgrade
    assert after.running is None
    assert after.begin(Kind.SCALE, title="t", pool="web", now=LATER).id == "scale-3"
    assert StateTransfer.of(StateTransfer(counted=Totals()).line()) == StateTransfer(counted=Totals())
