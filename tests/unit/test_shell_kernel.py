"""The kernel as the arbiter sees it: the same cases on the real one and on the fake that other tests rely on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
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


def test_only_a_child_that_a_signal_has_stopped_is_stopped(driver: Driver) -> None:
    pid, other = driver.start(), driver.start()
    assert not driver.kernel.is_stopped(pid)
    driver.stop(pid)
    assert driver.kernel.is_stopped(pid)
    assert not driver.kernel.is_stopped(other)
    driver.kernel.kill(pid, signal.SIGKILL)
    driver.await_death(pid)
    assert not driver.kernel.is_stopped(pid)
    assert list(driver.kernel.reap())
    assert not driver.kernel.is_stopped(pid)


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


def test_who_is_left_is_not_reaped_and_hides_nobody(driver: Driver) -> None:
    left, *others = [driver.start() for _ in range(4)]
    for pid in (left, *others):
        driver.let_end(pid, 0)
    assert {death.pid for death in driver.kernel.reap(lambda pid: pid == left)} == set(others)
    assert list(driver.kernel.reap(lambda pid: pid == left)) == []
    assert driver.kernel.is_child(left)
    assert [death.pid for death in driver.kernel.reap()] == [left]


def test_who_is_reaped_by_the_one_that_is_asked_is_passed_over(driver: Driver) -> None:
    pids = [driver.start() for _ in range(2)]
    for pid in pids:
        driver.let_end(pid, 0)

    def leaves(pid: Pid) -> bool:
        if pid == pids[0]:
            driver.steal(pid)
        return False

    assert pids[1] in {death.pid for death in driver.kernel.reap(leaves)}
    assert list(driver.kernel.reap()) == []


def test_forked_are_those_that_it_has_forked_or_found() -> None:
    kernel = LinuxKernel()
    pid = kernel.fork(lambda: 3)
    assert kernel.is_forked(pid)
    assert LinuxKernel().is_forked(pid), "it was there before"
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert [death.code for death in kernel.reap()] == [3]
    assert not kernel.is_forked(pid)
    with subprocess.Popen(["true"]) as stranger:
        assert not kernel.is_forked(Pid(stranger.pid))


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


def test_a_child_is_one_until_it_is_reaped(driver: Driver) -> None:
    pid = driver.start()
    assert driver.kernel.is_child(pid)
    driver.let_end(pid, 0)
    assert driver.kernel.is_child(pid)
    list(driver.kernel.reap())
    assert not driver.kernel.is_child(pid)


def test_a_group_is_signalled_with_its_leader_as_long_as_that_is_a_child(driver: Driver) -> None:
    pid = driver.start()
    assert driver.kernel.kill_group(pid, signal.SIGKILL), "it leads no group yet"
    driver.await_death(pid)
    list(driver.kernel.reap())
    assert not driver.kernel.kill_group(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "pid",
    [1, 0, -1, os.getpid(), os.getppid(), -os.getpgid(0), 2**22 + 1, 10**30],
    ids=["init", "own group", "everybody", "itself", "its parent", "a group", "beyond all", "huge"],
)
def test_nobody_is_signalled_but_children(driver: Driver, pid: int) -> None:
    """To kill(2), -1 is everybody, 0 and other negative numbers are groups."""
    assert not driver.kernel.is_child(Pid(pid))
    assert not driver.kernel.kill(Pid(pid), 0)
    assert not driver.kernel.kill_group(Pid(pid), 0)


def test_a_process_of_a_child_is_no_child_and_is_not_signalled() -> None:
    kernel = LinuxKernel()
    reader, writer = os.pipe()

    def live() -> int:
        grandchild = kernel.fork(lambda: signal.sigwait({signal.SIGTERM}))
        os.write(writer, str(grandchild).encode())
        signal.sigwait({signal.SIGTERM})
        return not kernel.kill(grandchild, signal.SIGTERM) or os.waitpid(grandchild, 0)[1] >> 8

    child = kernel.fork(live)
    os.close(writer)
    grandchild = Pid(int(os.read(reader, 20)))
    os.close(reader)
    assert not kernel.kill(grandchild, signal.SIGKILL)
    assert kernel.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGTERM, "the grandchild was there"


def test_a_child_that_may_not_be_signalled_is_still_there() -> None:
    """In a child of the test, which gives its rights up; its own child keeps them, as a set-user-ID program has them."""
    if os.geteuid() != 0:
        pytest.skip("only root has children of another user")
    kernel = LinuxKernel()

    def look() -> int:
        child = kernel.fork(lambda: signal.sigwait({signal.SIGUSR1}))
        os.setresuid(65534, 65534, 65534)
        return (
            int(kernel.kill(child, signal.SIGTERM) and kernel.kill_group(child, signal.SIGTERM)) + 2 * child
        )

    reader, writer = os.pipe()

    def tell() -> int:
        os.write(writer, str(look()).encode())
        return 0

    pid = kernel.fork(tell)
    os.close(writer)
    child, is_there = divmod(int(os.read(reader, 20)), 2)
    os.close(reader)
    os.waitpid(pid, 0)
    os.kill(child, signal.SIGUSR1)
    assert is_there


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
