"""How a worker leaves: nothing that a client has sent is lost, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.dataclass import replace
from unicornd.workers.channel import RetiringReport
from unicornd.workers.recycle import Recycling

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from unicornd.http.messages import Head
    from unicornd.workers.context import Served

KINDS = ["sync", "threads"]


def ok(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


class GatedApp:
    """Waits at a gate in /wait, else answers at once."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.gate.enter()
        return ok(environ, start_response)


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_worker_leaves_when_told(tmp_path: Path, kind: str) -> None:
    with worker(ok, tmp_path, Setup(kind=kind, threads=2 if kind == "threads" else 1)) as running:
        running.drain()
        assert running.wait() == 0


def test_a_worker_leaves_when_its_lifeline_is_cut(tmp_path: Path) -> None:
    with worker(ok, tmp_path, Setup(threads=3)) as running, running.connect() as client:
        assert client.get().code == 200
        running.abandon()
        assert running.wait() == 0
        assert "the arbiter is gone" in running.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_does_not_wait_for_requests(tmp_path: Path, number: signal.Signals) -> None:
    app = GatedApp()
    with worker(app, tmp_path, Setup(threads=2)) as running, running.connect() as client:
        client.send(request("/wait"))
        app.gate.wait_for(1)
        os.kill(running.pid, number)
        assert running.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_in_flight_is_finished_and_the_connection_closed(tmp_path: Path, kind: str) -> None:
    app = GatedApp()
    with worker(app, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(request("/wait"))
        app.gate.wait_for(1)
        running.drain()
        app.gate.open()
        response = client.read()
        assert response.body == b"ok"
        assert response.fields["connection"] == "close"
        assert client.is_at_end()
        assert running.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crowd", [30, 200])
def test_what_the_kernel_has_queued_is_answered(tmp_path: Path, kind: str, crowd: int) -> None:
    app = GatedApp()
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(app, tmp_path, Setup(kind=kind)))
        first = stack.enter_context(running.connect()).send(request("/wait"))
        app.gate.wait_for(1)
        queued = [stack.enter_context(running.connect()).send(request()) for _ in range(crowd)]
        running.stop_listening()
        running.drain()
        app.gate.open()
        for client in (first, *queued):
            assert client.read().body == b"ok"
        assert running.wait() == 0


@pytest.mark.parametrize("kind", ["sync", "threads", "gevent", "eventlet", "gevent_pywsgi", "tornado"])
@pytest.mark.parametrize("crowd", [1, 5])
def test_who_comes_together_with_the_order_to_leave_is_answered(
    tmp_path: Path, kind: str, crowd: int
) -> None:
    with worker(ok, tmp_path, Setup(kind=kind)) as running, contextlib.ExitStack() as stack:
        with running.paused():
            clients = [stack.enter_context(running.connect()).send(request()) for _ in range(crowd)]
            running.drain()
        for client in clients:
            assert client.read().body == b"ok"
        assert running.wait() == 0


def test_what_is_queued_above_the_limit_of_connections_is_answered_too(tmp_path: Path) -> None:
    app = GatedApp()
    policy = replace(POLICY, connections=3)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(app, tmp_path, Setup(kind="sync", policy=policy)))
        first = stack.enter_context(running.connect()).send(request("/wait"))
        app.gate.wait_for(1)
        queued = [stack.enter_context(running.connect()).send(request()) for _ in range(20)]
        running.stop_listening()
        running.drain()
        app.gate.open()
        for client in (first, *queued):
            assert client.read().body == b"ok"


def test_a_request_that_an_idle_connection_sends_after_the_order_is_answered(tmp_path: Path) -> None:
    app = GatedApp()
    with (
        worker(app, tmp_path, Setup(threads=2)) as running,
        running.connect() as kept,
        running.connect() as busy,
    ):
        assert kept.get().code == 200
        busy.send(request("/wait"))
        app.gate.wait_for(1)
        running.drain()
        response = kept.get()
        assert response.fields["connection"] == "close"
        app.gate.open()
        assert busy.read().code == 200


def test_idle_connections_are_closed_not_reset(tmp_path: Path) -> None:
    with worker(ok, tmp_path, Setup(threads=2)) as running, running.connect() as kept:
        assert kept.get().code == 200
        running.drain()
        assert kept.is_at_end()
        assert running.wait() == 0


def test_the_listener_is_left_at_once(tmp_path: Path) -> None:
    app = GatedApp()
    with worker(app, tmp_path, Setup(threads=2)) as running, running.connect() as client:
        client.send(request("/wait"))
        app.gate.wait_for(1)
        running.stop_listening()
        running.drain()

        def is_refused() -> bool:
            with socket.socket(running.family) as sock:
                return sock.connect_ex(running.address) != 0

        eventually(is_refused, "nobody listens any more")
        app.gate.open()
        assert client.read().code == 200


def test_a_response_that_the_client_still_reads_is_sent_whole(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "9000000")])
        return [bytes(9_000_000)]

    policy = replace(POLICY, response_buffer=20_000_000)
    with worker(app, tmp_path, Setup(kind="sync", policy=policy)) as running, running.connect() as client:
        client.send(request())
        eventually(lambda: running.reading().requests == 1, "the application is done")
        running.drain()
        assert len(client.read().body) == 9_000_000
        assert running.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_has_served_enough_says_so_once_and_serves_on(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, recycling=Recycling(3, jitter=0, random=Random(1)))
    with worker(ok, tmp_path, setup) as running:
        for _ in range(6):
            with running.connect() as client:
                assert client.get().code == 200
        report = running.report()
        assert isinstance(report, RetiringReport)
        assert "3 requests" in report.why
        running.drain()
        assert running.wait() == 0
        assert running.has_no_report()


def test_the_hooks_around_a_request_see_it(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def note(text: str) -> None:
        with seen.open("a") as file:
            file.write(f"{text}\n")

    def before(head: Head) -> None:
        note(f"before {head.method} {head.path}")

    def after(served: Served) -> None:
        note(f"after {served.status} {served.size} {served.remote}")

    with (
        worker(ok, tmp_path, Setup(pre_request=before, on_served=after)) as running,
        running.connect() as client,
    ):
        client.get("/a?b")
        eventually(lambda: seen.exists() and seen.read_text().count("\n") == 2, "both have been called")
    assert seen.read_text() == "before GET /a\nafter 200 OK 2 127.0.0.1\n"


def test_who_tells_of_a_request_may_fail_and_the_worker_lives_on(tmp_path: Path) -> None:
    def fail(_served: Served) -> None:
        raise ValueError("cannot tell")

    with worker(ok, tmp_path, Setup(on_served=fail, threads=2)) as running:
        for _ in range(4):
            with running.connect() as client:
                assert client.get().code == 200
        assert "cannot tell" in running.log()
