"""How workers and molds end: as Python's own end is, whatever kind they are and whatever told them to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import EVERY_KIND
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """\
import atexit, concurrent.futures, os, pathlib, signal, threading, time, weakref

HERE = pathlib.Path(__file__).parent

def note(what):
    with (HERE / "notes").open("a") as file:
        file.write(f"{what}\\n")

class Thing:
    pass

def register():
    atexit.register(note, "atexit")
    weakref.finalize(THING, note, "finalizer")

def hold(name):
    # The whole thread, with all its tasks and greenlets, until the file is gone.
    while (HERE / name).exists():
        signal.sigtimedwait([signal.SIGRTMAX], 0.01)

THING = Thing()
POOL = None
atexit.register(hold, "exit")
register()

def late(number):
    while not (HERE / "gate").exists():
        time.sleep(0.01)
    note(f"task {number}")

def quick(number):
    return 2 * number

def begin():
    global POOL
    POOL = concurrent.futures.ThreadPoolExecutor(1)
    for number in range(3):  # one runs, two are queued
        POOL.submit(late, number)
    threading.Thread(target=late, args=("thread",), name="mailer").start()

def processes():
    global PROCESSES
    PROCESSES = concurrent.futures.ProcessPoolExecutor(2)
    return repr(list(PROCESSES.map(quick, [1, 2])))

def answer(path):
    if path == "/begin":
        begin()
    return processes() if path == "/processes" else f"worker {os.getpid()}"

def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        hold("lifespan")
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = answer(scope["path"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""

THREADS_ARE_THREADS = ["sync", "threads", "tornado", "asgi"]
GREENLETS = ["gevent", "gevent_pywsgi", "eventlet"]
WORK = {"task 0", "task 1", "task 2", "task thread"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", APP)
        yield made


def notes(fleet: Fleet) -> list[str]:
    file = fleet.folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("kind", [*THREADS_ARE_THREADS, *GREENLETS])
def test_background_work_is_finished_before_a_worker_ends_however_long_it_takes(
    fleet: Fleet, kind: str
) -> None:
    """Longer than timeouts.heartbeat: what the log says comes after that."""
    fleet.start_kind(kind, "--timeout", "1")
    fleet.get("/begin")
    fleet.send(signal.SIGTERM)
    fleet.await_log("mailer before it ends")
    assert not notes(fleet), "exit functions come last"
    fleet.open_gate()
    assert fleet.exit_code() == 0
    assert set(notes(fleet)) == {*WORK, "atexit", "finalizer"}
    assert set(notes(fleet)[-2:]) == {"atexit", "finalizer"}


@pytest.mark.parametrize(("kind", "held"), [("gevent", "exit"), ("asgi", "lifespan")])
def test_a_worker_that_ends_is_not_stuck_whatever_holds_its_only_thread(
    fleet: Fleet, kind: str, held: str
) -> None:
    fleet.write(held, "")
    fleet.start_kind(kind, "--timeout", "1")
    fleet.send(signal.SIGTERM)
    fleet.await_log("exit functions and hooks before it ends")  # after timeouts.heartbeat
    (fleet.folder / held).unlink()
    assert fleet.exit_code() == 0
    assert set(notes(fleet)) == {"atexit", "finalizer"}


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_background_work_that_does_not_end_is_bounded_by_graceful(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind, "--graceful-timeout", "3")
    fleet.get("/begin")
    assert fleet.end() == 0
    assert "mailer before it ends" in fleet.log
    assert "timeouts.graceful" in fleet.log


def test_background_work_that_does_not_end_is_bounded_too_when_the_arbiter_is_gone(fleet: Fleet) -> None:
    fleet.start_kind("gevent", "--graceful-timeout", "1")
    fleet.get("/begin")
    worker = fleet.pids()[1]
    fleet.send(signal.SIGKILL)
    fleet.await_log("the arbiter gone: ")
    eventually(lambda: not is_running(worker), "it has ended")


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("kind", THREADS_ARE_THREADS)
def test_a_worker_that_has_used_a_process_pool_ends_with_its_processes(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    assert fleet.get("/processes") == "[2, 4]"
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "the reload is over")
    eventually(lambda: len(fleet.status()["workers"]) == 1, "the old worker has ended by itself")
    assert fleet.end() == 0
    assert "told to kill" not in fleet.log


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda each: each.name
)
def test_exit_functions_are_called_however_a_fleet_stops(
    fleet: Fleet, kind: str, number: signal.Signals
) -> None:
    fleet.start_kind(kind)
    assert fleet.end(number) == 0
    assert set(notes(fleet)) == {"atexit", "finalizer"}


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGTERM], ids=lambda each: each.name)
def test_exit_functions_are_called_in_a_worker_that_is_told_to_end(
    fleet: Fleet, number: signal.Signals
) -> None:
    fleet.start_kind("threads")
    os.kill(fleet.pids()[1], number)
    eventually(lambda: set(notes(fleet)) == {"atexit", "finalizer"}, "they are called")


def test_exit_functions_of_preloaded_code_are_called_in_the_mold_too(fleet: Fleet) -> None:
    fleet.start_kind("sync", "--preload")
    assert fleet.end() == 0
    assert sorted(notes(fleet)) == ["atexit", "atexit", "finalizer", "finalizer"], (
        "of the mold, and of the worker"
    )
