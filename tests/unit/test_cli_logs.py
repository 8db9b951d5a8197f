"""Reading a log file from its end and onwards, and finding out where a process's stream leads."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from unicornd.cli.streams import Stream, journal_command, stream_of
from unicornd.cli.tail import BLOCK, follow_lines, last_lines
from unicornd.errors import UnicorndError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "number", "lines", "place"),
    [
        (b"", 5, [], 0),
        (b"a\nb\nc\n", 2, [b"b", b"c"], 6),
        (b"a\nb\nc\n", 9, [b"a", b"b", b"c"], 6),
        (b"a\nb\nc\n", 0, [], 6),
        (b"a\nb", 5, [b"a"], 2),
        (b"half", 5, [], 0),
        (b"x" * BLOCK * 3 + b"\nlast\n", 1, [b"last"], BLOCK * 3 + 6),
        (b"x" * BLOCK * 2 + b"\nlast\n", 2, [b"x" * BLOCK * 2, b"last"], BLOCK * 2 + 6),
        (b"\n\n\n", 2, [b"", b""], 3),
    ],
)
def test_the_last_lines(tmp_path: Path, text: bytes, number: int, lines: list[bytes], place: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(text)
    assert last_lines(str(log), number) == (lines, place)


def next_lines(following: Iterator[bytes | None], count: int) -> list[bytes]:
    """Return the next lines, whatever pauses there are between them."""
    found: list[bytes] = []
    while len(found) < count:
        line = next(following)
        found += [] if line is None else [line]
    return found


def test_a_log_is_followed_over_rotation_and_truncation(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    log.write_bytes(b"past\nha")
    following = follow_lines(str(log), 5)
    with log.open("ab") as writer:
        writer.write(b"lf\nnew\n")
        writer.flush()
        assert next_lines(following, 2) == [b"half", b"new"]
        log.rename(old)
        assert next(following) is None
        writer.write(b"into the old one\n")
        writer.flush()
        log.write_bytes(b"into the new one\n")
        assert sorted(next_lines(following, 2)) == [b"into the new one", b"into the old one"]
        writer.write(b"late, into the old one\n")
        writer.flush()
        assert next_lines(following, 1) == [b"late, into the old one"]
    with log.open("r+b") as file:
        file.truncate(0)
        assert next(following) is None
        file.write(b"short\n")
        file.flush()
        assert next_lines(following, 1) == [b"short"]


def test_the_streams_of_a_process_are_found(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        reader, writer = os.pipe()
        theirs, ours = socket.socketpair()
        null = os.open(os.devnull, os.O_WRONLY)
        me = os.getpid()
        assert stream_of(me, file.fileno()) == Stream("file", str(tmp_path / "out"))
        assert stream_of(me, writer).kind == "pipe"
        assert stream_of(me, ours.fileno()).kind == "pipe"
        assert stream_of(me, null).kind == "nothing"
        for fd in (reader, writer, null):
            os.close(fd)
        theirs.close()
        ours.close()
    assert stream_of(me, 10_000, proc=tmp_path).kind == "unknown"


@pytest.mark.parametrize(
    ("cgroup", "is_told", "expected"),
    [
        ("0::/system.slice/shop.service\n", True, Stream("journal", "shop.service")),
        ("0::/system.slice/system-unicornd.slice/unicornd@shop.service/workers\n", True, Stream("journal", "unicornd@shop.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n", True, Stream("journal", "shop.service", is_users=True)),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", True, Stream("pipe")),
        ("0::/system.slice/shop.service\n", False, Stream("pipe")),
    ],
)  # fmt: skip
def test_the_journal_is_found_by_the_unit(
    tmp_path: Path, cgroup: str, *, is_told: bool, expected: Stream
) -> None:
    theirs, ours = socket.socketpair()
    folder = tmp_path / "7"
    (folder / "fd").mkdir(parents=True)
    (folder / "fd" / "2").symlink_to(f"/proc/{os.getpid()}/fd/{ours.fileno()}")
    facts = os.fstat(ours.fileno())
    told = f"JOURNAL_STREAM={facts.st_dev}:{facts.st_ino}" if is_told else "JOURNAL_STREAM=1:1"
    (folder / "environ").write_bytes(f"A=b\0{told}\0".encode())
    (folder / "cgroup").write_text(cgroup)
    assert stream_of(7, 2, proc=tmp_path) == expected
    (folder / "fd" / "2").unlink()  # another user's: it cannot be looked at
    if expected.kind == "journal":
        assert stream_of(7, 2, proc=tmp_path) == expected
    theirs.close()
    ours.close()


def test_the_journal_is_asked_for_the_unit() -> None:
    unit = Stream("journal", "shop.service")
    assert journal_command(unit, number=5, is_followed=False) == [
        "journalctl", "--unit", "shop.service", "--lines", "5", "--no-pager",
    ]  # fmt: skip
    users = Stream("journal", "shop.service", is_users=True)
    assert journal_command(users, number=0, is_followed=True) == [
        "journalctl", "--user", "--unit", "shop.service", "--lines", "0", "--follow",
    ]  # fmt: skip
    with pytest.raises(UnicorndError):
        journal_command(Stream("pipe"), number=1, is_followed=False)
