"""The head of an ASGI response waits for the first part of its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from unicornd.workers.asgi.writer import HEAD, LONE_HEAD, MOST_JOINED, Writer

if TYPE_CHECKING:
    import asyncio

TEXT = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def writer(transport: Transport) -> Writer:
    return Writer(cast("asyncio.Transport", transport))


def test_head_and_first_part_go_out_at_once_and_what_follows_by_itself(
    transport: Transport, writer: Writer
) -> None:
    writer.expects = HEAD
    writer.write(TEXT)
    assert transport.written == []
    writer.write(b"one")
    writer.write(b"two")
    assert transport.written == [TEXT + b"one", b"two"]


def test_the_responses_of_a_kept_connection_are_told_apart(transport: Transport, writer: Writer) -> None:
    for body in (b"first", b""):
        writer.expects = HEAD
        writer.write(TEXT)
        writer.write(body)
    assert transport.written == [TEXT + b"first", TEXT]


def test_a_large_part_is_not_copied(transport: Transport, writer: Writer) -> None:
    body = bytes(MOST_JOINED + 1)
    writer.expects = HEAD
    writer.write(TEXT)
    writer.write(body)
    assert transport.written == [TEXT, body]
    assert transport.written[1] is body


def test_a_head_without_a_body_is_sent_before_the_connection_is_closed(
    transport: Transport, writer: Writer
) -> None:
    writer.expects = HEAD
    writer.write(TEXT)
    writer.close()
    assert transport.written == [TEXT]
    assert writer.is_closing()


def test_a_head_that_no_body_follows_is_sent_at_once(transport: Transport, writer: Writer) -> None:
    writer.expects = LONE_HEAD
    writer.write(TEXT)
    assert transport.written == [TEXT]
    assert not writer.withdraw()


@pytest.mark.parametrize("is_written", [False, True])
def test_a_response_of_which_nothing_was_sent_can_be_withdrawn(
    transport: Transport,
    writer: Writer,
    is_written: bool,  # noqa: FBT001
) -> None:
    writer.expects = HEAD
    if is_written:
        writer.write(TEXT)
    assert writer.withdraw()
    writer.write(b"another")
    assert transport.written == [b"another"]
    assert not writer.withdraw()
