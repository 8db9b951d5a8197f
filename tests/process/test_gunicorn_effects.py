"""What a gunicorn.conf.py does to its process, and raw_env, reach workers and hooks, and not the arbiter itself."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONF = """\
import os, sys
from dotenv import load_dotenv
from prometheus_client import multiprocess
load_dotenv(".env")
os.environ["SHADE"] = "dark"
os.environ.pop("UNWANTED", None)
sys.path.insert(0, os.path.abspath("lib"))
sys.path.append(os.path.abspath("vendor"))
os.umask(0o027)
bind = "127.0.0.1:0"
workers = 2
wsgi_app = "counted:application"
raw_env = ["PROMETHEUS_MULTIPROC_DIR=" + os.path.abspath("metrics"), "TZ=Asia/Tokyo", "WEB_CONCURRENCY=5"]

def on_starting(server):
    import json, beside, behind
    names = ("TOKEN", "SHADE", "UNWANTED", "TZ", "WEB_CONCURRENCY")
    with open("seen", "w") as file:
        json.dump([os.environ.get(name) for name in names], file)

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    with open("gone", "a") as file:
        file.write("x")
"""
APP = """\
import json, os, time
import beside, behind
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

ASKED = Counter("asked", "Requests")

def application(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        ASKED.inc()
        names = ("TOKEN", "SHADE", "UNWANTED", "TZ")
        body = json.dumps([*map(os.environ.get, names), beside.NAME, time.tzname[0]]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        (tmp_path / "unicornd.toml").unlink()
        for name in ("lib", "vendor", "metrics"):
            (tmp_path / name).mkdir()
        made.write("lib/beside.py", "NAME = 'of lib'\n")
        made.write("vendor/behind.py", "")
        made.write("vendor/json.py", "raise AssertionError('it is behind the standard library')\n")
        made.write(".env", "TOKEN=1\n")
        made.write("gunicorn.conf.py", CONF)
        made.write("counted.py", APP)
        yield made


def test_they_reach_workers_and_hooks_and_every_request_is_counted(fleet: Fleet) -> None:
    fleet.start(UNWANTED="there")
    assert (fleet.folder / "seen").read_text() == '["1", "dark", null, "Asia/Tokyo", "5"]'
    told = '["{}", "dark", null, "Asia/Tokyo", "of lib", "JST"]'
    assert {fleet.get() for _ in range(30)} == {told.format(1)}
    assert "gunicorn.conf.py: the umask: the file changes it for its own process only" in fleet.log
    fleet.write(".env", "TOKEN=2\n")
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    eventually(
        lambda: (fleet.folder / "gone").exists() and len((fleet.folder / "gone").read_text()) == 2,
        "two exits",
    )
    assert {fleet.get() for _ in range(30)} == {told.format(2)}
    assert "asked_total 60.0" in fleet.get("/metrics")
    assert len(fleet.pids()) == 2, "WEB_CONCURRENCY of raw_env is for the application"
    assert "a hook raised" not in fleet.log
