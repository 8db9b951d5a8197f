"""Every way in which an application makes processes, before, during and after a reload, in every kind of worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import EVERY_KIND
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """\
import multiprocessing, os, pathlib, signal, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor
from work import idle

HERE = pathlib.Path(__file__).parent
MADE = {}

def fork():
    pid = os.fork()
    if pid == 0:
        idle()
        os._exit(0)
    return pid, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def program():
    made = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    return made.pid, made.wait

def prepared():
    '''By way of Python code in the child.'''
    made = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], preexec_fn=os.setsid)
    return made.pid, made.wait

def process(method):
    made = multiprocessing.get_context(method).Process(target=idle, daemon=True)
    made.start()
    def code():
        made.join()
        return made.exitcode
    return made.pid, code

def daemon():
    '''In the way of daemon(7): a session of its own, and no descriptor of its parent's.'''
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.write(writer, str(os.getpid()).encode())
        os.closerange(0, 4096)
        while True:
            signal.pause()  # not eventlet's sleep, whose epoll object is closed now
    os.waitpid(between, 0)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    return pid, lambda: None

def executor():
    made = ProcessPoolExecutor(1)
    MADE[made] = None
    return made.submit(os.getpid).result(), lambda: None

def pool():
    made = multiprocessing.Pool(1)
    MADE[made] = None
    return made.apply(os.getpid), lambda: None

WAYS = {
    "fork": fork, "program": program, "prepared": prepared, "daemon": daemon, "executor": executor, "pool": pool,
    **{f"process-{method}": lambda method=method: process(method) for method in ("fork", "spawn", "forkserver")},
}

def answer(path):
    what, _, rest = path[1:].partition("/")
    if what == "start":
        pid, code = WAYS[rest]()
        MADE[pid] = code
        return str(pid)
    if what == "code":
        return repr(MADE.pop(int(rest))())
    return f"worker {os.getpid()}"

