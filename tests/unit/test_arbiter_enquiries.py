"""Questions to other processes: the answer, the error, the death, the lateness; the loop goes on meanwhile."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import eventually
from unicornd.apart import PART_BYTES, ApartError, LateError
from unicornd.arbiter.enquiries import Enquiries
from unicornd.arbiter.kernel import LinuxKernel
from unicornd.errors import ConfigError
from unicornd.units import Monotonic, Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from unicornd.arbiter.kernel import Kernel
    from unicornd.forking import Closable


class Asker:
    """Enquiries in a loop like the arbiter's, and what they have told."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel or LinuxKernel()
        self.selector = selectors.DefaultSelector()
        self.enquiries = Enquiries(self.kernel, self.selector)
        self.told: list[object] = []
        self.claimed: list[int] = []

    def ask(self, work: Callable[[], object], *, seconds: float = 20.0) -> None:
        def hear(answer: Callable[[], object]) -> None:
            try:
                self.told.append(answer())
            except Exception as error:  # noqa: BLE001 - the tests look at it
                self.told.append(error)

        self.enquiries.ask(work, hear, seconds=seconds)

    def turn(self) -> bool:
        """One turn of the loop; whether all processes have ended."""
        for key, mask in self.selector.select(0.01):
            key.data(mask)
        self.enquiries.tick(self.kernel.now())
        self.claimed += [death.pid for death in self.kernel.reap() if self.enquiries.take_death(death)]
        return not has_children()

    def hear(self) -> object:
        eventually(self.turn, "it has ended")
        [told] = self.told
        return told

    def close(self) -> None:
        self.enquiries.end()
        self.selector.close()
        eventually(lambda: [*self.kernel.reap()] or not has_children(), "nothing is left")


def has_children() -> bool:
    return bool(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def asker() -> Iterator[Asker]:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are compared
    with closing(Asker()) as asker:
        yield asker
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise


def test_the_answer_comes_and_the_process_is_nobody_elses_business(asker: Asker) -> None:
    asker.ask(lambda: {"pid": os.getpid(), "much": bytes(3 * PART_BYTES)})
    told = asker.hear()
    assert isinstance(told, dict)
    assert len(told["much"]) == 3 * PART_BYTES
    assert asker.claimed == [told["pid"]]


def test_an_error_for_a_person_comes_as_it_is(asker: Asker) -> None:
    def refuse() -> None:
        raise ConfigError("it is wrong", hint="do this")

    asker.ask(refuse)
    told = asker.hear()
    assert isinstance(told, ConfigError)
    assert (told.message, told.hint) == ("it is wrong", "do this")


def test_a_death_is_told_with_its_manner(asker: Asker) -> None:
    asker.ask(lambda: os._exit(7))
    asker.ask(lambda: os.kill(os.getpid(), signal.SIGKILL))
    eventually(asker.turn, "both have ended")
    assert all(isinstance(told, ApartError) for told in asker.told)
    assert sorted(str(told).rpartition("(")[2] for told in asker.told) == ["exit code 7)", "signal 9)"]
    assert len(asker.claimed) == 2


def test_one_that_takes_too_long_is_ended_with_what_it_has_started(asker: Asker, tmp_path: Path) -> None:
    def hang() -> None:
        if os.fork() == 0:
            (tmp_path / "child").write_text(str(os.getpid()))
        signal.pause()

    asker.ask(hang, seconds=0.5)
    told = asker.hear()
    assert isinstance(told, LateError)
    assert "0.5 s" in told.message
    child = int((tmp_path / "child").read_text())
    eventually(lambda: not is_alive(child), "its child has ended, too")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_when_to_look_again_is_known_and_nothing_is_told_after_the_end(asker: Asker) -> None:
    assert asker.enquiries.tick(Monotonic(time.monotonic())) is None
    asker.ask(signal.pause)
    until = asker.enquiries.tick(Monotonic(time.monotonic()))
    assert until is not None
    assert 0 < until - time.monotonic() <= 20
    asker.enquiries.end()
    eventually(lambda: [*asker.kernel.reap()], "it is ended")
    assert asker.told == []


class Exhausted(LinuxKernel):
    """There are too many processes."""

    def fork(self, child: Callable[[], int], *, kept: Collection[Closable] | None = ()) -> Pid:  # noqa: ARG002
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), child)


def test_a_process_that_cannot_be_made_is_an_error_and_leaves_no_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are compared
    with closing(Asker(Exhausted())) as asker, pytest.raises(BlockingIOError):
        asker.ask(os.getpid)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise


def test_a_stranger_that_dies_is_not_claimed(asker: Asker) -> None:
    pid = asker.kernel.fork(lambda: 0)
    eventually(asker.turn, "it has ended")
    assert pid not in asker.claimed
