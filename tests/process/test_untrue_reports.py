"""A worker or a mold that was taken over: whatever it says to the arbiter, that costs its own requests only."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNELS = """
import fcntl, gc, os, pathlib, socket, struct, threading, time

FOLDER = pathlib.Path(__file__).parent

def channels():
    "The channel to the arbiter, found as somebody finds it who runs code in this process."
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED):
                found.append(sock)
    return found

def sockets_of(fds):
    found = []
    for fd in fds:
        try:
            found.append(socket.socket(fileno=fd))
        except OSError:
            os.close(fd)
    return found

def once(name):
    "Whether this is the first process that asks."
    try:
        (FOLDER / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""

FORGING_MOLD = """
def be_a_hostile_mold(victim, answer):
    "Say that this mold is ready, and answer in the place of the workers that it is to fork; never return."
    [mine] = channels()
    mine.send(b"ready\\0")
    while True:
        _, fds, _, _ = socket.recv_fds(mine, 65536, 250)
        if not fds:
            os._exit(1)
        [channel] = [each for each in sockets_of(fds) if each.type == socket.SOCK_SEQPACKET]
        claim = struct.pack("iII", victim, os.getuid(), os.getgid())
        try:
            channel.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)])
        except PermissionError:  # not root: it can only speak as itself
            channel.send(answer)
"""

FLOOD = """
def flood(channel, datagram):
    try:
        while True:
            channel.send(datagram)
    except OSError:
        pass
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("site_app.py", 'VERSION = "v1"', f'{CHANNELS}{FORGING_MOLD}{FLOOD}\nVERSION = "v1"')
        yield fleet


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the fleet."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def at_import(fleet: Fleet, code: str) -> None:
    fleet.change("site_app.py", '\nVERSION = "v1"', f'\n{code}\nVERSION = "v1"')


def at_request(fleet: Fleet, code: str) -> None:
    """Run code in the worker that answers /attack."""
    code = code.replace("\n", "\n        ")
    fleet.change(
        "site_app.py", "    keys =", f'    if environ["PATH_INFO"] == "/attack":\n        {code}\n    keys ='
    )


@pytest.mark.parametrize("answer", [b"born", b'{"report": "born", "pid": %d}', b"born\0%d", b"[" * 60_000])
def test_a_first_mold_that_names_a_bystander_ends_the_start_and_not_the_bystander(
    fleet: Fleet, bystander: subprocess.Popen[bytes], answer: bytes
) -> None:
    said = answer % bystander.pid if b"%d" in answer else answer
    at_import(fleet, f"be_a_hostile_mold({bystander.pid}, {said!r})")
    done = fleet.run("--preload")
    assert done.returncode == DaemonExit.BOOT
    assert "the mold is told to kill: it was asked to fork worker 1, and process" in done.stderr
    assert "internal error" not in done.stderr
    assert bystander.poll() is None


def test_a_mold_that_names_a_bystander_is_killed_and_the_fleet_recovers(
    fleet: Fleet, bystander: subprocess.Popen[bytes]
) -> None:
    fleet.start("--preload")
    workers = fleet.pids()
    eventually(lambda: fleet.status()["arbiter"]["uptime"] > 1.2, "it has lived for a while")
    at_import(fleet, f'if once("taken over"):\n    be_a_hostile_mold({bystander.pid}, b"born")')
    honest = fleet.status()["mold"]["pid"]
    os.kill(honest, signal.SIGKILL)
    eventually(lambda: (fleet.status()["mold"] or {}).get("pid") not in {None, honest}, "there is a new mold")
    os.kill(workers[1], signal.SIGKILL)
    fleet.await_log("the mold is told to kill: it was asked to fork worker 1, and process")
    eventually(lambda: fleet.pids().get(1) not in {None, workers[1]}, "the worker has been replaced")
    assert fleet.pids()[2] == workers[2]
    assert bystander.poll() is None


def test_a_child_of_a_mold_that_keeps_a_workers_channel_costs_no_slot_and_no_stop(fleet: Fleet) -> None:
    fleet.start("--preload")
    workers = fleet.pids()
    eventually(lambda: fleet.status()["arbiter"]["uptime"] > 1.2, "it has lived for a while")
    keep = """
if once("taken over"):
    [mine] = channels()
    mine.send(b"ready\\0")
    socket.recv_fds(mine, 65536, 250)
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(600)
    os._exit(1)
"""
    at_import(fleet, keep)
    honest = fleet.status()["mold"]["pid"]
    os.kill(honest, signal.SIGKILL)
    eventually(lambda: (fleet.status()["mold"] or {}).get("pid") not in {None, honest}, "there is a new mold")
    os.kill(workers[1], signal.SIGKILL)
    fleet.await_log("the mold is gone, and it has not come")
    eventually(lambda: fleet.pids().get(1) not in {None, workers[1]}, "the worker has been replaced")
    assert fleet.end() == 0
    [keeper] = fleet.processes()
    os.kill(keeper, signal.SIGKILL)


@pytest.mark.parametrize("datagram", [b"ready\0sync", b"retiring\0I am tired", b"[" * 60_000, b""])
@pytest.mark.parametrize("is_child", [False, True], ids=["itself", "a child of it"])
def test_a_worker_that_floods_its_channel_is_killed_and_holds_nobody_up(
    fleet: Fleet, datagram: bytes, *, is_child: bool
) -> None:
    code = f"[channel] = channels()\nif {not is_child} or os.fork() == 0:\n    flood(channel, {datagram!r})"
    at_request(fleet, f"{code}\n    os._exit(0)\ntime.sleep(600)")
    fleet.start()
    before = fleet.pids()
    with closing(fleet.connect()) as connection:
        connection.request("GET", "/attack")
        fleet.await_log("is told to kill: it has made more than 64 reports")
        eventually(
            lambda: len(set(fleet.pids().values()) & set(before.values())) == 1, "one of them has been killed"
        )
    fleet.await_workers(2)
    assert fleet.get().startswith("v1 ")
    assert fleet.log.count(" is ready slot=") == 3, "two workers, and one in the place of the killed one"
    assert fleet.log.count("is told to kill") == 1


@pytest.mark.parametrize(
    "datagram", [b"[" * 60_000, b'{"a":' * 12_000, b"9" * 60_000, b"\xff" * 1000, b"", b"ready\0\x1b[31m"]
)
def test_a_worker_that_talks_nonsense_costs_a_line(fleet: Fleet, datagram: bytes) -> None:
    at_request(fleet, f"[channel] = channels()\nchannel.send({datagram!r})\nchannel.send({datagram!r})")
    fleet.start("-w", "1")
    pids = fleet.pids()
    assert fleet.get("/attack").startswith("v1 ")
    fleet.await_log("a report was ignored")
    assert fleet.get().startswith("v1 ")
    assert fleet.pids() == pids
    assert fleet.log.count("a report was ignored") == 1
    assert "\x1b" not in fleet.log


def test_a_worker_that_has_become_another_program_is_replaced(fleet: Fleet) -> None:
    at_request(fleet, 'os.execv("/bin/sleep", ["sleep", "600"])')
    fleet.start("-w", "1", "--graceful-timeout", "1")
    before = fleet.pids()
    with closing(fleet.connect()) as connection:
        connection.request("GET", "/attack")
        eventually(lambda: Path(f"/proc/{before[1]}/comm").read_text() == "sleep\n", "it is another program")
        fleet.send(signal.SIGHUP)
        eventually(lambda: fleet.pids().get(1) not in {None, before[1]}, "it has been replaced")


LITTER = """
for name in os.listdir("/proc/self/fd"):
    try:
        sock = socket.socket(fileno=os.dup(int(name)))
    except OSError:
        continue
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        continue
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED):  # the channel
        continue
    facts = b'["127.0.0.1:1", "192.0.2.1", "1"]'
    whole = len(facts).to_bytes(2, "big") + facts
    reader, writer = os.pipe()
    for text in (b"", b"[" * 2000, bytes([3, 232]) + b"[" * 1000, b"\\xff" * 10, whole):
        sock.send(text)
        socket.send_fds(sock, [text], [reader])
        socket.send_fds(sock, [text], [reader] * 10)
"""
"""Put everything but connections into the workers' handover."""


@pytest.mark.parametrize("kind", ["threads", "gevent", "eventlet"])
def test_a_worker_that_litters_the_handover_costs_no_connection_and_no_sibling(
    fleet: Fleet, kind: str
) -> None:
    at_request(fleet, LITTER)
    fleet.start("-k", kind, "--keep-alive", "60")
    before = fleet.pids()
    with closing(fleet.connect()) as kept:
        kept.auto_open = 0
        kept.connect()
        for path in ("/attack", "/attack", "/"):
            kept.request("GET", path)
            assert kept.getresponse().read().startswith(b"v1 ")
        assert fleet.pids() == before
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        after = fleet.await_workers(2)
        kept.request("GET", "/")
        assert int(kept.getresponse().read().split()[1]) in after.values()
        assert fleet.pids() == after
    assert "died" not in fleet.log
    assert "Traceback" not in fleet.log
