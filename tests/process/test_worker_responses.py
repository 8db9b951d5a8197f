"""How responses go out: framing, files, slow readers, and what an application does wrong."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import socket
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import TEXT, Body, app_of, sized
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.dataclass import replace
from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import IO

KINDS = ["sync", "threads"]


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


def test_a_response_longer_than_promised_is_cut_and_ends_the_connection(tmp_path: Path) -> None:
    app = app_of(b"1234", b"5678", b"more", b"and more", headers=sized(5))
    with worker(app, tmp_path) as running, running.connect() as client:
        assert client.get().body == b"12345"
        assert client.is_at_end()
        assert running.log().count("longer than its Content-Length") == 1


def test_a_whole_response_longer_than_promised_says_that_it_ends_the_connection(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", sized(5))
        return [b"12345678"]

    with worker(app, tmp_path) as running, running.connect() as client:
        response = client.get()
        assert (response.body, response.fields["connection"]) == (b"12345", "close")
        assert client.is_at_end()


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


class Shifted(io.FileIO):
    """A file that is read as something else than its descriptor has, as one that decrypts."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(-1 if size is None else size).swapcase()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def temporary(data: bytes) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the server closes it
    file.write(data)  # and not flushed
    file.seek(2)
    return file


def ahead(path: Path) -> IO[bytes]:
    file = path.open("rb")
    assert file.read(2) == b"Wh"  # the rest has been read ahead
    return file


def changed(path: Path) -> IO[bytes]:
    file = path.open("rb+")
    file.write(b"WH")  # not written yet
    return file


@pytest.mark.parametrize(
    ("make", "body", "is_sized"),
    [
        (lambda path: gzip.GzipFile(path.with_suffix(".gz")), b"What is read", False),
        (lambda path: io.BufferedReader(gzip.GzipFile(path.with_suffix(".gz"))), b"What is read", False),
        (lambda path: lzma.LZMAFile(path.with_suffix(".xz")), b"What is read", False),  # noqa: SIM115
        (Shifted, b"wHAT IS READ", False),
        (lambda path: io.BufferedReader(Shifted(path)), b"wHAT IS READ", False),
        (io.FileIO, b"What is read", True),
        (ahead, b"at is read", True),
        (changed, b"at is read", True),
        (lambda _path: temporary(b"What is read"), b"at is read", True),
    ],
    ids=[
        "gzip",
        "buffered gzip",
        "lzma",
        "raw",
        "buffered",
        "plain raw",
        "read ahead",
        "changed",
        "temporary",
    ],
)
def test_a_file_is_sent_as_it_is_read(tmp_path: Path, make: Any, body: bytes, *, is_sized: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"What is read")
    file.with_suffix(".gz").write_bytes(gzip.compress(b"What is read"))
    file.with_suffix(".xz").write_bytes(lzma.compress(b"What is read"))

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(TEXT) if environ["PATH_INFO"] == "/" else sized(len(body)))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](make(file))
        return wrapped

    with worker(app, tmp_path) as running, running.connect() as client:
        response = client.get()
        assert response.body == body
        assert ("content-length" in response.fields) is is_sized
        assert client.get("/sized").body == body


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
