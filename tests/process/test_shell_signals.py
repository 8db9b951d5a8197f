"""What signals do to a running fleet, and what a fleet does about workers that die."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


class Asking(threading.Thread):
    """A request whose answer is waited for elsewhere."""

    def __init__(self, fleet: Fleet, path: str) -> None:
        super().__init__()
        self._connection = fleet.connect()
        self._path = path
        self.body = ""
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with contextlib.closing(self._connection):
                self._connection.request("GET", self._path)
                self.body = self._connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.error = error


def in_flight(fleet: Fleet) -> int:
    return sum(len(worker["now"]) for worker in fleet.status()["workers"])


def is_refused(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=0.2).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def test_a_fleet_serves_and_term_ends_it_without_a_trace(fleet: Fleet) -> None:
    fleet.start("-p", "unicornd.pid", "-b", "127.0.0.1:0", "-b", "unix:web.sock")
    assert fleet.get().startswith("v1 ")
    assert (fleet.folder / "unicornd.pid").exists()
    assert (fleet.folder / "web.sock").is_socket()
    assert fleet.end() == 0
    left = {path.name for path in fleet.folder.iterdir()}
    assert left <= {"site_app.py", "unicornd.toml", "log", "__pycache__"}


def test_term_lets_requests_finish_that_run_or_were_sent_before(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    running = Asking(fleet, "/wait")
    eventually(lambda: in_flight(fleet) == 1, "a request runs")
    queued = [Asking(fleet, "/") for _ in range(5)]
    eventually(lambda: fleet.status()["listeners"][0]["queue"] == len(queued), "the others are queued")
    fleet.send(signal.SIGTERM)
    fleet.await_log("stopping gracefully")
    fleet.open_gate()
    assert fleet.exit_code() == 0
    for asking in (running, *queued):
        asking.join()
        assert asking.body.startswith("v1 "), asking.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_do_not_wait_for_requests(fleet: Fleet, number: signal.Signals) -> None:
    fleet.start()
    running = Asking(fleet, "/wait")
    eventually(lambda: in_flight(fleet) == 1, "a request runs")
    assert fleet.end(number) == 0
    running.join()
    assert running.error is not None


def test_int_cuts_a_graceful_stop_short(fleet: Fleet) -> None:
    fleet.start()
    running = Asking(fleet, "/wait")
    eventually(lambda: in_flight(fleet) == 1, "a request runs")
    fleet.send(signal.SIGTERM)
    fleet.await_log("stopping gracefully")
    assert fleet.end(signal.SIGINT) == 0
    running.join()
    assert running.error is not None


def test_graceful_ends_with_the_patience_and_says_what_was_lost(fleet: Fleet) -> None:
    fleet.start("--graceful-timeout", "1", "-w", "1")
    running = Asking(fleet, "/wait")
    eventually(lambda: in_flight(fleet) == 1, "a request runs")
    assert fleet.end() == 0
    running.join()
    assert "GET /wait" in fleet.log
    assert "timeouts.graceful" in fleet.log


def test_ttin_and_ttou_count_and_stop_at_one(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    fleet.send(signal.SIGTTOU)
    fleet.await_workers(1)
    fleet.send(signal.SIGTTOU)
    fleet.await_log("cannot scale")
    assert len(fleet.await_workers(1)) == 1


def test_no_ttin_is_lost_while_workers_boot(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    fleet.change("site_app.py", 'VERSION = "v1"', 'VERSION = "v2"\nimport time; time.sleep(0.5)')
    for wanted in (2, 3, 4):
        fleet.send(signal.SIGTTIN)
        eventually(lambda: fleet.status()["wanted"]["count"] == wanted, f"{wanted} workers are wanted")  # noqa: B023
    fleet.await_workers(4)


def test_a_killed_worker_is_replaced_in_its_slot_and_what_it_served_is_told(fleet: Fleet) -> None:
    fleet.start("-w", "2")
    before = fleet.pids()
    running = Asking(fleet, "/wait")
    eventually(lambda: in_flight(fleet) == 1, "a request runs")
    busy = next(worker for worker in fleet.status()["workers"] if worker["now"])
    os.kill(busy["pid"], signal.SIGKILL)
    running.join()
    eventually(lambda: fleet.pids().get(busy["slot"], busy["pid"]) != busy["pid"], "it is replaced")
    after = fleet.await_workers(2)
    assert {slot for slot in after if after[slot] != before[slot]} == {busy["slot"]}
    assert re.search(rf"worker {busy['slot']} died: signal 9 \(SIGKILL\)", fleet.log)
    assert "was serving GET /wait" in fleet.log
    assert fleet.status()["totals"]["restarts"] == 1


def test_counters_do_not_go_backwards_when_a_worker_dies(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    for _ in range(3):
        fleet.get()
    eventually(lambda: fleet.status()["totals"]["requests"] == 3, "what was answered is counted")
    (pid,) = fleet.pids().values()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: list(fleet.pids().values()) not in ([], [pid]), "it is replaced")
    fleet.get()
    eventually(lambda: fleet.status()["totals"]["requests"] == 4, "the count goes on from where it was")


def test_workers_end_by_themselves_when_the_arbiter_is_killed(fleet: Fleet) -> None:
    fleet.start()
    fleet.get()
    assert fleet.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not fleet.processes(), "the workers have ended")


def test_usr1_opens_the_logs_anew_here_and_in_the_workers(fleet: Fleet) -> None:
    fleet.start("--error-logfile", "error.log", "--access-logfile", "access.log", "-w", "1")
    fleet.get("/before")
    access = fleet.folder / "access.log"
    eventually(lambda: "/before" in access.read_text(), "it is written, which is after the answer")
    for name in ("error.log", "access.log"):
        (fleet.folder / name).rename(fleet.folder / f"{name}.1")
    fleet.send(signal.SIGUSR1)
    eventually((fleet.folder / "access.log").exists, "the new access log is there")

    def is_written() -> bool:
        fleet.get("/after")
        return "/after" in (fleet.folder / "access.log").read_text()

    eventually(is_written, "the worker writes to the new file")
    fleet.end()
    assert "stopped" in (fleet.folder / "error.log").read_text()
    assert "/before" in (fleet.folder / "access.log.1").read_text()


def test_a_window_that_changes_its_size_disturbs_nobody(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.pids()
    fleet.send(signal.SIGWINCH)
    fleet.send(signal.SIGUSR1)  # comes after it
    eventually(lambda: "SIGUSR1" in fleet.log, "both have come")
    assert fleet.pids() == before


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE]
)
def test_the_arbiters_signals_do_not_hurt_a_worker(fleet: Fleet, number: signal.Signals) -> None:
    fleet.start("-w", "1")
    (pid,) = fleet.pids().values()
    os.kill(pid, number)
    assert fleet.get() == f"v1 {pid}"


def test_hup_brings_new_code_without_a_gap(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.pids()
    fleet.change("site_app.py", "v1", "v2")
    fleet.send(signal.SIGHUP)
    eventually(
        lambda: fleet.status()["generation"] == 2 and len(fleet.status()["workers"]) == 2, "it is done"
    )
    assert not set(before.values()) & set(fleet.pids().values())
    assert fleet.get().startswith("v2 ")


def test_hup_with_broken_code_keeps_what_works_and_shows_why(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.pids()
    fleet.change("site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
    fleet.send(signal.SIGHUP)
    fleet.await_log("is given up")
    eventually(lambda: len(fleet.status()["workers"]) == 2, "the new ones are gone")
    assert fleet.pids() == before
    assert fleet.get().startswith("v1 ")
    assert "no database" in fleet.log
    assert fleet.status()["generation"] == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("count = 2", 'count = "many"', "workers.count"), ("127.0.0.1:0", "192.0.2.1:80", "192.0.2.1:80")],
    ids=["wrong value", "address that is not ours"],
)
def test_hup_with_a_wrong_configuration_changes_nothing(fleet: Fleet, old: str, new: str, says: str) -> None:
    fleet.start()
    before = fleet.pids()
    fleet.change("unicornd.toml", old, new)
    fleet.send(signal.SIGHUP)
    fleet.await_log(says)
    assert fleet.pids() == before
    assert fleet.get().startswith("v1 ")


def test_hup_moves_the_fleet_to_another_address_and_the_old_one_refuses(fleet: Fleet) -> None:
    fleet.start()
    (old,) = fleet.addresses()
    fleet.change("unicornd.toml", '"127.0.0.1:0"', '["127.0.0.2:0"]')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["state"] == "ready" and fleet.status()["generation"] == 2, "it is done")
    (new,) = fleet.addresses()
    assert new.startswith("127.0.0.2:")
    assert fleet.get().startswith("v1 ")
    eventually(lambda: is_refused(old), "nobody listens at the old address any more")


def test_an_address_that_stays_is_never_closed(fleet: Fleet) -> None:
    fleet.start()
    (old,) = fleet.addresses()
    fleet.change("unicornd.toml", '"127.0.0.1:0"', '["127.0.0.2:0", "127.0.0.1:0"]')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "it is done")
    assert old in fleet.addresses()
    assert fleet.get(address=old)


def test_a_reload_that_is_rolled_back_leaves_no_new_address_open(fleet: Fleet) -> None:
    fleet.start()
    path = fleet.folder / "new.sock"
    fleet.change("unicornd.toml", '"127.0.0.1:0"', f'["127.0.0.1:0", "unix:{path}"]')
    fleet.change("site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
    fleet.send(signal.SIGHUP)
    fleet.await_log("is given up")
    eventually(lambda: not path.exists(), "the new socket is gone")
    assert len(fleet.addresses()) == 1


def test_a_second_hup_during_a_reload_is_not_lost(fleet: Fleet) -> None:
    fleet.start()
    fleet.change("site_app.py", 'VERSION = "v1"', 'VERSION = "v2"\nimport time; time.sleep(0.5)')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["state"] == "reloading", "it reloads")
    fleet.change("site_app.py", "v2", "v3")
    fleet.send(signal.SIGHUP)

    def is_done() -> bool:
        return fleet.status()["state"] == "ready" and fleet.get().startswith("v3 ") and len(fleet.pids()) == 2

    eventually(is_done, "the code of the second one serves")


WAITING = """
pathlib.Path("loading").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


