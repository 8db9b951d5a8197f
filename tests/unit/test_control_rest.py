"""The corners of operations, requests and view that no everyday situation reaches."""

from __future__ import annotations

from tests.support.control_port import make_child, make_facts, make_pool, make_state
from unicornd.arbiter import events, view
from unicornd.arbiter.operations import Kind, Operation, Operations, Outcome
from unicornd.arbiter.requests import Granted, rehearse
from unicornd.arbiter.state import Halt, Phase
from unicornd.dataclass import replace
from unicornd.observe.scoreboard import InFlight, Reading
from unicornd.units import Generation, Monotonic, Seconds

NOW = Monotonic(10.0)


def test_a_rehearsal_tells_what_workers_are_told_and_nothing_else() -> None:
    state = make_state(1)
    pool = replace(make_pool(1), generation=Generation(1))
    granted = Granted(
        kind=Kind.RELOAD, title="x", pool="web", events=(events.RolloutStarted(at=NOW, pool=pool),)
    )
    assert rehearse(granted, state=state, now=NOW) == ()


def test_logs_are_reopened_at_once_whatever_happens_meanwhile() -> None:
    operations = Operations()
    operation = operations.begin(Kind.REOPEN, title="reopen", pool="web", now=NOW)
    assert operation.state is Outcome.DONE
    assert operations.running is None


def test_a_stop_names_what_it_waits_for_in_every_phase() -> None:
    reading = Reading(
        heartbeat=NOW, requests=0, errors=0, connections=0, busy_seconds=Seconds(0.0), buckets=(0,) * 12,
        in_flight=(
            InFlight(cell=0, since=Monotonic(4.0), text="GET /b"), InFlight(cell=1, since=Monotonic(3.0), text="GET /a"),
        ),
    )  # fmt: skip
    children = [
        make_child(slot, phase=phase)
        for slot, phase in enumerate((Phase.BOOTING, Phase.DRAINING, Phase.DRAINING, Phase.DYING), 1)
    ]
    state = replace(make_state(4, *children), halt=Halt.GRACEFUL)
    facts = make_facts(at=10.0, readings={children[1].pid: reading})
    running = Operation(id="stop-1", kind=Kind.STOP, title="stop", pool="web", started_at=NOW)
    waiting = "\n".join(view.operation(running, state, facts=facts).waiting_for)
    assert "to boot" in waiting
    assert "GET /a" in waiting
    assert "and 1 more" in waiting
    assert "to end" in waiting
