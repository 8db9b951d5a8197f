"""The unsent rest of a response: bytes and pieces of files, against real sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unicornd.workers.output import MOST_HELD, Output
from unicornd.workers.overflow import Overflow, is_declared_stream

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


# What a client does not read goes to the disk

MARK = 100_000


def overflow(folder: Path, *, most: int = 2**30) -> tuple[Overflow, list[str]]:
    """Return one that notes what it tells."""
    told: list[str] = []
    log = logging.Logger("test")  # noqa: LOG001 - not in the tree

    def note(record: logging.LogRecord) -> bool:
        told.append(record.__dict__["why"])
        return False

    log.addFilter(note)
    return Overflow(mark=MARK, most=most, folder=str(folder), log=log), told


def stored(folder: Path) -> list[int]:
    """Return the sizes of files without a name that this process has open below a folder."""
    sizes = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(f"{folder}/"):
                sizes.append(link.stat().st_size)
    return sizes


def test_a_whole_response_that_is_not_read_leaves_memory_and_is_sent_from_a_file(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    output = Output(pair[0], overflow(tmp_path)[0])
    output.send_whole(content)
    assert (output.is_pending, output.size) == (True, 0)
    assert [LARGE - MARK < size <= LARGE for size in stored(tmp_path)] == [True]
    assert list(tmp_path.iterdir()) == []
    assert drain(output, pair[1], LARGE) == content
    assert stored(tmp_path) == []


def test_a_whole_response_below_the_mark_stays_in_memory(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    output = Output(pair[0], overflow(tmp_path)[0])
    output.send_whole(bytes(MARK))
    assert stored(tmp_path) == []
    assert len(drain(output, pair[1], MARK)) == MARK


def test_what_is_sent_after_a_response_was_stored_follows_it_in_order(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    parts = [os.urandom(50_000) for _ in range(40)]
    (tmp_path / "file").write_bytes(b"a file")
    output = Output(pair[0], overflow(tmp_path)[0])
    for part in parts:
        output.send(part)
        assert output.size <= MARK or output.store()
    assert output.size == 0
    with (tmp_path / "file").open("rb") as file:
        output.send_file(file.fileno(), offset=0, count=6)
    output.send(b"tail")
    expected = b"".join(parts) + b"a filetail"
    assert drain(output, pair[1], len(expected)) == expected
    assert stored(tmp_path) == []


def test_a_file_takes_no_more_than_its_bound_and_the_rest_stays_in_memory(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    output = Output(pair[0], overflow(tmp_path, most=300_000)[0])
    output.send(content)
    assert not output.store()
    assert not output.store()
    assert stored(tmp_path) == [300_000]
    output.send(b"tail")
    assert drain(output, pair[1], LARGE + 4) == content + b"tail"
    assert stored(tmp_path) == []


def test_a_bound_of_nothing_makes_no_file(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    output = Output(pair[0], overflow(tmp_path, most=0)[0])
    output.send_whole(bytes(LARGE))
    assert not output.store()
    assert output.size > MARK
    assert stored(tmp_path) == []
    output.close()


def test_a_disk_that_is_full_is_told_once_and_nothing_is_lost(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    keeping, told = overflow(tmp_path)
    output = Output(pair[0], keeping)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (500_000, hard)
    )  # the kernel then writes a part, as on a full disk
    try:
        output.send(content)
        assert not output.store()
        assert not output.store()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told == ["File too large"]
    assert drain(output, pair[1], LARGE) == content
    assert stored(tmp_path) == []


def test_a_folder_that_is_not_there_is_told_once_and_nothing_is_lost(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    keeping, told = overflow(tmp_path / "missing")
    output = Output(pair[0], keeping)
    for _ in range(2):
        output.send_whole(bytes(LARGE))
    assert told == ["No such file or directory"]
    assert len(drain(output, pair[1], 2 * LARGE)) == 2 * LARGE


def test_a_response_is_sent_by_another_thread_while_it_grows(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    parts = [os.urandom(10_000) for _ in range(500)]
    output = Output(pair[0], overflow(tmp_path)[0])
    output.send_whole(bytes(LARGE))
    assert output.store(is_shared=True)
    received = bytearray()
    size = LARGE + sum(map(len, parts))

    def read() -> None:
        while len(received) < size:
            output.flush()
            received.extend(pair[1].recv(65536))

    reader = threading.Thread(target=read)
    reader.start()
    for part in parts:
        output.send(part)
    reader.join(30)
    assert bytes(received) == bytes(LARGE) + b"".join(parts)


def test_closing_lets_go_of_what_was_stored(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    output = Output(pair[0], overflow(tmp_path)[0])
    output.send_whole(bytes(LARGE))
    output.close()
    assert stored(tmp_path) == []
    assert output.flush()


@pytest.mark.parametrize(
    ("fields", "is_stream"),
    [
        ([("Content-Type", "text/event-stream; charset=utf-8")], True),
        ([("content-type", "Text/Event-Stream")], True),
        ([("X-Accel-Buffering", "no")], True),
        ([("x-accel-buffering", "yes")], False),
        ([("Content-Type", "text/html"), ("X-Accel-Buffering", " NO ")], True),
        ([("Content-Type", "text/html")], False),
        ([], False),
    ],
)
def test_a_stream_says_that_it_is_one(fields: list[tuple[str, str]], is_stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_declared_stream(fields) is is_stream
