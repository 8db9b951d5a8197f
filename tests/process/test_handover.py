"""Kept connections across a change of workers: the same connection goes on, whoever answers."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator
    from pathlib import Path

CONNECTIONS = 20
KEPT = ("-k", "threads", "--threads", "4", "--keep-alive", "60")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def ask(connection: http.client.HTTPConnection) -> str:
    """Ask over this very connection; http.client would open another one if it were closed."""
    before = connection.sock
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == 200
    assert before is None or connection.sock is before, "it is not the same connection"
    assert response.getheader("Connection") is None
    return body


def opened(fleet: Fleet, stack: ExitStack, count: int = CONNECTIONS) -> list[http.client.HTTPConnection]:
    kept = [fleet.connect() for _ in range(count)]
    for connection in kept:
        stack.callback(connection.close)
        connection.auto_open = 0
        connection.connect()
        ask(connection)
    return kept


def test_idle_connections_go_on_with_the_new_generation(fleet: Fleet) -> None:
    fleet.start(*KEPT)
    with ExitStack() as stack:
        kept = opened(fleet, stack)
        fleet.change("site_app.py", '"v1"', '"v2"')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        fleet.await_workers(2)
        answers = [ask(connection).split() for connection in kept]
        assert {version for version, _ in answers} == {"v2"}
        assert {int(pid) for _, pid in answers} <= set(fleet.pids().values())


def test_a_reload_takes_no_second_for_idle_connections(fleet: Fleet) -> None:
    """They are gone at once, so nobody lingers for them."""
    fleet.start(*KEPT)
    with ExitStack() as stack:
        opened(fleet, stack)
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        fleet.await_workers(2)
        left = [line for line in fleet.log.splitlines() if "has left" in line]
        assert len(left) == 2


def test_what_was_read_of_a_request_goes_along(fleet: Fleet) -> None:
    fleet.start(*KEPT, "-w", "1")
    host, port = fleet.addresses()[0].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: ")
        eventually(lambda: fleet.status()["workers"][0]["connections"] == 1, "the worker has it")
        fleet.change("site_app.py", '"v1"', '"v2"')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        fleet.await_workers(1)
        client.sendall(b"x\r\n\r\n")
        assert b"v2 " in client.recv(4096)


def test_a_connection_whose_request_runs_is_handed_over_after_it(fleet: Fleet) -> None:
    fleet.start(*KEPT, "-w", "1")
    with ExitStack() as stack:
        [connection] = opened(fleet, stack, 1)
        connection.request("GET", "/wait")
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "it runs")
        fleet.change("site_app.py", '"v1"', '"v2"')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        fleet.open_gate()
        response = connection.getresponse()
        assert response.read().startswith(b"v1 ")
        assert response.getheader("Connection") is None
        assert ask(connection).startswith("v2 ")


def test_scaling_down_and_recycling_keep_connections(fleet: Fleet) -> None:
    fleet.start(*KEPT, "-w", "3", "--max-requests", "10")
    with ExitStack() as stack:
        kept = opened(fleet, stack)
        fleet.send(signal.SIGTTOU)
        fleet.await_workers(2)
        before = set(fleet.pids().values())

        def is_recycled() -> bool:
            for connection in kept:
                ask(connection)
            return not before & set(fleet.pids().values())

        eventually(is_recycled, "all workers have been replaced")


def test_keepalive_clients_reconnect_never_while_the_fleet_changes(fleet: Fleet) -> None:
    fleet.start(*KEPT, "-w", "4")
    with Traffic(fleet.connect, clients=8, is_keepalive=True) as traffic:
        for generation in range(2, 6):
            fleet.send(signal.SIGHUP)
            fleet.await_log(f"generation {generation} serves")
        fleet.send(signal.SIGTTOU)
        fleet.await_workers(3)
    assert traffic.tally.failures == []
    assert traffic.tally.connections == 8


def test_a_stop_ends_idle_connections(fleet: Fleet) -> None:
    process = fleet.start(*KEPT)
    with ExitStack() as stack:
        kept = opened(fleet, stack)
        assert fleet.end() == 0
        assert process.poll() == 0
        for connection in kept:
            assert connection.sock.recv(1) == b""


def test_when_the_arbiter_is_killed_no_connection_waits_for_nobody(fleet: Fleet) -> None:
    process = fleet.start(*KEPT)
    with ExitStack() as stack:
        kept = opened(fleet, stack)
        process.kill()
        process.wait()
        for connection in kept:
            assert connection.sock.recv(1) == b""
    eventually(lambda: not fleet.processes(), "all have left")


def test_workers_that_all_leave_hand_nothing_over(fleet: Fleet) -> None:
    """WINCH: the arbiter stays alone; who was connected is let go, who comes later is served by new workers."""
    fleet.run(*KEPT, "-D", "--log-file", "log", "-p", "pid")
    fleet.await_state("ready")
    arbiter = int((fleet.folder / "pid").read_text().split()[0])
    try:
        with ExitStack() as stack:
            kept = opened(fleet, stack)
            os.kill(arbiter, signal.SIGWINCH)
            for connection in kept:
                assert connection.sock.recv(1) == b""
            eventually(lambda: fleet.status()["workers"] == [], "all have left")
            os.kill(arbiter, signal.SIGTTIN)
            fleet.await_workers(1)
            assert fleet.get().startswith("v1 ")
    finally:
        os.kill(arbiter, signal.SIGTERM)


def test_a_generation_of_another_kind_lets_connections_end(fleet: Fleet) -> None:
    fleet.start("--keep-alive", "60")
    fleet.change("unicornd.toml", "[workers]", '[workers]\nkind = "threads"\nthreads = 2')
    with Traffic(fleet.connect, clients=4, is_keepalive=True) as traffic:
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
    assert traffic.tally.failures == []
