"""Golden screens: `python -m tests.unit.test_cli_render` writes them anew; look at them before you commit them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unicornd.cli.render import MAX_ROWS, fleets_table, local_time, select_workers, status_screen
from unicornd.cli.session import print_screen
from unicornd.control.openapi import model_of
from unicornd.control.protocol import Status

GOLDEN = Path(__file__).parent.parent / "golden"
WIDTHS = (80, 120)
NOW = datetime(2026, 11, 23, 13, 20, tzinfo=UTC)
MEBIBYTE = 1 << 20


def make_worker(slot: int, **changes: Any) -> dict[str, Any]:
    return {
        "slot": slot, "pid": 8100 + slot, "phase": "ready", "is_retiring": False, "generation": 41, "age": 273_661.0,
        "phase_age": 273_660.0, "heartbeat_age": 0.2, "requests": 91_203 - slot * 377, "errors": 0, "connections": 12,
        "busy": 0, "threads": 8, "memory": (98 - slot) * MEBIBYTE, "now": [], "failure": "", **changes,
    }  # fmt: skip


def make_status(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "state": "ready", "reason": "", "since": 273_661.0, "instance": "shop",
        "target": "shop.wsgi:application", "config_file": "/srv/shop/unicornd.toml",
        "control": "/run/unicornd/shop.sock", "generation": 41,
        "arbiter": {"pid": 8100, "version": "0.1.0", "started_at": "2026-11-20T09:15:00.000Z", "uptime": 273_900.0,
                    "memory": 21 * MEBIBYTE},
        "wanted": {"count": 4, "file_count": 4, "kind": "threads", "threads": 8},
        "rollout": None, "operation": None,
        "listeners": [{"address": "0.0.0.0:8000", "queue": 0, "backlog": 2048},
                      {"address": "unix:/run/shop/web.sock", "queue": 3, "backlog": 2048}],
        "workers": [
            make_worker(1, busy=1, now=[{"request": "GET /cart", "age": 0.012}]),
            make_worker(2, busy=2, now=[
                {"request": "POST /report/of/the/year/with/a/path/that/is/longer/than/any/terminal/has/room/for/it",
                 "age": 48.2},
                {"request": "GET /", "age": 0.1}]),
            make_worker(3),
            make_worker(4, age=12.0, requests=7),
        ],
        "totals": {"requests": 364_812, "errors": 73, "restarts": 1},
        "latency": {"p50": 0.018, "p95": 0.091, "p99": 0.24},
        "events": [
            {"seq": 1, "at": "2026-11-23T02:11:07.000Z", "kind": "reload.done", "text": "generation 41 serves",
             "facts": {}},
            {"seq": 2, "at": "2026-11-23T13:19:47.000Z", "kind": "worker.died",
             "text": "worker 4 (pid 8090) was killed by signal 9 (KILL) while it served GET /export 12s", "facts": {}},
            {"seq": 3, "at": "2026-11-23T13:19:48.000Z", "kind": "worker.ready", "text": "worker 4 is ready (pid 8104)",
             "facts": {}},
        ],
        **changes,
    }  # fmt: skip


RELOADING = make_status(
    state="reloading",
    reason="generation 42 is to replace 41; 4 of 4 workers are ready",
    wanted={"count": 4, "file_count": 2, "kind": "threads", "threads": 8},
    operation={"id": "reload-7", "title": "replace generation 41 by what is on disk"},
    workers=[
        make_worker(1, phase="draining", busy=1, now=[{"request": "GET /slow", "age": 9.4}]),
        make_worker(1, pid=8201, generation=42, age=4.0, requests=12, memory=60 * MEBIBYTE),
        make_worker(2, is_retiring=True),
        make_worker(2, pid=8202, generation=42, phase="booting", age=1.2, requests=0, memory=None),
        make_worker(3),
        make_worker(4),
    ],
)

DEGRADED = make_status(
    state="degraded",
    reason="1 of 2 workers are ready; 4 failed to boot, next try in 3.2 s",
    config_file=None,
    wanted={"count": 2, "file_count": 2, "kind": "sync", "threads": 1},
    listeners=[{"address": "127.0.0.1:8000", "queue": None, "backlog": None}],
    workers=[
        make_worker(1, threads=1, memory=None),
        make_worker(
            2, threads=1, phase="booting", memory=None, requests=0, failure="RuntimeError: no database"
        ),
    ],
    totals={"requests": 1, "errors": 0, "restarts": 0},
    latency={"p50": None, "p95": None, "p99": None},
    arbiter={
        "pid": 8100,
        "version": "0.1.0",
        "started_at": "2026-11-23T13:19:00.000Z",
        "uptime": 60.0,
        "memory": None,
    },
    events=[],
)

SCREENS = {"ready": make_status(), "reloading": RELOADING, "degraded": DEGRADED}


def draw(status: dict[str, Any], *, width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False, markup=False)
    print_screen(console, status_screen(status, width=width, now=NOW))
    return stream.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCREENS)
def test_the_status_screen_is_as_it_was_looked_at(name: str, width: int) -> None:
    golden = GOLDEN / f"status_{name}_{width}.txt"
    assert draw(SCREENS[name], width=width) == golden.read_text()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("name", SCREENS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert max(len(line) for line in draw(SCREENS[name], width=width).splitlines()) <= width


def test_the_golden_status_is_one_that_the_protocol_knows() -> None:
    status = make_status()
    status.pop("schema")
    model_of(Status).model_validate(status)


def test_a_fleet_whose_threads_run_at_the_same_time_says_so() -> None:
    assert "4 of 4 ready (threads, 8 each, gil: off)" in draw(make_status(gil="off"), width=80)
    assert "gil" not in draw(make_status(gil="on"), width=80)


def test_of_too_many_workers_those_that_something_is_up_with_are_shown() -> None:
    workers = [make_worker(slot) for slot in range(1, 101)]
    workers[70]["phase"] = "booting"
    workers[80]["now"] = [{"request": "GET /slow", "age": 40.0}]
    shown = select_workers(workers)
    slots = [worker["slot"] for worker in shown]
    assert len(slots) == MAX_ROWS
    assert {71, 81} < set(slots)
    assert slots == sorted(slots)
    assert "… and 80 more" in draw(make_status(workers=workers), width=80)


def test_a_fleet_without_workers_says_so() -> None:
    assert "no workers" in draw(make_status(workers=[]), width=80)


def test_a_time_of_today_is_shown_without_its_date() -> None:
    assert local_time("2026-11-23T02:11:07.000Z", now=NOW) == "02:11:07"
    assert local_time("2026-11-22T23:59:59.999Z", now=NOW) == "2026-11-22 23:59:59"


def test_the_list_of_fleets_fits_the_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, color_system=None)
    fleet = {"instance": "shop", "state": "ready", "pid": "8100", "workers": "4/4", "up": "3d 4h",
             "listens": "0.0.0.0:8000  unix:/run/shop/web.sock  [::1]:8443"}  # fmt: skip
    print_screen(console, fleets_table([fleet]))
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["INSTANCE", "STATE", "PID", "WORKERS", "UP", "LISTENS", "ON"]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [60, 80])
def test_the_list_of_fleets_cuts_nothing_that_is_long(width: int) -> None:
    stream = io.StringIO()
    fleet = {"instance": "a-name-" * 8, "state": "reloading", "pid": "4194303", "workers": "1000/1024", "up": "12m 5s",
             "listens": "unix:/run/some/where/far/below/web.sock"}  # fmt: skip
    print_screen(Console(file=stream, width=width, color_system=None), fleets_table([fleet]))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = "".join(line.partition(" ")[0] for line in lines[1:])
    assert shown == fleet["instance"]
    assert {"reloading", "4194303", "1000/1024"} <= set(lines[1].split())


def test_fleets_that_cannot_be_looked_at_stand_below_the_others_with_the_reason() -> None:
    stream = io.StringIO()
    known = {
        "instance": "shop",
        "state": "ready",
        "pid": "8100",
        "workers": "4/4",
        "up": "3d",
        "listens": "[::1]:80",
    }
    reason = "no permission to use /run/unicornd/blog-0badca.sock: it is another user's, who has not said that you may look"
    unknown = {
        "instance": "/run/unicornd/blog-0badca.sock",
        "state": "unknown",
        "pid": "",
        "workers": "",
        "up": "",
        "listens": reason,
    }
    print_screen(Console(file=stream, width=80, color_system=None), fleets_table([unknown, known]))
    lines = stream.getvalue().splitlines()
    assert lines[1].split() == ["shop", "ready", "8100", "4/4", "3d", "[::1]:80"]
    assert lines[2] == "/run/unicornd/blog-0badca.sock  unknown"
    assert all(line.startswith("  ") for line in lines[3:])
    assert " ".join(line.strip() for line in lines[3:]) == reason


def test_a_reason_that_is_longer_than_the_line_keeps_its_indent() -> None:
    shown = draw(make_status(reason="a reason " * 20), width=80).splitlines()
    told = [line for line in shown if "a reason" in line]
    assert len(told) > 1
    assert all(line.startswith(("  a", "  r")) for line in told)


def write_screens() -> None:
    """Write the golden screens."""
    for name, status in SCREENS.items():
        for width in WIDTHS:
            (GOLDEN / f"status_{name}_{width}.txt").write_text(draw(status, width=width))


if __name__ == "__main__":
    write_screens()
