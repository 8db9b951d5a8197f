"""The kernel ends a worker for lack of memory: it is replaced, and told as what it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cgroups import UNIFIED, memory_group
from tests.support.fleet import Fleet, command, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLEET_LIMIT, WORKER_LIMIT = 200_000_000, 80_000_000
TOLD = "was killed by the kernel: the memory limit of the cgroup was reached"
EATER = """\
def application(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        kept = []
        while True:
            kept.append(bytearray(b"x") * 10_000_000)
"""
MOVER = """\
VERSION = "v1"
if os.environ["UNICORND_WORKER_SLOT"] == "1":
    pathlib.Path("{group}/cgroup.procs").write_text(str(os.getpid()))
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("site_app.py", "def application(environ, start_response):\n", EATER)
        yield fleet


def postmortems(fleet: Fleet) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", "postmortem", "--json"],
        cwd=fleet.folder, env=fleet.environ(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return list(json.loads(done.stdout)["postmortems"])


def eat(fleet: Fleet) -> None:
    with pytest.raises(ConnectionError):
        fleet.get("/eat")


def test_the_limit_of_the_whole_fleet_costs_the_worker_that_reaches_it(fleet: Fleet) -> None:
    with memory_group("fleet", limit=FLEET_LIMIT) as group:
        if group is None:
            pytest.skip("this user may not make a control group with a memory limit")
        join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        with (fleet.folder / "log").open("ab") as log:
            fleet.process = subprocess.Popen(
                ["sh", "-c", join, "sh", *command(("-w", "2"))],
                cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log,
            )  # fmt: skip
        fleet.await_state("ready")
        eat(fleet)
        fleet.await_log(TOLD)
        [died] = postmortems(fleet)
        assert (died["signal"], died["was_oom"]) == (signal.SIGKILL, True)
        assert [each["request"] for each in died["lost"]] == ["GET /eat"]
        fleet.await_workers(2)
        assert fleet.get().startswith("v1 ")
        assert fleet.end() == 0


def test_the_limit_of_a_worker_in_a_group_of_its_own_is_told_too(fleet: Fleet) -> None:
    with memory_group("worker", limit=WORKER_LIMIT) as group:
        if group is None:
            pytest.skip("this user may not make a control group with a memory limit")
        fleet.change("site_app.py", 'VERSION = "v1"\n', MOVER.format(group=group))
        fleet.start("-w", "1")
        eat(fleet)
        fleet.await_log(TOLD)
        first = fleet.await_workers(1)[1]
        if group.parent == UNIFIED:  # version 1 does not tell where the dead were
            (UNIFIED / "cgroup.procs").write_text(str(first))
            (group / "cgroup.procs").write_text(str(first))
            eat(fleet)
            eventually(lambda: fleet.log.count(TOLD) == 2, "who was put there later is told, too")
        fleet.await_workers(1)
        assert {(each["signal"], each["was_oom"]) for each in postmortems(fleet)} == {(signal.SIGKILL, True)}
        assert fleet.end() == 0
