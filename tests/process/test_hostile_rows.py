"""An application that writes what it likes into its worker's row: the arbiter lives, and tells nothing impossible."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import UnixConnection
from tests.support.waiting import eventually
from unicornd.observe.scoreboard import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
import itertools, os, struct, threading, time

GRACE = 17 * 8  # its place in the row

def descriptor(name):
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith(f"/memfd:unicornd-{name}"):
                return int(entry)
        except OSError:
            pass

def truncate():
    said = []
    for name in ("row", "stacks"):
        for size in (0, 1 << 40):
            try:
                os.ftruncate(descriptor(name), size)
            except OSError as error:
                said.append(error.strerror)
    return ", ".join(said)

def keep(make):
    row = descriptor("row")
    size = os.fstat(row).st_size
    def write():
        while True:
            os.pwrite(row, make(size), 0)
            time.sleep(0.002)
    threading.Thread(target=write, daemon=True).start()
    return "written"

def fill(byte):
    return lambda: keep(lambda size: bytes([byte]) * size)

def doubles(number):
    return lambda: keep(lambda size: struct.pack("@d", number) * (size // 8))

def counted():
    return keep(lambda size: struct.pack("@dQQdQ", time.monotonic(), 2**63, 2**63, 1e300, 2**63))

def stuck():  # idle, and alive until tomorrow
    row = descriptor("row")
    os.pwrite(row, struct.pack("@d", time.monotonic() + 86400) + bytes(os.fstat(row).st_size - 8), 0)
    sum(itertools.repeat(0))

def patient():
    os.pwrite(descriptor("row"), struct.pack("@d", 1e9), GRACE)
    time.sleep(1000)

ATTACKS = {
    "truncate": truncate, "ones": fill(0xFF), "inf": doubles(float("inf")), "future": doubles(time.monotonic() + 86400),
    "nan": doubles(float("nan")), "huge": doubles(1.7e308), "counted": counted, "stuck": stuck, "patient": patient,
}

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    body = (ATTACKS[name]() if name in ATTACKS else str(os.getpid())).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", APP)
        fleet.change("unicornd.toml", "[workers]", '[admin]\nbind = "unix:admin.sock"\n[workers]')
        yield fleet


@pytest.mark.parametrize("preload", ["true", "false"])
def test_a_row_cannot_be_truncated_under_the_arbiter(fleet: Fleet, preload: str) -> None:
    fleet.change("unicornd.toml", "[app]", f"[app]\npreload = {preload}")
    fleet.start()
    assert fleet.get("/truncate") == ", ".join(["Operation not permitted"] * 4)
    check_all_that_is_told(fleet)


def test_what_is_told_of_a_row_is_possible_whatever_is_in_it(fleet: Fleet) -> None:
    fleet.start("-k", "sync", "-w", "1")
    for attack in ("ones", "inf", "future", "nan", "huge", "counted"):
        worker = fleet.pids()[1]
        assert fleet.get(f"/{attack}") == "written"
        check_all_that_is_told(fleet)
        for _ in range(5):
            check_what_machines_are_told(fleet)
            assert int(fleet.get()) == worker, attack
        fleet.send(signal.SIGHUP)
        eventually(lambda worker=worker: fleet.pids().get(1, worker) != worker, "it is replaced")  # type: ignore[misc]
        fleet.await_state("ready")


def test_a_heartbeat_in_the_future_keeps_no_stuck_worker(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "[workers]", "[timeouts]\nheartbeat = 1\nrequest = 0\nkill = 1\n[workers]")
    fleet.start("-k", "threads", "--threads", "2")
    attack_and_be_ended(fleet, "/stuck", "it gave no sign of life within timeouts.heartbeat")


def test_a_worker_cannot_give_itself_grace_without_end(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "[workers]", "[timeouts]\nrequest = 0.5\nkill = 1\n[workers]")
    fleet.start("-k", "sync")
    attack_and_be_ended(fleet, "/patient", "a request ran into timeouts.request")


def attack_and_be_ended(fleet: Fleet, path: str, why: str) -> None:
    before = fleet.pids()
    with closing(fleet.connect()) as connection:
        connection.request("GET", path)
        fleet.await_log(why)
        eventually(lambda: len(set(before.values()) - set(fleet.pids().values())) == 1, "it was ended")
    fleet.await_workers(2)
    check_all_that_is_told(fleet)


def check_all_that_is_told(fleet: Fleet) -> None:
    """To machines, and to a person."""
    check_what_machines_are_told(fleet)
    assert "ready" in status_of(fleet)


def check_what_machines_are_told(fleet: Fleet) -> None:
    """The status document, the metrics, and the page."""
    status = answer_of(fleet.client.address, "/v1/status")
    told = json.loads(status, parse_constant=refuse)
    assert told["state"] == "ready"
    for worker in told["workers"]:
        assert 0 <= worker["heartbeat_age"] < 1e6
        assert worker["requests"] <= MAX_COUNT
    admin = str(fleet.folder / "admin.sock")
    assert "<html" in answer_of(admin, "/")
    samples = [line for line in answer_of(admin, "/metrics").splitlines() if not line.startswith("#")]
    assert all(0 <= float(line.rpartition(" ")[2]) < 2**53 for line in samples)


def refuse(constant: str) -> NoReturn:
    raise AssertionError(constant)


def status_of(fleet: Fleet) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", "status"], cwd=fleet.folder, env=fleet.environ(COLUMNS="120"),
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return done.stdout


def answer_of(socket: str, path: str) -> str:
    connection = UnixConnection(socket)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == http.client.OK
        return answer.read().decode()
