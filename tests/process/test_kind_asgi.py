"""What is of the kind `asgi` alone: lifespan, WebSockets, streams, time limits that end a task and not a worker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import asgi_app
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Client, Gate, Setup, Worker, request, worker
from unicornd.dataclass import replace
from unicornd.units import Seconds
from unicornd.workers.asgi.policy import AsgiPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

    from unicornd.workers.context import Served

SHORT = Seconds(0.4)
PATIENT = AsgiPolicy(
    lifespan="off", request=Seconds(30.0), disconnect_grace=Seconds(30.0), graceful=Seconds(30.0)
)
SETUP = Setup(kind="asgi", cells=4, asgi=PATIENT)
UPLOAD = 200 * 2**20
PIECE = 2**20
TEXT = [(b"content-type", b"text/plain")]


async def answer(send: Any, body: bytes = b"ok", status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": TEXT})
    await send({"type": "http.response.body", "body": body})


def with_asgi(**changes: Any) -> Setup:
    return replace(SETUP, asgi=replace(PATIENT, **changes))


# What an application does wrong.


@pytest.mark.parametrize(
    ("messages", "status", "said"),
    [
        ([], 500, "the application returned without a response"),
        ([{"type": "http.response.body", "body": b"x"}], 500, "the application failed"),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]}], 500, "the application failed"),
        ([{"type": "http.response.start", "status": 200}], 500, "before the end of its response"),
        ([{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 201}],
         500, "the application failed"),
        ([{"type": "http.response.start", "status": 200},
          {"type": "http.response.body", "body": b"begun", "more_body": True},
          {"type": "http.response.start", "status": 201}], 0, "the application failed"),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]},
          {"type": "http.response.body", "body": b"short"}], 0, "the application failed"),
    ],
    ids=["nothing", "body first", "split field", "head only", "two heads", "a head in the body", "too short"],
)  # fmt: skip
def test_a_broken_answer_is_told_and_never_taken_for_whole(
    tmp_path: Path, messages: list[dict[str, Any]], status: int, said: str
) -> None:
    async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        for message in messages if scope["path"] == "/bad" else ():
            await send(message)
        if scope["path"] != "/bad":
            await answer(send)

    with worker(app, tmp_path, SETUP) as running:
        with running.connect() as client:
            client.send(request("/bad"))
            if status:
                assert client.read().code == status
                assert client.is_at_end()
            else:
                with pytest.raises((EOFError, ConnectionResetError, IndexError)):
                    client.read()
        eventually(lambda: said in running.log(), f"the log says {said!r}")
        with running.connect() as client:
            assert client.get().code == 200
        assert running.reading().requests == 2


def test_an_application_that_answers_twice_fails_and_its_first_answer_stands(tmp_path: Path) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, b"first")
        await answer(send, b"second")

    with worker(app, tmp_path, SETUP) as running, running.connect() as client:
        assert client.get().body == b"first"
        assert client.get().body == b"first"
        eventually(lambda: running.log().count("the application failed") == 2, "it is told")
        assert running.reading().requests == 2


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseException("odd")])
def test_whatever_an_application_raises_the_worker_lives_on(tmp_path: Path, error: BaseException) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise error

    with worker(app, tmp_path, SETUP) as running:
        for _ in range(2):
            with running.connect() as client:
                assert client.get().code == 500


# Time limits.


def test_a_request_that_runs_too_long_is_cancelled_and_its_client_told(tmp_path: Path) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/never":
            await asyncio.Event().wait()
        await answer(send)

    with worker(app, tmp_path, with_asgi(request=SHORT)) as running, running.connect() as client:
        client.send(request("/never"))
        with running.connect() as other:
            assert other.get().code == 200
        response = client.read()
        assert (response.code, response.fields["connection"]) == (504, "close")
        eventually(lambda: running.reading().in_flight == (), "it is over")
        assert "WARNING" not in running.log()
        assert running.log().count("timeouts.request") == 1
        assert running.reading().errors == 1


def test_an_application_that_will_not_be_cancelled_is_answered_for(tmp_path: Path) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with worker(app, tmp_path, with_asgi(request=SHORT)) as running, running.connect() as client:
        assert client.get().code == 504
        assert running.reading().busy_since is not None  # for the arbiter, which ends the worker
        running.send(signal.SIGABRT)
        assert running.wait() == 128 + signal.SIGABRT
        assert "where tasks and greenlets are" in running.log()
        assert f'File "{__file__}", line ' in running.log()


def test_a_stream_may_last_longer_than_a_request(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.to_thread(gate.enter)
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    with worker(app, tmp_path, with_asgi(request=Seconds(0.1))) as running, running.connect() as client:
        client.send(request("/events"))
        gate.wait_for(1)
        began = running.reading().heartbeat
        eventually(lambda: running.reading().heartbeat > began + 0.5, "the limit is over")
        assert [(each.text, each.is_stream) for each in running.reading().in_flight] == [
            ("GET /events", True)
        ]
        gate.open()
        assert client.read().body == b"data: 1\n\ndata: 2\n\n"


def test_a_slow_upload_is_the_clients_time_not_the_applications(tmp_path: Path) -> None:
    with (
        worker(asgi_app(Gate()), tmp_path, with_asgi(request=Seconds(0.2))) as running,
        running.connect() as client,
    ):
        client.send(request("/echo", method="POST", fields="Content-Length: 4\r\n") + b"a")
        for byte in b"bcd":
            began = running.reading().heartbeat
            eventually(lambda then=began: running.reading().heartbeat > then + 0.3, "time goes by")  # type: ignore[misc]
            client.send(bytes([byte]))
        assert client.read().body == b"abcd"


def test_what_an_application_does_after_its_response_has_no_limit_and_is_waited_for(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send)
        await asyncio.to_thread(gate.enter)
        (tmp_path / "done").touch()

    with worker(app, tmp_path, with_asgi(request=Seconds(0.1))) as running, running.connect() as client:
        assert client.get().code == 200
        gate.wait_for(1)
        assert running.reading().in_flight == ()
        running.drain()
        assert client.is_at_end()
        gate.open()
        assert running.wait() == 0
        assert (tmp_path / "done").exists()


def test_an_application_whose_client_has_left_is_cancelled_after_a_while(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        gate.count()
        try:
            await asyncio.Event().wait()
        finally:
            (tmp_path / "ended").touch()

    with worker(app, tmp_path, with_asgi(disconnect_grace=SHORT)) as running:
        with running.connect() as client:
            client.send(request())
            gate.wait_for(1)
        eventually((tmp_path / "ended").exists, "the application is ended")
        eventually(lambda: running.reading().requests == 1, "it is counted")
        assert running.reading().in_flight == ()


def test_an_application_hears_that_its_client_has_left(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        gate.count()
        while (await receive())["type"] != "http.disconnect":
            pass
        (tmp_path / "heard").touch()

    with worker(app, tmp_path, SETUP) as running:
        with running.connect() as client:
            client.send(request())
            gate.wait_for(1)
        eventually((tmp_path / "heard").exists, "it has heard")


# Crowds.


def test_more_requests_than_cells_run_at_once_and_are_all_counted(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        gate.count()
        while not gate.is_open:  # noqa: ASYNC110 - it is opened in another process
            await asyncio.sleep(0.01)
        await answer(send)

    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(app, tmp_path, SETUP))
        clients = [stack.enter_context(running.connect()).send(request(f"/{n}")) for n in range(50)]
        gate.wait_for(50)
        assert len(running.reading().in_flight) == SETUP.cells
        gate.open()
        for client in clients:
            assert client.read().code == 200
        assert running.reading().requests == 50


def test_above_the_limit_connections_wait_in_the_kernel(tmp_path: Path) -> None:
    setup = replace(SETUP, policy=replace(POLICY, connections=2))
    with worker(asgi_app(Gate()), tmp_path, setup) as running:
        first, second, third = running.connect(), running.connect(), running.connect()
        with first, second, third:
            assert first.get().code == second.get().code == 200
            third.send(request())
            first.close()
            assert third.read().code == 200


def test_without_descriptors_accepting_pauses_and_recovers(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - here only

    setup = replace(SETUP, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)))
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(asgi_app(Gate()), tmp_path, setup))
        crowd = [stack.enter_context(running.connect()) for _ in range(100)]
        eventually(lambda: "cannot accept" in running.log(), "the worker complains")
        for client in crowd:
            client.send(request())
        for client in crowd:
            assert client.read().code == 200
            client.close()
        with running.connect() as client:
            assert client.get().code == 200
        assert running.log().count("cannot accept") == 1


def test_a_large_upload_passes_through_in_pieces(tmp_path: Path) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        size = largest = 0
        while True:
            message = await receive()
            size += len(message["body"])
            largest = max(largest, len(message["body"]))
            if not message["more_body"]:
                break
        await answer(send, f"{size} {largest < 2**20}".encode())

    with worker(app, tmp_path, SETUP) as running, running.connect() as client:
        client.send(request("/", method="POST", fields=f"Content-Length: {UPLOAD}\r\n"))
        piece = bytes(PIECE)
        for _ in range(UPLOAD // PIECE):
            client.send(piece)
        assert client.read().body == f"{UPLOAD} True".encode()


# WebSockets.


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})


def websocket_to(running: Worker, path: str = "/ws") -> ClientConnection:
    host, port = running.address
    return connect_websocket(f"ws://{host}:{port}{path}")


def test_a_websocket_is_served_shown_and_counted(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def tell(served: Served) -> None:
        with seen.open("a") as file:
            file.write(f"{served.head.method} {served.head.path} {served.status} {served.size}\n")

    setup = replace(with_asgi(request=Seconds(0.1)), on_served=tell)
    with worker(echo, tmp_path, setup) as running:
        with websocket_to(running) as client:
            client.send("hello")
            assert client.recv() == "HELLO"
            began = running.reading().heartbeat
            eventually(lambda: running.reading().heartbeat > began + 0.5, "timeouts.request is over")
            assert [(each.text, each.is_stream) for each in running.reading().in_flight] == [("WS /ws", True)]
            client.send("on")
            assert client.recv() == "ON"
        eventually(lambda: running.reading().requests == 1, "it is counted")
        eventually(seen.exists, "it is told of")
    assert seen.read_text() == "GET /ws 101 Switching Protocols 7\n"


def test_a_websocket_may_be_refused(tmp_path: Path) -> None:
    with worker(echo, tmp_path, SETUP) as running:
        with pytest.raises(Exception, match="403"):
            websocket_to(running, "/no")
        eventually(lambda: running.reading().requests == 1, "it is counted")
        assert running.reading().errors == 0


def test_an_application_that_sends_to_a_websocket_whose_client_has_left_has_not_failed(
    tmp_path: Path,
) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await send({"type": "websocket.send", "text": "too late"})

    with worker(app, tmp_path, SETUP) as running:
        with websocket_to(running):
            pass
        eventually(lambda: running.reading().requests == 1, "it is counted")
        assert running.reading().errors == 0
        assert "failed" not in running.log()


def test_a_websocket_message_above_the_limit_ends_the_connection_with_1009(tmp_path: Path) -> None:
    with (
        worker(echo, tmp_path, with_asgi(websocket_max_message=100)) as running,
        websocket_to(running) as client,
    ):
        client.send("a" * 100)
        assert client.recv() == "A" * 100
        client.send("a" * 101)
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1009


def test_a_draining_worker_lets_websockets_go_on_until_its_time_is_nearly_up(tmp_path: Path) -> None:
    with worker(echo, tmp_path, with_asgi(graceful=Seconds(2.0))) as running, websocket_to(running) as client:
        client.send("a")
        assert client.recv() == "A"
        running.drain()
        eventually(lambda: "idle" not in running.log() and running.reading().connections == 1, "it drains")
        client.send("b")
        assert client.recv() == "B"
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1012
        assert running.wait() == 0


def test_what_still_runs_when_the_time_to_drain_is_nearly_up_is_answered_with_503(tmp_path: Path) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        gate.count()
        await asyncio.Event().wait()

    with worker(app, tmp_path, with_asgi(graceful=SHORT)) as running, running.connect() as client:
        client.send(request())
        gate.wait_for(1)
        running.drain()
        assert client.read().code == 503
        assert running.wait() == 0


def test_an_application_whose_websocket_is_closed_hears_of_it_and_may_finish(tmp_path: Path) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard = await receive()
        await asyncio.to_thread((tmp_path / "heard").write_text, str(heard["code"]))

    with worker(app, tmp_path, with_asgi(graceful=SHORT)) as running, websocket_to(running) as client:
        running.drain()
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert running.wait() == 0
    assert (tmp_path / "heard").read_text() == "1012"
    assert "failed" not in running.log()


async def stream(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Say "tick" for ever: until the client has left, unless at /deaf; the end of /export is the application's to say."""
    is_export = scope["path"] == "/export"
    kind = b"text/csv" if is_export else b"text/event-stream"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
    if scope["path"] == "/deaf":
        await asyncio.Event().wait()
    assert (await receive())["type"] == "http.disconnect"
    assert (await receive())["type"] == "http.disconnect"
    if scope["path"] != "/unfinished":
        await send({"type": "http.response.body", "body": b"data: bye\n\n", "more_body": is_export})
    if is_export:
        await send({"type": "http.response.body"})


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/events", [b"data: tick\n\n", b"data: bye\n\n"]),
        ("/unfinished", [b"data: tick\n\n"]),
        ("/deaf", [b"data: tick\n\n"]),
        ("/export", [b"data: tick\n\n", b"data: bye\n\n"]),
    ],
)
def test_an_application_that_streams_hears_that_the_worker_leaves_and_ends_its_response(
    tmp_path: Path, path: str, parts: list[bytes]
) -> None:
    graceful = SHORT if path in {"/deaf", "/export"} else Seconds(60.0)  # event streams need not wait
    with worker(stream, tmp_path, with_asgi(graceful=graceful)) as running, running.connect() as client:
        client.send(request(path))
        eventually(lambda: [each.is_stream for each in running.reading().in_flight] == [True], "it streams")
        running.drain()
        assert client.read().body == b"".join(parts)
        assert client.is_at_end()
        assert running.wait() == 0
        assert running.reading().errors == 0
        assert "the application" not in running.log()


