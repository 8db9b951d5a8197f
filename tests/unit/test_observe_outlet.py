"""Log lines on their way out: pipes that nobody reads, stopped terminals, full disks; what is kept, lost, whole, and told."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import termios
from typing import TYPE_CHECKING

import pytest

from unicornd.observe.nonblocking import PIPE_BUF, Target
from unicornd.observe.outlet import MAX_KEPT_BYTES, Loss, Outlet, lost_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOBODY = 65534
F_SETPIPE_SZ = 1031

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Ends:
    """A descriptor that is written to, and the one that reads it."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        os.set_blocking(reader, False)
        self.told: list[Loss] = []

    def outlet(self) -> Outlet:
        return Outlet(self.writer, log="error", place="standard error", tell=self.told.append)

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.reader, 1 << 20)
        return b""

    def read_through(self, outlet: Outlet) -> bytes:
        """Read until nothing is left on the way."""
        found = b""
        while (part := self.read()) or not outlet.is_clear:
            found += part
            outlet.push()
        return found


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, PIPE_BUF)
    return reader, writer


def terminal() -> tuple[int, int]:
    reader, writer = os.openpty()
    modes = termios.tcgetattr(writer)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(writer, termios.TCSANOW, modes)
    return reader, writer


def sockets() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.fixture(params=[pipe, terminal, sockets])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(*request.param())
    yield made
    for fd in (made.reader, made.writer):
        os.close(fd)


@pytest.fixture
def narrow() -> Iterator[Ends]:
    made = Ends(*pipe())
    yield made
    for fd in (made.reader, made.writer):
        os.close(fd)


def lines(count: int, length: int = 1000) -> list[bytes]:
    return [f"{number} ".encode().ljust(length, b"x") + b"\n" for number in range(count)]


def test_lines_that_nobody_reads_are_kept_in_their_order_and_whole(ends: Ends) -> None:
    outlet = ends.outlet()
    sent = lines(230)
    for line in sent:
        outlet.write(line)
    assert os.get_blocking(ends.writer), "the open file that others share is as it was"
    assert ends.read_through(outlet) == b"".join(sent)
    assert ends.told == []
    outlet.close()


def test_what_is_too_much_is_lost_counted_and_told_once(ends: Ends) -> None:
    outlet = ends.outlet()
    before = lost_lines()["error"]
    sent = lines(1000)
    for line in sent:
        outlet.write(line)
    lost = lost_lines()["error"] - before
    assert MAX_KEPT_BYTES / 1001 - 1 < 1000 - lost < 1000
    read = ends.read_through(outlet).splitlines(keepends=True)
    assert len(read) == 1000 - lost
    assert read == [line for line in sent if line in set(read)], "whole, and in their order"
    assert [(loss.lines, loss.why) for loss in ends.told] == [(lost, "standard error was not read")]
    outlet.write(b"as before\n")
    assert ends.read() == b"as before\n"
    outlet.close()


def test_a_terminal_that_is_stopped_keeps_nobody_waiting() -> None:
    ends = Ends(*terminal())
    outlet = ends.outlet()
    termios.tcflow(ends.writer, termios.TCOOFF)
    outlet.write(b"one\n")
    assert not outlet.is_clear
    termios.tcflow(ends.writer, termios.TCOON)
    assert ends.read_through(outlet) == b"one\n"
    outlet.close()
    for fd in (ends.reader, ends.writer):
        os.close(fd)


@as_root
@pytest.mark.parametrize("make", [pipe, terminal])
def test_what_belongs_to_another_user_is_written_to_without_waiting_too(
    make: Callable[[], tuple[int, int]],
) -> None:
    ends = Ends(*make())
    os.seteuid(NOBODY)
    try:
        outlet = ends.outlet()
    finally:
        os.seteuid(0)
    sent = lines(200)
    for line in sent:
        outlet.write(line)
    assert ends.read_through(outlet) == b"".join(sent)
    outlet.close()
    for fd in (ends.reader, ends.writer):
        os.close(fd)


def test_a_record_that_is_longer_than_a_pipe_stays_in_one_piece(narrow: Ends) -> None:
    outlet = narrow.outlet()
    long = b"y" * 3 * PIPE_BUF + b"\n"
    for line in (b"before\n", long, b"after\n"):
        outlet.write(line)
    assert narrow.read() == b"before\n", "it waits for the pipe to be empty"
    assert narrow.read_through(outlet) == long + b"after\n"
    outlet.close()


def test_a_pipe_tells_how_much_it_takes_at_one_go() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 16 * PIPE_BUF)
    target = Target(writer)
    assert target.has_room(15 * PIPE_BUF)
    for _ in range(8):  # each begins a new page
        assert target.put(b"x" * 2100) == 2100
    assert not target.has_room(8 * PIPE_BUF)
    assert not target.has_room(7 * PIPE_BUF), "it may say no too often, never yes"
    assert target.has_room(4 * PIPE_BUF)
    target.close()
    os.close(reader)
    os.close(writer)


def test_a_line_that_a_full_disk_has_cut_is_written_again_on_a_line_of_its_own(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told: list[Loss] = []
    outlet = Outlet(fd, log="access", place="the log", tell=told.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    outlet.write(b"first\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        outlet.write(b"second\n")
        outlet.write(b"third\n")
        other = Outlet(fd, log="access", place="the log", tell=told.append)
        for line in lines(300):
            other.write(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "log").read_bytes() == b"first\nseco"
    other.push()
    outlet.push()
    kept = lines(300)[: 300 - told[0].lines]
    assert (tmp_path / "log").read_bytes() == b"first\nseco\n" + b"".join(kept) + b"second\nthird\n"
    assert [loss.why for loss in told] == ["the log could not be written (File too large)"]
    assert str(told[0]).startswith(f"{told[0].lines} access log lines were lost in 0.")
    for each in (outlet, other):
        each.close()
    os.close(fd)


def test_a_forked_child_does_not_write_what_its_parent_has_kept(narrow: Ends) -> None:
    outlet = narrow.outlet()
    for line in lines(10):
        outlet.write(line)
    child = os.fork()
    if child == 0:
        os._exit(0 if outlet.is_clear and not sum(lost_lines().values()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert narrow.read_through(outlet) == b"".join(lines(10))
    outlet.close()


def test_another_outlet_to_the_same_place_goes_on_where_the_first_one_ends(narrow: Ends) -> None:
    outlet, next_one = narrow.outlet(), narrow.outlet()
    for line in lines(300):
        outlet.write(line)
    next_one.take_over(outlet)
    outlet.close()
    read = narrow.read_through(next_one)
    assert read == b"".join(lines(300)[: 300 - narrow.told[0].lines])
    next_one.close()


def test_a_reader_that_is_gone_is_no_error_of_the_writers(narrow: Ends) -> None:
    outlet = narrow.outlet()
    os.close(narrow.reader)
    outlet.write(b"one\n")
    assert not outlet.is_clear
    narrow.reader = os.open(os.devnull, os.O_RDONLY)
    outlet.close()


def test_a_descriptor_that_is_closed_is_no_error_either() -> None:
    outlet = Outlet(-1, log="error", place="nowhere", tell=lambda _loss: None)
    outlet.write(b"one\n")
    outlet.write(b"two\n")
    before = lost_lines()["error"]
    outlet.close()
    assert lost_lines()["error"] == before + 2, "what is kept to the end is lost"
