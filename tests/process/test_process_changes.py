"""What an application changes in its process that the server relies on: put right, and told once."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import EVERY_KIND, application
from tests.support.waiting import eventually
from tests.support.worker import Setup, request, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """\
import asyncio, logging.config, os, signal, socket

def close_listeners():
    for fd in range(3, 256):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with sock:
            is_listener = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if is_listener:
            os.close(fd)

SETTINGS = {"version": 1, "handlers": {"own": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["own"]}}

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise RuntimeError("where is this traceback?")
    if environ["PATH_INFO"] == "/close":
        close_listeners()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        message = await receive()
        logging.config.dictConfig(SETTINGS)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, print, "heard USR2")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the application was shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/raise":
        raise RuntimeError("where is this traceback?")
    if scope["path"] == "/close":
        close_listeners()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

if os.environ.get("UNICORND_WORKER_SLOT"):
    logging.config.dictConfig(SETTINGS)
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", APP)
        yield made


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_loggers_that_a_configuration_of_the_application_disables_write_on(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind, "--access-logfile", "access.log")
    fleet.get("/")
    with pytest.raises(AssertionError):
        fleet.get("/raise")
    fleet.await_log("where is this traceback?")
    eventually(lambda: '"GET / ' in (fleet.folder / "access.log").read_text(), "the access log has its line")
    assert fleet.log.count("disable_existing_loggers") == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_application_that_listens_to_signals_does_not_make_its_worker_deaf(
    fleet: Fleet, loop: str
) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(f'[asgi]\nloop = "{loop}"\n[timeouts]\ngraceful = 60\nkill = 60\n')
    fleet.start_kind("asgi", "--access-logfile", "access.log")
    assert fleet.end(signal.SIGTERM) == 0
    assert "the application was shut down" in fleet.log
    assert "told to" not in fleet.log


def take_over() -> None:
    """Do what libraries and applications do at their import."""

    def clean_up(_number: int, _frame: object) -> None:
        os.write(2, b"cleaned up\n")
        sys.exit(3)

    signal.signal(signal.SIGTERM, clean_up)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    ctypes.CDLL(None).signal(int(signal.SIGUSR1), 1)  # SIG_IGN, as code in C may set it
    signal.signal(signal.SIGHUP, lambda _number, _frame: os.write(2, b"heard HUP\n"))
    os.dup2(os.open("worker.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    faulthandler.disable()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    os.close(0)


@pytest.mark.parametrize("kind", ["sync", "threads", "asgi", "gevent"])
def test_what_an_application_takes_from_the_server_is_put_right_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    setup = Setup(kind=kind, cells=4, before=take_over)
    with worker(application(kind), tmp_path, setup) as running:
        with running.connect() as client:
            assert client.get().code == 200
        said = tmp_path / "worker.err"
        running.send(signal.SIGHUP)  # the application's, since it has asked for it
        eventually(lambda: "heard HUP" in said.read_text(), "its own handler runs")
        for what in (
            "handles SIGTERM (",
            "has set SIGQUIT to",
            "descriptors 0 of",
            "code in C ignores SIGUSR1",
            "has blocked signals (SIGTERM, SIGUSR1)",
            "switched faulthandler off",
        ):
            assert running.log().count(what) == 1, running.log()
        running.drain()
        assert running.wait() == 0
        assert said.read_text().count("cleaned up") == 1
    with worker(application(kind), tmp_path, setup) as running:
        running.send(signal.SIGQUIT)
        assert running.wait() == 0


@pytest.mark.parametrize("kind", ["sync", "gevent_pywsgi", "eventlet", "asgi", "tornado"])
def test_a_worker_whose_listeners_the_application_has_closed_is_replaced(fleet: Fleet, kind: str) -> None:
    fleet.start_kind(kind)
    first = fleet.pids()[1]
    assert fleet.get("/close") == "ok"
    eventually(lambda: fleet.pids().get(1, first) != first, "it is replaced")
    assert "which are unicornd's: the worker ends" in fleet.log
    assert fleet.get("/") == "ok"


def closing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Close what is a poller's, or the connection itself: a number that is closed twice is anybody's."""
    start_response("200 OK", [("Content-Length", "2")])
    what = environ["PATH_INFO"][1:]
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if what in str(entry.readlink()) and int(entry.name) > 2:
                os.close(int(entry.name))
    return [b"ok"]


@pytest.mark.parametrize(
    ("kind", "what"), [("threads", "socket"), ("threads", "eventpoll"), ("gevent", "eventpoll")]
)
def test_a_worker_whose_descriptors_the_application_closes_ends(tmp_path: Path, kind: str, what: str) -> None:
    setup = Setup(kind=kind, cells=4, threads=4 if kind == "threads" else 1)
    with worker(closing, tmp_path, setup) as running, running.connect() as client:
        client.send(request(f"/{what}"))
        assert running.wait() != 0, "so it is replaced; it would serve nobody, and look alive"
        assert "descriptor" in running.log()


@pytest.mark.parametrize("kind", ["sync", "gevent_pywsgi"])
def test_a_default_timeout_of_sockets_is_none_of_our_connections(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, cells=4, before=lambda: socket.setdefaulttimeout(0.2))
    with worker(application(kind), tmp_path, setup) as running, running.connect() as client:
        client.send("GET / HTTP/1.1\r\n")
        began = running.reading().heartbeat
        eventually(lambda: running.reading().heartbeat > began + 0.5, "that time is over")
        assert client.send(request().partition(b"\r\n")[2]).read().code == 200
