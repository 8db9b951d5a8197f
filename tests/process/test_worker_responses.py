"""How responses go out: framing, files, slow readers, and what an application does wrong."""

from __future__ import annotations

import io
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import IO

TEXT = [("Content-Type", "text/plain")]
KINDS = ["sync", "threads"]


class Body:
    """A body that counts how often it is closed; shared with the test by a file."""

    def __init__(self, parts: Iterable[bytes], closings: Path, *, error: Exception | None = None) -> None:
        self._parts = parts
        self._closings = closings
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        with self._closings.open("a") as file:
            file.write("x")
        if self._error is not None:
            raise self._error


def app_of(
    *parts: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None
) -> Callable[..., Iterable[bytes]]:
    """Return an application that answers every request alike."""

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, list(TEXT if headers is None else headers))
        return iter(parts)

    return app


def sized(size: int) -> list[tuple[str, str]]:
    return [*TEXT, ("Content-Length", str(size))]


# Framing


def test_a_body_of_unknown_length_is_chunked(tmp_path: Path) -> None:
    with worker(app_of(b"a", b"", b"bc"), tmp_path) as running, running.connect() as client:
        for _ in range(2):
            response = client.get()
            assert response.fields["transfer-encoding"] == "chunked"
            assert response.body == b"abc"


def test_a_body_of_unknown_length_ends_with_the_connection_in_http_1_0(tmp_path: Path) -> None:
    with worker(app_of(b"a", b"bc"), tmp_path) as running, running.connect() as client:
        response = client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").read()
        assert response.fields["connection"] == "close"
        assert "transfer-encoding" not in response.fields
        assert response.body == b"abc"


