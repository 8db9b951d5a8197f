"""A worker shuts a listener down, for the whole fleet: the arbiter notices, says so, and mends what can be mended."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import keeps_alive
from tests.support.waiting import eventually
from tests.support.worker import Setup, worker
from unicornd.control.client import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

ATTACK = """\
import os, socket

def attack():
    for entry in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(entry)))
        except OSError:
            continue
        with sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RDWR)
"""
WSGI = """\

def application(environ, start_response):
    if environ["PATH_INFO"] == "/shut":
        attack()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
ASGI = """\

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/shut":
        attack()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", ATTACK + WSGI)
        yield fleet


@pytest.mark.parametrize("kind", ["sync", "threads", "gevent", "gevent_pywsgi", "eventlet", "asgi"])
def test_a_tcp_listener_that_was_shut_down_listens_again(fleet: Fleet, kind: str) -> None:
    if kind == "asgi":
        fleet.write("site_app.py", ATTACK + ASGI)
    fleet.start("-k", kind)
    address, before = fleet.addresses()[0], fleet.pids()
    assert fleet.get("/shut") == "ok"
    fleet.await_log(f"a process of the fleet has shut {address} down: nobody can connect")
    fleet.await_log(f"{address} is open again")
    fleet.await_state("ready")
    assert fleet.addresses() == [address]
    for _ in range(6):
        eventually(lambda: is_served(fleet, address), "it is served")
    assert fleet.pids() == before


def is_served(fleet: Fleet, address: str) -> bool:
    with suppress(OSError):
        return fleet.get("/", address) == "ok"
    return False


@pytest.mark.parametrize("preload", ["true", "false"])
def test_a_unix_listener_that_nobody_can_reach_is_opened_anew_and_its_workers_replaced(
    fleet: Fleet, preload: str
) -> None:
    fleet.change("unicornd.toml", "127.0.0.1:0", "unix:web.sock")
    fleet.change("unicornd.toml", "[app]", f"[app]\npreload = {preload}")
    fleet.start("-k", "threads", "--threads", "2")
    before = set(fleet.pids().values())
    if preload == "true":
        assert b"200 OK" in ask(fleet, "/shut")
    else:  # as a cleaner of /tmp does
        (fleet.folder / "web.sock").unlink()
    fleet.await_log("is open again")
    eventually(lambda: not before & set(fleet.pids().values()), "all workers are others")
    fleet.await_workers(2)
    fleet.await_state("ready")
    for _ in range(6):
        assert b"200 OK" in ask(fleet, "/")


def test_a_control_socket_whose_file_was_removed_is_opened_anew(fleet: Fleet) -> None:
    """As a cleaner of /tmp does, or the end of a login session to its /run/user."""
    fleet.start()
    path = fleet.folder / "control.sock"
    for _ in range(2):
        path.unlink()
        eventually(path.exists, "it is opened anew")
        assert path.stat().st_mode & 0o777 == 0o600
        assert fleet.status()["state"] == "ready"
    assert fleet.log.count("was gone: it is opened anew") == 2
    assert fleet.end() == 0
    assert not path.exists()


def test_a_listener_that_cannot_be_opened_again_is_told_of(fleet: Fleet) -> None:
    name = f"unicornd-test-{fleet.mark}"
    fleet.change("unicornd.toml", "127.0.0.1:0", f"unix:@{name}")
    fleet.start("-k", "threads", "--threads", "2")
    assert b"200 OK" in ask(fleet, "/shut", f"\0{name}")
    fleet.await_log("nothing but a restart can open it again")
    fleet.await_state("degraded")
    assert f"nobody can connect to unix:@{name}" in fleet.status()["reason"]
    assert any(event["kind"] == "listener.shut" for event in fleet.status()["events"])
    with pytest.raises(ControlError, match="503"):
        fleet.client.get("/readyz")


@pytest.mark.parametrize("kind", ["sync", "threads", "gevent", "eventlet"])
def test_a_worker_leaves_a_unix_listener_that_was_shut_down_rather_than_spin(
    tmp_path: Path, kind: str
) -> None:
    """The socket is readable from then on, and stays so."""
    setup = Setup(kind=kind, family=socket.AF_UNIX)
    with worker(answer, tmp_path, setup) as running, running.connect() as client:
        if keeps_alive(kind):
            assert client.get().body == b"ok"
        name = running.shut_listener()
        eventually(lambda: name not in running.open_files(), "it has closed its listener")
        eventually(lambda: "a listener was shut down" in running.log(), "it has said so")
        if keeps_alive(kind):
            assert client.get().body == b"ok", "connections go on"


def answer(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def ask(fleet: Fleet, path: str, address: str = "") -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(20)
        client.connect(address or str(fleet.folder / "web.sock"))
        client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        return client.recv(4096)
