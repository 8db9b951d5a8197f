"""How requests come in: pieces, pipelines, bodies, what is refused, and what never reaches the application."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from tests.support.waiting import eventually
from tests.support.worker import POLICY, Client, Gate, Setup, request, worker
from unicornd.dataclass import replace
from unicornd.http.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


KINDS = ["sync", "threads"]


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with what was asked: method, path, body."""
    body = environ["wsgi.input"].read()
    answer = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode() + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def keys(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the environ's values that are text."""
    answer = json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def about_input(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the class of the body's file and its size."""
    body = environ["wsgi.input"]
    answer = f"{type(body).__name__} {len(body.read())}".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_in_one_piece_is_answered(tmp_path: Path, kind: str) -> None:
    with worker(echo, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        assert client.get("/a").body == b"GET /a "


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_comes_byte_by_byte_is_answered(tmp_path: Path, kind: str) -> None:
    with worker(echo, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("/a", method="POST", body=b"0123456789"):
            client.send(bytes([byte]))
        assert client.read().body == b"POST /a 0123456789"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", range(1, 6))
def test_a_first_piece_of_a_few_bytes_is_only_a_beginning(tmp_path: Path, kind: str, split: int) -> None:
    data = request("/a")
    with worker(echo, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(data[:split])
        with running.connect() as other:  # so the first piece has been read by itself
            assert other.get().code == 200
        assert client.send(data[split:]).read().body == b"GET /a "


def test_a_kept_connection_serves_one_request_after_the_other(tmp_path: Path) -> None:
    with worker(echo, tmp_path, Setup(threads=4)) as running, running.connect() as client:
        for number in range(50):
            response = client.get(f"/{number}")
            assert response.body == f"GET /{number} ".encode()
            assert "connection" not in response.fields
        eventually(lambda: running.reading().requests == 50, "all are counted")


def test_sync_closes_after_one_request_and_says_so(tmp_path: Path) -> None:
    with worker(echo, tmp_path, Setup(kind="sync")) as running, running.connect() as client:
        assert client.get().fields["connection"] == "close"
        assert client.is_at_end()


@pytest.mark.parametrize("fields", ["Connection: close\r\n", "Connection: keep-alive, close\r\n"])
def test_a_client_that_wants_it_is_closed(tmp_path: Path, fields: str) -> None:
    with worker(echo, tmp_path) as running, running.connect() as client:
        assert client.get(fields=fields).fields["connection"] == "close"
        assert client.is_at_end()


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    bodies = [b"x" * size for size in range(1, 60)]
    with worker(echo, tmp_path, Setup(threads=4)) as running, running.connect() as client:
        client.send(b"".join(request(f"/{len(body)}", method="POST", body=body) for body in bodies))
        for body in bodies:
            assert client.read().body == f"POST /{len(body)} ".encode() + body


def test_a_pipeline_does_not_keep_another_client_waiting(tmp_path: Path) -> None:
    gate, reached = Gate(), Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/first":
            gate.enter()
        if environ["PATH_INFO"] == "/last":
            reached.enter()
        return echo(environ, start_response)

    with worker(app, tmp_path) as running, running.connect() as greedy, running.connect() as other:
        greedy.send(request("/first") + request("/2") + request("/3") + request("/last"))
        gate.wait_for(1)
        other.send(request("/other"))
        gate.open()
        reached.wait_for(1)
        assert other.read().body == b"GET /other "  # while the last one of the pipeline is still running
        reached.open()
        assert [greedy.read().body for _ in range(4)][-1] == b"GET /last "


@pytest.mark.parametrize("busy", [0, 3])
def test_no_more_requests_are_accepted_than_threads_are_free_to_run(tmp_path: Path, busy: int) -> None:
    slow, gate = Gate(), Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        (slow if environ["PATH_INFO"] == "/slow" else gate).enter()
        return echo(environ, start_response)

    with worker(app, tmp_path, Setup(threads=4)) as running, contextlib.ExitStack() as stack:

        def ask(path: str = "/") -> Client:
            client = stack.enter_context(running.connect())
            client.send(request(path))
            return client

        first = ask("/slow")  # so the worker knows that its requests are
        slow.wait_for(1)
        slow.open()
        assert first.read().code == 200
        clients = [ask() for _ in range(busy)]
        gate.wait_for(busy)
        with running.paused():
            clients += [ask() for _ in range(8)]
        gate.wait_for(4)
        assert running.queued() == busy + 4  # for another worker
        gate.open()
        assert {client.read().code for client in clients} == {200}


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunked_body_is_decoded(tmp_path: Path, kind: str) -> None:
    with worker(echo, tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(request("/c", method="PUT", fields="Transfer-Encoding: chunked\r\n"))
        client.send(b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nTrailer: gone\r\n\r\n")
        assert client.read().body == b"PUT /c hello world"


def test_a_client_that_expects_it_is_told_to_continue(tmp_path: Path) -> None:
    with worker(echo, tmp_path) as running, running.connect() as client:
        client.send(request("/", method="POST", fields="Expect: 100-continue\r\nContent-Length: 4\r\n"))
        assert client.read().code == 100
        client.send(b"data")
        assert client.read().body == b"POST / data"


def test_a_client_that_does_not_wait_is_not_told_to_continue(tmp_path: Path) -> None:
    with worker(echo, tmp_path) as running, running.connect() as client:
        client.send(request("/", method="POST", fields="Expect: 100-continue\r\n", body=b"data"))
        assert client.read().code == 200


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    policy = replace(POLICY, limits=Limits(body_size=1000))
    with worker(echo, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(request("/", method="POST", fields="Expect: 100-continue\r\nContent-Length: 1001\r\n"))
        assert client.read().code == 413
        assert client.finish().is_at_end()


def test_a_chunked_body_that_grows_too_large_is_refused_and_the_answer_arrives(tmp_path: Path) -> None:
    policy = replace(POLICY, limits=Limits(body_size=1000))
    with worker(echo, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(request("/", method="POST", fields="Transfer-Encoding: chunked\r\n"))
        client.send(b"200\r\n" + b"x" * 512 + b"\r\n")
        client.send(b"200\r\n" + b"x" * 512 + b"\r\n" + b"200\r\n" + b"x" * 512)
        assert client.read().code == 413


def test_a_large_body_goes_to_a_temporary_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.enter()
        return about_input(environ, start_response)

    policy = replace(POLICY, body_memory=10_000, tmp_upload_dir=str(uploads))
    with worker(app, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(request("/", method="POST", body=bytes(3_000_000)))
        gate.wait_for(1)
        assert any(name.startswith(str(uploads)) for name in running.open_files())
        assert not list(uploads.iterdir())
        gate.open()
        assert client.read().body.endswith(b" 3000000")
        eventually(
            lambda: not any(name.startswith(str(uploads)) for name in running.open_files()),
            "the temporary file is closed",
        )


def test_a_small_body_stays_in_memory(tmp_path: Path) -> None:
    with worker(about_input, tmp_path) as running, running.connect() as client:
        client.send(request("/", method="POST", body=b"small"))
        assert client.read().body == b"BytesIO 5"


def test_a_body_that_cannot_be_stored_is_refused_with_507(tmp_path: Path) -> None:
    policy = replace(POLICY, body_memory=10, tmp_upload_dir=str(tmp_path / "missing"))
    with worker(echo, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(request("/", method="POST", body=b"more than ten"))
        assert client.read().code == 507


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "cut",
    [
        request("/", method="POST", fields="Content-Length: 100\r\n") + b"only this",
        request("/", method="POST", fields="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n",
        request("/")[:-2],
    ],
    ids=["length", "chunked", "head"],
)
def test_a_request_cut_short_never_reaches_the_application(tmp_path: Path, cut: bytes, kind: str) -> None:
    with worker(echo, tmp_path, Setup(kind=kind)) as running:
        with running.connect() as client:
            client.send(cut).finish()
            assert client.is_at_end()
        with running.connect() as client:
            client.get()
        eventually(lambda: running.reading().requests == 1, "only the whole one is counted")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"\x16\x03\x01 hello, I speak TLS\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200_000, 431),
    ],
)
def test_a_bad_request_is_refused_and_the_connection_closed(tmp_path: Path, data: bytes, code: int) -> None:
    with worker(echo, tmp_path) as running, running.connect() as client:
        client.send(data)
        response = client.read()
        assert response.code == code
        assert response.fields["connection"] == "close"
        assert client.finish().is_at_end()
        assert running.reading().requests == 0


def test_what_follows_a_bad_request_is_not_served(tmp_path: Path) -> None:
    with worker(echo, tmp_path) as running, running.connect() as client:
        client.send(request("/good") + b"BAD\r\n\r\n" + request("/smuggled"))
        assert client.read().body == b"GET /good "
        assert client.read().code == 400
        assert client.finish().is_at_end()
        eventually(lambda: running.reading().requests == 1, "only the first one is counted")


@pytest.mark.parametrize("split", [8001, 8002, 8003])
def test_a_request_line_of_the_longest_size_is_accepted_wherever_it_is_split(
    tmp_path: Path, split: int
) -> None:
    line = b"GET /" + b"x" * (8000 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
    data = line + b"\r\nHost: test\r\n\r\n"
    with worker(echo, tmp_path) as running, running.connect() as client, running.connect() as other:
        client.send(data[:split])
        other.get()  # so the first part has been read by itself
        client.send(data[split:])
        assert client.read().code == 200


def test_an_empty_line_before_a_request_is_ignored_however_it_comes(tmp_path: Path) -> None:
    data = b"\r\n" + request("/")
    with worker(echo, tmp_path) as running:
        for pieces in ([data], [bytes([byte]) for byte in data], [data[:-1], data[-1:]]):
            with running.connect() as client, running.connect() as other:
                for piece in pieces:
                    client.send(piece)
                    other.get()
                assert client.read().code == 200


def test_the_environ_says_where_and_from_where(tmp_path: Path) -> None:
    with worker(keys, tmp_path) as running, running.connect() as client:
        environ = json.loads(client.get("/a%20b?c=d", fields="X-Real-IP: 1\r\nX_Real_IP: 2\r\n").body)
        host, port = client.sock.getsockname()
        assert environ["PATH_INFO"] == "/a b"
        assert environ["QUERY_STRING"] == "c=d"
        assert environ["RAW_URI"] == "/a%20b?c=d"
        assert environ["REMOTE_ADDR"] == host
        assert environ["REMOTE_PORT"] == str(port)
        assert environ["SERVER_PORT"] == str(running.address[1])
        assert environ["HTTP_X_REAL_IP"] == "1"


def test_a_unix_socket_serves_and_takes_the_server_name_from_host(tmp_path: Path) -> None:
    with worker(keys, tmp_path, Setup(family=socket.AF_UNIX)) as running, running.connect() as client:
        environ = json.loads(client.send("GET / HTTP/1.1\r\nHost: shop.example:81\r\n\r\n").read().body)
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("shop.example", "81")
        assert environ["REMOTE_ADDR"] == ""


def test_ipv6_serves(tmp_path: Path) -> None:
    with worker(keys, tmp_path, Setup(family=socket.AF_INET6)) as running, running.connect() as client:
        assert json.loads(client.get().body)["REMOTE_ADDR"] == "::1"


@pytest.mark.parametrize("kind", KINDS)
def test_wsgiref_validate_finds_nothing(tmp_path: Path, kind: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.errors"].write("noted\n")
        environ["wsgi.errors"].flush()
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    with worker(validator(app), tmp_path, Setup(kind=kind)) as running:
        for data in (request("/"), request("/a?b=c", method="POST", body=b"body"), request("/%ff%C3%A4")):
            with running.connect() as client:
                assert client.send(data).read().code == 200
        assert "noted" in running.log()
        assert "failed" not in running.log()


def test_http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept(tmp_path: Path) -> None:
    with worker(echo, tmp_path) as running:
        with running.connect() as client:
            assert client.send("GET /a HTTP/1.0\r\n\r\n").read().fields["connection"] == "close"
            assert client.is_at_end()
        with running.connect() as client:
            for _ in range(2):
                response = client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").read()
                assert response.fields["connection"] == "keep-alive"