def test_a_stream_that_may_not_end_anywhere_breaks_off_when_its_application_gives_it_up(
    tmp_path: Path,
) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"half of it", "more_body": True})
        await receive()

    with worker(app, tmp_path, with_asgi(graceful=SHORT)) as running, running.connect() as client:
        client.send(request())
        eventually(lambda: [each.is_stream for each in running.reading().in_flight] == [True], "it streams")
        running.drain()
        with pytest.raises((EOFError, ConnectionResetError, IndexError)):
            client.read()
        assert running.wait() == 0
        assert "the application" not in running.log()


# What the application is told.


def scope_teller(scope: dict[str, Any], _receive: Any, send: Any) -> Any:
    facts = {key: scope[key] for key in ("scheme", "client", "root_path", "path", "http_version")}
    return answer(send, repr(facts).encode())


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(("127.0.0.1",), ("https", "203.0.113.7")), (("10.0.0.0/8",), ("http", "127.0.0.1"))],
)
def test_forwarded_scheme_and_client_are_believed_of_trusted_peers_only(
    tmp_path: Path, trusted: tuple[str, ...], expected: tuple[str, str]
) -> None:
    fields = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.7, 127.0.0.1\r\n"
    setup = with_asgi(trusted=trusted, root_path="/shop")
    with worker(scope_teller, tmp_path, setup) as running, running.connect() as client:
        facts = eval(client.get("/a", fields=fields).body)
        assert (facts["scheme"], facts["client"][0]) == expected
        assert (facts["root_path"], facts["path"]) == ("/shop", "/shop/a")


