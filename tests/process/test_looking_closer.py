"""`unicornctl top|stacks|postmortem`, and replacement by age and memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def ctl(fleet: Fleet, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", *arguments], cwd=fleet.folder, env=fleet.environ(COLUMNS="80"),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def ctl_json(fleet: Fleet, *arguments: str) -> Any:
    return json.loads(ctl(fleet, *arguments, "--json"))


@pytest.mark.parametrize("preload", ["true", "false"])
def test_stacks_show_what_a_worker_is_doing_though_it_is_stuck(fleet: Fleet, preload: str) -> None:
    fleet.change("unicornd.toml", "[app]", f"[app]\npreload = {preload}")
    fleet.start("-k", "threads", "--threads", "2", "-w", "1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fleet.get, "/wait")
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "it waits")
        told = ctl(fleet, "stacks", "1")
        assert "GET /wait" in told
        assert "site_app.py" in told
        assert ctl(fleet, "stacks", "1").count("site_app.py") == told.count("site_app.py"), (
            "not those of before"
        )
        fleet.open_gate()
        waiting.result()
    assert ctl_json(fleet, "stacks", "1")["pid"] == fleet.pids()[1]


def test_stacks_of_a_worker_at_work_cost_no_request(fleet: Fleet) -> None:
    """Threads go on while stacks are asked for: written from inside a signal, that ends the process now and then."""
    fleet.start("-k", "threads", "--threads", "4", "-w", "1")
    before = fleet.pids()
    with Traffic(fleet.connect, clients=4, is_keepalive=True) as traffic, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: fleet.client.post("/v1/workers/1/stacks"), range(60)))
    assert all("most recent call first" in each["stacks"] for each in answers)
    assert traffic.tally.failures == []
    assert fleet.pids() == before


def test_stacks_of_a_worker_whose_interpreter_is_held_are_shown_too(fleet: Fleet) -> None:
    held = "    if environ['PATH_INFO'] == '/hold':\n        import itertools; sum(itertools.repeat(0))\n    keys ="
    fleet.change("site_app.py", "    keys =", held)
    fleet.start("-k", "threads", "--threads", "2", "-w", "1")
    connection = fleet.connect()
    connection.request("GET", "/hold")
    eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "it is held")
    assert "site_app.py" in ctl(fleet, "stacks", "1")
    os.kill(fleet.pids()[1], signal.SIGKILL)
    connection.close()


WAITING = {
    "asgi": """\
import asyncio, pathlib

async def inner():
    while not (pathlib.Path(__file__).parent / "gate").exists():
        await asyncio.sleep(0.01)

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    await inner()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
""",
    "tornado": """\
import asyncio, pathlib
from tornado import web

async def inner():
    while not (pathlib.Path(__file__).parent / "gate").exists():
        await asyncio.sleep(0.01)

class Wait(web.RequestHandler):
    async def get(self):
        await inner()
        self.write("ok")

application = web.Application([("/.*", Wait)])
""",
    "gevent": """\
import pathlib, time

def inner():
    while not (pathlib.Path(__file__).parent / "gate").exists():
        time.sleep(0.01)

