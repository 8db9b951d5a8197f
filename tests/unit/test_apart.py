"""Work in a process of its own: its result, its error, its death, its lateness."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from unicornd.apart import PART_BYTES, Apart, ApartError, LateError
from unicornd.errors import ConfigError, UnicorndError


def test_the_result_comes_back() -> None:
    pid, value = Apart(lambda: (os.getpid(), {"a": [1, None]})).result()
    assert pid != os.getpid()
    assert value == {"a": [1, None]}


def test_a_large_result_comes_back_whole() -> None:
    size = 10 * PART_BYTES + 1
    assert Apart(lambda: bytes(size)).result() == bytes(size)


def test_what_is_printed_comes_out(capfd: pytest.CaptureFixture[str]) -> None:
    Apart(lambda: sys.stdout.write("said apart")).result()
    assert capfd.readouterr().out == "said apart"


def test_an_error_for_a_person_comes_back_as_it_is() -> None:
    def refuse() -> None:
        raise ConfigError("it is wrong", hint="do this", detail="line 3")

    with pytest.raises(ConfigError, match="it is wrong") as caught:
        Apart(refuse).result()
    assert (caught.value.hint, caught.value.detail) == ("do this", "line 3")


@pytest.mark.parametrize("error", [RuntimeError("a slip"), SystemExit("a slip")])
def test_any_other_error_is_told_with_its_traceback(error: BaseException) -> None:
    def slip() -> None:
        raise error

    with pytest.raises(ApartError, match="a slip") as caught:
        Apart(slip).result()
    assert "def slip" not in caught.value.message
    assert "in slip" in caught.value.detail


def test_a_result_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(
        ApartError, match="<lambda>"
    ):  # each Python says in its own way that it cannot be pickled
        Apart(lambda: lambda: None).result()


def test_its_death_is_told() -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ApartError, match="signal 9"):
        Apart(die).result()


def test_its_end_without_a_word_is_told() -> None:
    with pytest.raises(ApartError, match="exit code 7"):
        Apart(lambda: os._exit(7)).result()


def test_one_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(LateError, match=r"not done after 0\.1 s"):
        Apart(signal.pause).result(patience=0.1)
    assert time.monotonic() - began < 10


def test_a_process_that_it_leaves_behind_does_not_hold_it_up() -> None:
    reader, writer = os.pipe()

    def leave_one() -> int:
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test has ended
            os._exit(0)
        return pid

    assert Apart(leave_one).result(patience=10) > 0
    os.close(writer)
    os.close(reader)


def test_its_end_need_not_be_waited_for() -> None:
    assert Apart(os.getpid).result(is_reaped=False) == os.waitpid(-1, 0)[0]
    with pytest.raises(UnicorndError):
        Apart(lambda: os._exit(1)).result(is_reaped=False)
    with pytest.raises(ChildProcessError):  # nobody is left
        os.waitpid(-1, 0)


def test_it_works_where_the_end_of_children_is_ignored() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert Apart(lambda: 3).result() == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nobody_hears_of_its_end() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, _frame: heard.append(number))
    try:
        reading = Apart(lambda: 3)
        assert signal.SIGCHLD in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert reading.result() == 3
        assert signal.SIGCHLD not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_signals_are_for_the_child_what_they_are_by_default() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert Apart(lambda: signal.getsignal(signal.SIGTERM)).result() == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_streams_may_be_gone() -> None:
    def work() -> int:
        sys.stdout = None  # as in a process without one
        return 1

    assert Apart(work).result() == 1


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names
    Apart(lambda: 1).result()
    with pytest.raises(UnicorndError):
        Apart(lambda: 1 / 0).result()
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208 - names