def test_a_list_of_one_is_sent_with_its_length(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        return [b"whole"]

    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().fields["content-length"] == "5"


@pytest.mark.parametrize("parts", [(), (b"",)])
def test_an_empty_body_has_the_length_zero(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    with worker(app_of(*parts), tmp_path) as running, running.connect() as client:
        assert client.get().fields["content-length"] == "0"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_body_sends_none(tmp_path: Path, status: str) -> None:
    with worker(app_of(b"not sent", status=status), tmp_path) as running, running.connect() as client:
        for _ in range(2):
            response = client.get()
            assert response.status == f"HTTP/1.1 {status}"
            assert "transfer-encoding" not in response.fields


@pytest.mark.parametrize("headers", [TEXT, sized(8)])
def test_the_answer_to_head_has_no_body_and_the_connection_goes_on(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    with worker(app_of(b"not sent", headers=headers), tmp_path) as running, running.connect() as client:
        for _ in range(2):
            response = client.get(method="HEAD")
            assert response.fields.get("content-length", "8") == "8"
            assert "transfer-encoding" not in response.fields


def test_an_empty_answer_to_head_says_nothing_about_the_length_of_get(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        return [b""]

    with worker(app, tmp_path) as running, running.connect() as client:
        assert "content-length" not in client.get(method="HEAD").fields
    with worker(app_of(), tmp_path) as running, running.connect() as client:
        assert "content-length" not in client.get(method="HEAD").fields


def test_a_response_shorter_than_promised_ends_the_connection(tmp_path: Path) -> None:
    with worker(app_of(b"short", headers=sized(10)), tmp_path) as running, running.connect() as client:
        with pytest.raises(EOFError):
            client.get()
        assert "shorter than its Content-Length" in running.log()


def test_a_response_longer_than_promised_is_cut_and_the_connection_goes_on(tmp_path: Path) -> None:
    app = app_of(b"1234", b"5678", b"more", b"and more", headers=sized(5))
    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().body == b"12345"
        assert client.get().body == b"12345"
        assert running.log().count("longer than its Content-Length") == 2


def test_an_application_may_close_the_connection(tmp_path: Path) -> None:
    app = app_of(b"x", headers=[("Connection", "close")])
    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().fields["connection"] == "close"
        assert client.is_at_end()


def test_write_sends_before_the_body(tmp_path: Path) -> None:
    gate = Gate()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", sized(6))
        write(b"one")
        gate.enter()
        return [b"two"]

    with worker(app, tmp_path) as running, running.connect() as client:
        client.send(request())
        gate.wait_for(1)
        eventually(lambda: b"one" in client.sock.recv(65536, socket.MSG_PEEK), "the first part has come")
        gate.open()
        assert client.read().body == b"onetwo"


# Files


@pytest.mark.parametrize("has_sendfile", [True, False])
def test_a_file_is_sent_from_where_it_stands(tmp_path: Path, *, has_sendfile: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        opened = file.open("rb")
        opened.seek(1000)
        start_response("200 OK", list(TEXT))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened)
        return wrapped

    policy = replace(POLICY, has_sendfile=has_sendfile)
    with worker(app, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        for _ in range(2):
            response = client.get()
            assert response.body == file.read_bytes()[1000:]
            assert ("content-length" in response.fields) is has_sendfile
        assert client.get(method="HEAD").body == b""
        assert len(client.get().body) == 2_999_000
        eventually(lambda: str(file) not in running.open_files(), "the file is closed")


def test_a_file_is_cut_at_the_promised_length(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", sized(4))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"))
        return wrapped

    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().body == b"0123"
        assert client.get().body == b"0123"


def test_what_only_looks_like_a_file_is_read(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        file: IO[bytes] = io.BytesIO(b"in memory")
        start_response("200 OK", list(TEXT))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 2)
        return wrapped

    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().body == b"in memory"


def test_a_client_that_leaves_during_a_file_is_no_failure_of_the_application(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/file":
            gate.enter()
            start_response("200 OK", list(TEXT))
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"))
            return wrapped
        return app_of(b"ok")(environ, start_response)

    with worker(app, tmp_path) as running:
        with running.connect() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.send(request("/file"))
            gate.wait_for(1)
        gate.open()
        with running.connect() as client:
            assert client.get().code == 200
        assert "failed" not in running.log()


# Slow readers


@pytest.mark.parametrize("kind", KINDS)
def test_a_response_below_the_mark_waits_in_the_reactor_while_others_are_served(
    tmp_path: Path, kind: str
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        size = 9_000_000 if environ["PATH_INFO"] == "/large" else 10
        start_response("200 OK", sized(size))
        return [b"x" * size]

    policy = replace(POLICY, response_buffer=20_000_000)
    with worker(app, tmp_path, Setup(kind=kind, policy=policy)) as running, running.connect() as slow:
        slow.send(request("/large"))
        eventually(lambda: running.reading().requests == 1, "the application is done")
        with running.connect() as client:
            assert client.get().body == b"x" * 10
        assert len(slow.read().body) == 9_000_000


def test_an_application_waits_above_the_mark_and_others_are_served_by_other_threads(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        count = 300 if environ["PATH_INFO"] == "/large" else 1
        start_response("200 OK", sized(count * 65536))
        return (bytes(65536) for _ in range(count))

    policy = replace(POLICY, response_buffer=500_000)
    with worker(app, tmp_path, Setup(threads=2, policy=policy)) as running, running.connect() as slow:
        slow.send(request("/large"))
        for _ in range(3):
            with running.connect() as client:
                assert len(client.get().body) == 65536
        eventually(
            lambda: [call.text for call in running.reading().in_flight] == ["GET /large"],
            "only the large one is still running",
        )
        assert len(slow.read().body) == 300 * 65536


@pytest.mark.parametrize("mark", [500_000, 20_000_000])
def test_a_client_that_does_not_read_is_given_up(tmp_path: Path, mark: int) -> None:
    closings = tmp_path / "closings"

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/":
            return app_of(b"ok")(environ, start_response)
        start_response("200 OK", sized(150 * 65536))
        return Body((bytes(65536) for _ in range(150)), closings)

    policy = replace(POLICY, response_buffer=mark, write=Seconds(0.2))
    with worker(app, tmp_path, Setup(policy=policy)) as running, running.connect() as slow:
        slow.send(request("/large"))
        eventually(closings.exists, "the body is closed")
        eventually(lambda: running.reading().connections == 0, "the connection is closed")
        with pytest.raises((EOFError, ConnectionResetError)):
            slow.read()
        assert closings.read_text() == "x"
        assert "failed" not in running.log()
        with running.connect() as client:
            assert client.get().body == b"ok"


# What applications do wrong


class Unforeseen(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Unforeseen, MemoryError]
)
def test_whatever_an_application_raises_is_a_500_and_the_worker_lives_on(
    tmp_path: Path, kind: str, error: type[BaseException]
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise error(3)
        return app_of(b"ok")(environ, start_response)

    with worker(app, tmp_path, Setup(kind=kind)) as running:
        with running.connect() as client:
            response = client.get("/bad?secret=1")
            assert response.code == 500
            assert response.fields["connection"] == "close"
            assert client.is_at_end()
        with running.connect() as client:
            assert client.get().body == b"ok"
        assert error.__name__ in running.log()
        assert "secret" not in running.log()
        eventually(lambda: running.reading().errors == 1, "it is counted")


def test_the_500_to_head_has_no_body(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        raise ValueError

    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get(method="HEAD").code == 500
        assert client.is_at_end()


@pytest.mark.parametrize("headers", [TEXT, sized(100)])
def test_an_error_behind_the_head_breaks_the_connection(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    closings = tmp_path / "closings"

    def parts() -> Iterator[bytes]:
        yield b"begun"
        raise ValueError("too late")

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        return Body(parts(), closings)

    with worker(app, tmp_path) as running, running.connect() as client:
        with pytest.raises((EOFError, ConnectionResetError)):
            client.get()
        assert "too late" in running.log()
        eventually(closings.exists, "the body is closed")
        assert closings.read_text() == "x"


def test_an_error_in_a_body_that_only_its_end_delimits_resets_the_connection(tmp_path: Path) -> None:
    gate = Gate()

    def parts() -> Iterator[bytes]:
        yield b"begun"
        gate.enter()
        raise ValueError("too late")

    with worker(app_of_iterator(parts), tmp_path) as running, running.connect() as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        gate.wait_for(1)
        gate.open()
        with pytest.raises(ConnectionResetError):
            client.read()


def app_of_iterator(parts: Callable[[], Iterator[bytes]]) -> Callable[..., Iterable[bytes]]:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        return parts()

    return app


def test_an_error_in_close_is_logged_and_the_response_is_whole(tmp_path: Path) -> None:
    closings = tmp_path / "closings"

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", sized(9_000_000))
        return Body([bytes(9_000_000)], closings, error=ValueError("in close"))

    policy = replace(POLICY, response_buffer=20_000_000)
    with worker(app, tmp_path, Setup(policy=policy)) as running, running.connect() as client:
        client.send(request())
        eventually(closings.exists, "the body is closed")
        assert len(client.read().body) == 9_000_000
        assert "in close" in running.log()
        assert closings.read_text() == "x"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_body_is_closed_once_after_a_usual_response(tmp_path: Path, method: str) -> None:
    closings = tmp_path / "closings"

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        return Body([b"a", b"b"], closings)

    with worker(app, tmp_path) as running, running.connect() as client:
        client.get(method=method)
        client.get(method=method)
        eventually(lambda: closings.read_text() == "xx", "both are closed")


@pytest.mark.parametrize(
    ("status", "headers", "parts"),
    [
        ("200 OK", TEXT, ("text",)),
        ("200 OK", TEXT, (7,)),
        ("200", [*TEXT, ("X", "a\r\nSet-Cookie: b")], (b"",)),
        ("200 OK", [("X", "a\0b")], (b"",)),
        ("200 OK", [("X", "☃")], (b"",)),
        ("200 OK", [("X\r\nY", "a")], (b"",)),
        ("200 OK", [("X", 7)], (b"",)),
        ("200 OK", [("Content-Length", "-1")], (b"",)),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")], (b"a",)),
        ("200 OK\r\nX: y", TEXT, (b"",)),
        ("OK", TEXT, (b"",)),
        ("100 Continue", TEXT, (b"",)),
        (200, TEXT, (b"",)),
        ("200 OK", tuple(TEXT), (b"",)),
        ("200 OK", [("X",)], (b"",)),
    ],
)
def test_what_must_not_be_sent_becomes_a_500(
    tmp_path: Path, status: Any, headers: Any, parts: Iterable[bytes]
) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return iter(parts)

    with worker(app, tmp_path) as running, running.connect() as client:
        response = client.get()
        assert response.code == 500
        assert not {"x", "set-cookie"} & set(response.fields)
        assert "Traceback" in running.log()


def test_a_body_before_start_response_is_a_500(tmp_path: Path) -> None:
    with worker(lambda _environ, _start: [b"hello"], tmp_path) as running, running.connect() as client:
        assert client.get().code == 500
        assert "before it called start_response" in running.log()


def test_start_response_twice_is_a_500(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        start_response("201 Created", list(TEXT))
        return [b"x"]

    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().code == 500


def test_start_response_with_exc_info_replaces_what_was_not_sent(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT))
        error = ValueError()
        start_response("503 Service Unavailable", list(TEXT), (ValueError, error, error.__traceback__))
        return [b"sorry"]

    with worker(app, tmp_path) as running, running.connect() as client:
        response = client.get()
        assert (response.code, response.body) == (503, b"sorry")


def test_start_response_with_exc_info_raises_once_the_head_is_sent(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b"begun"
        error = ValueError("the cause")
        start_response("500 Oh", list(TEXT), (ValueError, error, error.__traceback__))
        yield b"never"

    with worker(app, tmp_path) as running, running.connect() as client:
        with pytest.raises((EOFError, ConnectionResetError)):
            client.get()
        assert "the cause" in running.log()
