"""Log files that were opened anew, from the arbiter to a worker."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

import pytest

from unicornd.observe import logs
from unicornd.observe.logfile import OpenLog
from unicornd.workers.renewal import LogReceiver, send_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def log(tmp_path: Path) -> Iterator[OpenLog]:
    opened = OpenLog.open(str(tmp_path / "a.log"))
    yield opened
    opened.close()


def rotate(log: OpenLog, channel: socket.socket, *, to: str) -> None:
    """As arbiter and logrotate do."""
    os.rename(log.path, to)  # noqa: PTH104 - texts
    fresh = OpenLog.open(log.path)
    send_logs(channel, {log.path: fresh.fd})
    fresh.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only


def test_the_number_stays_and_leads_to_the_newest_of_several_files(
    ends: tuple[socket.socket, socket.socket], log: OpenLog, tmp_path: Path
) -> None:
    receiver, number, before = LogReceiver(ends[1], {log.path: log}), log.fd, descriptors()
    rotate(log, ends[0], to=f"{tmp_path}/1")
    rotate(log, ends[0], to=f"{tmp_path}/2")
    receiver()
    os.write(number, b"line\n")
    assert log.fd == number
    assert (tmp_path / "a.log").read_text() == "line\n"
    assert not (tmp_path / "1").read_text() + (tmp_path / "2").read_text()
    assert descriptors() == before, "nothing stays open"
    assert not os.get_inheritable(number)


def test_a_number_that_is_somebody_elses_by_now_is_not_written_over(
    ends: tuple[socket.socket, socket.socket], log: OpenLog, tmp_path: Path
) -> None:
    number = log.fd
    with (tmp_path / "other").open("w") as other:
        os.dup2(other.fileno(), number)
        rotate(log, ends[0], to=f"{tmp_path}/1")
        LogReceiver(ends[1], {log.path: log})()
        assert log.fd != number
        os.write(log.fd, b"line\n")
        os.close(number)
    assert (tmp_path / "a.log").read_text() == "line\n"
    assert not (tmp_path / "other").read_text()


def test_a_worker_is_not_held_up_when_nothing_or_nobody_is_there(
    ends: tuple[socket.socket, socket.socket], log: OpenLog
) -> None:
    receiver = LogReceiver(ends[1], {log.path: log})
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        receiver()
        receiver.catch_up()
        ends[0].close()
        receiver()
    finally:
        socket.setdefaulttimeout(former)
    os.write(log.fd, b"")


def test_what_came_before_the_signal_could_be_heard_is_taken(
    ends: tuple[socket.socket, socket.socket], log: OpenLog, tmp_path: Path
) -> None:
    receiver = LogReceiver(ends[1], {log.path: log})
    rotate(log, ends[0], to=f"{tmp_path}/1")
    receiver.catch_up()
    assert os.path.samestat(os.fstat(log.fd), (tmp_path / "a.log").stat())


def test_a_worker_that_does_not_read_is_told_as_an_error(
    ends: tuple[socket.socket, socket.socket], log: OpenLog
) -> None:
    def send_without_end() -> None:
        while True:
            send_logs(ends[0], {log.path: log.fd})

    with pytest.raises(OSError, match=r"unavailable|Too many references"):
        send_without_end()


def test_a_file_that_cannot_be_opened_anew_is_logged_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logs.ERROR_LOG):
        given, failed = logs.opened_anew([f"{tmp_path}/none/a.log", f"{tmp_path}/b.log"], writer=None)
    assert list(given) == [f"{tmp_path}/b.log"]
    os.close(given[f"{tmp_path}/b.log"])
    assert "cannot reopen a log" in caplog.text
    assert failed == {f"{tmp_path}/none/a.log": "No such file or directory"}