def test_a_peer_that_contradicts_itself_about_the_scheme_is_refused(tmp_path: Path) -> None:
    setup = with_asgi(secure={"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"})
    with worker(scope_teller, tmp_path, setup) as running, running.connect() as client:
        assert b"'https'" in client.get(fields="X-Forwarded-Ssl: on\r\n").body
        assert client.get(fields="X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: http\r\n").code == 400
        assert client.is_at_end()


def test_a_websocket_behind_a_proxy_knows_its_client_and_scheme(tmp_path: Path) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"{scope['scheme']} {scope['client'][0]}"})
        await send({"type": "websocket.close"})

    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    with worker(app, tmp_path, SETUP) as running:
        host, port = running.address
        with connect_websocket(f"ws://{host}:{port}/", additional_headers=said) as client:
            assert client.recv() == "wss 203.0.113.7"


def headers_teller(scope: dict[str, Any], receive: Any, send: Any) -> Any:
    async def app() -> None:
        while (await receive()).get("more_body"):
            pass
        await answer(send, repr(scope["headers"]).encode())

    return app()


def test_names_with_an_underscore_do_not_reach_the_application(tmp_path: Path) -> None:
    fields = "X_Real_IP: 10.0.0.1\r\nX-Real-IP: 203.0.113.7\r\nCookie: a_b=c_d\r\n"
    with worker(headers_teller, tmp_path, SETUP) as running:
        for pause in (0, 30):  # whole, and in two pieces
            with running.connect() as client:
                sent = request("/a_b", fields=fields)
                client.send(sent[:pause]).send(sent[pause:])
                told = client.read().body
                assert b"x_real_ip" not in told
                assert b"(b'x-real-ip', b'203.0.113.7')" in told
                assert b"a_b=c_d" in told


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_trailers_are_no_headers(tmp_path: Path, method: str) -> None:
    sent = (
        f"{method} / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\nX-Real-IP: 10.0.0.1\r\n\r\n"
    )
    with worker(headers_teller, tmp_path, SETUP) as running, running.connect() as client:
        assert b"real-ip" not in client.send(sent).read().body
        assert b"real-ip" not in client.get().body


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_both_event_loops_serve_and_leave(tmp_path: Path, loop: Any) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, type(asyncio.get_running_loop()).__module__.encode())

    with worker(app, tmp_path, with_asgi(loop=loop)) as running:
        with running.connect() as client:
            assert client.get().body.startswith(loop.encode())
        running.drain()
        assert running.wait() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_whose_request_blocks_the_loop_is_told_when_the_worker_is_ended_for_it(
    tmp_path: Path, loop: Any
) -> None:
    gate = Gate()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        gate.enter()

    with worker(app, tmp_path, with_asgi(loop=loop)) as running, running.connect() as client:
        client.send(request())
        gate.wait_for(1)
        running.send(signal.SIGABRT)
        assert client.read().code == 504
        assert running.wait() == 128 + signal.SIGABRT