def application(environ, start_response):
    inner()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""",
}
WAITING["eventlet"] = WAITING["gevent"]


def how_many_in_inner(told: str) -> int:
    """Return how many tasks and greenlets are in `inner`; equal ones are shown once, with their number."""
    ours = [part for part in told.split("\n\n") if "in inner" in part]
    return sum(1 + sum(int(more) for more in re.findall(r"and (\d+) more", part)) for part in ours)


@pytest.mark.timeout(300)  # on a busy machine, starting a fleet and asking it takes a minute
@pytest.mark.parametrize("kind", WAITING)
def test_stacks_show_every_task_and_greenlet(fleet: Fleet, kind: str) -> None:
    fleet.write("site_app.py", WAITING[kind])
    fleet.start("-k", kind, "-w", "1")
    idle = ctl(fleet, "stacks", "1")
    assert "in unicornd itself, mostly idle" in idle
    assert idle.count("\n") == 1, idle
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(fleet.get, "/wait") for _ in range(3)]
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 3, "they wait")
        # One may be in the middle of a step, or a busy machine may not come to it in time: then it is asked again.
        told = ""

        def are_told() -> bool:
            nonlocal told
            told = ctl(fleet, "stacks", "1")
            return how_many_in_inner(told) == 3

        eventually(are_told, "the stacks of all three are shown", patience=60.0)
        line = 1 + WAITING[kind].splitlines().index(
            "def inner():" if "async" not in WAITING[kind] else "async def inner():"
        )
        assert re.search(rf'site_app\.py", line ({line + 1}|{line + 2}) in inner\n', told), told
        assert told.count("GET /wait") == 3
        assert "unicornd/workers" in ctl(fleet, "stacks", "1", "--all")
        fleet.open_gate()
        assert [each.result() for each in waiting] == ["ok"] * 3


def test_stacks_of_nobody_are_an_error(fleet: Fleet) -> None:
    fleet.start()
    assert "there is no worker 9" in ctl(fleet, "stacks", "9", code=1)


def test_a_postmortem_tells_how_a_worker_died_and_what_it_was_serving(fleet: Fleet) -> None:
    fleet.start()
    assert "no worker has died" in ctl(fleet, "postmortem")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fleet.get, "/wait")
        eventually(lambda: any(each["busy"] for each in fleet.status()["workers"]), "it waits")
        [busy] = [each for each in fleet.status()["workers"] if each["busy"]]
        os.kill(busy["pid"], signal.SIGKILL)
        fleet.await_log("died: signal 9")
        assert isinstance(waiting.exception(), OSError)
    told = ctl(fleet, "postmortem", str(busy["slot"]))
    assert f"worker {busy['slot']} (pid {busy['pid']}, generation 1): signal 9 (SIGKILL)" in told
    assert "GET /wait" in told
    [died] = ctl_json(fleet, "postmortem")["postmortems"]
    assert died["peak_memory"] > 2**20
    assert not died["was_oom"]


def test_a_worker_that_leaves_in_peace_needs_no_postmortem(fleet: Fleet) -> None:
    fleet.start()
    fleet.send(signal.SIGTTOU)
    fleet.await_workers(1)
    assert ctl_json(fleet, "postmortem")["postmortems"] == []


def test_top_shows_the_busiest_first(fleet: Fleet) -> None:
    fleet.start("-w", "3")
    with Traffic(fleet.connect):
        shown = ctl_json(fleet, "top", "--once")
        assert shown["requests_per_second"] > 0
        assert "requests/s" in ctl(fleet, "top")


def test_workers_are_replaced_by_age_without_a_failed_request(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "count = 2", "count = 2\nmax_age = 1")
    fleet.start()
    before = set(fleet.pids().values())
    with Traffic(fleet.connect) as traffic:
        eventually(lambda: fleet.pids() and not before & set(fleet.pids().values()), "both were replaced")
    assert traffic.tally.failures == []
    fleet.await_log("max_age reached")


def test_a_worker_that_leaks_is_replaced(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "count = 2", 'count = 1\nmax_memory = "60MiB"')
    fleet.change(
        "site_app.py",
        "    keys =",
        "    if environ['PATH_INFO'] == '/leak': LEAK.append(os.urandom(80 * 2**20))\n    keys =",
    )
    fleet.change("site_app.py", "VERSION =", "LEAK = []\nVERSION =")
    fleet.start()
    [before] = fleet.pids().values()
    fleet.get("/leak")
    eventually(
        lambda: before not in fleet.pids().values() and len(fleet.pids()) == 1, "it was replaced", patience=40
    )
    fleet.await_log("max_memory of 60 MiB passed")