def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("none")
    body = answer(scope["path"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

if (HERE / "wait").exists():
    (HERE / "waits").touch()
    while not (HERE / "gate").exists():
        time.sleep(0.01)
"""

WORK = """\
import time

def idle():
    while True:
        time.sleep(0.05)
"""

ALONE = ("fork", "program", "prepared", "daemon")
"""These outlive their worker, as with any server."""
PROCESSES = ("process-fork", "process-spawn", "process-forkserver")
POOLS = ("executor", "pool")
FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL)


def joined(kind: str) -> tuple[str, ...]:
    """Ways whose processes end with their worker, and which work in this kind, with any server.

    Under greenlets the threads of pools are none, and eventlet's `select` is not good enough for forkserver. From Python
    3.14 on, forkserver reads from a socket that gevent has made, and does not wait.
    """
    if kind == "eventlet" or (kind.startswith("gevent") and sys.version_info >= (3, 14)):
        return PROCESSES[:2]
    return PROCESSES if kind.startswith("gevent") else PROCESSES + POOLS


def has_code(kind: str, way: str) -> bool:
    """Whether its exit code can be had: gevent reaps what it has not forked itself, and tells nobody."""
    return way not in POOLS and (way != "process-spawn" or not kind.startswith("gevent"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", APP)
        made.write("work.py", WORK)
        yield made


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def make(fleet: Fleet, ways: tuple[str, ...]) -> dict[str, int]:
    return {way: int(fleet.get(f"/start/{way}")) for way in ways}


def end(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
    eventually(lambda: not is_alive(pid), f"process {pid} has died of {number.name}")


def assert_serves(fleet: Fleet, workers: dict[int, int]) -> None:
    """These workers and no others serve."""
    assert fleet.pids() == workers
    assert {fleet.get() for _ in range(5)} == {f"worker {pid}" for pid in workers.values()}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_a_request_has_started_dies_of_signals_and_its_worker_serves_on(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    workers = fleet.pids()
    for number in FATAL:
        for way, pid in make(
            fleet, ("fork", "program", "prepared", *set(joined(kind)).difference(POOLS))
        ).items():
            end(pid, number)
            if has_code(kind, way):
                assert fleet.get(f"/code/{pid}") == str(-number), way
    for pid in make(fleet, ("daemon",)).values():
        end(pid, signal.SIGTERM)
    assert_serves(fleet, workers)
    assert fleet.end() == 0
    assert "died" not in fleet.log


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, ()) for kind in EVERY_KIND),
        *((kind, ("--preload",)) for kind in ("threads", "gevent", "asgi")),
    ],
)
def test_what_requests_start_around_a_reload_dies_of_term_or_with_its_worker(
    fleet: Fleet, kind: str, options: tuple[str, ...]
) -> None:
    fleet.start_kind(kind, *options)
    old = fleet.pids()
    before = make(fleet, ALONE + joined(kind))
    (fleet.folder / "wait").touch()
    fleet.send(signal.SIGHUP)
    eventually((fleet.folder / "waits").exists, "the new code is being loaded")
    during = make(fleet, ALONE + PROCESSES[:2])
    end(during.pop("process-fork"), signal.SIGTERM)
    end(during.pop("fork"), signal.SIGTERM)
    assert_serves(fleet, old)
    fleet.open_gate()
    eventually(lambda: len(fleet.status()["workers"]) == 1 and fleet.pids() != old, "the reload is over")
    new = fleet.pids()
    for made in (before, during):
        for way, pid in made.items():
            if way not in ALONE:
                eventually(lambda pid=pid: not is_alive(pid), f"{way} has ended with its worker")  # type: ignore[misc]
                continue
            assert is_alive(pid), way
            end(pid, signal.SIGTERM)
    assert_serves(fleet, new)
    make(fleet, joined(kind))
    address = fleet.addresses()[0].rpartition(":")
    assert fleet.end() == 0
    with socket.create_server((address[0], int(address[2]))):  # nobody has it any more
        pass
    assert "died" not in fleet.log
    assert "told to" not in fleet.log, "nobody had to be ended"


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *((kind, signal.SIGQUIT) for kind in EVERY_KIND),
        *((kind, signal.SIGINT) for kind in ("threads", "gevent", "asgi")),
    ],
)
def test_a_quick_stop_leaves_nothing_of_what_requests_have_started(
    fleet: Fleet, kind: str, number: signal.Signals
) -> None:
    fleet.start_kind(kind)
    make(fleet, joined(kind))
    assert fleet.end(number) == 0


PRELOADED = """
import multiprocessing
if __name__ != "__mp_main__":
    HELPER = multiprocessing.get_context("fork").Process(target=idle, daemon=True)
    HELPER.start()
    (HERE / f"helper-{HELPER.pid}").touch()
"""


def helpers(fleet: Fleet) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in fleet.folder.glob("helper-*")}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_preloaded_code_has_started_lives_as_long_as_its_mold(fleet: Fleet, kind: str) -> None:
    with (fleet.folder / "site_app.py").open("a") as file:
        file.write(PRELOADED)
    fleet.start_kind(kind, "--preload")
    (first,) = helpers(fleet)
    (old,) = fleet.pids().values()
    os.kill(old, signal.SIGTERM)
    eventually(lambda: old not in [each["pid"] for each in fleet.status()["workers"]], "the worker has left")
    fleet.await_workers(1)
    assert is_alive(first), "a worker that leaves takes nothing of its mold's with it"
    fleet.send(signal.SIGHUP)
    eventually(lambda: not is_alive(first), "it has ended with its mold")
    (second,) = helpers(fleet) - {first}
    assert is_alive(second)
    assert fleet.end() == 0
    assert "Traceback" not in fleet.log
    assert "told to" not in fleet.log


HOOKS = """\
import multiprocessing
from work import idle

def ready(server):
    server.helper = multiprocessing.get_context("fork").Process(target=idle, daemon=True)
    server.helper.start()
    server.other = multiprocessing.get_context("fork").Process(target=idle)
    server.other.start()
    print("helpers", server.helper.pid, server.other.pid, flush=True)

def leave(server):
    print("helper lives", server.helper.is_alive(), flush=True)
    server.other.terminate()
"""


def test_workers_that_leave_take_nothing_with_them_that_a_hook_has_started(fleet: Fleet) -> None:
    fleet.write("our_hooks.py", HOOKS)
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write('[hooks]\nwhen_ready = "./our_hooks.py:ready"\non_exit = "./our_hooks.py:leave"\n')
    fleet.start_kind("sync")
    old = fleet.pids()
    fleet.send(signal.SIGHUP)
    eventually(lambda: len(fleet.status()["workers"]) == 1 and fleet.pids() != old, "the reload is over")
    assert fleet.end() == 0
    assert "helper lives True" in fleet.log
    assert "Traceback" not in fleet.log
