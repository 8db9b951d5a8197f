"""Clients that do not read their response: each costs memory up to a mark and a temporary file, and no thread."""

from __future__ import annotations

import contextlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import authority_in, client_context
from tests.support.fleet import fleet_in
from tests.support.kinds import EVERY_KIND, LARGE, application
from tests.support.waiting import eventually
from tests.support.worker import CLIENT_TIMEOUT, POLICY, Gate, Setup, request, worker
from unicornd.config.sections.tls import TlsSettings
from unicornd.dataclass import replace
from unicornd.workers.overflow import Overflow
from unicornd.workers.tls import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.worker import Worker
    from unicornd.workers.context import HttpPolicy

MARK = 64 * 1024
BLOCK = bytes(65536)
BLOCKS = 160
"""Ten megabytes: the kernel keeps some of them for a client that does not read (tcp_wmem, 4 MiB at most)."""
SMALL_WINDOW = 4096
READERS = 200
every_kind = pytest.mark.parametrize("kind", EVERY_KIND)
threaded_kind = pytest.mark.parametrize("kind", ["sync", "threads"])
green_kind = pytest.mark.parametrize("kind", ["gevent", "eventlet"])


def policy(folder: Path, *, most: int = 2**30) -> HttpPolicy:
    log = logging.Logger("overflow")  # noqa: LOG001 - not in the tree of the test's process
    keeping = Overflow(mark=MARK, most=most, folder=str(folder), log=log)
    log.addHandler(logging.FileHandler(folder / "overflow.log", delay=True))
    return replace(POLICY, response_buffer=MARK, overflow=keeping)


@contextlib.contextmanager
def slow_readers(address: Any, path: str, *, count: int = 1) -> Iterator[list[socket.socket]]:
    """Ask and do not read."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            client.settimeout(CLIENT_TIMEOUT)
            client.connect(address)
            client.sendall(request(path))
            clients.append(client)
        yield clients


def rest_of(client: socket.socket, size: int) -> bytes:
    """Read a response of `size` bytes and return its body."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    parts = [body]
    missing = size - len(body)
    while missing:
        part = client.recv(65536)
        assert part
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def stored(running: Worker, folder: Path) -> int:
    return sum(file.startswith(f"{folder}/#") for file in running.open_files())


def in_flight(running: Worker) -> list[str]:
    return [call.text for call in running.reading().in_flight]


