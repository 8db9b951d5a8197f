from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.corpus.requests import ACCEPTED, CASES, Case
from unicornd.http.errors import Refusal
from unicornd.http.limits import Limits
from unicornd.units import Seconds
from unicornd.workers.connection import Connection
from unicornd.workers.context import HttpPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.http.messages import Head

LIMITS = Limits(request_line=256, header_count=20, header_size=256, body_size=1000)
POLICY = HttpPolicy(
    limits=LIMITS, body_memory=100, tmp_upload_dir=None, response_buffer=1000, has_sendfile=True, head=Seconds(0),
    body=Seconds(0), write=Seconds(0), keepalive=Seconds(0), is_kept_alive=True, connections=1,
)  # fmt: skip
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Parsed:
    head: Head
    body: bytes
    leftover: bytes


def feed(pieces: Iterable[bytes]) -> Parsed | Refusal | None:
    """Send a request in pieces to a worker's connection; None if it is not complete."""
    client, server = socket.socketpair()
    with client, server:
        connection = Connection(server, ("", ""), base={}, policy=POLICY)
        result: Parsed | Refusal | None = None
        for piece in pieces:
            client.sendall(piece)
            if result is None:
                result = _receive(connection)
            if isinstance(result, Refusal):
                break
        if isinstance(result, Parsed):
            connection.close()
        return result


def _receive(connection: Connection) -> Parsed | Refusal | None:
    try:
        is_complete = connection.receive(0.0)
    except Refusal as refusal:
        connection.close()
        return refusal
    except BlockingIOError:  # an empty piece
        return None
    if not is_complete or connection.request is None:
        return None
    body = connection.spool.rewound().read() if connection.spool is not None else b""
    return Parsed(connection.request, body, leftover=connection.leftover)


def check(case: Case, result: Parsed | Refusal | None, *, leftover: bytes = b"") -> None:
    if case.status is not None:
        assert isinstance(result, Refusal), f"{case.name}: accepted"
        assert result.status is case.status, str(result)
        assert result.section.startswith(case.section), str(result)
        return
    assert isinstance(result, Parsed), f"{case.name}: {result}"
    for name, value in case.facts.items():
        assert getattr(result.head, name) == value, name
    for name, text in case.fields.items():
        assert result.head.fields.get(name) == text, name
    assert result.body == case.body
    assert result.leftover == leftover


def ids(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_whole(case: Case) -> None:
    check(case, feed([case.raw]))


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_byte_by_byte(case: Case) -> None:
    check(case, feed(case.raw[index : index + 1] for index in range(len(case.raw))))


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_split_at_every_offset(case: Case) -> None:
    step = 1 if len(case.raw) < 400 else 97
    for offset in range(1, len(case.raw), step):
        check(case, feed([case.raw[:offset], case.raw[offset:]]))


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_followed_by_another_request(case: Case) -> None:
    check(case, feed([case.raw + NEXT]), leftover=NEXT)


@pytest.mark.parametrize("case", ACCEPTED, ids=ids)
def test_cut_short_is_never_complete(case: Case) -> None:
    for end in range(len(case.raw)):
        assert feed([case.raw[:end]]) is None, "what is cut short was taken for whole"


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 120
