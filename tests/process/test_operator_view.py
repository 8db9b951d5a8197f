"""What an operator sees of a fleet in trouble: counts, states, the last reload, where something hung."""

from __future__ import annotations

import contextlib
import http.client
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from unicornd.control.client import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator

TROUBLE = """\
    if environ["PATH_INFO"] == "/crash":
        os._exit(3)
    if environ["PATH_INFO"] == "/stuck":
        time.sleep(1000)
    keys ="""
HANG = "import os\nprint('hanging', flush=True)\nimport time\ntime.sleep(600)\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "[workers]", "[timeouts]\nrequest = 0.5\nboot = 20\n[workers]")
        fleet.change("site_app.py", "    keys =", TROUBLE)
        yield fleet


def ask(fleet: Fleet, path: str) -> int:
    with contextlib.closing(fleet.connect()) as connection:
        connection.request("GET", path)
        try:
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0


def reload(fleet: Fleet) -> str:
    """Reload, and return how that ended."""
    before = last_reload(fleet).get("operation")
    with contextlib.suppress(ControlError):
        fleet.client.post("/v1/reload")
    eventually(lambda: last_reload(fleet).get("operation") != before, "it has ended")
    return str(last_reload(fleet)["state"])


def last_reload(fleet: Fleet) -> dict[str, Any]:
    return fleet.status()["last_reload"] or {}


def hung(fleet: Fleet) -> list[dict[str, Any]]:
    return [each for each in fleet.client.get("/v1/postmortems")["postmortems"] if each["failure"]]


def metric(fleet: Fleet, name: str) -> float:
    lines = fleet.client.ask("GET", "/metrics").body.decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"unicornd_{name} ")))


def test_timeouts_crashes_and_reloads_that_failed_are_seen(fleet: Fleet) -> None:
    fleet.start("-k", "threads", "--threads", "2", "-w", "2")
    arbiter, workers = fleet.status()["arbiter"]["pid"], fleet.pids()
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in (arbiter, *workers.values())}
    assert names == {arbiter: "unicornd", workers[1]: "unicornd-w1", workers[2]: "unicornd-w2"}

    assert ask(fleet, "/stuck") == 504
    eventually(lambda: set(fleet.pids()) == {1, 2} and fleet.pids() != workers, "it was replaced")
    totals = fleet.status()["totals"]
    assert {name: totals[name] for name in ("requests", "errors", "timeouts", "lost", "restarts")} == {
        "requests": 1, "errors": 1, "timeouts": 1, "lost": 0, "restarts": 1,
    }  # fmt: skip
    assert "site_app.py" in fleet.log, "the application's frames"
    assert "in _work" not in fleet.log, "and not those of idle threads"

    fleet.change("site_app.py", "import os,", f"{HANG}import os,")
    fleet.change("unicornd.toml", "boot = 20", "boot = 0.5")
    assert reload(fleet) == "rolled_back"
    last = fleet.status()["last_reload"]
    assert "was not ready within timeouts.boot (0.5 s)" in last["reason"]
    eventually(lambda: bool(hung(fleet)), "it has ended")
    [died] = hung(fleet)
    assert "site_app.py" in died["stacks"]
    assert "time.sleep" not in died["stacks"], "frames, not the source"
    assert metric(fleet, "worker_boot_failures_total") >= 1
    assert metric(fleet, "last_reload_successful") == 0

    fleet.change("unicornd.toml", "count = 2", "cuont = 2")
    assert reload(fleet) == "refused"
    fleet.change("unicornd.toml", "cuont = 2", "count = 2")
    fleet.change("site_app.py", HANG, "")
    assert reload(fleet) == "done"
    assert metric(fleet, "last_reload_successful") == 1

    for number in range(5):
        assert ask(fleet, "/crash") == 0
        eventually(lambda number=number: metric(fleet, "requests_lost_total") == number + 1, "it is counted")  # type: ignore[misc]
        eventually(lambda: len(fleet.pids()) == 2, "it was replaced")
    status = fleet.status()
    assert (status["state"], "ended by exit code 3" in status["reason"]) == ("crash-looping", True)
    assert metric(fleet, "crash_looping") == 1
