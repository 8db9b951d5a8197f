"""Reading the configuration on a reload: whatever that takes, the arbiter goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW_LOGGER = """\
import pathlib, time
from unicornd.observe.logger import Logger

class Slow(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        pathlib.Path("in-logger").touch()
        while not pathlib.Path("gate").exists():
            time.sleep(0.01)
"""
"""Tried by the process that reads the configuration, which waits for it."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("slow_logger.py", SLOW_LOGGER)
        yield fleet


def ctl(fleet: Fleet, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unicornd.cli.ctl", *arguments]
    return subprocess.Popen(
        command, cwd=fleet.folder, env=fleet.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def ended(command: subprocess.Popen[str]) -> tuple[int, Any]:
    out, _err = command.communicate(timeout=60)
    return command.returncode, json.loads(out or "{}")


def hang_the_reader(fleet: Fleet) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write("[logging]\nlogger_class = './slow_logger.py:Slow'\n")


def is_reading(fleet: Fleet) -> bool:
    waiting = (fleet.status()["operation"] or {}).get("waiting_for", [])
    is_waited_for = any("configuration is being read" in line for line in waiting)
    return is_waited_for and (fleet.folder / "in-logger").exists()


def test_while_the_configuration_is_read_workers_are_replaced_and_questions_answered(fleet: Fleet) -> None:
    fleet.start("-w", "2", "--threads", "2")
    hang_the_reader(fleet)
    with Traffic(fleet.connect) as traffic:
        reload = ctl(fleet, "reload", "--json")
        eventually(lambda: is_reading(fleet), "the configuration is being read")
        assert fleet.status()["state"] == "reloading"
        victim = fleet.pids()[1]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: fleet.pids().get(1, victim) != victim, "a dead worker is replaced")
        assert ended(ctl(fleet, "scale", "3", "--json"))[0] == 8
        eventually(traffic.answered_more(20), "requests are answered")
        fleet.open_gate()
        code, operation = ended(reload)
    assert (code, operation["state"]) == (0, "done"), operation
    assert fleet.status()["generation"] == 2
    assert len(traffic.tally.failures) <= 4, "what the killed worker had"


def test_a_stop_does_not_wait_for_the_reader_and_leaves_none_behind(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    hang_the_reader(fleet)
    fleet.send(signal.SIGHUP)
    eventually(lambda: is_reading(fleet), "the configuration is being read")
    assert fleet.end() == 0
    eventually(lambda: not fleet.processes(), "nothing is left")


def test_workers_leave_when_the_arbiter_is_killed_while_somebody_reads(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    workers = list(fleet.pids().values())
    hang_the_reader(fleet)
    fleet.send(signal.SIGHUP)
    eventually(lambda: is_reading(fleet), "the configuration is being read")
    assert fleet.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not set(workers) & set(fleet.processes()), "the workers have left")
    fleet.open_gate()
    eventually(lambda: not fleet.processes(), "the reader has ended")


@pytest.mark.parametrize("arguments", [["reload"], ["reload", "--no-wait"], ["reload", "--dry-run"]])
def test_a_wrong_configuration_is_refused_and_what_is_next_is_not(fleet: Fleet, arguments: list[str]) -> None:
    fleet.start("-w", "1")
    fleet.change("unicornd.toml", "count", "cuont")
    refused = ctl(fleet, *arguments)
    _out, err = refused.communicate(timeout=60)
    assert refused.returncode == 78
    assert "cuont" in err
    assert "still serving generation 1" in err
    assert fleet.get().startswith("v1 ")
    if arguments == ["reload"]:
        fleet.await_log("reload-1 refused: ")
    fleet.change("unicornd.toml", "cuont", "count")
    assert ended(ctl(fleet, "reload", "--json"))[0] == 0


def test_a_reload_by_signal_waits_for_the_one_that_is_being_read(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    hang_the_reader(fleet)
    first = ctl(fleet, "reload", "--json")
    eventually(lambda: is_reading(fleet), "the configuration is being read")
    fleet.send(signal.SIGHUP)
    fleet.await_log("SIGHUP waits for reload-1")
    fleet.open_gate()
    assert ended(first)[0] == 0
    fleet.await_log("generation 3 serves")


def test_a_wrong_configuration_that_takes_long_to_read_ends_with_the_same_code(fleet: Fleet) -> None:
    fleet.write(
        "slow_logger.py",
        SLOW_LOGGER.replace("super().setup(cfg)", "pass") + "        raise OSError('no log today')\n",
    )
    fleet.start("-w", "1")
    hang_the_reader(fleet)
    reload = ctl(fleet, "reload", "--json")
    eventually(lambda: is_reading(fleet), "the configuration is being read")
    eventually(lambda: fleet.status()["operation"]["seconds"] > 2.5, "the answer was that it is accepted")
    fleet.open_gate()
    code, operation = ended(reload)
    assert (code, operation["state"], operation["exit_code"]) == (78, "failed", 78)
    assert "no log today" in operation["result"]
