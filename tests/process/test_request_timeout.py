"""A request that does not end: its client is told, its worker is replaced, nobody else notices."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUCK = {
    "sleeps": "import time; time.sleep(1000)",
    "loops": "while True: pass",
    "waits": "import threading; threading.Event().wait()",
}
HOLDS_THE_INTERPRETER = "import itertools; sum(itertools.repeat(0))"
THREADS = ("-k", "threads", "--threads", "4", "-w", "1")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "[workers]", "[timeouts]\nrequest = 1\nkill = 1\n[workers]")
        yield fleet


def get_stuck(fleet: Fleet, how: str) -> None:
    """Have requests for /stuck not end."""
    fleet.change(
        "site_app.py", "    keys =", f"    if environ['PATH_INFO'] == '/stuck':\n        {how}\n    keys ="
    )


def ask_stuck(fleet: Fleet) -> tuple[int, str]:
    return ask(fleet, "/stuck?secret=1")


def ask(fleet: Fleet, path: str) -> tuple[int, str]:
    connection = fleet.connect()
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, "broken"
    finally:
        connection.close()


@pytest.mark.parametrize("how", STUCK.values(), ids=STUCK)
def test_in_threads_only_the_stuck_request_is_lost(fleet: Fleet, how: str) -> None:
    get_stuck(fleet, how)
    fleet.start(*THREADS)
    old = fleet.pids()
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(ask_stuck, fleet)
        with Traffic(fleet.connect, clients=3, is_keepalive=True) as traffic:
            status, body = stuck.result(timeout=60)
            eventually(lambda: fleet.pids() and fleet.pids() != old, "the worker has been replaced")
    assert (status, "did not answer within 1 s" in body) == (504, True)
    assert traffic.tally.failures == []
    fleet.await_log("worker 1 was stuck in GET /stuck")
    assert "site_app.py" in fleet.log, "the stacks are in the log"
    assert "secret" not in fleet.log
    eventually(lambda: not any(pid in fleet.processes() for pid in old.values()), "the old worker has left")


def test_a_long_request_beside_a_stuck_one_is_finished(fleet: Fleet) -> None:
    """The gate opens after the worker was told to give the stuck one up."""
    get_stuck(fleet, STUCK["waits"])
    fleet.start(*THREADS)
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(ask_stuck, fleet)
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "one is stuck")
        threading.Timer(0.7, lambda: held.append(pool.submit(fleet.get, "/wait"))).start()
        held: list[object] = []
        assert stuck.result(timeout=60)[0] == 504
        eventually(lambda: bool(held), "the other one was sent")
        fleet.open_gate()
        assert held[0].result(timeout=60).startswith("v1 ")  # type: ignore[attr-defined] # a Future


@pytest.mark.parametrize("how", STUCK.values(), ids=STUCK)
def test_in_sync_the_client_of_the_stuck_request_is_told_too(fleet: Fleet, how: str) -> None:
    get_stuck(fleet, how)
    fleet.start("-w", "2")
    with Traffic(fleet.connect, clients=2) as traffic:
        status, _ = ask_stuck(fleet)
    assert status == 504
    assert traffic.tally.failures == []
    fleet.await_log("was stuck in GET /stuck")
    fleet.await_workers(2)


@pytest.mark.parametrize("kind", [("-w", "2"), (*THREADS, "-w", "2")])
def test_a_call_that_holds_the_interpreter_costs_its_worker(fleet: Fleet, kind: tuple[str, ...]) -> None:
    get_stuck(fleet, HOLDS_THE_INTERPRETER)
    fleet.start(*kind)
    before = set(fleet.pids().values())
    status, _ = ask_stuck(fleet)
    assert status == 0, "nobody can answer"
    eventually(lambda: len(fleet.pids()) == 2 and set(fleet.pids().values()) != before, "it was replaced")
    assert "site_app.py" in fleet.log, "the stacks are in the log all the same"
    assert fleet.get().startswith("v1 ")


def test_the_hook_worker_abort_is_called(fleet: Fleet) -> None:
    get_stuck(fleet, STUCK["sleeps"])
    fleet.write("our_hooks.py", "def aborted(worker): print('hook aborted', worker.pid, flush=True)\n")
    fleet.change("unicornd.toml", "[workers]", '[hooks]\nworker_abort = "./our_hooks.py:aborted"\n[workers]')
    fleet.start(*THREADS)
    old = fleet.pids()[1]
    assert ask_stuck(fleet)[0] == 504
    fleet.await_log(f"hook aborted {old}")


def test_a_stopped_worker_is_found_by_its_heartbeat(fleet: Fleet) -> None:
    """It is killed at once: it would have a minute to follow an order that does not reach it."""
    fleet.change("unicornd.toml", "request = 1\nkill = 1", "request = 1\nkill = 60\nheartbeat = 2")
    fleet.start("-w", "2")
    old = fleet.pids()
    os.kill(old[1], signal.SIGSTOP)
    eventually(lambda: fleet.pids().get(1) not in {None, old[1]}, "it was replaced")
    assert fleet.pids()[2] == old[2]
    fleet.await_log(
        "it gave no sign of life within timeouts.heartbeat; it is stopped, and only KILL reaches it"
    )


def test_a_request_in_a_stopped_worker_is_lost_at_once(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "kill = 1", "kill = 60")
    fleet.start(*THREADS)
    old = fleet.pids()[1]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, fleet, "/wait")
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "the request runs")
        os.kill(old, signal.SIGSTOP)
        assert waiting.result(timeout=60) == (0, "broken")
    eventually(lambda: fleet.pids().get(1) not in {None, old}, "it was replaced")
    fleet.await_log("it is stopped, and only KILL reaches it")
    fleet.await_log("was serving GET /wait")


def test_a_fleet_that_stood_still_longer_than_its_timeouts_loses_no_worker(fleet: Fleet) -> None:
    """The arbiter runs first, and finds all workers silent for longer than timeouts.heartbeat."""
    fleet.change("unicornd.toml", "request = 1", "request = 1\nheartbeat = 2\nboot = 3")
    process = fleet.start("-w", "2")
    old = fleet.pids()
    process.send_signal(signal.SIGSTOP)
    for pid in old.values():
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() - stopped > 5.0, "the timeouts are over")
    process.send_signal(signal.SIGCONT)
    fleet.await_log("the arbiter was not run for")
    for pid in old.values():
        os.kill(pid, signal.SIGCONT)
    resumed = time.monotonic()
    eventually(lambda: time.monotonic() - resumed > 3.0, "without signs of life, they would have been ended")
    assert fleet.pids() == old
    assert "no sign of life" not in fleet.log


def stream(fleet: Fleet, parts: str) -> None:
    """Have /stream answer in parts, each of which takes half a second."""
    fleet.change(
        "site_app.py",
        "    keys =",
        "    if environ['PATH_INFO'] == '/stream':\n"
        "        start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        f"        return (time.sleep(0.5) or b'part ' for number in {parts})\n"
        "    keys =",
    )


STREAMING = {
    "sync": ("-w", "1"),
    "threads": ("-k", "threads", "--threads", "2", "-w", "1"),
    "gevent": ("-k", "gevent", "-w", "1"),
    "gevent_pywsgi": ("-k", "gevent_pywsgi", "-w", "1"),
    "eventlet": ("-k", "eventlet", "-w", "1"),
}


@pytest.mark.parametrize("kind", STREAMING)
def test_a_response_that_makes_progress_is_not_cut(fleet: Fleet, kind: str) -> None:
    """It takes three times timeouts.request, and twice timeouts.heartbeat. (tornado sends a WSGI response as a whole.)"""
    fleet.change("unicornd.toml", "request = 1", "request = 1\nheartbeat = 1.5")
    stream(fleet, "range(6)")
    fleet.start(*STREAMING[kind])
    before = fleet.pids()
    assert ask(fleet, "/stream") == (200, 6 * "part ")
    assert fleet.pids() == before


@pytest.mark.parametrize("kind", ["sync", "threads"])
def test_a_response_that_makes_no_progress_any_more_is_cut(fleet: Fleet, kind: str) -> None:
    stream(fleet, "(time.sleep(1000 * (number == 2)) for number in range(6))")
    fleet.start(*STREAMING[kind])
    old = fleet.pids()
    assert ask(fleet, "/stream") == (0, "broken")
    eventually(lambda: fleet.pids().get(1) not in {None, old[1]}, "it was replaced")
    fleet.await_log("was stuck in GET /stream")


@pytest.mark.parametrize("kind", ["tornado", "gevent", "gevent_pywsgi", "eventlet"])
def test_a_loop_that_a_request_blocks_costs_the_worker_and_the_client_is_told(
    fleet: Fleet, kind: str
) -> None:
    get_stuck(fleet, "import signal; signal.sigtimedwait((), 1000)")  # no library of greenlets patches that
    fleet.start("-k", kind, "-w", "1")
    old = fleet.pids()[1]
    assert ask_stuck(fleet)[0] == 504
    eventually(lambda: fleet.pids().get(1) not in {None, old}, "it was replaced")
