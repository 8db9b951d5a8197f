"""What applications do wrong, and what their clients and the error log get to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import TEXT, Body, app_of, sized
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.dataclass import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

KINDS = ["sync", "threads"]


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
