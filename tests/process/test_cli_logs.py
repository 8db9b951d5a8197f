"""`unicornctl logs` of a fleet that runs, has run, or logs where nobody can look."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import BIN, Ctl, fleet
from tests.support.waiting import eventually
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""

CONFIG = """\
[app]
target = "site_app:application"
[server]
bind = "127.0.0.1:0"
[process]
name = "{name}"
"""


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[Ctl]:
    (tmp_path / "site_app.py").write_text(APP)
    with fleet(tmp_path, CONFIG.format(name=f"test-{uuid.uuid4().hex[:12]}")) as made:
        yield made
        made.stop()


def test_a_daemons_log_is_shown_followed_and_kept(ctl: Ctl, tmp_path: Path) -> None:
    assert "is not running" in ctl.run("logs", expect=CtlExit.NOT_RUNNING).stderr
    ctl.start()
    assert ctl.run("logs", "-n", "1").stdout.count("\n") == 1
    assert "the fleet is ready" in ctl.run("logs").stdout
    document = json.loads(ctl.run("logs", "--json", "-n", "2").stdout)
    assert (document["schema"], document["goes_to"], len(document["lines"])) == (1, "file", 2)
    assert "there is no access log" in ctl.run("logs", "--access", expect=CtlExit.FAILED).stderr
    command = [str(BIN / "unicornctl"), "logs", "-f", "-n", "1", "-c", str(ctl.config)]
    with (tmp_path / "shown").open("w") as shown:
        following = subprocess.Popen(command, env=ctl.environ, stdout=shown)
    try:
        eventually((tmp_path / "shown").read_text, "it follows the log")
        log = document["path"]
        (tmp_path / log).rename(f"{log}.1")
        ctl.run("reopen")
        ctl.run("scale", "2")
        eventually(lambda: "workers" in (tmp_path / "shown").read_text(), "what is logged is shown")
    finally:
        following.kill()
        following.wait()
    ctl.run("stop")
    left = ctl.run("logs")
    assert "its last run" in left.stderr
    assert left.stdout.endswith("stopped\n")


def test_a_log_that_goes_to_a_pipe_is_named(ctl: Ctl, tmp_path: Path) -> None:
    access = tmp_path / "access.log"
    ctl.config.write_text(f'{ctl.config.read_text()}[logging.access]\nfile = "access.log"\n')
    command = [str(BIN / "unicornctl"), "start", "--foreground", "-c", str(ctl.config)]
    running = subprocess.Popen(command, cwd=tmp_path, env=ctl.environ, stderr=subprocess.PIPE)
    try:
        ctl.run("is-ready", "--wait", "30")
        told = ctl.run("logs", expect=CtlExit.FAILED).stderr
        assert f"the error log is the standard error of pid {running.pid}, a pipe" in told
        assert access.exists()
        assert ctl.run("logs", "--access").stdout == ""
        ctl.run("stop")
    finally:
        running.terminate()
        running.communicate(timeout=30)
