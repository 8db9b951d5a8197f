"""A worker of `threads` all of whose threads are in the application: nobody polls, and signals act all the same."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import app_of
from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from tests.support.worker import Gate, Setup, Worker, request, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

TWO = Setup(kind="threads", threads=2)
NEVER = 10**9
"""Rounds of a hash function: a call of some minutes that no signal interrupts, without the interpreter lock."""


def deaf() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", NEVER)


def hold() -> None:
    threading.Event().wait()


def app_that(gate: Gate, act: Callable[[], None]) -> Callable[..., Iterable[bytes]]:
    """An application that does not answer; all but the first request has a thread of ours receive a QUIT."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.count()
        if environ["PATH_INFO"] == "/quit":
            [monitor] = [each for each in threading.enumerate() if each.name == "monitor"]
            eventually(lambda: gate.arrivals == 2, "both threads are in the application")
            signal.pthread_kill(monitor.ident or 0, signal.SIGQUIT)
        act()
        return app_of(b"ok")(environ, start_response)

    return app


def get_stuck(stack: ExitStack, running: Worker, *paths: str) -> None:
    for path in paths:
        stack.enter_context(running.connect()).send(request(path))


@pytest.mark.parametrize("act", [hold, deaf])
def test_quit_ends_a_worker_at_once_whichever_thread_receives_it(
    tmp_path: Path, act: Callable[[], None]
) -> None:
    gate = Gate()
    with worker(app_that(gate, act), tmp_path, TWO) as running, ExitStack() as stack:
        get_stuck(stack, running, "/", "/quit")
        assert running.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_worker_whose_threads_hear_no_signal_ends_all_the_same(
    tmp_path: Path, number: signal.Signals
) -> None:
    gate = Gate()
    with worker(app_that(gate, deaf), tmp_path, TWO) as running, ExitStack() as stack:
        get_stuck(stack, running, "/", "/")
        gate.wait_for(2)
        running.send(number)
        assert running.wait() == 0


def test_it_gives_signs_of_life(tmp_path: Path) -> None:
    gate = Gate()
    with worker(app_that(gate, hold), tmp_path, TWO) as running, ExitStack() as stack:
        get_stuck(stack, running, "/", "/")
        gate.wait_for(2)
        for _ in range(3):
            beat = running.reading().heartbeat
            eventually(lambda beat=beat: running.reading().heartbeat > beat, "another one is there")  # type: ignore[misc]
        running.send(signal.SIGQUIT)


def test_a_worker_that_is_told_to_leave_lets_idle_connections_go_and_serves_who_comes_back(
    tmp_path: Path,
) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/wait":
            gate.enter()
        return app_of(b"ok")(environ, start_response)

    with worker(app, tmp_path, TWO) as running, ExitStack() as stack:
        idle = stack.enter_context(running.connect())
        assert idle.get().body == b"ok"
        clients = [stack.enter_context(running.connect()) for _ in range(2)]
        for client in clients:
            client.send(request("/wait"))
        gate.wait_for(2)
        running.drain()
        assert idle.is_at_end(), "it is closed although no thread is free"
        gate.open()
        assert [client.read().body for client in clients] == [b"ok", b"ok"]
        assert running.wait() == 0


STUCK = {
    "sleeps": "import time; time.sleep(1000)",
    "loops": "while True: pass",
    "waits": "import threading; threading.Event().wait()",
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "[workers]", "[timeouts]\nrequest = 1\nkill = 60\n[workers]")
        yield fleet


@pytest.mark.parametrize("how", STUCK.values(), ids=STUCK)
def test_all_requests_get_504_in_time_and_nothing_is_said_to_hold_the_interpreter(
    fleet: Fleet, how: str
) -> None:
    """If nobody did it, the arbiter would abort the worker after timeouts.kill: a minute."""
    fleet.change(
        "site_app.py", "    keys =", f"    if environ['PATH_INFO'] == '/stuck':\n        {how}\n    keys ="
    )
    fleet.start("-k", "threads", "--threads", "3", "-w", "1")
    old = fleet.pids()[1]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: status_of(fleet), range(3)))
    assert answers == [504, 504, 504]
    eventually(lambda: fleet.pids().get(1) not in {None, old}, "the worker has been replaced")
    eventually(lambda: old not in fleet.processes(), "the old one has left")
    assert "holds the interpreter" not in fleet.log
    assert fleet.get().startswith("v1 ")


def status_of(fleet: Fleet) -> int:
    with contextlib.closing(fleet.connect()) as connection:
        connection.request("GET", "/stuck")
        return connection.getresponse().status
