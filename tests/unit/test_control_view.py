from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.control_port import make_child, make_facts, make_pool, make_state
from unicornd.arbiter import view
from unicornd.arbiter.events import ListenersLooked
from unicornd.arbiter.fold import fold
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.operations import ROLLED_BACK, Kind, Operations, Outcome
from unicornd.arbiter.state import DISK_IS_NEWER, Backoff, Halt, Phase, Rollout, State
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.observe.scoreboard import BUCKETS, InFlight, Reading
from unicornd.units import Monotonic, Pid, Seconds

NOW = Monotonic(100.0)
POOL = make_pool(2)


def reading(*requests: InFlight, buckets: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)) -> Reading:
    return Reading(
        heartbeat=Monotonic(99.5), requests=70, errors=2, connections=3, busy_seconds=Seconds(1.0), buckets=buckets,
        in_flight=requests,
    )  # fmt: skip


def in_flight(text: str, *, since: float) -> InFlight:
    return InFlight(cell=0, since=Monotonic(since), text=text)


def rollout(state: State) -> State:
    return replace(
        state,
        pools=MappingProxyType({"web": make_pool(2, generation=2)}),
        rollouts=MappingProxyType({"web": Rollout(previous=POOL, started_at=Monotonic(90.0))}),
    )


@pytest.mark.parametrize(
    ("state", "name", "reason"),
    [
        (make_state(2), "ready", ""),
        (replace(make_state(2), served=frozenset()), "starting", "2 of 2 workers are ready"),
        (make_state(2, make_child(1)), "degraded", "1 of 2 workers are ready"),
        (replace(make_state(2, make_child(1)),
                 backoffs=MappingProxyType({"web": Backoff(failures=4, not_before=Monotonic(103.2))})),
         "degraded", "1 of 2 workers are ready; 4 failed to boot, next try in 3.2 s"),
        (replace(make_state(2), shut_listeners=("127.0.0.1:8000", "unix:/run/x.sock")), "degraded",
         "nobody can connect to 127.0.0.1:8000, unix:/run/x.sock: shut down by a worker, or without its file"),
        (replace(make_state(2), halt=Halt.GRACEFUL), "stopping", "2 workers have not left yet"),
        (replace(make_state(1), halt=Halt.GRACEFUL), "stopping", "1 worker has not left yet"),
        (rollout(make_state(2)), "reloading", "generation 2 is to replace 1; 2 of 2 workers are ready"),
    ],
)  # fmt: skip
def test_the_state_of_a_fleet_is_one_word_and_a_reason(state: State, name: str, reason: str) -> None:
    pool = state.pools["web"]
    assert view.fleet_state(state, pool=pool, running=None, now=NOW) == (name, reason)


def test_a_fleet_that_is_scaled_to_nothing_is_empty() -> None:
    pool = make_pool(0)
    state = replace(make_state(0), children=MappingProxyType({}), pools=MappingProxyType({"web": pool}))
    assert view.fleet_state(state, pool=pool, running=None, now=NOW)[0] == "empty"


def test_a_running_scale_is_shown() -> None:
    scale = Operations().begin(Kind.SCALE, title="scale", pool="web", now=NOW)
    status = view.status(make_state(2, make_child(1)), make_facts(), pool=POOL, running=scale)
    assert status.state == "scaling"
    assert status.operation is not None
    assert status.operation.id == "scale-1"


def test_a_worker_is_shown_with_what_the_scoreboard_knows_of_it() -> None:
    facts = make_facts(
        readings={Pid(8101): reading(in_flight("GET /new", since=99.0), in_flight("GET /old", since=60.0))},
        memory={Pid(8101): 50},
    )
    worker, other = view.workers(make_state(2), facts)
    assert (worker.requests, worker.errors, worker.busy, worker.memory) == (70, 2, 2, 50)
    assert [(each.request, each.age) for each in worker.now] == [("GET /old", 40.0), ("GET /new", 1.0)]
    assert (other.requests, other.memory, other.now) == (0, None, [])


def test_a_request_that_runs_has_a_connection_though_nobody_has_counted_it_yet() -> None:
    running = [in_flight(f"GET /{number}", since=99.0) for number in range(5)]
    worker, _ = view.workers(make_state(2), make_facts(readings={Pid(8101): reading(*running)}))
    assert (worker.busy, worker.connections) == (5, 5)


def test_during_a_rollout_the_generation_is_the_one_that_serves() -> None:
    state = rollout(make_state(2, make_child(1), make_child(2), make_child(1, generation=2)))
    status = view.status(state, make_facts(), pool=state.pools["web"], running=None)
    assert status.generation == 1
    assert status.rollout is not None
    assert (status.rollout.generation, status.rollout.ready, status.rollout.age) == (2, 1, 10.0)
    assert [(worker.slot, worker.generation) for worker in status.workers] == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize(
    ("state", "ok"),
    [
        (make_state(2), True),
        (make_state(2, make_child(1)), True),
        (make_state(2, make_child(1, phase=Phase.BOOTING)), False),
        (replace(make_state(2), halt=Halt.GRACEFUL), False),
    ],
)
def test_a_fleet_is_ready_while_one_worker_serves_and_nobody_stops_it(state: State, *, ok: bool) -> None:
    assert view.readiness(state, pool=POOL).ok is ok


def test_a_fleet_to_which_nobody_can_connect_is_not_ready() -> None:
    state = fold(make_state(2), ListenersLooked(at=NOW, shut=("127.0.0.1:8000",)))
    assert "nobody can connect to 127.0.0.1:8000" in view.readiness(state, pool=POOL).reason
    assert not view.readiness(state, pool=POOL).ok
    assert view.readiness(fold(state, ListenersLooked(at=NOW, shut=())), pool=POOL).ok


