"""The stacks that a worker writes beside its row, by Python code or from inside a signal."""

from __future__ import annotations

import faulthandler
import os
from contextlib import closing

import pytest

from unicornd.observe.scoreboard import Row
from unicornd.observe.stacks import MAX_STACKS_BYTES


def test_stacks_are_there_once_they_have_been_written_after_they_were_wanted() -> None:
    with closing(Row.create(2)) as row:
        stacks = row.stacks
        assert (stacks.are_written, stacks.read()) == (False, "")
        stacks.forget()
        os.write(stacks.fd, b"half of them")
        assert stacks.read() == "", "not by Python code, and nobody has insisted"
        stacks.write(b"Thread 1")
        assert (stacks.are_written, stacks.read()) == (True, "Thread 1")
        stacks.forget()
        assert (stacks.are_written, stacks.read()) == (False, "")
        stacks.write(b"Thread 12")
        assert stacks.read() == "Thread 12"


def test_stacks_that_faulthandler_writes_are_taken_when_they_were_insisted_on() -> None:
    with closing(Row.create(2)) as row:
        stacks = row.stacks
        for _ in range(2):
            stacks.forget()
            stacks.insist()
            faulthandler.dump_traceback(stacks.fd)
            assert stacks.read().count("Current thread") == 1
        stacks.write(b"Thread 1, by Python code")
        assert stacks.read() == "Thread 1, by Python code"
        stacks.forget()
        stacks.insist()
        faulthandler.dump_traceback(stacks.fd)
        assert stacks.read().count("Current thread") == 1
        assert "by Python code" not in stacks.read()


@pytest.mark.parametrize("offset", [0, 1000, MAX_STACKS_BYTES, 2**62])
def test_an_offset_that_the_worker_has_moved_costs_its_stacks_at_most(offset: int) -> None:
    with closing(Row.create(1)) as row:
        row.stacks.write(b"older ones")
        row.stacks.forget()
        os.lseek(row.stacks.fd, offset, os.SEEK_SET)
        row.stacks.insist()
        faulthandler.dump_traceback(row.stacks.fd)
        assert row.stacks.read() == ""
        row.stacks.write(b"Thread 1")
        assert row.stacks.read() == "Thread 1"


def test_stacks_are_cut_at_the_size_of_their_file() -> None:
    with closing(Row.create(1)) as row:
        row.stacks.write(b"x" * (MAX_STACKS_BYTES + 10_000))
        assert row.stacks.read() == "x" * MAX_STACKS_BYTES
        faulthandler.dump_traceback(
            row.stacks.fd
        )  # beyond the end: refused by the seal, and faulthandler does not care
        assert os.fstat(row.stacks.fd).st_size == MAX_STACKS_BYTES


def test_what_a_dead_process_has_written_since_anybody_has_read_is_left() -> None:
    with closing(Row.create(1)) as row:
        stacks = row.stacks
        assert stacks.left() == ""
        faulthandler.dump_traceback(stacks.fd)
        assert stacks.left().count("Current thread") == 1
        stacks.forget()
        stacks.write(b"Thread 1\n")
        assert stacks.read() == "Thread 1\n"
        assert stacks.left() == "", "somebody has read them"
        faulthandler.dump_traceback(stacks.fd)
        assert stacks.left().count("Current thread") == 1
        stacks.write(b"Thread 2\n")
        assert stacks.left() == "Thread 2\n"
