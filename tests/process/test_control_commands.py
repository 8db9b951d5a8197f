"""`unicornctl` as a process, against the real control server with a fleet that the test makes up."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.support.control_port import (
    CONFIG_REFUSAL,
    FakePort,
    Served,
    make_child,
    make_pool,
    make_state,
    serve,
)
from tests.support.waiting import eventually
from unicornd.arbiter.events import BecameReady, Exited, RolloutAbandoned
from unicornd.arbiter.state import Halt, Phase, Rollout, State
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.units import Monotonic, Pid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENVIRON = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path, FakePort(make_state(2))) as running:
        running.port.journal.append("worker.ready", "worker 1 is ready", slot=1)
        running.port.journal.append("worker.died", "worker 2 died", slot=2)
        yield running


def command(served: Served, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "unicornd.cli.ctl", "--socket", served.address, *arguments]


def ctl(served: Served, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(served, *arguments), env=ENVIRON, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == expect, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(served: Served, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(served, *arguments), env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_doing(served: Served, kind: str) -> bool:
    operation = served.do(lambda: served.port.operations.running)
    return operation is not None and operation.kind.value == kind


def boot_second(served: Served) -> None:
    """Let a second worker appear, and be ready."""
    booting = make_child(2, phase=Phase.BOOTING)
    served.do(lambda: setattr(served.port, "state", make_state(2, make_child(1), booting)))
    served.apply(BecameReady(at=served.port.now(), pid=booting.pid))


@pytest.mark.parametrize("name", ["status", "workers", "version"])
def test_json_is_one_document_with_a_schema_and_nothing_else(served: Served, name: str) -> None:
    done = ctl(served, name, "--json")
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr == ""


@pytest.mark.parametrize("width", [80, 120])
def test_reports_fit_the_terminal_and_have_no_colour_in_a_pipe(served: Served, width: int) -> None:
    for name in ("status", "workers"):
        done = subprocess.run(
            command(served, name), env={**ENVIRON, "COLUMNS": str(width)}, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        assert "\x1b" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= width
        assert not any(line.endswith(" ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour_unless_it_does_not_want_it(
    served: Served, environ: dict[str, str], *, is_coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    quiet = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    done = subprocess.Popen(
        command(served, "status"),
        env={**quiet, "TERM": "xterm-256color", "COLUMNS": "80", **environ},
        stdout=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    assert done.wait(timeout=20) == 0
    assert b"shop" in shown
    assert (b"\x1b[1;32m" in shown) is is_coloured


def test_events_are_lines_or_one_document(served: Served) -> None:
    assert [line.split("  ")[1] for line in ctl(served, "events").stdout.splitlines()] == [
        "worker 1 is ready",
        "worker 2 died",
    ]
    (event,) = json.loads(ctl(served, "events", "--json", "-n", "1").stdout)["events"]
    assert event["facts"] == {"slot": 2}
    assert ctl(served, "events", "-n", "0").stdout == ""


def test_events_are_followed_until_somebody_has_had_enough(served: Served) -> None:
    watching = start(served, "events", "--follow", "--json")
    assert watching.stdout is not None
    for _ in range(2):
        watching.stdout.readline()
    served.do(lambda: served.port.journal.append("thing.happened", "third"))
    assert json.loads(watching.stdout.readline())["text"] == "third"
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=20) == 130
    watching.communicate()


@pytest.mark.parametrize(("name", "state", "code"), [
    ("is-running", make_state(2), 0), ("is-ready", make_state(2), 0), ("health", make_state(2), 0),
    ("is-ready", make_state(2, make_child(1)), 0), ("health", make_state(2, make_child(1)), 1),
    ("is-running", State(pools=make_state(2).pools), 0), ("is-ready", State(pools=make_state(2).pools), 1),
])  # fmt: skip
def test_predicates_answer_by_exit_code(served: Served, name: str, state: State, *, code: int) -> None:
    served.do(lambda: setattr(served.port, "state", state))
    assert ctl(served, name, expect=code).stdout.strip()
    assert json.loads(ctl(served, name, "--json", expect=code).stdout)["answer"] is (code == 0)
    assert ctl(served, name, "-q", expect=code).stdout == ""


def test_a_predicate_can_wait_for_a_yes(served: Served) -> None:
    served.do(lambda: setattr(served.port, "state", State(pools=make_state(2).pools)))
    waiting = start(served, "is-ready", "--wait", "30")
    served.do(lambda: setattr(served.port, "state", make_state(2)))
    assert waiting.wait(timeout=30) == 0
    waiting.communicate()


def test_a_scale_waits_for_its_end_and_tells_it(served: Served) -> None:
    served.do(lambda: setattr(served.port, "state", make_state(1)))
    scaling = start(served, "scale", "+1")
    eventually(lambda: is_doing(served, "scale"), "the scale has begun")
    assert scaling.poll() is None
    boot_second(served)
    out, err = scaling.communicate(timeout=30)
    assert scaling.returncode == 0
    assert out.startswith("done: 2 workers ready")
    assert "worker 2 is ready (pid 8102" in err


def test_with_json_the_last_word_is_the_operation(served: Served) -> None:
    done = ctl(served, "scale", "2", "--json")
    operation = json.loads(done.stdout)
    assert (operation["id"], operation["state"], operation["exit_code"]) == ("scale-1", "done", 0)


@pytest.mark.parametrize("count", ["0", "-5", "+0", "100000", "many", "2.5", "", "--sav"])
def test_a_size_that_makes_no_sense_is_refused_and_changes_nothing(served: Served, count: str) -> None:
    before = served.do(lambda: served.port.state)
    done = ctl(served, "scale", count, expect=CtlExit.USAGE)
    assert done.stderr.startswith("unicornctl: ")
    assert served.do(lambda: served.port.state) is before


def test_minus_one_is_a_count_and_not_an_option(served: Served) -> None:
    assert ctl(served, "scale", "-1", "--dry-run").stdout.startswith("would scale from 2 to 1 workers")
    assert ctl(served, "scale", "-1", "--no-wait").stdout == "scale-1: scale from 2 to 1 workers\n"


def test_a_second_operation_is_refused_with_the_name_of_the_first(served: Served) -> None:
    ctl(served, "reload", "--no-wait")
    assert "reload-1" in ctl(served, "scale", "3", expect=CtlExit.BUSY).stderr


def test_an_operation_that_takes_too_long_goes_on_without_us(served: Served) -> None:
    done = ctl(served, "reload", "--timeout", "0.2", expect=CtlExit.UNREACHABLE)
    assert "reload-1 goes on" in done.stderr
    assert is_doing(served, "reload")


def test_ctrl_c_detaches_and_says_from_what(served: Served) -> None:
    waiting = start(served, "reload")
    eventually(lambda: is_doing(served, "reload"), "the reload has begun")
    asked = served.do(lambda: served.server.sockets)  # perhaps still the connection that has begun it
    eventually(lambda: set(served.do(lambda: served.server.sockets)) - set(asked), "the command waits")
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "detached: reload-1" in err
    assert is_doing(served, "reload")


def test_a_reload_that_is_rolled_back_ends_with_5_and_the_traceback(served: Served) -> None:
    waiting = start(served, "reload")
    eventually(lambda: is_doing(served, "reload"), "the reload has begun")
    reason = 'RuntimeError: broken\nTraceback (most recent call last):\n  File "shop.py", line 7'

    def abandon() -> None:
        state = served.port.state
        rollout = Rollout(previous=make_pool(2), started_at=Monotonic(0.0), reason=reason)
        served.port.state = State(
            pools=MappingProxyType({"web": make_pool(2, generation=2)}), children=state.children, served=state.served,
            rollouts=MappingProxyType({"web": rollout}),
        )  # fmt: skip
        served.port.apply(RolloutAbandoned(at=served.port.now(), pool="web"))

    served.do(abandon)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == CtlExit.ROLLED_BACK
    assert "rolled back: still serving generation 1: RuntimeError: broken" in err
    assert '  File "shop.py", line 7' in err


def test_a_reload_of_a_wrong_configuration_ends_with_78_and_all_errors(served: Served) -> None:
    served.do(lambda: setattr(served.port, "reload_refusal", CONFIG_REFUSAL))
    done = ctl(served, "reload", expect=CtlExit.CONFIG)
    assert "unicornd.toml:6: workers.cuont" in done.stderr


def test_an_unknown_slot_is_refused(served: Served) -> None:
    assert "no worker 9" in ctl(served, "recycle", "9", expect=CtlExit.FAILED).stderr


def test_logs_are_reopened(served: Served) -> None:
    assert ctl(served, "reopen").stdout.startswith("done: ")


@pytest.mark.parametrize(
    "arguments", [["wat"], ["scale"], ["status", "--wat"], ["reload", "--timeout", "soon"]]
)
def test_wrong_usage_ends_with_2(served: Served, arguments: list[str]) -> None:
    assert ctl(served, *arguments, expect=CtlExit.USAGE).stderr


@pytest.mark.parametrize("name", ["status", "stop", "reload", "scale", "events"])
def test_where_nothing_runs_commands_end_with_3(tmp_path: Path, name: str) -> None:
    arguments = [name, *(["2"] if name == "scale" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", *arguments, "--socket", str(tmp_path / "none.sock")],
        env=ENVIRON, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == CtlExit.NOT_RUNNING
    assert "nothing is running" in done.stderr


def test_a_stop_is_over_when_the_arbiter_has_ended(tmp_path: Path) -> None:
    arbiter = subprocess.Popen(["sleep", "600"])
    port = FakePort(make_state(1))
    port.facts_value = replace(port.facts_value, pid=Pid(arbiter.pid))
    with serve(tmp_path, port) as served:
        stopping = start(served, "stop")
        eventually(lambda: is_doing(served, "stop"), "the stop has begun")
        assert served.do(lambda: served.port.state.halt) is Halt.GRACEFUL
        served.apply(Exited(at=port.now(), pid=make_child(1).pid, code=0, signal=None))
        assert stopping.poll() is None, "the arbiter still runs"
        arbiter.kill()
        arbiter.wait()
        out, _ = stopping.communicate(timeout=30)
    assert stopping.returncode == 0
    assert "the arbiter has ended" in out


def test_a_listing_goes_on_over_a_fleet_that_does_not_answer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", "ls", "--json"],
        env={**ENVIRON, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["schema"] == 1
