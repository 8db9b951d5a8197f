"""The kernel as the arbiter sees it: the same cases on the real one and on the fake that other tests rely on."""

from __future__ import annotations

import errno
import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.kernel import FakeDriver, LinuxDriver
from unicornd.arbiter.kernel import Death, LinuxKernel
from unicornd.units import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kernel import Driver


@pytest.fixture(params=[LinuxDriver, FakeDriver], ids=["linux", "fake"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    made: Driver = request.param()
    yield made
    made.close()


def test_children_have_pids_of_their_own(driver: Driver) -> None:
    assert driver.start() != driver.start()


def test_a_child_that_returns_is_reaped_once_with_its_code(driver: Driver) -> None:
    pid = driver.start()
    assert list(driver.kernel.reap()) == []
    driver.let_end(pid, 7)
    assert [death[:3] for death in driver.kernel.reap()] == [Death(pid=pid, code=7, signal=None)[:3]]
    assert list(driver.kernel.reap()) == []


def test_a_killed_child_is_reaped_with_the_signal(driver: Driver) -> None:
    pid = driver.start()
    assert driver.kernel.kill(pid, signal.SIGKILL)
    driver.await_death(pid)
    assert [death[:3] for death in driver.kernel.reap()] == [
        Death(pid=pid, code=None, signal=signal.SIGKILL)[:3]
    ]


def test_all_that_have_ended_are_reaped_at_once(driver: Driver) -> None:
    pids = [driver.start() for _ in range(3)]
    for pid in pids:
        driver.let_end(pid, 0)
    assert {death.pid for death in driver.kernel.reap()} == set(pids)


def test_a_dead_child_can_be_signalled_until_it_is_reaped(driver: Driver) -> None:
    pid = driver.start()
    driver.let_end(pid, 0)
    assert driver.kernel.kill(pid, signal.SIGTERM)
    assert [death.code for death in driver.kernel.reap()] == [0]
    assert not driver.kernel.kill(pid, signal.SIGTERM)


def test_a_child_that_somebody_else_has_reaped_is_gone(driver: Driver) -> None:
    pid = driver.start()
    driver.let_end(pid, 0)
    driver.steal(pid)
    assert list(driver.kernel.reap()) == []
    assert not driver.kernel.kill(pid, signal.SIGKILL)


def test_the_clock_does_not_go_backwards(driver: Driver) -> None:
    assert driver.kernel.now() <= driver.kernel.now()


def test_a_child_starts_with_all_signals_blocked_and_no_wakeup_fd() -> None:
    kernel = LinuxKernel()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def look() -> int:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return int(
            {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1} <= blocked and signal.set_wakeup_fd(-1) == -1
        )

    pid = kernel.fork(look)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_child_that_raises_ends_there(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    pid = LinuxKernel().fork(fail)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "KeyboardInterrupt" in capfd.readouterr().err


def test_a_refused_fork_is_an_error_and_leaves_signals_as_they_were() -> None:
    """In a child of the test that may have no processes, because limits cannot be raised again."""
    if os.geteuid() == 0:
        pytest.skip("root may have as many processes as it likes")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def look() -> int:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        try:
            LinuxKernel().fork(lambda: 0)
        except OSError as error:
            return int(error.errno == errno.EAGAIN)
        return 0

    pid = LinuxKernel().fork(look)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_stranger_is_never_signalled_by_the_fake() -> None:
    assert not FakeDriver().kernel.kill(Pid(1), signal.SIGTERM)
