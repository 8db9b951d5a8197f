"""Kinds with a greenlet a connection, gevent and eventlet: what differs from the reactor, asked from outside."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import simple_websocket

from tests.corpus.requests import ACCEPTED, CASES, Case
from tests.support.fleet import Fleet, fleet_in
from tests.support.rows import check_rows
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, Shared, Worker, request, worker
from unicornd.dataclass import replace
from unicornd.http.limits import Limits
from unicornd.units import Seconds
from unicornd.workers.asgi.policy import AsgiPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KINDS = ["gevent", "eventlet"]
SHORT = Seconds(0.3)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LIMITS = Limits(request_line=256, header_count=20, header_size=256, body_size=1000)

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with Shared(lambda: tmp_path_factory.mktemp("worker")) as made:
        yield made


def ok(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def sleepy(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Waits in /wait until the file that the path names is there."""
    if environ["PATH_INFO"].startswith("/wait"):
        path = Path(environ["PATH_INFO"].removeprefix("/wait"))
        while not path.exists():
            time.sleep(0.01)
    return ok(environ, start_response)


def to_ok(_kind: str) -> Callable[..., Iterable[bytes]]:
    return ok


def to_echo(_kind: str) -> Callable[..., Iterable[bytes]]:
    return echo


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answers with the body and with what the corpus checks of the head."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# The corpus of requests, through a real worker.


@pytest.fixture(scope="module", params=KINDS)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    setup = Setup(kind=request.param, policy=replace(POLICY, limits=LIMITS))
    with worker(echo, tmp_path_factory.mktemp(request.param), setup) as running:
        yield running


def converse(running: Worker, pieces: Iterable[bytes]) -> bytes:
    """Send pieces one after the other, then close our side; return everything that is answered."""
    with running.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.send(piece)
            client.finish()
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.sock.recv(65536):
                received += data
        return received


def check(case: Case, received: bytes) -> None:
    wanted = case.status.value if case.status is not None else 200
    while received.startswith(b"HTTP/1.1 100 "):
        received = received.partition(b"\r\n\r\n")[2]
    assert received.startswith(b"HTTP/1.1 %d " % wanted), received[:200]
    if case.status is None and case.facts.get("method") != "HEAD":
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(case.body) in head + b"\r\n"
        assert body.startswith(case.body)


def named(cases: Iterable[Case]) -> Iterator[tuple[str, Case]]:
    return ((case.name, case) for case in cases)


def test_a_request_of_the_corpus_whole(corpus: Worker) -> None:
    check_rows(named(CASES), lambda case: check(case, converse(corpus, [case.raw])))


def test_a_request_of_the_corpus_in_pieces(corpus: Worker) -> None:
    def in_pieces(case: Case) -> None:
        step = 1 if len(case.raw) < 100 else len(case.raw) // 50
        check(case, converse(corpus, [case.raw[at : at + step] for at in range(0, len(case.raw), step)]))

    check_rows(named(CASES), in_pieces)


