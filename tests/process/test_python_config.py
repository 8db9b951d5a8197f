"""A fleet that is declared by a gunicorn.conf.py: served, reloaded, asked and stopped like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import Ctl
from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONF = """\
import os

wsgi_app = "site_app:application"
bind = "127.0.0.1:0"
workers = int(os.environ.get("N", "1"))
worker_tmp_dir = "/dev/shm"
raw_env = ["COLOUR=red"]
proc_name = "shop 1"
print("this is printed by the file")


def post_fork(server, worker):
    server.log.info("forked %s", worker.pid)


def when_ready(server):
    with open("ready", "w") as file:
        file.write(str(server.pid))
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        (tmp_path / "unicornd.toml").unlink()
        made.write("gunicorn.conf.py", CONF)
        yield made


PATCHING = {
    "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
    "eventlet": "import eventlet\neventlet.monkey_patch()\n",
}
HOOKED = """\
def pre_fork(server, worker):
    server.log.info("about to fork %s", worker.age)
def child_exit(server, worker):
    server.log.info("gone: %s", worker.age)
"""


@pytest.mark.parametrize("library", PATCHING)
@pytest.mark.parametrize("flags", [(), ("--preload",)], ids=["", "preloaded"])
def test_a_file_that_patches_the_standard_library_harms_no_arbiter(
    fleet: Fleet, library: str, flags: tuple[str, ...]
) -> None:
    fleet.write("gunicorn.conf.py", PATCHING[library] + CONF + HOOKED)
    fleet.start("-k", library, *flags)
    os.kill(fleet.pids()[1], signal.SIGKILL)
    fleet.await_log("gone: 1")
    fleet.await_workers(1)
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    fleet.await_log("gone: 2")
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    assert fleet.get().startswith("v1 ")
    assert fleet.end() == 0
    fleet.await_log("gone: 4")


@pytest.mark.parametrize("library", PATCHING)
@pytest.mark.parametrize("kind", ["sync", "threads"])
def test_a_kind_that_needs_the_standard_library_as_it_is_says_so(
    fleet: Fleet, library: str, kind: str
) -> None:
    fleet.write("gunicorn.conf.py", PATCHING[library] + CONF)
    done = fleet.run("-k", kind)
    assert done.returncode == DaemonExit.BOOT
    assert (
        f'the kind "{kind}" needs the standard library as it is, and something has patched it' in done.stderr
    )


@pytest.mark.parametrize("arguments", [("-c", "gunicorn.conf.py"), (), ("-c", "python:shop_conf")], ids=str)
def test_a_fleet_is_served_as_the_file_says(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    fleet.write("shop_conf.py", CONF)
    process = fleet.start(*arguments, N="2")
    assert fleet.get().startswith("v1 ")
    assert "('COLOUR', 'red')" in fleet.get("/environ")
    assert len(fleet.pids()) == 2
    assert (fleet.folder / "ready").read_text() == str(process.pid)
    for pid in fleet.pids().values():
        fleet.await_log(f"forked {pid}")
    assert fleet.status()["instance"] == "shop-1"


def test_a_reload_runs_the_file_again_and_a_broken_one_is_refused(fleet: Fleet) -> None:
    fleet.start("-c", "gunicorn.conf.py")
    fleet.change("gunicorn.conf.py", 'int(os.environ.get("N", "1"))', "3")
    fleet.send(signal.SIGHUP)
    workers = fleet.await_workers(3)
    fleet.change("gunicorn.conf.py", "workers = 3", "workers = 3 / 0")
    fleet.send(signal.SIGHUP)
    fleet.await_log("gunicorn.conf.py:5: ZeroDivisionError: division by zero")
    fleet.change("gunicorn.conf.py", "workers = 3 / 0", "wrokers = 4")
    fleet.send(signal.SIGHUP)
    fleet.await_log('did you mean "workers"?')
    assert fleet.pids() == workers
    assert fleet.get().startswith("v1 ")


def test_flags_and_variables_win_over_the_file(fleet: Fleet) -> None:
    fleet.start("-w", "2", GUNICORN_CMD_ARGS="--workers 3 --name shop-of-the-environment")
    assert len(fleet.pids()) == 2
    assert fleet.status()["instance"] == "shop-of-the-environment"


def test_it_is_found_and_run_by_unicornctl(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONF)
    (tmp_path / "site_app.py").write_text(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    ctl = Ctl(tmp_path / "gunicorn.conf.py")
    try:
        ctl.run("start")
        assert ctl.status()["instance"] == "shop-1"
        ctl.run("scale", "2")
        eventually(lambda: len(ctl.worker_pids()) == 2, "two workers are ready")
        ctl.run("reload")
    finally:
        ctl.run("stop", expect=None)
    eventually(lambda: not ctl.processes(), "every process of the fleet has ended")


def test_an_imported_configuration_serves_with_the_hooks_of_the_file(fleet: Fleet) -> None:
    (fleet.folder / "app").mkdir()
    (fleet.folder / "site_app.py").rename(fleet.folder / "app" / "site_app.py")
    fleet.write("gunicorn.conf.py", CONF + '\nchdir = "app"\n')
    done = subprocess.run(
        [sys.executable, "-m", "unicornd.cli.ctl", "config", "import"], cwd=fleet.folder, env=fleet.environ(N="2"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "* comes from environment variables" in done.stdout
    fleet.start("-c", "unicornd.toml")
    assert fleet.get().startswith("v1 ")
    assert "('COLOUR', 'red')" in fleet.get("/environ")
    for pid in fleet.await_workers(2).values():
        fleet.await_log(f"forked {pid}")
    assert (fleet.folder / "app" / "ready").exists()
