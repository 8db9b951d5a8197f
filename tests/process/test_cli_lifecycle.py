"""`unicornctl start|stop|restart` and the choice of a fleet, with real daemons."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import authority_in
from tests.support.ctl import BIN, Ctl, fleet
from tests.support.waiting import eventually
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
import os, time

def application(environ, start_response):
    while environ["PATH_INFO"] == "/held" and not os.path.exists("released"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""

CONFIG = """\
[app]
target = "site_app:application"
[server]
bind = "127.0.0.1:0"
[workers]
count = 1
[process]
name = "{name}"
"""


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def ctl(tmp_path: Path, name: str) -> Iterator[Ctl]:
    (tmp_path / "site_app.py").write_text(APP)
    with fleet(tmp_path, CONFIG.format(name=name)) as made:
        yield made
        made.stop()


def arbiter_of(ctl: Ctl) -> int:
    return int(ctl.status()["arbiter"]["pid"])


def unicornctl(folder: Path, *arguments: str, expect: int) -> subprocess.CompletedProcess[str]:
    """Run `unicornctl` in a folder, without saying which fleet."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("UNICORND_")}
    done = subprocess.run(
        [str(BIN / "unicornctl"), *arguments], cwd=folder, env=environ | {"XDG_RUNTIME_DIR": str(folder)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_a_start_says_where_it_serves_and_what_to_do_next(ctl: Ctl, name: str) -> None:
    done = ctl.run("start")
    assert f"{name} is ready: 1 worker, pid {arbiter_of(ctl)}" in done.stdout
    host, port = ctl.address()
    assert f"http://{host}:{port}" in done.stdout
    assert "unicornctl status" in done.stdout


def test_a_start_says_that_tls_is_spoken(ctl: Ctl, tmp_path: Path) -> None:
    pair = authority_in(tmp_path).sign("server")
    tls = f'[tls]\ncertfile = "{pair.certificate}"\nkeyfile = "{pair.key}"\n'
    ctl.config.write_text(f"{ctl.config.read_text()}{tls}")
    said = ctl.run("start").stdout
    host, port = ctl.address()
    assert f"https://{host}:{port}" in said


def test_a_start_for_programs_is_the_status(ctl: Ctl) -> None:
    status = json.loads(ctl.run("start", "--json").stdout)
    assert (status["schema"], status["state"]) == (1, "ready")
    assert status["arbiter"]["pid"] == arbiter_of(ctl)


def test_a_stop_returns_when_the_arbiter_has_ended(ctl: Ctl) -> None:
    ctl.start()
    pid = arbiter_of(ctl)
    operation = json.loads(ctl.run("stop", "--json").stdout)
    assert (operation["kind"], operation["state"]) == ("stop", "done")
    assert pid not in ctl.processes()
    ctl.run("stop", expect=CtlExit.NOT_RUNNING)
    ctl.run("is-running", expect=CtlExit.NOT_RUNNING)


def hold_imports(folder: Path) -> None:
    """Have the application be imported until there is a file `released`; meanwhile there is one `importing`."""
    (folder / "site_app.py").write_text(
        "import os, time\nopen('importing', 'w').close()\n"
        "while not os.path.exists('released'):\n    time.sleep(0.01)\n" + APP
    )


def test_a_start_that_takes_too_long_goes_on_without_us(ctl: Ctl, tmp_path: Path) -> None:
    hold_imports(tmp_path)
    command = [str(BIN / "unicornctl"), "start", "--timeout", "0.5", "-c", str(ctl.config)]
    # Into a file: on a slow machine nobody has daemonized by then, and whoever will has our streams.
    with (tmp_path / "told").open("w") as told:
        code = subprocess.call(command, cwd=tmp_path, env=ctl.environ, stdout=told, stderr=told)
    assert code == CtlExit.UNREACHABLE
    assert "the time is up" in (tmp_path / "told").read_text()
    assert "the start goes on" in (tmp_path / "told").read_text()
    (tmp_path / "released").touch()
    ctl.run("is-ready", "--wait", "30")


def test_a_start_need_not_be_waited_for(ctl: Ctl, tmp_path: Path) -> None:
    hold_imports(tmp_path)
    assert json.loads(ctl.run("start", "--no-wait", "--json").stdout)["state"] == "starting"
    (tmp_path / "released").touch()
    ctl.run("is-ready", "--wait", "30")


def test_a_start_that_is_not_waited_for_tells_what_is_wrong_at_once(ctl: Ctl) -> None:
    ctl.config.write_text(ctl.config.read_text().replace("count = 1", "cuont = 1"))
    assert "workers.cuont" in ctl.run("start", "--no-wait", expect=CtlExit.CONFIG).stderr


def test_a_dry_start_looks_at_everything_and_starts_nothing(ctl: Ctl, tmp_path: Path) -> None:
    assert f"start with {ctl.config}" in ctl.run("start", "--dry-run").stdout
    ctl.run("is-running", expect=CtlExit.NOT_RUNNING)
    (tmp_path / "site_app.py").write_text("import nothing_like_it\n")
    assert "nothing_like_it" in ctl.run("start", "--dry-run", expect=CtlExit.FAILED).stderr


def test_an_interrupted_start_goes_on_and_says_so(ctl: Ctl, tmp_path: Path) -> None:
    hold_imports(tmp_path)
    starting = subprocess.Popen(
        [str(BIN / "unicornctl"), "start", "-c", str(ctl.config)],
        cwd=tmp_path, env=ctl.environ, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    eventually((tmp_path / "importing").exists, "the application is being imported")
    os.killpg(starting.pid, signal.SIGINT)  # as a terminal does
    _, said = starting.communicate(timeout=30)
    assert starting.returncode == 130
    assert "the start goes on" in said
    assert "Traceback" not in said
    (tmp_path / "released").touch()
    ctl.run("is-ready", "--wait", "30")


def test_a_restart_that_is_interrupted_while_it_looks_stops_nothing(ctl: Ctl, tmp_path: Path) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    hold_imports(tmp_path)
    restarting = subprocess.Popen(
        [str(BIN / "unicornctl"), "restart", "-c", str(ctl.config)],
        cwd=tmp_path, env=ctl.environ, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    eventually((tmp_path / "importing").exists, "the application is looked at")
    os.killpg(restarting.pid, signal.SIGINT)
    _, said = restarting.communicate(timeout=30)
    assert restarting.returncode == 130
    assert said == "unicornctl: nothing was stopped\n"
    assert arbiter_of(ctl) == before


def test_a_restart_takes_another_arbiter(ctl: Ctl) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    ctl.run("restart")
    assert arbiter_of(ctl) != before


def test_a_restart_that_is_not_waited_for_has_stopped_the_old_one(ctl: Ctl) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    ctl.run("restart", "--no-wait", "--timeout", "30")
    assert arbiter_of(ctl) != before
    ctl.run("is-ready", "--wait", "30")


def test_a_restart_of_what_does_not_run_is_a_start(ctl: Ctl) -> None:
    ctl.run("restart")
    assert ctl.status()["state"] == "ready"


def test_a_restart_with_a_wrong_configuration_stops_nothing(ctl: Ctl) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    ctl.config.write_text(ctl.config.read_text().replace("count = 1", "cuont = 1"))
    done = ctl.run("restart", expect=CtlExit.CONFIG)
    assert "workers.cuont" in done.stderr
    assert "nothing was stopped" in done.stderr
    assert arbiter_of(ctl) == before


def test_a_restart_with_a_broken_application_stops_nothing(ctl: Ctl, tmp_path: Path) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    (tmp_path / "site_app.py").write_text("import nothing_like_it\n")
    done = ctl.run("restart", expect=CtlExit.FAILED)
    assert "nothing_like_it" in done.stderr
    assert "nothing was stopped" in done.stderr
    assert arbiter_of(ctl) == before


def test_a_dry_reload_of_a_daemon_without_a_log_file_changes_no_setting(ctl: Ctl) -> None:
    ctl.start()
    assert "logging" not in ctl.run("reload", "--dry-run").stdout


def test_a_mold_that_leaves_with_its_fleet_is_no_warning(ctl: Ctl, tmp_path: Path) -> None:
    log = tmp_path / "site.log"
    text = ctl.config.read_text().replace("[server]", "preload = true\n[server]")
    ctl.config.write_text(f'{text}[logging]\nerror = "{log}"\n')
    ctl.start()
    ctl.run("stop")
    assert "the mold has left" in log.read_text()
    assert "WARNING" not in log.read_text()


def test_a_dry_restart_says_what_it_would_do(ctl: Ctl) -> None:
    ctl.start()
    before = arbiter_of(ctl)
    assert f"stop pid {before}" in ctl.run("restart", "--dry-run").stdout
    assert arbiter_of(ctl) == before


def test_a_dry_restart_of_what_does_not_run_starts_nothing(ctl: Ctl) -> None:
    assert "would start" in ctl.run("restart", "--dry-run").stdout
    ctl.run("is-running", expect=CtlExit.NOT_RUNNING)


@pytest.mark.parametrize(
    "command", ["unicornctl config show --all -c {file}", "unicornd --print-config -c {file}"]
)
def test_a_reader_that_goes_away_is_no_error(ctl: Ctl, command: str) -> None:
    words = command.format(file=ctl.config).split()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.returncode in {1, 128 + signal.SIGPIPE}  # typer has its own number


def test_a_stop_waits_for_a_request_and_says_so_when_the_time_is_up(ctl: Ctl, tmp_path: Path) -> None:
    ctl.start()
    answers: list[bytes] = []
    client = http.client.HTTPConnection(*ctl.address(), timeout=60)

    def ask() -> None:
        client.request("GET", "/held")
        answers.append(client.getresponse().read())

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: any(worker["now"] for worker in ctl.status()["workers"]), "the request runs")
    done = ctl.run("stop", "--timeout", "0.3", expect=CtlExit.UNREACHABLE)
    assert "GET /held" in done.stderr
    assert "goes on" in done.stderr
    assert ctl.status()["state"] == "stopping"
    (tmp_path / "released").touch()
    asking.join(timeout=30)
    client.close()
    assert answers == [b"ok"]
    eventually(lambda: not ctl.processes(), "the stop has gone on to its end")


def test_in_the_foreground_ctl_c_stops_it(ctl: Ctl) -> None:
    command = [str(BIN / "unicornctl"), "start", "--foreground", "-c", str(ctl.config)]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(ctl.config.parent)}
    daemon = subprocess.Popen(command, cwd=ctl.config.parent, env=environ, stderr=subprocess.PIPE)
    ctl.run("is-ready", "--wait", "30", "-q")
    assert arbiter_of(ctl) == daemon.pid
    daemon.send_signal(signal.SIGINT)
    daemon.communicate(timeout=30)
    assert daemon.returncode == 0


def test_a_fleet_is_found_by_file_name_directory_and_being_the_only_one(
    ctl: Ctl, name: str, tmp_path: Path
) -> None:
    ctl.start()
    pid = arbiter_of(ctl)
    for choice in (["-c", "unicornd.toml"], ["--instance", name], ["--socket", ctl.status()["control"]], []):
        status = json.loads(unicornctl(tmp_path, "status", "--json", *choice, expect=0).stdout)
        assert status["arbiter"]["pid"] == pid
    fleets = json.loads(unicornctl(tmp_path, "ls", "--json", expect=0).stdout)["fleets"]
    assert name in {each["status"]["instance"] for each in fleets if each["status"]}
    assert name in unicornctl(tmp_path, "ls", expect=0).stdout
    unicornctl(tmp_path, "status", "--instance", "another", expect=CtlExit.NOT_RUNNING)


def test_without_a_file_there_is_nothing_to_start(tmp_path: Path) -> None:
    assert "config init" in unicornctl(tmp_path, "start", expect=CtlExit.CONFIG).stderr
    assert "missing.toml" in unicornctl(tmp_path, "start", "-c", "missing.toml", expect=CtlExit.CONFIG).stderr


def test_a_saved_size_outlives_a_restart(ctl: Ctl) -> None:
    ctl.run("start")
    ctl.run("scale", "2", "--save")
    ctl.run("restart")
    assert len(ctl.worker_pids()) == 2


def test_a_program_is_told_why_a_start_fails_and_who_has_won_and_each_step(ctl: Ctl, tmp_path: Path) -> None:
    site = tmp_path / "site_app.py"
    site.write_text("import nothing_like_it\n" + APP)
    failed = ctl.run("start", "--json", expect=CtlExit.FAILED)
    error = json.loads(failed.stdout)["error"]
    assert "nothing_like_it" in error["message"]
    assert "import nothing_like_it" in error["detail"]
    assert "nothing_like_it" in failed.stderr
    site.write_text(APP)
    command = [str(BIN / "unicornctl"), "start", "--json", "-c", str(ctl.config)]
    both = [
        subprocess.Popen(command, env=ctl.environ, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)
    ]
    pids = {json.loads(each.communicate(timeout=60)[0])["arbiter"]["pid"] for each in both}
    assert [each.returncode for each in both] == [0, 0]
    assert pids == {arbiter_of(ctl)}
    steps = json.loads(ctl.run("reload", "--json").stdout)["steps"]
    assert any("is ready" in step["text"] for step in steps)
    assert any("has left" in step["text"] for step in steps)
    site.write_text("import nothing_like_it\n" + APP)
    error = json.loads(ctl.run("restart", "--json", expect=CtlExit.FAILED).stdout)["error"]
    assert "nothing_like_it" in error["message"] + error["detail"]