def app_of(
    gate: Gate | None = None, headers: tuple[tuple[str, str], ...] = ()
) -> Callable[..., Iterable[bytes]]:
    """Return one that gives `/blocks` piece by piece; after half of them it waits at the gate."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/blocks":
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
        start_response("200 OK", [("Content-Length", str(BLOCKS * len(BLOCK))), *headers])
        return blocks()

    def blocks() -> Iterator[bytes]:
        for number in range(BLOCKS):
            if gate is not None and number == BLOCKS // 2:
                gate.enter()
            yield BLOCK

    return app


@threaded_kind
def test_an_application_is_done_when_the_rest_of_its_response_is_on_the_disk(
    tmp_path: Path, kind: str
) -> None:
    setup = Setup(kind=kind, policy=policy(tmp_path))
    with worker(app_of(), tmp_path, setup) as running, slow_readers(running.address, "/blocks") as (slow,):
        eventually(lambda: running.reading().requests == 1, "the application is done")
        assert stored(running, tmp_path) == 1
        with running.connect() as client:
            assert client.get().body == b"ok"
        assert rest_of(slow, BLOCKS * len(BLOCK)) == BLOCK * BLOCKS
        eventually(lambda: stored(running, tmp_path) == 0, "the file is gone")


@every_kind
def test_a_whole_response_that_is_not_read_keeps_nobody_waiting_and_arrives(
    tmp_path: Path, kind: str
) -> None:
    setup = Setup(kind=kind, policy=policy(tmp_path))
    with (
        worker(application(kind), tmp_path, setup) as running,
        slow_readers(running.address, "/large", count=5) as slow,
    ):
        for _ in range(3):
            with running.connect() as client:
                assert client.get().body == b"ok"
        for each in slow:
            assert rest_of(each, LARGE) == bytes(LARGE)


@green_kind
def test_a_whole_response_leaves_the_memory_of_a_worker_with_greenlets(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, policy=policy(tmp_path))
    with (
        worker(application(kind), tmp_path, setup) as running,
        slow_readers(running.address, "/large") as (slow,),
    ):
        eventually(lambda: stored(running, tmp_path) == 1, "it is on the disk")
        assert rest_of(slow, LARGE) == bytes(LARGE)


@threaded_kind
def test_over_tls_too_an_application_is_done_when_the_rest_is_on_the_disk(tmp_path: Path, kind: str) -> None:
    authority = authority_in(tmp_path)
    own = authority.sign("server")
    context = make_context(TlsSettings(certfile=own.certificate, keyfile=own.key))
    setup = Setup(kind=kind, policy=policy(tmp_path), tls=context)
    with worker(app_of(), tmp_path, setup) as running, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        sock.settimeout(CLIENT_TIMEOUT)
        sock.connect(running.address)
        with client_context(authority).wrap_socket(sock, server_hostname="localhost") as slow:
            slow.sendall(request("/blocks"))
            eventually(lambda: running.reading().requests == 1, "the application is done")
            assert stored(running, tmp_path) == 1
            assert rest_of(slow, BLOCKS * len(BLOCK)) == BLOCK * BLOCKS


def test_what_is_stored_is_sent_while_the_application_goes_on(tmp_path: Path) -> None:
    gate = Gate()
    setup = Setup(threads=2, policy=policy(tmp_path))
    with (
        worker(app_of(gate), tmp_path, setup) as running,
        slow_readers(running.address, "/blocks") as (slow,),
    ):
        gate.wait_for(1)
        assert rest_of(slow, BLOCKS // 2 * len(BLOCK))
        gate.open()
        received = 0
        while received < BLOCKS // 2 * len(BLOCK):
            received += len(slow.recv(65536))


@pytest.mark.parametrize(
    "field", [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")], ids=lambda field: field[0]
)
def test_an_application_that_declares_a_stream_waits_for_its_client(
    tmp_path: Path, field: tuple[str, str]
) -> None:
    setup = Setup(threads=2, policy=policy(tmp_path))
    with (
        worker(app_of(headers=(field,)), tmp_path, setup) as running,
        slow_readers(running.address, "/blocks") as (slow,),
    ):
        eventually(lambda: running.reading().in_flight != (), "it runs")
        with running.connect() as client:
            assert client.get().body == b"ok"
        eventually(lambda: in_flight(running) == ["GET /blocks"], "it alone runs on, and waits")
        assert stored(running, tmp_path) == 0
        assert rest_of(slow, BLOCKS * len(BLOCK)) == BLOCK * BLOCKS


@pytest.mark.parametrize("most", [0, 3 * len(BLOCK)])
def test_beyond_the_bound_an_application_waits_for_its_client(tmp_path: Path, most: int) -> None:
    setup = Setup(threads=2, policy=policy(tmp_path, most=most))
    with (
        worker(app_of(), tmp_path, setup) as running,
        slow_readers(running.address, "/blocks") as (slow,),
    ):
        eventually(lambda: running.reading().in_flight != (), "it runs")
        with running.connect() as client:
            assert client.get().body == b"ok"
        eventually(lambda: in_flight(running) == ["GET /blocks"], "it alone runs on, and waits")
        assert rest_of(slow, BLOCKS * len(BLOCK)) == BLOCK * BLOCKS


def test_a_worker_that_leaves_sends_what_it_has_stored(tmp_path: Path) -> None:
    setup = Setup(policy=policy(tmp_path))
    with worker(app_of(), tmp_path, setup) as running, slow_readers(running.address, "/blocks") as (slow,):
        eventually(lambda: running.reading().requests == 1, "the application is done")
        running.drain()
        assert rest_of(slow, BLOCKS * len(BLOCK)) == BLOCK * BLOCKS
        assert running.wait() == 0


FLEET_APP = """\
def application(environ, start_response):
    size = 6_000_000 if environ["PATH_INFO"] == "/large" else 2
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    if size == 2:
        return [b"ok"]
    if environ["QUERY_STRING"] == "whole":
        return [bytes(size)]
    return (bytes(10_000) for _ in range(size // 10_000))
"""
FLEET_CONFIG = """\
[app]
target = "./site_app.py:application"
chdir = "."
[server]
bind = "127.0.0.1:0"
[workers]
kind = "{kind}"
count = 2
{threads}
[http]
response_buffer = "64KiB"
{spool}
"""


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("threads", "parts"), ("threads", "whole"), ("sync", "parts"), ("gevent", "parts"), ("gevent", "whole"),
        ("eventlet", "parts"), ("gevent_pywsgi", "parts"),
    ],
)  # fmt: skip
def test_200_clients_that_do_not_read_keep_no_normal_client_out(
    tmp_path: Path, kind: str, query: str
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", FLEET_APP)
        threads = "threads = 4" if kind == "threads" else ""
        keeping = "" if kind == "gevent_pywsgi" else f'response_spool = "8MiB"\ntmp_upload_dir = "{spool}"'
        fleet.write("unicornd.toml", FLEET_CONFIG.format(kind=kind, threads=threads, spool=keeping))
        fleet.start()
        fleet.await_state("ready")
        host, _, port = fleet.addresses()[0].rpartition(":")
        with slow_readers((host, int(port)), f"/large?{query}", count=READERS):
            for _ in range(20):
                assert fleet.get() == "ok"
            if kind in {"sync", "threads"}:
                answered = READERS + 20
                eventually(lambda: requests(fleet.status()) >= answered, "no thread waits for them")
                assert 0 < sum(files_in(spool, list(fleet.pids().values()))) <= READERS * 6_001_000


def requests(status: dict[str, Any]) -> int:
    return sum(each["requests"] for each in status["workers"])


def files_in(folder: Path, pids: list[int]) -> Iterator[int]:
    """Yield the sizes of the files without a name that processes have in a folder."""
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()).startswith(f"{folder}/"):
                    yield link.stat().st_size
