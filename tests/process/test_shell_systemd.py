"""What systemd gives and is told: sockets that it has opened, and how the fleet is."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ACTIVATOR = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_FDNAMES"] = "web"
os.execv(sys.executable, [sys.executable, "-m", "unicornd", *sys.argv[3:]])
"""
"""What systemd does for a socket unit: descriptor 3, and the variables for the process that it becomes."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


@pytest.fixture
def passed() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def told(fleet: Fleet) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(fleet.folder / "notify"))
        receiving.settimeout(20)
        yield receiving


def activate(fleet: Fleet, passed: socket.socket, arguments: Sequence[str], *, pid_offset: int = 0) -> None:
    os.set_inheritable(passed.fileno(), True)
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATOR, str(passed.fileno()), str(pid_offset), *arguments],
            cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log, pass_fds=[passed.fileno()],
        )  # fmt: skip


def address_of(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("bind", ["", "fd://", "fd://web", "fd://3"])
def test_a_passed_socket_is_served_and_outlives_the_fleet(
    fleet: Fleet, passed: socket.socket, bind: str
) -> None:
    fleet.change(
        "unicornd.toml", '[server]\nbind = "127.0.0.1:0"\n', f'[server]\nbind = "{bind}"\n' if bind else ""
    )
    activate(fleet, passed, ())
    fleet.await_state("ready")
    assert fleet.addresses() == [address_of(passed)]
    assert fleet.get().startswith("v1 ")
    assert "LISTEN_" not in fleet.get("/environ")
    assert fleet.end() == 0
    with socket.create_connection(passed.getsockname(), timeout=5) as client:
        assert client.getpeername() == passed.getsockname(), "it still listens, for the next one"


def test_a_passed_socket_and_a_bound_one_are_served_side_by_side(fleet: Fleet, passed: socket.socket) -> None:
    activate(fleet, passed, ("-b", "fd://web", "-b", "127.0.0.2:0"))
    fleet.await_state("ready")
    assert len(fleet.addresses()) == 2
    for address in fleet.addresses():
        assert fleet.get(address=address).startswith("v1 ")


def test_a_passed_socket_survives_reloads_that_leave_it_out_and_take_it_up_again(
    fleet: Fleet, passed: socket.socket
) -> None:
    fleet.change("unicornd.toml", '"127.0.0.1:0"', '["fd://web", "127.0.0.2:0"]')
    activate(fleet, passed, ())
    fleet.await_state("ready")
    fleet.change("unicornd.toml", '"fd://web", ', "")
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "it is left out")
    fleet.change("unicornd.toml", '"127.0.0.2:0"', '"127.0.0.2:0", "fd://web"')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 3, "it is back")
    assert fleet.get(address=address_of(passed)).startswith("v1 ")


def test_sockets_that_are_meant_for_another_process_are_left_alone(
    fleet: Fleet, passed: socket.socket
) -> None:
    activate(fleet, passed, (), pid_offset=1)
    fleet.await_state("ready")
    assert address_of(passed) not in fleet.addresses()


def test_a_name_that_was_not_passed_is_refused_and_the_passed_ones_are_told(
    fleet: Fleet, passed: socket.socket
) -> None:
    activate(fleet, passed, ("-b", "fd://wbe"))
    assert fleet.exit_code() == DaemonExit.FAILED
    assert "fd://wbe" in fleet.log
    assert "passed on: web" in fleet.log


def test_a_descriptor_that_is_no_socket_is_refused(fleet: Fleet) -> None:
    done = fleet.run("-b", "fd://1")
    assert done.returncode == DaemonExit.FAILED
    assert "fd://1" in done.stderr


def next_message(told: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in told.recv(4096).decode().splitlines())


def next_state(told: socket.socket, *wanted: str) -> dict[str, str]:
    """Return the next message that says one of `wanted`; it must come before any other change of state."""
    while True:
        message = next_message(told)
        if set(message) & {"READY", "RELOADING", "STOPPING"}:
            assert set(message) & set(wanted), message
            return message


def test_systemd_is_told_ready_reloading_ready_stopping(fleet: Fleet, told: socket.socket) -> None:
    fleet.spawn(NOTIFY_SOCKET=str(fleet.folder / "notify"))
    assert next_state(told, "READY")["STATUS"] == "2 of 2 workers ready, generation 1"
    assert "NOTIFY_SOCKET" not in fleet.get("/environ")
    fleet.send(signal.SIGHUP)
    reloading = next_state(told, "RELOADING")
    assert re.fullmatch("[0-9]+", reloading["MONOTONIC_USEC"])
    assert "generation 2" in next_state(told, "READY")["STATUS"]
    assert len(fleet.pids()) == 2
    fleet.send(signal.SIGTERM)
    next_state(told, "STOPPING")
    assert int(next_message(told)["EXTEND_TIMEOUT_USEC"]) > 30_000_000
    assert fleet.exit_code() == 0


def test_ready_comes_only_when_workers_serve(fleet: Fleet, told: socket.socket) -> None:
    fleet.change("site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
    fleet.spawn(NOTIFY_SOCKET=str(fleet.folder / "notify"))
    assert fleet.exit_code() == DaemonExit.BOOT
    told.setblocking(False)
    with pytest.raises(BlockingIOError):
        next_state(told, "STOPPING")


@pytest.mark.parametrize("what", ["configuration", "code"])
def test_ready_follows_a_reload_that_failed(fleet: Fleet, told: socket.socket, what: str) -> None:
    fleet.spawn(NOTIFY_SOCKET=str(fleet.folder / "notify"))
    next_state(told, "READY")
    if what == "code":
        fleet.change("site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
    else:
        fleet.change("unicornd.toml", "count = 2", "count = 0")
    fleet.send(signal.SIGHUP)
    next_state(told, "RELOADING")
    next_state(told, "READY")
    assert fleet.get().startswith("v1 ")


def test_an_abstract_notify_socket_is_told_too(fleet: Fleet) -> None:
    name = f"unicornd-test-{fleet.mark}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(f"\0{name}")
        receiving.settimeout(20)
        fleet.spawn(NOTIFY_SOCKET=f"@{name}")
        next_state(receiving, "READY")


def test_the_watchdog_is_fed_by_the_loop(fleet: Fleet, told: socket.socket) -> None:
    fleet.spawn(NOTIFY_SOCKET=str(fleet.folder / "notify"), WATCHDOG_USEC="200000")
    feedings = 0
    while feedings < 3:
        feedings += next_message(told).get("WATCHDOG") == "1"
    fleet.await_state("ready")
