"""Processes that requests, hooks and preloaded code fork: none of them is a worker, and none holds what is a worker's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import EVERY_KIND
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """\
import asyncio, multiprocessing, os, pathlib, signal, subprocess, sys, time

HERE = pathlib.Path(__file__).parent

def idle():
    while not (HERE / "gate").exists():
        time.sleep(0.01)

def double(number):
    return 2 * number

def term():
    # Python 3.14 has another default, which does not work where sockets are a library's of greenlets.
    child = multiprocessing.get_context("fork").Process(target=idle)
    child.start()
    os.kill(child.pid, signal.SIGTERM)
    child.join(20)
    return f"exit code {child.exitcode}"

def pool():
    with multiprocessing.Pool(2) as made:
        return repr(made.map(double, [1, 2, 3]))

def ignored():
    text = subprocess.run(["sh", "-c", "grep SigIgn /proc/self/status"], stdout=subprocess.PIPE, text=True).stdout
    mask = int(text.split()[1], 16)
    return repr([signal.Signals(number).name for number in range(1, 32) if mask >> (number - 1) & 1])

def helper():
    '''A command that goes on by itself, in the way of daemon(7), but for the descriptors.'''
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.write(writer, str(os.getpid()).encode())
        idle()
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    pid = os.read(reader, 20).decode()
    os.close(reader)
    return pid

def returns():
    '''Forks, and comes back in both.'''
    child = os.fork()
    if child == 0:
        return "the child"
    (HERE / "child").write_text(str(child))
    return "the parent"

def exits():
    '''Forks; the child says by its exit code how it went.'''
    child = os.fork()
    if child == 0:
        sys.exit(3)
    return f"exit code {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}"

def handlers():
    return repr(signal.getsignal(signal.SIGTERM))

WORK = {"/term": term, "/pool": pool, "/ignored": ignored, "/helper": helper, "/returns": returns, "/exits": exits, "/handlers": handlers}

def answer(path):
    return WORK[path]().encode() if path in WORK else f"worker {os.getpid()}".encode()

def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])  # no length: the end of the connection may be the body's
    return iter([body])

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("none")
    body = answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""

POOLED = ["sync", "threads", "tornado", "asgi"]
"""Kinds in which multiprocessing.Pool works: its threads are none under greenlets, with any server."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", APP)
        yield made


def end_of_answer(fleet: Fleet, path: str) -> str:
    """Ask by HTTP/1.0, where the body ends with the connection, and return the body."""
    host, _, port = fleet.addresses()[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        received = b"".join(iter(lambda: client.recv(65536), b""))
    return received.partition(b"\r\n\r\n")[2].decode()


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_child_of_a_request_dies_of_term_and_its_worker_does_not(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    before = fleet.pids()
    assert fleet.get("/term") == "exit code -15"
    assert fleet.get("/term") == "exit code -15"
    assert fleet.get("/exits") == "exit code 3"
    assert fleet.pids() == before
    assert fleet.end() == 0
    assert "died" not in fleet.log


@pytest.mark.parametrize("kind", POOLED)
def test_a_pool_of_processes_does_its_work_and_ends(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    assert fleet.get("/pool") == "[2, 4, 6]"
    assert fleet.end() == 0


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_program_that_a_request_starts_ignores_what_python_ignores(
    fleet: Fleet, kind: str, options: tuple[str, ...]
) -> None:
    fleet.start_kind(kind, *options)
    assert fleet.get("/ignored") == "[]"


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_helper_that_goes_on_by_itself_holds_nothing_of_its_worker(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    helper = int(end_of_answer(fleet, "/helper"))  # ends although the helper lives
    before = fleet.pids()
    assert all(fleet.get().startswith("worker ") for _ in range(20)), "the worker accepts"
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "the reload is over")
    assert fleet.pids() != before
    host, _, port = fleet.addresses()[0].rpartition(":")
    assert fleet.end() == 0
    assert is_alive(helper)
    with socket.create_server((host, int(port))):  # nobody has it any more
        pass
    os.kill(helper, signal.SIGTERM)
    eventually(lambda: not is_alive(helper), "the helper has died of TERM")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_fork_that_returns_in_both_processes_leaves_one_worker(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    assert fleet.get("/returns") == "the parent"
    child = int((fleet.folder / "child").read_text())
    assert all(fleet.get().startswith(f"worker {fleet.pids()[1]}") for _ in range(10))
    eventually(lambda: not is_alive(child), "the child has ended")
    assert fleet.end() == 0


HOOKS = """\
import multiprocessing, os, time
from site_app import idle

def ready(server):
    server.helper = multiprocessing.get_context("fork").Process(target=idle)
    server.helper.start()

def resized(server, new, old):
    if old is not None:
        server.helper.terminate()
        server.helper.join(20)
        print("helper", server.helper.exitcode, flush=True)
        if os.fork() == 0:
            return  # into the arbiter's code
"""


def test_a_child_of_a_hook_dies_of_term_and_the_fleet_goes_on(fleet: Fleet) -> None:
    fleet.write("our_hooks.py", HOOKS)
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(
            '[hooks]\nwhen_ready = "./our_hooks.py:ready"\nnworkers_changed = "./our_hooks.py:resized"\n'
        )
    fleet.start_kind("sync")
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    fleet.await_log("helper -15")
    fleet.send(signal.SIGTTOU)
    fleet.await_workers(1)
    assert fleet.get().startswith("worker ")
    assert fleet.end() == 0


WAITING = """\
import multiprocessing, os, subprocess, sys

def fail():
    sys.exit(6)

def ready(server):
    server.program = subprocess.Popen(["sh", "-c", "exit 7"])
    server.process = multiprocessing.get_context("fork").Process(target=fail)
    server.process.start()
    print("started", server.program.pid, server.process.pid, flush=True)

def resized(server, new, old):
    if old is not None:
        server.process.join()
        print("codes", server.program.poll(), server.process.exitcode, flush=True)
"""


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_hook_gets_the_exit_code_of_what_ended_before_it_asks(
    fleet: Fleet, options: tuple[str, ...]
) -> None:
    fleet.write("our_hooks.py", WAITING)
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(
            '[hooks]\nwhen_ready = "./our_hooks.py:ready"\nnworkers_changed = "./our_hooks.py:resized"\n'
        )
    fleet.start_kind("sync", *options)
    fleet.await_log("started")
    line = next(line for line in fleet.log.splitlines() if line.startswith("started"))
    for pid in line.split()[1:]:
        eventually(lambda pid=int(pid): not is_alive(pid), "it has ended")  # type: ignore[misc]
    [old] = fleet.pids().values()
    os.kill(old, signal.SIGKILL)  # the arbiter reaps that one, and sees the others
    eventually(lambda: list(fleet.pids().values()) not in ([], [old]), "it is replaced")
    fleet.send(signal.SIGTTIN)
    fleet.await_log("codes 7 6")
    assert fleet.end() == 0