def test_a_slow_client_of_a_large_response_keeps_the_application_waiting(tmp_path: Path) -> None:
    sent = Gate()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        for _ in range(200):
            await send({"type": "http.response.body", "body": bytes(2**18), "more_body": True})
            sent.count()
        await send({"type": "http.response.body", "body": b""})

    with worker(app, tmp_path, SETUP) as running, Client(running.family, running.address) as client:
        client.send(request())
        sent.wait_for(2)
        before = running.reading().heartbeat
        eventually(lambda: running.reading().heartbeat > before + 0.5, "time goes by")
        assert sent.arrivals < 150
        assert len(client.read().body) == 200 * 2**18


# Whole fleets.

LIFE = """\
import asyncio, pathlib
HERE = pathlib.Path(__file__).parent

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        while not (HERE / "gate").exists():
            await asyncio.sleep(0.01)
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        (HERE / "ended").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["state"]["greeting"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def test_a_fleet_is_ready_when_the_startup_of_its_applications_is_complete(fleet: Fleet) -> None:
    fleet.write("site_app.py", LIFE)
    fleet.spawn()
    eventually(
        lambda: (fleet.folder / "control.sock").exists() and len(fleet.status()["workers"]) == 2, "it boots"
    )
    assert fleet.pids() == {}
    fleet.open_gate()
    fleet.await_state("ready")
    assert fleet.get() == "hello"
    assert fleet.end() == 0
    assert (fleet.folder / "ended").exists()


STARTUPS = {
    "raises": "raise RuntimeError('no database')",
    "says failed": "await send({'type': 'lifespan.startup.failed', 'message': 'Traceback\\nRuntimeError: no database'}); return",
    "exits": "raise SystemExit('no database')",
}


@pytest.mark.parametrize("failure", STARTUPS.values(), ids=STARTUPS)
def test_a_startup_that_fails_ends_the_start_and_rolls_a_reload_back(fleet: Fleet, failure: str) -> None:
    good = LIFE.replace('while not (HERE / "gate").exists():', "while False:")
    bad = good.replace('scope["state"]["greeting"] = "hello"', failure)
    fleet.write("site_app.py", bad)
    done = fleet.run()
    assert done.returncode == 3
    assert "startup" in done.stderr
    assert "no database" in done.stderr
    assert "Traceback" in done.stderr
    fleet.write("site_app.py", good)
    fleet.start()
    before = fleet.pids()
    fleet.write("site_app.py", bad)
    fleet.send(signal.SIGHUP)
    fleet.await_log("is given up")
    fleet.await_state("ready")
    assert fleet.pids() == before
    assert fleet.get() == "hello"


def test_a_worker_is_warmed_up_after_its_startup_and_not_ready_if_that_fails(fleet: Fleet) -> None:
    fleet.write("site_app.py", LIFE)
    fleet.open_gate()
    fleet.change("unicornd.toml", "[server]", 'warmup = ["/a?b", "/c"]\n[server]')
    fleet.start()
    assert fleet.get() == "hello"
    before = fleet.pids()
    fleet.change("site_app.py", 'body = scope["state"]["greeting"].encode()', 'raise LookupError("cold")')
    fleet.send(signal.SIGHUP)
    fleet.await_log("is given up")
    fleet.await_state("ready")
    assert "app.warmup: GET /a?b raised LookupError: cold" in fleet.log
    assert fleet.pids() == before


def test_an_application_without_a_lifespan_is_served_unless_one_is_asked_for(fleet: Fleet) -> None:
    fleet.write(
        "site_app.py",
        "async def application(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'ok'})\n",
    )
    done = fleet.run("--set", "asgi.lifespan=on")
    assert done.returncode == 3
    assert "startup" in done.stderr
    fleet.start()
    assert fleet.get() == "ok"


MISFITS = [
    ("workers", 'kind = "sync"', "asgi", 4, 'workers.kind: "sync" serves WSGI, and the application is ASGI'),
    ("workers", 'kind = "asgi"', "wsgi", 4, 'workers.kind: "asgi" serves ASGI, and the application is WSGI'),
    ("app", 'interface = "wsgi"', "asgi", 4, 'app.interface: it says "wsgi", but'),
    ("app", 'interface = "asgi"', "wsgi", 4, 'app.interface: it says "asgi", but'),
    ("app", "", "asgi2", 4, "is an ASGI 2 application"),
    ("asgi", 'lifespan = "on"', "wsgi", 3, "asgi.lifespan is set, but the application is served as WSGI"),
    ("http", "body_memory = 1", "asgi", 3, "http.body_memory has no effect on ASGI"),
    ("http", "response_spool = 1", "asgi", 3, "http.response_spool has no effect on ASGI"),
    (
        "workers",
        'kind = "tornado"\n[http]\nresponse_spool = 1',
        "wsgi",
        78,
        "http.response_spool has no effect on the kind",
    ),
    (
        "workers",
        'kind = "asgi"\n[http]\nbody_memory = 1',
        "asgi",
        78,
        "http.body_memory has no effect on ASGI",
    ),
    ("workers", 'kind = "sync"\n[asgi]\nloop = "auto"', "wsgi", 78, "asgi.loop is set, but the application"),
]
APPS = {
    "wsgi": "def application(environ, start_response): ...\n",
    "asgi": "async def application(scope, receive, send): ...\n",
    "asgi2": "class application:\n    def __init__(self, scope): ...\n",
}


@pytest.mark.parametrize("misfit", MISFITS, ids=[f"{each[1]} {each[2]}" for each in MISFITS])
def test_what_does_not_fit_is_told_with_what_to_set(
    fleet: Fleet, misfit: tuple[str, str, str, int, str]
) -> None:
    table, said, app, code, expected = misfit
    fleet.write("site_app.py", APPS[app])
    text = (fleet.folder / "unicornd.toml").read_text()
    header = f"[{table}]\n"
    text = text if header in text else text + header
    fleet.write("unicornd.toml", text.replace(header, f"{header}{said}\n" if "[" not in said else header))
    if "[" in said:
        first, _, rest = said.partition("\n")
        fleet.write("unicornd.toml", text.replace(header, f"{header}{first}\n") + rest + "\n")
    done = fleet.run()
    assert done.returncode == code, done.stderr
    assert expected in done.stderr


def test_without_uvicorn_the_start_is_refused_with_what_to_install(fleet: Fleet) -> None:
    fleet.write("sitecustomize.py", "import sys\nsys.modules['uvicorn'] = None\n")
    environ = {"PYTHONPATH": f"{fleet.folder}:{Path.cwd()}"}
    done = fleet.run("-k", "uvicorn.workers.UvicornWorker", **environ)
    assert done.returncode == 78
    assert "pip install 'unicornd[asgi]'" in done.stderr
    fleet.start(**environ)
    before = fleet.pids()
    fleet.change("unicornd.toml", "count = 2", 'count = 2\nkind = "asgi"')
    fleet.send(signal.SIGHUP)
    fleet.await_log("SIGHUP refused")
    assert fleet.pids() == before


def test_an_application_that_blocks_the_loop_for_good_is_ended_with_stacks(fleet: Fleet) -> None:
    fleet.write(
        "site_app.py",
        "import time\nasync def application(scope, receive, send):\n    assert scope['type'] == 'http'\n    time.sleep(60)\n",
    )
    fleet.start("--timeout", "1")
    with contextlib.closing(fleet.connect()) as connection:
        connection.request("GET", "/block")
        assert connection.getresponse().status == 504
    fleet.await_workers(2)
    assert "was stuck in GET /block" in fleet.log
    assert "time.sleep(60)" in fleet.log or "in application" in fleet.log