def test_status_and_health_tell_after_a_rollback_what_a_replaced_worker_would_run() -> None:
    pool = replace(POOL, is_disk_newer=True)
    whole = make_state(2, make_child(1), make_child(2))
    assert view.fleet_state(whole, pool=pool, running=None, now=NOW) == ("ready", DISK_IS_NEWER)
    for state in (whole, make_state(2, make_child(1))):
        assert DISK_IS_NEWER in view.fleet_state(state, pool=pool, running=None, now=NOW)[1]
        assert view.readiness(state, pool=pool).ok
        assert DISK_IS_NEWER in view.readiness(state, pool=pool).reason


def test_what_an_operation_waits_for_names_the_worker_and_its_oldest_request() -> None:
    draining = make_child(1, phase=Phase.DRAINING, at=96.0)
    state = make_state(2, draining, make_child(2), make_child(3, phase=Phase.BOOTING, at=98.0))
    facts = make_facts(
        readings={draining.pid: reading(in_flight("GET /slow", since=80.0), in_flight("GET /x", since=99.0))}
    )
    operation = Operations().begin(Kind.STOP, title="stop", pool="web", now=Monotonic(95.0))
    shown = view.operation(operation, state, facts=facts)
    assert shown.waiting_for == [
        "worker 3 (pid 8103) to boot, 2.0s",
        "worker 1 (pid 8101) to drain, 4.0s: 20s GET /slow and 1 more",
    ]
    assert shown.seconds == 5.0


def test_the_list_of_what_is_waited_for_is_bounded() -> None:
    state = make_state(50, *(make_child(slot, phase=Phase.BOOTING) for slot in range(1, 51)))
    operation = Operations().begin(Kind.SCALE, title="scale", pool="web", now=NOW)
    lines = view.operation(operation, state, facts=make_facts()).waiting_for
    assert len(lines) == view.MAX_WAITING_LINES + 1
    assert lines[-1] == "30 more"


def test_an_operation_shows_the_steps_that_were_not_seen() -> None:
    operations = Operations()
    operations.begin(Kind.RELOAD, title="reload", pool="web", now=Monotonic(90.0))
    operations.note("first", now=Monotonic(91.0))
    operations.note("second", now=Monotonic(92.5))
    operations.end(Outcome.ROLLED_BACK, result="rolled back", now=Monotonic(93.0), detail="Traceback")
    operation = operations.find("reload-1")
    assert operation is not None
    shown = view.operation(operation, make_state(2), facts=make_facts(), after=1)
    assert [(step.at, step.text) for step in shown.steps] == [(2.5, "second")]
    assert (shown.step_count, shown.seconds, shown.exit_code) == (2, 3.0, 5)
    assert shown.waiting_for == []


def shown_reload(operations: Operations) -> tuple[str, str]:
    facts = make_facts(last_reload=operations.last_reload)
    last = view.status(make_state(2), facts, pool=POOL, running=None).last_reload
    assert last is not None
    return last.state, last.reason


def test_of_a_refused_reload_the_first_error_is_shown() -> None:
    operations = Operations()
    operations.begin(Kind.RELOAD, title="reload", pool="web", now=NOW, asking="it is read")
    operations.refuse(
        CtlExit.CONFIG,
        result="wrong; still serving generation 1",
        now=NOW,
        detail="  x.toml:3: one\nx.toml:4: two",
    )
    assert shown_reload(operations) == ("refused", "wrong; still serving generation 1: x.toml:3: one")


def test_that_a_reload_was_rolled_back_is_said_once() -> None:
    operations = Operations()
    operations.begin(Kind.RELOAD, title="reload", pool="web", now=NOW)
    result = f"{ROLLED_BACK}generation 1: RuntimeError: broken"
    operations.end(Outcome.ROLLED_BACK, result=result, now=NOW, detail="Traceback")
    assert shown_reload(operations) == ("rolled_back", "still serving generation 1: RuntimeError: broken")


def test_times_are_iso_8601_in_utc() -> None:
    journal = Journal(lambda: 1_795_440_000.25)
    journal.append("fleet.ready", "it is ready")
    assert view.event(journal.since(0)[0]).at == "2026-11-23T13:20:00.250Z"


def test_without_requests_there_is_no_latency() -> None:
    assert view.latency([]).p50 is None
    assert view.latency([reading()]).p50 is None


@given(
    st.lists(
        st.tuples(*[st.integers(0, 50)] * (len(BUCKETS) + 1)), min_size=1, max_size=4
    ).filter(lambda rows: any(any(row) for row in rows))
)  # fmt: skip
def test_percentiles_lie_in_the_bucket_that_holds_their_rank(rows: list[tuple[int, ...]]) -> None:
    latency = view.latency([reading(buckets=row) for row in rows])
    totals = [sum(column) for column in zip(*rows, strict=True)]
    found = (latency.p50, latency.p95, latency.p99)
    assert list(found) == sorted(found, key=lambda value: value or 0.0)
    for share, value in zip((0.5, 0.95, 0.99), found, strict=True):
        assert value is not None
        below = sum(count for bound, count in zip(BUCKETS, totals, strict=False) if bound < value - 1e-6)
        up_to = sum(
            count
            for low, count in zip((0.0, *BUCKETS), totals, strict=True)
            if low < value + 1e-6 or value >= BUCKETS[-1]
        )
        assert below <= sum(totals) * share <= up_to
