"""Who reaps a child that the arbiter has not forked: the hook that waits for it, or the arbiter after a while."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.kernel import FakeKernel
from unicornd.arbiter.strangers import PATIENCE, Strangers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unicornd.units import Pid


class Reaper:
    """The loop's part."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.reaped: list[Pid] = []
        self.workers: set[Pid] = set()
        self.has_hooks = True
        self.strangers = Strangers(
            self.kernel,
            is_worker=self.workers.__contains__,
            has_hooks=lambda: self.has_hooks,
        )

    def reap(self) -> None:
        self.reaped += [death.pid for death in self.kernel.reap(self.strangers.leaves)]

    def end(self, pid: Pid) -> None:
        self.kernel.end(pid, code=1)
        self.reap()


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    former = signal.signal(
        signal.SIGCHLD, lambda _number, _frame: made.reap()
    )  # as the loop does with its next turn
    yield made
    signal.signal(signal.SIGCHLD, former)


def test_a_hooks_child_is_left_for_a_minute_and_then_reaped(reaper: Reaper) -> None:
    first = reaper.kernel.adopt()
    reaper.end(first)
    due = reaper.kernel.now() + PATIENCE
    assert reaper.strangers.tick(reaper.kernel.now()) == due
    reaper.kernel.time += PATIENCE / 2
    second = reaper.kernel.adopt()
    reaper.end(second)
    reaper.kernel.time = due
    assert reaper.strangers.tick(reaper.kernel.now()) == due + PATIENCE / 2
    assert reaper.reaped == [first]
    assert reaper.kernel.is_child(second)


def test_what_the_hook_has_reaped_is_not_waited_for(reaper: Reaper) -> None:
    pid = reaper.kernel.adopt()
    reaper.end(pid)
    reaper.kernel.steal(pid)
    assert reaper.strangers.tick(reaper.kernel.now()) is None


@pytest.mark.parametrize("who", ["forked", "a mold's worker", "an orphan, without hooks"])
def test_others_are_reaped_at_once(reaper: Reaper, who: str) -> None:
    pid = reaper.kernel.fork(lambda: 0) if who == "forked" else reaper.kernel.adopt()
    if who == "a mold's worker":
        reaper.workers.add(pid)
    reaper.has_hooks = who != "an orphan, without hooks"
    reaper.end(pid)
    assert reaper.reaped == [pid]
    assert reaper.strangers.tick(reaper.kernel.now()) is None