def test_a_hup_before_the_first_worker_is_ready_waits_for_it(fleet: Fleet) -> None:
    fleet.change("site_app.py", "import os, pathlib, time\n", "import os, pathlib, time\n" + WAITING)
    fleet.spawn("-w", "1")
    eventually((fleet.folder / "loading").exists, "the first worker boots")
    fleet.send(signal.SIGHUP)
    fleet.await_log("SIGHUP waits for the first worker to be ready")
    (fleet.folder / "go").touch()
    fleet.await_state("ready")
    eventually(lambda: fleet.status()["generation"] == 2, "it is done")
    assert "refused" not in fleet.log


def test_the_size_survives_a_reload_until_the_file_says_otherwise(fleet: Fleet) -> None:
    fleet.start()
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(3)
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "it is done")
    fleet.await_workers(3)
    fleet.change("unicornd.toml", "count = 2", "count = 1")
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 3, "it is done")
    fleet.await_workers(1)


def test_a_worker_that_is_not_needed_and_not_ready_leaves_at_once(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    text = (fleet.folder / "site_app.py").read_text()
    fleet.write("site_app.py", text + "\nwhile not GATE.exists():\n    time.sleep(0.01)\n")
    fleet.send(signal.SIGTTIN)
    eventually(lambda: len(fleet.status()["workers"]) == 2, "another worker boots")
    fleet.client.post("/v1/scale", {"count": 1})
    eventually(lambda: len(fleet.status()["workers"]) == 1, "it has left, though the gate is shut")
    assert "timeouts.kill" not in fleet.log
    assert fleet.get().startswith("v1 ")


def test_hup_takes_the_new_logging(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write('[logging]\nerror = "other.log"\nformat = "json"\n[logging.access]\nfile = "access.log"\n')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.status()["generation"] == 2, "it is done")
    fleet.get("/logged")
    eventually(lambda: "/logged" in (fleet.folder / "access.log").read_text(), "the access log is written")
    fleet.end()
    assert '"message"' in (fleet.folder / "other.log").read_text().splitlines()[-1]


def test_ctrl_c_that_ends_the_workers_first_is_no_death_of_theirs(fleet: Fleet) -> None:
    process = fleet.start()
    workers = fleet.pids().values()
    process.send_signal(signal.SIGSTOP)  # it is slow to see what a terminal has sent to all of them
    for pid in (process.pid, *workers):
        os.kill(pid, signal.SIGINT)
    eventually(lambda: all(state_of(pid) == "Z" for pid in workers), "the workers have ended")
    process.send_signal(signal.SIGCONT)
    assert fleet.exit_code() == 0
    assert "died" not in fleet.log
    assert fleet.log.index("received SIGINT") < fleet.log.index("has left")


def state_of(pid: int) -> str:
    """Return the state of a process: Z for one that has ended and is not reaped yet (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