def test_a_request_of_the_corpus_that_is_cut_short_is_never_answered_with_200(corpus: Worker) -> None:
    def cut_short(case: Case) -> None:
        for end in {1, len(case.raw) // 2, len(case.raw) - 1}:
            assert b"HTTP/1.1 200 " not in converse(corpus, [case.raw[:end]])

    check_rows(named(ACCEPTED), cut_short)


def test_what_follows_a_request_of_the_corpus_is_read_from_its_beginning(corpus: Worker) -> None:
    def followed(case: Case) -> None:
        received = converse(corpus, [case.raw + NEXT])
        check(case, received)
        count = received.count(b"HTTP/1.1 200 ")
        if case.status is not None:
            assert count == 0, "what follows a refused request was served"
        elif b"Connection: close" not in received.partition(b"\r\n\r\n")[0]:
            assert count == 2

    check_rows(named(CASES), followed)


# Bodies that the application reads while they arrive.


@each_kind
def test_a_body_is_read_while_it_arrives(tmp_path: Path, kind: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        yield environ["wsgi.input"].read(3)
        yield environ["wsgi.input"].readline()
        yield environ["wsgi.input"].read()

    with worker(app, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(request("/", method="POST", fields="Content-Length: 12\r\n"))
        eventually(lambda: b"begun" in client.sock.recv(65536, socket.MSG_PEEK), "the answer has begun")
        client.send(b"abcli").send(b"ne\n").send(b"rest")
        assert client.read().body == b"begunabcline\nrest"


@each_kind
def test_a_client_that_expects_it_is_told_to_continue_when_the_application_reads(
    shared: Shared, kind: str
) -> None:
    fields = "Content-Length: 4\r\nExpect: 100-continue\r\n"
    with shared.worker(to_echo, Setup(kind=kind)).connect() as client:
        for _ in range(2):  # the connection is kept
            client.send(request("/", method="POST", fields=fields))
            assert client.read().code == 100
            client.send(b"body")
            assert client.read().body == b"body"
    with shared.worker(to_ok, Setup(kind=kind)).connect() as client:
        client.send(request("/", method="POST", fields=fields))
        response = client.read()
        assert (response.code, response.fields["connection"]) == (200, "close")
        client.finish()
        assert client.is_at_end()


@each_kind
@pytest.mark.parametrize(("size", "is_kept"), [(100_000, True), (5_000_000, False)])
def test_a_body_that_is_not_read_does_not_become_the_next_request(
    shared: Shared, kind: str, size: int, *, is_kept: bool
) -> None:
    running = shared.worker(to_ok, Setup(kind=kind))
    eventually(lambda: running.reading().connections == 0, "those of before are closed")
    before = running.reading().requests
    with running.connect() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(request("/", method="POST", body=b"GET /smuggled HTTP/1.1\r\n".ljust(size, b"x")))
        assert client.read().body == b"ok"
        if is_kept:
            assert client.get().body == b"ok"
        else:
            with contextlib.suppress(ConnectionResetError):
                assert client.finish().is_at_end()
        eventually(lambda: running.reading().requests == before + 1 + is_kept, "nothing else was served")


BROKEN = {
    "cut": request("/", method="POST", fields="Content-Length: 9\r\n") + b"a",
    "cut chunked": request("/", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n",
    "malformed": request("/", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"xyz\r\n",
}


@each_kind
def test_a_body_that_is_broken_raises_again_and_again(tmp_path: Path, kind: str) -> None:
    raised = tmp_path / "raised"

    def app(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        for _ in range(2):
            try:
                environ["wsgi.input"].read()
            except OSError:
                with raised.open("a") as file:
                    file.write("x")
        raise OSError("gives up")

    with worker(app, tmp_path, Setup(kind=kind)) as running:
        for number, (name, sent) in enumerate(BROKEN.items(), start=1):
            with running.connect() as client:
                assert client.send(sent).finish().read().code == 400, name
            assert raised.read_text() == number * "xx", name
        assert "Traceback" not in running.log(), "it is the client's fault"


# Deadlines and orders.


@each_kind
def test_a_request_that_runs_too_long_is_ended_alone_and_its_client_told(tmp_path: Path, kind: str) -> None:
    gate = tmp_path / "gate"
    setup = Setup(kind=kind, request_timeout=Seconds(0.5))
    with worker(sleepy, tmp_path, setup) as running, running.connect() as stuck, running.connect() as other:
        stuck.send(request(f"/wait{gate}"))
        assert stuck.read().code == 504
        assert other.get().code == 200
        assert "timeouts.request" in running.log()
        eventually(lambda: running.reading().in_flight == (), "it is over")


@each_kind
def test_an_answer_that_has_begun_may_take_its_time(tmp_path: Path, kind: str) -> None:
    gate = Gate()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun "
        gate.enter()
        yield b"done"

    setup = Setup(kind=kind, request_timeout=Seconds(0.3))
    with worker(app, tmp_path, setup) as running, running.connect() as client:
        client.send(request())
        gate.wait_for(1)
        eventually(lambda: any(each.is_stream for each in running.reading().in_flight), "it is a stream")
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 0.6, "the limit would be over")
        gate.open()
        assert client.read().body == b"begun done"


@each_kind
def test_a_request_that_stood_still_with_its_worker_has_its_time_afterwards(
    tmp_path: Path, kind: str
) -> None:
    """A limit of 4 s, and a pause of 5 s."""
    gate = Gate()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.enter()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    setup = Setup(kind=kind, request_timeout=Seconds(4.0))
    with worker(app, tmp_path, setup) as running, running.connect() as client:
        client.send(request())
        gate.wait_for(1)
        with running.paused():
            began = time.monotonic()
            eventually(lambda: time.monotonic() - began > 5.0, "the limit is over")
        beat = running.reading().heartbeat
        eventually(lambda: running.reading().heartbeat > beat, "it has looked")
        gate.open()
        assert client.read().body == b"done"


@each_kind
def test_what_still_runs_when_the_time_to_leave_is_over_is_told(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, asgi=AsgiPolicy(graceful=Seconds(0.5)))
    with worker(sleepy, tmp_path, setup) as running, running.connect() as client:
        client.send(request(f"/wait{tmp_path / 'never'}"))
        eventually(lambda: running.reading().in_flight, "it runs")
        running.drain()
        assert client.read().code == 503
        assert running.wait() == 0


@each_kind
def test_a_worker_with_all_its_connections_stops_accepting_and_goes_on_later(
    tmp_path: Path, kind: str
) -> None:
    setup = Setup(kind=kind, policy=replace(POLICY, connections=3))
    with worker(ok, tmp_path, setup) as running, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(running.connect()) for _ in range(3)]
        assert [client.get().code for client in kept] == [200] * 3
        with running.connect() as waiting:
            waiting.send(request())
            eventually(lambda: running.reading().connections == 3, "only three are open")
            kept[0].close()
            assert waiting.read().code == 200


@each_kind
def test_many_requests_run_at_a_time_and_the_oldest_are_shown(tmp_path: Path, kind: str) -> None:
    gate = tmp_path / "gate"
    with worker(sleepy, tmp_path, Setup(kind=kind, cells=8)) as running, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()).send(request(f"/wait{gate}")) for _ in range(50)]
        eventually(lambda: running.reading().connections == 50, "all are open")
        assert len(running.reading().in_flight) == 8
        gate.touch()
        assert [client.read().code for client in clients] == [200] * 50
        eventually(lambda: running.reading().requests == 50, "all are counted")


@each_kind
def test_sys_exit_in_a_greenlet_of_the_application_costs_no_request(tmp_path: Path, kind: str) -> None:
    def leave() -> None:
        sys.exit(3)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/spawn":
            if kind == "gevent":
                import gevent  # noqa: PLC0415 - as an application does

                gevent.spawn(leave)
            else:
                import eventlet  # noqa: PLC0415

                eventlet.spawn_n(leave)
            time.sleep(0.01)
        return ok(environ, start_response)

    with worker(app, tmp_path, Setup(kind=kind)) as running:
        for _ in range(3):
            with running.connect() as client:
                assert client.get("/spawn").code == 200
                assert client.get().code == 200
        assert "what would end the worker" in running.log()


# Sockets that the application takes over.


def note(file: Path, text: str) -> None:
    file.write_text(text)


@each_kind
def test_an_application_may_take_the_connection_over(tmp_path: Path, kind: str) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        sock = environ["unicornd.socket"]
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\n")
        while data := sock.recv(100):
            sock.sendall(data.upper())
        raise StopIteration

    seen = tmp_path / "seen"
    setup = Setup(kind=kind, on_served=lambda served: note(seen, served.status))
    with worker(app, tmp_path, setup) as running:
        with running.connect() as client:
            client.send(request(fields="Connection: Upgrade\r\nUpgrade: shout\r\n"))
            client.send(b"hello")
            received = b""
            while not received.endswith(b"HELLO"):
                received += client.sock.recv(100)
            assert received == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\nHELLO"
            assert [each.is_stream for each in running.reading().in_flight] == [True]
            assert client.finish().is_at_end()
        eventually(seen.exists, "it is told of")
        assert seen.read_text().startswith("101 ")
        assert "Traceback" not in running.log()
        eventually(lambda: running.reading().connections == 0, "it is closed")


STATUSES = {"/switched": "101 Switching Protocols", "/answered": "200 OK"}


@each_kind
def test_what_is_answered_after_the_connection_was_taken_over_goes_nowhere(tmp_path: Path, kind: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["unicornd.socket"].sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\nHELLO")
        start_response(STATUSES[environ["PATH_INFO"]], [("Content-Length", "4")])
        return [b"text"]

    with worker(app, tmp_path, Setup(kind=kind)) as running:
        for path in STATUSES:
            with running.connect() as client:
                client.send(request(path, fields="Connection: Upgrade\r\nUpgrade: shout\r\n"))
                received = b""
                while data := client.sock.recv(100):
                    received += data
            assert received == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\nHELLO", path
        assert "Traceback" not in running.log()


@each_kind
def test_a_request_to_upgrade_that_is_ignored_is_an_ordinary_one(shared: Shared, kind: str) -> None:
    running = shared.worker(to_ok, Setup(kind=kind))
    eventually(lambda: running.reading().connections == 0, "those of before are closed")
    with running.connect() as client:
        for _ in range(3):
            assert client.get(fields="Connection: Upgrade\r\nUpgrade: h2c\r\n").body == b"ok"
        eventually(lambda: running.reading().connections == 1, "it was one connection")


# Whole fleets.

PATCHED = """\
import socket, threading

def application(environ, start_response):
    body = f"{socket.socket.__module__} {type(threading.Lock()).__module__}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


@each_kind
@pytest.mark.parametrize("is_preloaded", [False, True], ids=["", "preloaded"])
def test_the_standard_library_is_patched_before_the_application_is_imported(
    tmp_path: Path, kind: str, *, is_preloaded: bool
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", PATCHED)
        fleet.change("unicornd.toml", "count = 2", f'count = 2\nkind = "{kind}"')
        if is_preloaded:
            fleet.change("unicornd.toml", "[server]", "preload = true\n[server]")
        fleet.start()
        words = fleet.get().split()
        assert all(word.startswith(kind) for word in words), words
        assert "Traceback" not in fleet.log
        assert "Warning" not in fleet.log


@each_kind
def test_connections_are_shared_among_the_workers(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "count = 2", f'count = 2\nkind = "{kind}"')
        fleet.start()
        with contextlib.ExitStack() as stack:
            pids = []
            for _ in range(200):
                connection = stack.enter_context(contextlib.closing(fleet.connect()))
                connection.request("GET", "/")
                pids.append(connection.getresponse().read())
            assert min(pids.count(pid) for pid in set(pids)) >= 20
            assert len(set(pids)) == 2


@each_kind
def test_a_hub_that_is_blocked_is_found_and_its_worker_replaced(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write(
            "site_app.py",
            "import ctypes, os\ndef application(environ, start_response):\n"
            "    if environ['PATH_INFO'] == '/block':\n        ctypes.CDLL(None).sleep(60)\n"
            "    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n",
        )
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"')
        fleet.start("--timeout", "1")
        before = fleet.pids()
        connection = fleet.connect()
        with contextlib.closing(connection):
            connection.request("GET", "/block")
            assert connection.getresponse().status == 504
            eventually(lambda: fleet.pids() not in (before, {}), "it is replaced")
        assert fleet.get() == "ok"
        assert "was stuck in GET /block" in fleet.log


@each_kind
def test_what_has_no_effect_on_greenlets_is_refused(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nthreads = 4\nkind = "{kind}"')
        ended = fleet.run()
        assert ended.returncode == 78
        assert "workers.threads" in ended.stdout + ended.stderr


@each_kind
def test_a_reload_and_a_scaling_keep_every_connection(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", "count = 2", f'count = 2\nkind = "{kind}"')
        fleet.start()
        address = fleet.addresses()[0]
        with Traffic(lambda: fleet.connect(address), clients=6, is_keepalive=True) as traffic:
            eventually(traffic.answered_more(50), "requests are answered")
            for size in (4, 1, 2):
                fleet.client.post("/v1/scale", {"count": size})
                fleet.await_workers(size)
            before = set(fleet.pids().values())
            fleet.send(signal.SIGHUP)
            eventually(lambda: not before & set(fleet.pids().values()), "a new generation serves")
            fleet.await_workers(2)
            eventually(traffic.answered_more(50), "requests are answered")
        assert traffic.tally.failures == []
        assert traffic.tally.connections == 6, "no connection was closed"


NOTING = """\
import logging, time

def note(worker, request, environ, response):
    time.sleep(0.001)
    logging.getLogger("unicornd").info("noted %s", request.path)

def application(environ, start_response):
    time.sleep(0.001)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


@each_kind
def test_logs_and_hooks_of_many_greenlets_lose_no_line_while_the_logs_are_reopened(
    tmp_path: Path, kind: str
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", NOTING)
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"')
        with (tmp_path / "unicornd.toml").open("a") as file:
            file.write('[hooks]\npost_request = "./site_app.py:note"\n[logging]\nerror = "error.log"\n')
        fleet.start("--access-logfile", str(tmp_path / "access.log"))
        address = fleet.addresses()[0]
        with Traffic(lambda: fleet.connect(address), clients=8, is_keepalive=True) as traffic:
            for _ in range(3):
                eventually(traffic.answered_more(100), "requests are answered")
                fleet.send(signal.SIGUSR1)
        answered = traffic.tally.answered
        assert not traffic.tally.failures
        eventually(lambda: (tmp_path / "access.log").read_text().count("GET /") == answered, "all are there")
        eventually(lambda: (tmp_path / "error.log").read_text().count("noted /") == answered, "these, too")


WEBSOCKETS = """\
import simple_websocket

def application(environ, start_response):
    socket = environ.get("wsgi.websocket")  # of gevent-websocket
    if socket is not None:
        while (message := socket.receive()) is not None:
            socket.send(message.upper())
        return []
    server = simple_websocket.Server(environ)
    try:
        while True:
            server.send(server.receive().upper())
    except simple_websocket.ConnectionClosed:
        start_response("200 OK", [])
        return [b"said by a framework when the handler is done"]
"""


@pytest.mark.parametrize("kind", [*KINDS, "gevent_pywsgi", "threads"])
def test_websocket_libraries_find_their_socket(tmp_path: Path, kind: str) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", WEBSOCKETS)
        more = "\nthreads = 2\n[timeouts]\nrequest = 0.5\n" if kind == "threads" else ""
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"{more}')
        fleet.start()
        worker = fleet.pids()[1]
        for _ in range(2):
            client = simple_websocket.Client.connect(f"ws://{fleet.addresses()[0]}/")
            for word in ("hello", "again"):
                client.send(word)
                assert client.receive(timeout=20) == word.upper()
            if kind == "threads":
                eventually(lambda: longest(fleet) > 1.0, "a WebSocket is under no limit of a request's time")
                client.send("still there")
                assert client.receive(timeout=20) == "STILL THERE"
            client.close()
        eventually(lambda: not any(each["now"] for each in fleet.status()["workers"]), "they have ended")
        assert "Traceback" not in fleet.log
        assert fleet.pids()[1] == worker


def longest(fleet: Fleet) -> float:
    """Return for how long the oldest request has been running, in seconds."""
    return max((now["age"] for each in fleet.status()["workers"] for now in each["now"]), default=0.0)
