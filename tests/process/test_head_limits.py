"""A head without limits: a long one is answered, an endless one is refused before it fills the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.worker import POLICY, Setup, worker
from unicornd.dataclass import replace
from unicornd.http.limits import MAX_HEAD, limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NO_LIMITS = replace(POLICY, limits=limits_of(request_line=0, header_count=0, header_size=0, body_size=0))
PIECE = b"a" * 65536


def length(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{len(environ['PATH_INFO'])} {len(environ.get('HTTP_X', ''))}".encode()]


@pytest.mark.parametrize("kind", ["sync", "threads"])
def test_a_head_of_half_a_mebibyte_is_answered(tmp_path: Path, kind: str) -> None:
    with worker(length, tmp_path, Setup(kind=kind, policy=NO_LIMITS)) as running, running.connect() as client:
        client.send(b"GET /" + PIECE * 4 + b" HTTP/1.1\r\nHost: a\r\nX: " + PIECE * 4 + b"\r\n\r\n")
        assert client.read().body == f"{4 * len(PIECE) + 1} {4 * len(PIECE)}".encode()


@pytest.mark.parametrize(
    ("begin", "status"),
    [(b"GET /", 414), (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", 431), (b"GET / HTTP/1.1\r\nHost: a\r\n", 431)],
    ids=["line", "field", "fields"],
)
def test_a_head_that_never_ends_is_refused(tmp_path: Path, begin: bytes, status: int) -> None:
    with worker(length, tmp_path, Setup(policy=NO_LIMITS)) as running, running.connect() as client:
        piece = b"X: y\r\n" * 11000 if status == 431 and begin.endswith(b"\n") else PIECE
        sent = begin + piece * (MAX_HEAD // len(piece)) + piece
        client.send(sent)
        assert client.read().code == status
        assert running.connect().get("/").body == b"1 0", "the worker serves on"
