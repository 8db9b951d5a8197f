"""A hostile application and hostile clients: what an operator is shown of them is text, and nothing but text."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.controls import FORGED, HOSTILE, controls_in
from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import site
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROKEN = "raise RuntimeError({!a})\n".format("red \x1b[31m\x9b31m " + HOSTILE)
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \[\d+\] \[[A-Z]+\] ")
RAW = b"GET /stuck\x9b31m\x85%1b%9b HTTP/1.1\r\nHost: shop\r\n\r\n"
"""With C1 bytes as they are: some kinds refuse them."""
ENCODED = b"GET /stuck%1b[31m%9b31m%0a%0dFORGED HTTP/1.1\r\nHost: shop\r\n\r\n"
FINISHED = (
    b"GET /%9b31m%0aFORGED HTTP/1.1\r\nHost: shop\r\nUser-Agent: x\x9b31m\x85y\r\nConnection: close\r\n\r\n"
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def ctl(fleet: Fleet, *arguments: str, code: int = 0) -> str:
    """Return what unicornctl shows: never a control character, as text or as JSON."""
    shown = ""
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "unicornd.cli.ctl", *arguments, *form], cwd=fleet.folder,
            env=fleet.environ(COLUMNS="200"), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == code, text
        assert not controls_in(text, but="\n"), (arguments, text)
        shown = shown or text
    return shown


def assert_is_clean(log: Path) -> None:
    text = log.read_bytes().decode()
    assert not controls_in(text, but="\n\t")
    for line in text.splitlines():
        assert RECORD.match(line) or line.startswith("  "), line
        assert not line.startswith(FORGED), line


def admin_page(fleet: Fleet) -> str:
    found = re.search(r"admin pages at (\S+?)[\"\s]", fleet.log)
    assert found is not None, fleet.log
    with contextlib.closing(fleet.connect(found[1])) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()


def test_a_boot_failure_forges_no_record_and_commands_no_terminal(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "[server]", '[admin]\nbind = "127.0.0.1:0"\n[server]')
    fleet.start()
    fleet.write("site_app.py", BROKEN)
    said = ctl(fleet, "reload", code=5)
    assert "FORGED" in said
    assert not any(line.startswith(FORGED) for line in said.splitlines())
    for command in (["events"], ["status"], ["workers"], ["top", "--once"], ["postmortem"]):
        ctl(fleet, *command)
    shown = r"red \x1b[31m\x9b31m no"
    assert shown in ctl(fleet, "events")
    page = admin_page(fleet)
    assert shown in page
    assert not controls_in(page, but="\n")
    assert fleet.end() == 0
    assert "FORGED" in fleet.log
    assert_is_clean(fleet.folder / "log")


def test_a_fleet_that_cannot_start_tells_so_in_plain_text(fleet: Fleet) -> None:
    fleet.write("site_app.py", BROKEN)
    done = fleet.run("--error-logfile", str(fleet.folder / "log"))
    assert done.returncode != 0
    assert "FORGED" in done.stderr
    assert not controls_in(done.stdout + done.stderr, but="\n")
    assert_is_clean(fleet.folder / "log")


@pytest.mark.parametrize("kind", ["threads", "asgi", "gevent_pywsgi", "tornado"])  # each has its own words
def test_the_path_of_a_request_commands_no_terminal(fleet: Fleet, kind: str) -> None:
    fleet.write("site_app.py", site(kind).replace('path == "/stuck"', 'path.startswith("/stuck")'))
    more = '[admin]\nbind = "127.0.0.1:0"\n[logging.access]\nfile = "access.log"\n[server]'
    fleet.change("unicornd.toml", "[server]", more)
    fleet.start("-k", kind, "-w", "1")
    host, _, port = fleet.addresses()[0].rpartition(":")
    access = fleet.folder / "access.log"
    with contextlib.ExitStack() as stack:
        for request in (FINISHED, RAW, ENCODED):
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            client.sendall(request)
            if request is FINISHED:
                client.recv(4096)
                eventually(lambda: "FORGED" in access.read_text(), "the request is in the access log")
        eventually(lambda: fleet.status()["workers"][0]["busy"] >= 1, "a request is stuck")
        assert "GET /stuck" in ctl(fleet, "status")
        page = admin_page(fleet)
        assert "GET /stuck" in page
        assert not controls_in(page, but="\n")
        os.kill(fleet.pids()[1], signal.SIGKILL)
        fleet.await_log("was serving GET /stuck")
    fleet.await_workers(1)
    assert "GET /stuck" in ctl(fleet, "postmortem")
    assert "GET /stuck" in ctl(fleet, "events")
    fleet.open_gate()
    assert fleet.end() == 0
    assert_is_clean(fleet.folder / "log")
    lines = access.read_bytes().decode()
    assert not controls_in(lines, but="\n")
    assert not any(line.startswith("FORGED") for line in lines.splitlines())
