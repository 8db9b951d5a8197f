"""Nobody reads the logs, or the disk is full: the fleet is supervised, requests are answered, and what was lost is told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, command, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

F_SETPIPE_SZ = 1031
FLOOD = 400
SITE = f"""\
import logging, os

def work(path):
    if path == "/flood":
        for number in range({FLOOD}):
            logging.getLogger("gunicorn.error").error("flood %s %s", number, "x" * 1000)
    return str(os.getpid()).encode()

def wsgi(environ, start_response):
    body = work(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        body = work(scope["path"])
        headers = [(b"content-length", str(len(body)).encode())]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
"""


class Pipe:
    """A pipe that a fleet writes to and nobody reads, until it is asked for its lines."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, F_SETPIPE_SZ, 4096)
        os.set_blocking(self._reader, False)
        self._read = b""

    def text(self) -> str:
        """Return what has been read until now."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._reader, 1 << 16):
                self._read += part
        return self._read.decode()

    def lines(self) -> list[dict[str, Any]]:
        """Return what has been read until now, every line a whole record."""
        return [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", SITE)
        made.change("unicornd.toml", "count = 2", "count = 1")
        yield made


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


OWN = {
    "version": 1,
    "handlers": {
        "own": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "generic"}
    },
    "loggers": {"gunicorn.error": {"handlers": ["own"]}, "gunicorn.access": {"handlers": ["own"]}},
}


def start(fleet: Fleet, kind: str, pipe: Pipe, *more: str) -> None:
    interface = "asgi" if kind == "asgi" else "wsgi"
    fleet.change("unicornd.toml", ":application", f":{interface}")
    arguments = ("-k", kind, "--set", "logging.format=json", *more)
    fleet.process = subprocess.Popen(
        command(arguments), cwd=fleet.folder, env=fleet.environ(), stdout=pipe.writer, stderr=pipe.writer
    )
    fleet.await_state("ready")


def lost(fleet: Fleet) -> int:
    text = fleet.client.ask("GET", "/metrics").body.decode()
    line = next(
        line for line in text.splitlines() if line.startswith('unicornd_log_lines_lost_total{log="error"}')
    )
    return int(float(line.split()[-1]))


@pytest.mark.parametrize("kind", ["threads", "eventlet"])
def test_a_fleet_whose_logs_nobody_reads_serves_and_is_supervised(
    fleet: Fleet, pipe: Pipe, kind: str
) -> None:
    start(fleet, kind, pipe, "--access-logfile", "-")
    first = fleet.get("/flood")
    assert lost(fleet) > 0
    os.kill(int(first), signal.SIGKILL)
    eventually(lambda: first not in map(str, fleet.pids().values()), "the worker has gone")
    fleet.await_state("ready")
    before = lost(fleet)
    worker = fleet.get("/flood")
    assert fleet.get("/") == worker
    lost_by_worker = lost(fleet) - before
    assert 0 < lost_by_worker < FLOOD
    events = fleet.client.lines("/v1/events?since=0")
    assert any(json.loads(line)["kind"] == "log.lost" for line in events)

    def told() -> list[dict[str, Any]]:
        return [line for line in pipe.lines() if line.get("pid") == int(worker) and "lost" in line]

    eventually(told, "the worker says what it has lost")
    assert [(line["log"], line["lost"], line["level"]) for line in told()] == [
        ("error", lost_by_worker, "warning")
    ]
    assert told()[0]["message"].endswith("seconds: standard error was not read")
    flood = [
        line
        for line in pipe.lines()
        if line.get("pid") == int(worker) and line["message"].startswith("flood")
    ]
    assert len(flood) == FLOOD - lost_by_worker
    messages = [line["message"] for line in pipe.lines() if line["logger"] == "unicornd"]
    assert any("was killed from outside" in message for message in messages), "the arbiter's lines came, too"


def test_handlers_of_the_operators_own_keep_nobody_waiting_either(fleet: Fleet, pipe: Pipe) -> None:
    fleet.write("log.json", json.dumps(OWN))
    start(fleet, "threads", pipe, "--log-config-json", "log.json")
    first = fleet.get("/flood")
    os.kill(int(first), signal.SIGKILL)
    eventually(lambda: first not in map(str, fleet.pids().values()), "the worker has gone")
    fleet.await_state("ready")
    assert fleet.get("/flood") == fleet.get("/")
    eventually(lambda: " log lines were lost in " in pipe.text(), "what was lost is told")
    eventually(lambda: "was killed from outside" in pipe.text(), "the arbiter's lines come, too")
