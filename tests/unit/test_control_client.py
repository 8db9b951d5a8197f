from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from unicornd.control.client import Client, ControlError
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = b'{"schema": 1}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + DOCUMENT


@contextlib.contextmanager
def answering(path: Path, *pieces: bytes) -> Iterator[Client]:
    """A server that says the same to everybody, in these pieces."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                for piece in pieces:
                    connection.sendall(piece)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield Client(address=str(path))
        finally:
            server.join(timeout=10)


def test_an_answer_may_come_in_pieces(tmp_path: Path) -> None:
    with answering(tmp_path / "s", *(bytes([byte]) for byte in GOOD)) as client:
        assert client.get("/v1/status") == {"schema": 1}


@pytest.mark.parametrize(
    "received",
    [b"", b"HTTP/1.1 200 OK\r\n", GOOD[:-1], GOOD + b"x", b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n\r\n{}", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"],
)  # fmt: skip
def test_an_answer_that_is_cut_short_or_none_at_all_is_not_believed(tmp_path: Path, received: bytes) -> None:
    with answering(tmp_path / "s", received) as client, pytest.raises(ControlError) as caught:
        client.get("/v1/status")
    assert caught.value.code is CtlExit.UNREACHABLE


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff"])
def test_what_is_no_document_is_not_unicornd(tmp_path: Path, body: bytes) -> None:
    received = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with answering(tmp_path / "s", received) as client, pytest.raises(ControlError, match="not unicornd"):
        client.get("/v1/status")


@pytest.mark.parametrize("error", ["null", '{"message": "x", "exit_code": 99}', '{"exit_code": "x"}'])
def test_a_refusal_in_an_unknown_form_is_a_failure_without_a_traceback(tmp_path: Path, error: str) -> None:
    body = f'{{"error": {error}}}'.encode()
    received = b"HTTP/1.1 418 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with answering(tmp_path / "s", received) as client, pytest.raises(ControlError) as caught:
        client.get("/v1/status")
    assert caught.value.code is CtlExit.FAILED


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(ControlError) as caught:
            Client(address=str(tmp_path / "s")).get("/v1/status", patience=0.05)
    assert caught.value.code is CtlExit.UNREACHABLE
    assert "in time" in caught.value.message


def test_a_full_backlog_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(ControlError) as caught:
            Client(address=str(tmp_path / "s")).get("/v1/status", patience=0.05)
    assert caught.value.code is CtlExit.UNREACHABLE


def test_an_address_that_is_no_socket_is_said_to_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ControlError) as caught:
        Client(address=str(tmp_path / "folder" / ("x" * 300))).get("/")
    assert caught.value.code is CtlExit.UNREACHABLE


def test_a_stream_ends_with_its_server_and_half_a_line_is_no_line(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\n\r\n"
    with answering(tmp_path / "s", head[:20], head[20:] + b"one\ntw", b"o\nthr") as client:
        assert list(client.lines("/v1/events")) == [b"one", b"two"]
