"""The unsent rest of a response: bytes and pieces of files, against real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unicornd.workers.output import MOST_HELD, Output

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = 4096
LARGE = 2_000_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def drain(output: Output, theirs: socket.socket, size: int) -> bytes:
    """Read `size` bytes on the other side, flushing in between."""
    received = bytearray()
    while len(received) < size:
        output.flush()
        received += theirs.recv(65536)
    output.flush()
    return bytes(received)


def test_what_the_socket_takes_is_sent_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    output = Output(pair[0])
    output.send(b"all of it")
    assert not output.is_pending
    assert output.size == 0
    assert pair[1].recv(100) == b"all of it"


def test_what_the_socket_does_not_take_is_kept_and_sent_later_in_order(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    output = Output(pair[0])
    first, second = os.urandom(LARGE), os.urandom(LARGE)
    output.send(first)
    output.send(second)
    output.send(b"")
    assert LARGE < output.size < 2 * LARGE
    assert drain(output, pair[1], 2 * LARGE) == first + second
    assert (output.is_pending, output.size) == (False, 0)


def test_a_piece_of_a_file_goes_between_what_was_sent_before_and_after(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    (tmp_path / "file").write_bytes(content)
    before = descriptors()
    output = Output(pair[0])
    output.send(b"head")
    with (tmp_path / "file").open("rb") as file:
        output.send_file(file.fileno(), offset=10, count=LARGE - 20)
    output.send(b"tail")
    assert output.is_pending
    assert output.size == len(b"tail")
    assert drain(output, pair[1], LARGE - 20 + 8) == b"head" + content[10:-10] + b"tail"
    assert descriptors() == before


def test_a_file_that_has_become_shorter_breaks_the_connection(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    output = Output(pair[0])
    with (tmp_path / "file").open("rb") as file:
        output.send_file(file.fileno(), offset=0, count=200)
    with pytest.raises(BrokenPipeError):
        output.flush()
    output.close()


def test_closing_forgets_everything_and_lets_go_of_files(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(LARGE))
    before = descriptors()
    output = Output(pair[0])
    with (tmp_path / "file").open("rb") as file:
        output.send_file(file.fileno(), offset=0, count=LARGE)
    output.send(b"more")
    assert descriptors() == before + 1
    output.close()
    output.close()
    assert descriptors() == before
    assert not output.is_pending
    assert output.size == 0
    assert output.flush()


def test_a_broken_connection_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    output = Output(pair[0])
    pair[1].close()
    with pytest.raises(OSError, match="Broken pipe"):
        output.send(b"nobody reads")


def test_a_whole_response_is_held_until_it_is_released(pair: tuple[socket.socket, socket.socket]) -> None:
    output = Output(pair[0])
    output.may_hold = True
    output.send_whole(b"answer")
    assert output.has_begun
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[1].recv(100)
    output.release()
    assert pair[1].recv(100) == b"answer"
    assert not output.held


@pytest.mark.parametrize(("may_hold", "size"), [(False, 6), (True, MOST_HELD + 1)])
def test_a_response_that_may_not_wait_is_sent_at_once(may_hold: bool, size: int) -> None:  # noqa: FBT001
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = Output(ours)
        output.may_hold = may_hold
        output.send_whole(bytes(size))
        assert not output.held
        assert theirs.recv(size)


def test_a_held_response_is_forgotten_when_the_output_is_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    output = Output(pair[0])
    output.may_hold = True
    output.send_whole(b"answer")
    output.close()
    assert not output.held
