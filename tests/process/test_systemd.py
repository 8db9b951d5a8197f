"""unicornd's life as a service: the shipped units, run by a real systemd."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.projects import make_django
from tests.support.systemd import UNITS, Lab, lab_of, why_not
from tests.support.traffic import Traffic, UnixConnection
from tests.support.waiting import eventually
from unicornd.errors import CtlExit, DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSAL = why_not()
pytestmark = [pytest.mark.systemd, pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)]

APP = """\
import os, pathlib, time

VERSION = "v1"
GATE = pathlib.Path(__file__).parent / "gate"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        (GATE.parent / "seen" / "it").touch()
        while not GATE.exists():
            time.sleep(0.01)
    body = f"{os.getuid()}:{os.getgid()}" if environ["PATH_INFO"] == "/who" else VERSION
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"""

CONFIG = """\
[app]
target = "./site_app.py:application"
chdir = "."
[server]
bind = "0.0.0.0:8000"
[workers]
count = 2
kind = "threads"
threads = 4
[process]
name = "shop"
"""

NO_STORE = "[Service]\nFileDescriptorStoreMax=0\nEnvironment=FDSTORE=0\n"
QUICK_WATCHDOG = "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n"
QUICK_RESTART = "[Service]\nRestartSec=100ms\n"
AS_ROOT = """\
[Service]
User=root
Group=root
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_CHOWN
SystemCallFilter=@setuid @chown
"""
CTL = ("/opt/unicornd/bin/unicornctl", "--config", "/srv/app/unicornd.toml")
MOST_EXPOSURE = 2.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    app = tmp_path / "app"
    app.mkdir()
    (app / "site_app.py").write_text(APP)
    (app / "unicornd.toml").write_text(CONFIG)
    with lab_of(app) as made:
        yield made


def change(lab: Lab, name: str, old: str, new: str) -> None:
    path = lab.app / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def main_pid(lab: Lab) -> int:
    return int(lab.show("MainPID"))


def is_version(status: int, body: bytes) -> str:
    return "" if status == http.client.OK and body in {b"v1", b"v2"} else f"{status}: {body[:200]!r}"


def traffic_of(lab: Lab) -> Traffic:
    return Traffic(lab.connect, clients=4, check=is_version)


def test_start_returns_when_the_fleet_serves_and_status_says_how_it_is(lab: Lab) -> None:
    lab.boot()
    lab.systemctl("start", "unicornd")
    assert lab.get() == "v1"
    shown = lab.systemctl("status", "unicornd")
    assert "active (running)" in shown
    assert 'Status: "2 of 2 workers ready, generation 1"' in shown
    assert lab.get("/who") == "33:33", "www-data"
    assert len(lab.processes()) == 3
    assert lab.status()["state"] == "ready"


def test_a_unit_that_is_made_for_a_configuration_runs_it_and_its_fleet_is_found(lab: Lab) -> None:
    change(lab, "unicornd.toml", "0.0.0.0:8000", "0.0.0.0:80")
    (lab.app / "unicornd.toml").write_text(
        f'{(lab.app / "unicornd.toml").read_text()}[logging]\nerror = "/var/log/shop/log"\n'
    )
    lab.boot()
    lab.run("mount", "-t", "tmpfs", "tmpfs", "/var/log")
    ctl = ("/opt/unicornd/bin/unicornctl", "-c", "/srv/app/unicornd.toml")
    unit = lab.run(*ctl, "config", "unit", "--user", "www-data").stdout
    unit = re.sub(
        r"^(Exec\w+=)\S+python\S+ -Pm unicornd ", r"\1/opt/unicornd/bin/unicornd ", unit, flags=re.MULTILINE
    )
    unit = re.sub(
        r"^(Exec\w+=)\S+python\S+ -Pm unicornd.cli.ctl ",
        r"\1/opt/unicornd/bin/unicornctl ",
        unit,
        flags=re.MULTILINE,
    )
    (lab.root / "run/systemd/system/shop.service").write_text(unit)
    lab.systemctl("daemon-reload")
    lab.systemctl("start", "shop")
    assert lab.get(port=80) == "v1", "the port below 1024 is allowed"
    assert lab.get("/who", port=80) == "33:33"
    assert "ready" in lab.run(*ctl, "status").stdout, "in the unit's own runtime directory"
    assert "shop " in lab.run("/opt/unicornd/bin/unicornctl", "ls").stdout
    lab.systemctl("reload", "shop")
    assert "generation 2 serves" in lab.run(*ctl, "logs").stdout
    lab.systemctl("stop", "shop")


def test_an_out_of_memory_kill_costs_a_worker_and_a_stop_deletes_nobodys_shared_memory(lab: Lab) -> None:
    lab.boot()
    assert lab.show("OOMPolicy") == "continue"
    assert lab.show("RemoveIPC") == "no"


@pytest.mark.parametrize("is_preloaded", [False, True])
def test_reload_returns_when_the_new_code_serves_and_loses_nothing(lab: Lab, *, is_preloaded: bool) -> None:
    if is_preloaded:
        change(lab, "unicornd.toml", "[app]\n", "[app]\npreload = true\n")
    lab.boot()
    lab.systemctl("start", "unicornd")
    pid = main_pid(lab)
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        change(lab, "site_app.py", '"v1"', '"v2"')
        lab.systemctl("reload", "unicornd")
        eventually(traffic.saw("v2"), "the new code answers")
    assert not traffic.tally.failures
    assert main_pid(lab) == pid
    assert lab.show("StatusText") == "2 of 2 workers ready, generation 2"


@pytest.mark.parametrize("what", ["code", "configuration"])
def test_reload_of_what_is_broken_fails_and_the_old_version_goes_on(lab: Lab, what: str) -> None:
    lab.boot()
    lab.systemctl("start", "unicornd")
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        if what == "code":
            change(lab, "site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
        else:
            change(lab, "unicornd.toml", "count = 2", "cuont = 2")
        failed = lab.run("systemctl", "reload", "unicornd", expect=None)
        eventually(traffic.answered_more(20), "requests are answered")
    assert failed.returncode != 0
    code = CtlExit.ROLLED_BACK if what == "code" else CtlExit.CONFIG
    assert f"status={int(code)} " in lab.show("ExecReload")
    assert not traffic.tally.failures
    assert set(traffic.tally.bodies) == {"v1"}
    assert lab.show("ActiveState") == "active"
    assert lab.show("NRestarts") == "0"


def test_a_stopped_arbiter_is_replaced_by_the_watchdog_and_its_workers_go(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_WATCHDOG + "RestartSec=100ms\n")
    lab.systemctl("start", "unicornd")
    old = lab.processes()
    lab.run("kill", "-STOP", str(old[0]))
    eventually(lambda: lab.show("NRestarts") == "1", "systemd starts it again")
    eventually(lambda: lab.show("ActiveState") == "active", "it is ready again")
    assert lab.get() == "v1"
    assert not set(old) & set(lab.processes())


def test_a_healthy_fleet_is_left_alone_by_the_watchdog_through_a_long_stop(lab: Lab) -> None:
    (lab.app / "seen").mkdir(mode=0o777)
    (lab.app / "seen").chmod(0o777)
    lab.boot(drop_in=QUICK_WATCHDOG + "TimeoutStopSec=1s\nReadWritePaths=/srv/app/seen\n")
    lab.systemctl("start", "unicornd")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(lab.get("/wait")))
    asking.start()
    eventually((lab.app / "seen" / "it").exists, "the request is in the application")
    lab.systemctl("stop", "--no-block", "unicornd")
    eventually(lambda: lab.log.count("waiting for worker") >= 1, "the stop has waited for 5 s")
    assert lab.show("ActiveState") == "deactivating"
    (lab.app / "gate").touch()
    asking.join(timeout=20)
    assert answers == ["v1"]
    eventually(lambda: lab.show("ActiveState") == "inactive", "it has stopped")
    assert lab.show("Result") == "success"


@pytest.mark.parametrize("kind", ["sync", "threads"])
def test_restart_under_load_queues_what_comes_meanwhile(lab: Lab, kind: str) -> None:
    change(lab, "unicornd.toml", 'kind = "threads"\nthreads = 4', f'kind = "{kind}"')
    lab.boot()
    lab.systemctl("start", "unicornd")
    with traffic_of(lab) as traffic:
        for version in ("v2", "v1", "v2"):
            eventually(traffic.answered_more(20), "requests are answered")
            change(lab, "site_app.py", "v1" if version == "v2" else "v2", version)
            lab.systemctl("restart", "unicornd")
            eventually(traffic.saw(version), "the new code answers")
    assert not traffic.tally.failures
    assert lab.show("NFileDescriptorStore") == "1"


def upgrade(lab: Lab, *, expect: int) -> None:
    lab.run(*CTL, "upgrade", "--timeout", "60", expect=expect)


def test_an_upgrade_makes_the_new_unicornd_the_services_main_process(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_WATCHDOG)
    lab.systemctl("start", "unicornd")
    old, processes = main_pid(lab), lab.processes()
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        change(lab, "site_app.py", '"v1"', '"v2"')
        upgrade(lab, expect=CtlExit.DONE)
        eventually(traffic.saw("v2"), "the new code answers")
        eventually(lambda: not set(processes) & set(lab.processes()), "the old fleet has left")
        assert main_pid(lab) not in {0, old}
        assert lab.show("ActiveState") == "active"
        change(lab, "site_app.py", '"v2"', '"v1"')
        lab.systemctl("reload", "unicornd")
        eventually(traffic.saw("v1"), "what is reloaded is the new one")
        lab.systemctl("restart", "unicornd")
        eventually(traffic.answered_more(20), "its listener was kept for the next start")
    assert not traffic.tally.failures
    assert lab.show("NFileDescriptorStore") == "1"
    assert lab.show("NRestarts") == "0", "the watchdog is fed by the new one"


def test_the_watchdog_is_fed_by_the_new_unicornd_and_replaces_it_when_it_is_stopped(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_WATCHDOG + "RestartSec=100ms\n")
    lab.systemctl("start", "unicornd")
    old = main_pid(lab)
    upgrade(lab, expect=CtlExit.DONE)
    eventually(lambda: main_pid(lab) not in {0, old}, "the new one is the main process")
    lab.run("kill", "-STOP", str(main_pid(lab)))
    eventually(lambda: lab.show("NRestarts") == "1", "systemd starts it again")
    eventually(lambda: lab.show("ActiveState") == "active", "it is ready again")
    assert lab.get() == "v1"


def test_an_exchange_by_hand_makes_the_new_unicornd_the_services_main_process(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_WATCHDOG)
    lab.systemctl("start", "unicornd")
    old, processes = main_pid(lab), lab.processes()
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        change(lab, "site_app.py", '"v1"', '"v2"')
        lab.run("kill", "-USR2", str(old))
        eventually(lambda: "serves beside this one" in lab.log, "both serve")
        assert main_pid(lab) == old
        lab.run("kill", "-TERM", str(old))
        eventually(lambda: not set(processes) & set(lab.processes()), "the old fleet has left")
        eventually(lambda: main_pid(lab) not in {0, old}, "the new one is the main process")
        eventually(
            lambda: lab.show("StatusText") == "2 of 2 workers ready, generation 2", "it says how it is"
        )
        lab.systemctl("restart", "unicornd")
        eventually(traffic.answered_more(20), "its listener was kept for the next start")
    assert not traffic.tally.failures
    assert lab.show("ActiveState") == "active"
    assert lab.show("NRestarts") == "0"


@pytest.mark.parametrize("is_preloaded", [False, True])
def test_a_service_that_was_upgraded_stops_without_a_kill(lab: Lab, *, is_preloaded: bool) -> None:
    """systemd does not wait for a main process that is not its child."""
    if is_preloaded:
        change(lab, "unicornd.toml", "[app]\n", "[app]\npreload = true\n")
    change(lab, "unicornd.toml", "0.0.0.0:8000", "0.0.0.0:8001")
    (lab.app / "seen").mkdir(mode=0o777)
    (lab.app / "seen").chmod(0o777)
    lab.boot(drop_in="ReadWritePaths=/srv/app/seen\n")
    lab.systemctl("start", "unicornd")
    processes = lab.processes()
    change(lab, "unicornd.toml", "0.0.0.0:8001", "0.0.0.0:8000")
    upgrade(lab, expect=CtlExit.DONE)
    eventually(lambda: not set(processes) & set(lab.processes()), "the old fleet has left")
    assert lab.show("NFileDescriptorStore") == "1", (
        "the new address is kept for a restart, the old one is not"
    )
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(lab.get("/wait")))
    asking.start()
    eventually((lab.app / "seen" / "it").exists, "the request is in the application")
    lab.systemctl("stop", "--no-block", "unicornd")
    eventually(lambda: lab.show("ActiveState") == "deactivating", "it stops")
    (lab.app / "gate").touch()
    asking.join(timeout=20)
    assert answers == ["v1"]
    eventually(lambda: lab.show("ActiveState") == "inactive", "it has stopped")
    assert lab.show("Result") == "success"
    assert "SIGKILL" not in lab.console.read_text()


def test_an_upgrade_to_what_is_broken_leaves_the_service_as_it_is(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_WATCHDOG)
    lab.systemctl("start", "unicornd")
    before = main_pid(lab)
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        change(lab, "site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
        upgrade(lab, expect=CtlExit.ROLLED_BACK)
        eventually(lambda: len(lab.processes()) == 3, "the new one has left")
        eventually(traffic.answered_more(20), "requests are answered")
    assert not traffic.tally.failures
    assert main_pid(lab) == before
    assert lab.show("ActiveState") == "active"
    assert lab.show("StatusText") == "2 of 2 workers ready, generation 1"


def test_restart_without_a_store_may_refuse_but_resets_nothing(lab: Lab) -> None:
    lab.boot(drop_in=NO_STORE)
    lab.systemctl("start", "unicornd")
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        lab.systemctl("restart", "unicornd")
        eventually(traffic.answered_more(20), "requests are answered")
    assert not [failure for failure in traffic.tally.failures if "refused" not in failure.lower()]
    assert "FileDescriptorStoreMax" not in lab.console.read_text(), "systemd is not asked for what it has not"


def test_a_unix_socket_outlives_a_restart_too(lab: Lab) -> None:
    change(lab, "unicornd.toml", '"0.0.0.0:8000"', '"unix:/run/unicornd/web.sock"')
    lab.boot()
    lab.systemctl("start", "unicornd")
    path = str(lab.root / "run/unicornd/web.sock")
    with Traffic(lambda: UnixConnection(path), clients=2, check=is_version) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        lab.systemctl("restart", "unicornd")
        eventually(traffic.answered_more(20), "requests are answered")
    assert not traffic.tally.failures


def test_a_unix_socket_whose_file_was_removed_is_opened_anew(lab: Lab) -> None:
    change(lab, "unicornd.toml", '"0.0.0.0:8000"', '"unix:/run/unicornd/web.sock"')
    lab.boot()
    lab.systemctl("start", "unicornd")
    path = lab.root / "run/unicornd/web.sock"
    path.unlink()
    lab.systemctl("restart", "unicornd")
    with contextlib.closing(UnixConnection(str(path))) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"v1"
    assert lab.show("NFileDescriptorStore") == "1"


def test_a_stored_socket_that_is_not_bound_any_more_is_closed(lab: Lab) -> None:
    lab.boot()
    lab.systemctl("start", "unicornd")
    change(lab, "unicornd.toml", "0.0.0.0:8000", "0.0.0.0:8001")
    lab.systemctl("restart", "unicornd")
    assert lab.get(port=8001) == "v1"
    with pytest.raises(ConnectionRefusedError):
        lab.get(port=8000)
    assert lab.show("NFileDescriptorStore") == "1"


def test_a_reload_that_leaves_a_socket_out_takes_it_out_of_the_store(lab: Lab) -> None:
    change(lab, "unicornd.toml", '"0.0.0.0:8000"', '["0.0.0.0:8000", "0.0.0.0:8001"]')
    lab.boot()
    lab.systemctl("start", "unicornd")
    eventually(lambda: lab.show("NFileDescriptorStore") == "2", "both are stored")
    change(lab, "unicornd.toml", ', "0.0.0.0:8001"', "")
    lab.systemctl("reload", "unicornd")
    eventually(lambda: lab.show("NFileDescriptorStore") == "1", "one is left")
    with pytest.raises(ConnectionRefusedError):
        lab.get(port=8001)


def test_a_stop_by_unicornctl_refuses_and_resets_nobody(lab: Lab) -> None:
    lab.boot()
    lab.systemctl("start", "unicornd")
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        lab.run(*CTL, "stop")
        eventually(lambda: traffic.tally.failures, "the port refuses")
    assert not [failure for failure in traffic.tally.failures if "refused" not in failure.lower()]
    eventually(lambda: lab.show("ActiveState") == "inactive", "it is not started again")
    assert lab.show("NFileDescriptorStore") == "0"


def test_a_stop_closes_the_port_and_removes_the_runtime_folder(lab: Lab) -> None:
    lab.boot()
    lab.systemctl("start", "unicornd")
    lab.systemctl("stop", "unicornd")
    with pytest.raises(ConnectionRefusedError):
        lab.get()
    assert lab.show("NFileDescriptorStore") == "0"
    assert not (lab.root / "run/unicornd").exists()
    assert lab.show("Result") == "success"


def test_a_killed_arbiter_is_started_again_with_its_queue_and_without_its_workers(lab: Lab) -> None:
    lab.boot(drop_in=QUICK_RESTART)
    lab.systemctl("start", "unicornd")
    old = lab.processes()
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        lab.run("kill", "-KILL", str(old[0]))
        eventually(lambda: lab.show("NRestarts") == "1", "systemd starts it again")
        eventually(lambda: lab.show("ActiveState") == "active", "it is ready again")
        eventually(traffic.answered_more(20), "requests are answered")
    assert not [each for each in traffic.tally.failures if "refused" in each.lower()], "the port stayed open"
    assert len(traffic.tally.failures) <= 4, "at most what the workers had in flight"
    assert not set(old) & set(lab.processes())


def test_the_first_request_starts_the_service_by_its_socket(lab: Lab) -> None:
    change(lab, "unicornd.toml", '[server]\nbind = "0.0.0.0:8000"\n', "")
    lab.boot()
    lab.systemctl("start", "unicornd.socket")
    assert lab.show("ActiveState") == "inactive"
    assert lab.get() == "v1"
    eventually(lambda: lab.show("ActiveState") == "active", "the whole fleet is ready")
    assert lab.show("NFileDescriptorStore") == "0", "a socket of a socket unit is not stored"


def test_restart_with_a_socket_unit_loses_nothing(lab: Lab) -> None:
    change(lab, "unicornd.toml", '[server]\nbind = "0.0.0.0:8000"\n', "")
    lab.boot()
    lab.systemctl("start", "unicornd.socket")
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        change(lab, "site_app.py", '"v1"', '"v2"')
        lab.systemctl("restart", "unicornd.service")
        eventually(traffic.saw("v2"), "the new code answers")
    assert not traffic.tally.failures


def test_an_arbiter_that_is_root_runs_workers_as_process_user(lab: Lab) -> None:
    change(lab, "unicornd.toml", "[process]\n", '[process]\nuser = "nobody"\ngroup = "www-data"\n')
    lab.boot(drop_in=AS_ROOT)
    lab.systemctl("start", "unicornd")
    assert lab.get("/who") == "65534:33"
    lab.systemctl("restart", "unicornd")
    assert lab.get("/who") == "65534:33"


def test_a_wrong_configuration_is_not_tried_again(lab: Lab) -> None:
    change(lab, "unicornd.toml", "count = 2", "cuont = 2")
    lab.boot(drop_in=QUICK_RESTART)
    lab.systemctl("start", "unicornd", expect=1)
    assert lab.show("ExecMainStatus") == str(int(DaemonExit.CONFIG))
    assert (lab.show("ActiveState"), lab.show("SubState")) == ("failed", "failed")
    assert lab.show("NRestarts") == "0"
    assert "did you mean" in lab.log


def test_code_that_cannot_boot_is_tried_until_it_can(lab: Lab) -> None:
    change(lab, "site_app.py", 'VERSION = "v1"', 'raise RuntimeError("no database")')
    lab.boot(drop_in=QUICK_RESTART)
    lab.systemctl("start", "unicornd", expect=1)
    eventually(lambda: int(lab.show("NRestarts")) > 5, "more often than systemd's own limit")
    change(lab, "site_app.py", 'raise RuntimeError("no database")', 'VERSION = "v2"')
    eventually(lambda: lab.show("ActiveState") == "active", "it has started")
    assert lab.get() == "v2"


def test_an_instance_of_the_template_unit_has_its_own_configuration(lab: Lab) -> None:
    lab.boot()
    lab.drop_in(
        "unicornd@shop.service",
        "[Service]\nWorkingDirectory=/srv/app\nExecStart=\n"
        "ExecStart=/opt/unicornd/bin/unicornd --config /srv/app/unicornd.toml\n",
    )
    lab.systemctl("start", "unicornd@shop")
    assert lab.get() == "v1"
    assert "2 of 2 workers ready" in lab.show("StatusText", "unicornd@shop.service")
    assert (lab.root / "run/unicornd/shop/shop.sock").exists()


@pytest.mark.parametrize("unit", ["unicornd.service", "unicornd@.service"])
def test_the_units_expose_little(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / unit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= MOST_EXPOSURE, done.stdout


def test_django_runs_with_all_hardening(lab: Lab) -> None:
    project = make_django(lab.app)
    change(lab, "unicornd.toml", "./site_app.py:application", project.target)
    lab.boot()
    lab.systemctl("start", "unicornd")
    assert lab.get() == "v1"
    with traffic_of(lab) as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        project.write("v2")
        lab.systemctl("reload", "unicornd")
        eventually(traffic.saw("v2"), "the new code answers")
    assert not traffic.tally.failures
    upload = lab.connect()
    with contextlib.closing(upload):
        upload.request("POST", "/upload", body=bytes(2_000_000))
        assert upload.getresponse().read() == b"2000000", "larger bodies go to a file in the private /tmp"


def test_a_dynamic_user_serves_and_root_may_ask(lab: Lab) -> None:
    """Its name may be known to nobody else: libnss-systemd need not be installed."""
    lab.boot(drop_in="[Service]\nDynamicUser=yes\nUser=shop-web\nGroup=shop-web\n")
    lab.systemctl("start", "unicornd")
    uid, _, gid = lab.get("/who").partition(":")
    assert uid == gid
    assert 61184 <= int(uid) <= 65519, "as systemd gives them out (systemd.exec(5))"
    assert "2 of 2 ready" in lab.run(*CTL, "status").stdout
    lab.systemctl("restart", "unicornd")
    assert lab.get() == "v1"
    assert lab.show("NFileDescriptorStore") == "1"
