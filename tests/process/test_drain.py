"""`timeouts.drain`: a fleet that is told to stop goes on accepting while the load is led elsewhere."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from unicornd.control.client import ControlError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator
    from pathlib import Path

LONG = 600
THREADS = ("-k", "threads", "--threads", "2", "--keep-alive", "60")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def drain(fleet: Fleet, seconds: float) -> None:
    fleet.change("unicornd.toml", "[workers]", f"[timeouts]\ndrain = {seconds}\n[workers]")


def test_new_and_kept_connections_are_served_and_told_to_close(fleet: Fleet) -> None:
    drain(fleet, LONG)
    process = fleet.start(*THREADS)
    kept = fleet.connect()
    kept.request("GET", "/")
    assert kept.getresponse().read().startswith(b"v1 ")
    fleet.send(signal.SIGTERM)
    fleet.await_state("stopping")

    def is_told(connection: http.client.HTTPConnection) -> bool:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.read().startswith(b"v1 ")
        return response.getheader("Connection") == "close"

    eventually(lambda: is_told(fleet.connect()), "a new client is told")
    assert is_told(kept)
    assert fleet.client.ask("GET", "/readyz").status == 503
    assert fleet.client.ask("GET", "/healthz").status == 200
    assert process.poll() is None
    assert fleet.end(signal.SIGINT) == 0, "a quick stop does not wait for the end of the drain"


def test_when_the_drain_is_over_the_fleet_stops_and_no_request_was_lost(fleet: Fleet) -> None:
    drain(fleet, 0.5)
    process = fleet.start(*THREADS)
    [address] = fleet.addresses()
    with Traffic(lambda: fleet.connect(address), clients=4, is_keepalive=True) as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        fleet.send(signal.SIGTERM)
        eventually(lambda: process.poll() is not None, "it has ended")
    assert process.returncode == 0
    failed = [failure for failure in traffic.tally.failures if "ConnectionRefused" not in failure]
    assert failed == []


def test_a_start_that_is_stopped_before_it_was_ready_does_not_drain(fleet: Fleet) -> None:
    drain(fleet, LONG)
    fleet.change("site_app.py", 'VERSION = "v1"', "import pathlib, time\nwhile True: time.sleep(0.01)")
    process = fleet.spawn()

    def is_there() -> bool:
        try:
            return bool(fleet.status()["workers"])
        except ControlError:
            return False

    eventually(is_there, "the workers boot")
    process.send_signal(signal.SIGTERM)
    assert fleet.exit_code() == 0
