"""unicornd as PID 1, as in a container: nobody else is there to reap, and signals without an action do nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, command, fleet_in
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator

ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A process namespace of its own; users who are not root get one inside a user namespace."""

ORPHAN = """
import os, pathlib, time
from site_app import application as inner

FOLDER = pathlib.Path(__file__).parent

def application(environ, start_response):
    if environ["PATH_INFO"] == "/orphan":
        if os.fork() == 0:
            between = os.getpid()
            if os.fork() == 0:
                while os.getppid() == between:
                    time.sleep(0.001)
                (FOLDER / "draft").write_text(str(os.getppid()))
                (FOLDER / "draft").rename(FOLDER / "orphan")
            os._exit(0)
        os.wait()
    return inner(environ, start_response)
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("orphan_app.py", ORPHAN)
        made.change("unicornd.toml", "./site_app.py", "./orphan_app.py")
        yield made


def spawn_alone(fleet: Fleet) -> None:
    prefix = ALONE if os.geteuid() == 0 else (*ALONE, "--user", "--map-root-user")
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(
            [*prefix, *command(())], cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log
        )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def arbiter_of(fleet: Fleet) -> int:
    """The arbiter's pid as it is seen from here."""
    assert fleet.process is not None
    (pid,) = children_of(fleet.process.pid)
    return pid


@pytest.mark.parametrize("is_preloaded", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_as_pid_1_and_ends_with_0_when_it_is_told_to(
    fleet: Fleet, number: signal.Signals, *, is_preloaded: bool
) -> None:
    if is_preloaded:
        fleet.change("unicornd.toml", "[app]\n", "[app]\npreload = true\n")
    spawn_alone(fleet)
    fleet.await_state("ready")
    assert fleet.status()["arbiter"]["pid"] == 1
    assert fleet.get().startswith("v1 ")
    os.kill(arbiter_of(fleet), number)
    assert fleet.exit_code() == 0, fleet.log


def test_orphans_of_the_application_are_reaped(fleet: Fleet) -> None:
    spawn_alone(fleet)
    fleet.await_state("ready")
    arbiter = arbiter_of(fleet)
    workers = children_of(arbiter)
    for _ in range(3):
        fleet.get("/orphan")
        eventually((fleet.folder / "orphan").exists, "the orphan has lived")
        assert (fleet.folder / "orphan").read_text() == "1", "it was the arbiter's child then"
        eventually(lambda: children_of(arbiter) == workers, "nothing is left of it, not even a zombie")
        (fleet.folder / "orphan").unlink()
    assert sorted(fleet.pids()) == [1, 2], "the fleet has not taken it for one of its workers"
    os.kill(arbiter, signal.SIGTERM)
    assert fleet.exit_code() == 0, fleet.log


def test_the_exit_code_of_a_start_that_fails_is_seen_outside(fleet: Fleet) -> None:
    fleet.write("orphan_app.py", "")
    spawn_alone(fleet)
    assert fleet.exit_code() == DaemonExit.APP, fleet.log


def test_a_worker_that_was_killed_is_replaced(fleet: Fleet) -> None:
    spawn_alone(fleet)
    fleet.await_state("ready")
    arbiter = arbiter_of(fleet)
    victim = children_of(arbiter)[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in children_of(arbiter) and len(fleet.pids()) == 2, "it is replaced")
    os.kill(arbiter, signal.SIGTERM)
    assert fleet.exit_code() == 0, fleet.log
