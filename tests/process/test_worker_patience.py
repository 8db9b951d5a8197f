"""Deadlines and crowds: slow and idle clients, clients that have gone, too many connections, too few descriptors."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.dataclass import replace
from unicornd.units import Seconds
from unicornd.workers.dispatch import HUNG_UP_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KINDS = ["sync", "threads"]
SHORT = Seconds(0.2)


def ok(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_sends_nothing_is_closed_silently(tmp_path: Path, kind: str) -> None:
    policy = replace(POLICY, head=SHORT)
    with worker(ok, tmp_path, Setup(kind=kind, policy=policy)) as running, running.connect() as client:
        assert client.is_at_end()


@pytest.mark.parametrize(
    "part", [request()[:-2], request("/", method="POST", fields="Content-Length: 9\r\n") + b"a"]
)
def test_a_request_that_does_not_become_complete_is_answered_with_408(tmp_path: Path, part: bytes) -> None:
    policy = replace(POLICY, head=SHORT, body=SHORT)
    with worker(ok, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(part)
        assert client.read().code == 408
        assert client.finish().is_at_end()
        assert running.reading().requests == 0


def test_a_kept_connection_on_which_nothing_comes_is_closed_silently(tmp_path: Path) -> None:
    policy = replace(POLICY, keepalive=SHORT)
    with worker(ok, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        assert client.get().code == 200
        assert client.is_at_end()


def test_a_head_that_drips_is_not_given_more_time(tmp_path: Path) -> None:
    policy = replace(POLICY, head=SHORT)
    with worker(ok, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        client.sock.setblocking(False)

        def is_answered() -> bool:
            with contextlib.suppress(OSError):
                client.sock.send(b"X")
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                return client.sock.recv(100, socket.MSG_PEEK).startswith(b"HTTP/1.1 408 ")
            return False

        eventually(is_answered, "the client is told that it was too slow")


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_unfinished_requests_do_not_keep_a_client_waiting(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(ok, tmp_path, Setup(kind=kind, threads=1)))
        slow = [stack.enter_context(running.connect()) for _ in range(200)]
        for part in (b"GET / HT", b"TP/1.1\r\nX-A"):
            for client in slow:
                client.send(part)
            with running.connect() as client:
                assert client.get().body == b"ok"
        for client in slow:
            client.send(b": b\r\nHost: x\r\n\r\n")
        for client in slow:
            assert client.read().body == b"ok"


def test_above_the_limit_connections_wait_in_the_kernel(tmp_path: Path) -> None:
    policy = replace(POLICY, connections=2)
    with worker(ok, tmp_path, Setup(policy=policy)) as running:
        first, second, third = running.connect(), running.connect(), running.connect()
        with first, second, third:
            assert first.get().code == second.get().code == 200
            third.send(request())
            first.close()
            assert third.read().code == 200


def test_without_descriptors_accepting_pauses_and_recovers(tmp_path: Path) -> None:
    def lower_limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(ok, tmp_path, Setup(before=lower_limit)))
        crowd = [stack.enter_context(running.connect()) for _ in range(100)]
        eventually(lambda: "cannot accept" in running.log(), "the worker complains")
        for client in crowd:
            client.send(request())
        for client in crowd:
            assert client.read().code == 200
            client.close()
        with running.connect() as client:
            assert client.get().code == 200
        assert running.log().count("cannot accept") == 1


def test_the_request_of_a_client_that_has_gone_is_not_run(tmp_path: Path) -> None:
    first_gate, second_gate = Gate(), Gate()
    ran = tmp_path / "ran"

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with ran.open("a") as file:
            file.write(environ["PATH_INFO"])
        if gate := {"/first": first_gate, "/second": second_gate}.get(environ["PATH_INFO"]):
            gate.enter()
        return ok(environ, start_response)

    with worker(app, tmp_path) as running, running.connect() as first:
        second, gone = running.connect(), running.connect()
        assert [client.get("/").code for client in (first, second, gone)] == [200] * 3
        ran.unlink()
        first.send(request("/first"))
        first_gate.wait_for(1)
        second.send(request("/second"))
        gone.send(request("/gone"))
        first_gate.open()  # the poller reads both, in this order
        second_gate.wait_for(1)
        waiting_since = time.monotonic()
        gone.close()
        eventually(lambda: time.monotonic() - waiting_since > HUNG_UP_AFTER, "it has waited for long")
        second_gate.open()
        assert [client.read().code for client in (first, second)] == [200] * 2
        assert first.get("/").code == 200
        assert ran.read_text() == "/first/second/"
        second.close()


def test_unread_bytes_behind_the_last_request_do_not_destroy_the_answer(tmp_path: Path) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.enter()
        return ok(environ, start_response)

    with worker(app, tmp_path, Setup(kind="sync")) as running, running.connect() as client:
        client.send(request("/", method="POST", body=b"body"))
        gate.wait_for(1)
        client.send(b"\r\n")  # as old browsers did
        gate.open()
        eventually(lambda: running.reading().requests == 1, "the request is done")
        assert client.read().body == b"ok"
        assert not client.is_reset()


def test_requests_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    gate = Gate()
    order = tmp_path / "order"

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/first":
            gate.enter()
        else:
            with order.open("a") as file:
                file.write(environ["PATH_INFO"])
        return ok(environ, start_response)

    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(app, tmp_path, Setup(kind="sync")))
        first = stack.enter_context(running.connect()).send(request("/first"))
        gate.wait_for(1)
        others = [stack.enter_context(running.connect()).send(request(f"/{number}")) for number in range(10)]
        gate.open()
        assert [client.read().code for client in (first, *others)] == [200] * 11
    assert order.read_text() == "".join(f"/{number}" for number in range(10))


def test_threads_run_as_many_requests_at_a_time_as_there_are_threads(tmp_path: Path) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/wait"):
            gate.enter()
        return ok(environ, start_response)

    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(app, tmp_path, Setup(threads=4)))
        waiting = [stack.enter_context(running.connect()).send(request(f"/wait/{n}")) for n in range(3)]
        gate.wait_for(3)
        assert {call.text for call in running.reading().in_flight} == {f"GET /wait/{n}" for n in range(3)}
        with running.connect() as client:
            assert client.get().code == 200
        more = [stack.enter_context(running.connect()).send(request(f"/wait/{n}")) for n in range(3, 6)]
        gate.wait_for(4)
        gate.open()
        for client in (*waiting, *more):
            assert client.read().code == 200
        assert gate.arrivals == 6


def test_a_kept_connection_that_speaks_while_its_request_runs_is_answered_in_order(tmp_path: Path) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/wait":
            gate.enter()
        return ok(environ, start_response)

    with worker(app, tmp_path, Setup(threads=3)) as running, running.connect() as client:
        client.send(request("/wait"))
        gate.wait_for(1)
        client.send(request("/2"))
        client.send(request("/3"))
        with running.connect() as other:  # the poller has seen both
            assert other.get().code == 200
        gate.open()
        assert [client.read().code for _ in range(4 - 1)] == [200] * 3


def test_an_idle_worker_gives_signs_of_life(tmp_path: Path) -> None:
    with worker(ok, tmp_path) as running:
        eventually(lambda: running.reading().heartbeat > 0, "there is a first heartbeat")
        first = running.reading().heartbeat
        eventually(lambda: running.reading().heartbeat > first, "there is another one")
