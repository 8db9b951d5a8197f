"""Which fleet a command means when nobody has named one: looking may guess, changing never does.

The fleets run where only these tests look: other fleets on the machine are no part of the question.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import BIN, Ctl, fleet
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[app]
target = "site_under_test:application"
[process]
name = "{name}"
[server]
bind = "127.0.0.1:0"
[workers]
kind = "sync"
count = 1
"""
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def name() -> str:
    return f"only-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def ctl(tmp_path: Path, name: str) -> Iterator[Ctl]:
    (tmp_path / "site_under_test.py").write_text(APPLICATION)
    (tmp_path / "elsewhere").mkdir()
    with fleet(tmp_path, CONFIG.format(name=name)) as made:
        made.start()
        yield made
        made.stop()


def command(*arguments: str) -> list[str]:
    """Return a command of unicornctl in a mount namespace with an empty /run, where no other fleet is found."""
    line = 'mount -t tmpfs none /run && cd "$0" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", line, *arguments]


@pytest.fixture
def is_isolated() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /run"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a mount namespace of its own cannot be had")


def elsewhere(ctl: Ctl, *arguments: str, expect: int) -> subprocess.CompletedProcess[str]:
    """Run unicornctl in a folder without a configuration."""
    done = subprocess.run(
        command(str(ctl.config.parent / "elsewhere"), str(BIN / "unicornctl"), *arguments),
        env=ctl.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == expect, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def at_a_terminal(ctl: Ctl, *arguments: str, answer: str) -> tuple[int, str]:
    """Run unicornctl at a terminal, answer its question, and return its exit code and what it wrote."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command(str(ctl.config.parent / "elsewhere"), str(BIN / "unicornctl"), *arguments),
        env=ctl.environ, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    has_answered = False
    while select.select([ours], [], [], 60)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: the last one has closed the terminal
            break
        written += data
        if b"[y/N]" in written and not has_answered:
            has_answered = True
            os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return running.wait(60), written.decode()


CHANGES = [["stop"], ["reload"], ["restart"], ["scale", "2"], ["recycle", "1"], ["reopen"], ["upgrade"]]


@pytest.mark.usefixtures("is_isolated")
def test_a_change_without_a_named_fleet_is_refused_with_the_way_out(ctl: Ctl, name: str) -> None:
    before = ctl.status()
    for change in CHANGES:
        told = elsewhere(ctl, *change, expect=CtlExit.USAGE).stderr
        assert f"{change[0]}: no fleet is named; the only one that runs is {name}" in told
        assert f"--instance {before['instance']} means it" in told
    document = json.loads(elsewhere(ctl, "stop", "--json", expect=CtlExit.USAGE).stdout)
    assert document["error"]["exit_code"] == CtlExit.USAGE
    after = ctl.status()
    for key in ("operation", "generation", "wanted"):
        assert after[key] == before[key]
    assert [each["pid"] for each in after["workers"]] == [each["pid"] for each in before["workers"]]


@pytest.mark.usefixtures("is_isolated")
def test_looking_takes_the_only_fleet_and_names_it(ctl: Ctl, name: str) -> None:
    for look in (["status"], ["workers"], ["events"], ["is-ready"], ["stop", "--dry-run"]):
        assert f"of the only fleet that runs: --instance {name}" in elsewhere(ctl, *look, expect=0).stderr
    assert elsewhere(ctl, "is-ready", "--quiet", expect=0).stderr == ""
    assert json.loads(elsewhere(ctl, "status", "--json", expect=0).stdout)["instance"] == name


@pytest.mark.usefixtures("is_isolated")
def test_at_a_terminal_the_fleet_is_named_and_asked_about(ctl: Ctl, name: str) -> None:
    code, written = at_a_terminal(ctl, "stop", answer="")
    assert code == CtlExit.FAILED
    assert f"stop {name} (pid " in written
    assert "nothing was done" in written
    assert ctl.status()["operation"] is None
    code, _ = at_a_terminal(ctl, "stop", answer="y")
    assert code == CtlExit.DONE
    ctl.run("is-running", expect=CtlExit.NOT_RUNNING)


def test_a_start_of_what_runs_is_done_already(ctl: Ctl, name: str) -> None:
    pid = ctl.status()["arbiter"]["pid"]
    assert f"{name} is already running (pid {pid}, ready)" in ctl.run("start").stdout
    assert json.loads(ctl.run("start", "--json").stdout)["arbiter"]["pid"] == pid
    assert "already running" in ctl.run("start", "--foreground", expect=CtlExit.FAILED).stderr
    assert ctl.status()["arbiter"]["pid"] == pid


def test_with_json_a_start_that_fails_is_a_document_too(ctl: Ctl) -> None:
    ctl.stop()
    ctl.config.write_text(ctl.config.read_text().replace("site_under_test", "no_such_site"))
    for arguments in (["start"], ["start", "--dry-run"]):
        done = ctl.run(*arguments, "--json", expect=CtlExit.FAILED)
        assert json.loads(done.stdout)["error"]["exit_code"] == CtlExit.FAILED
        assert "no_such_site" in done.stderr
