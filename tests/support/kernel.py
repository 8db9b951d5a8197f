"""A kernel that a test makes up, and the means to drive it and the real one alike.

`tests/unit/test_shell_kernel.py` runs the same cases on both, so what the fake promises is what Linux does.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

from unicornd.arbiter.kernel import Death, LinuxKernel
from unicornd.units import Monotonic, Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from unicornd.arbiter.kernel import Kernel
    from unicornd.forking import Closable


class FakeKernel:
    """Processes that exist only here; nothing that is forked ever runs.

    Attributes:
        time: what the clock says.
        signals: what was sent to whom.
        stopped: who is stopped.
        strangers: children that `fork` has not made.
        refusal: what the next forks are refused with, or None.
    """

    def __init__(self) -> None:
        self.time = 1000.0
        self.signals: list[tuple[Pid, int]] = []
        self.stopped: set[Pid] = set()
        self.strangers: set[Pid] = set()
        self.refusal: OSError | None = None
        self._living: set[Pid] = set()
        self._dead: list[Death] = []
        self._last = 100

    def now(self) -> Monotonic:
        return Monotonic(self.time)

    def fork(self, child: Callable[[], int], *, kept: Collection[Closable] | None = ()) -> Pid:  # noqa: ARG002 - the other side of a fork is elsewhere
        if self.refusal is not None:
            raise self.refusal
        self._last += 1
        self._living.add(Pid(self._last))
        return Pid(self._last)

    def is_child(self, pid: Pid) -> bool:
        return pid in self._living or any(death.pid == pid for death in self._dead)

    def kill(self, pid: Pid, number: int) -> bool:
        if not self.is_child(pid):
            return False
        self.signals.append((pid, number))
        if number is signal.SIGKILL and pid in self._living:
            self.end(pid, by=number)
        return True

    def kill_group(self, leader: Pid, number: int) -> bool:
        return self.kill(leader, number)

    def is_stopped(self, pid: Pid) -> bool:
        return pid in self._living & self.stopped

    def adopt_orphans(self) -> None:
        """Nothing is orphaned here."""

    def is_forked(self, pid: Pid) -> bool:
        return pid not in self.strangers

    def reap(self, leaves: Callable[[Pid], bool] | None = None) -> Iterator[Death]:
        left: list[Death] = []
        while self._dead:
            death = self._dead.pop(0)
            if leaves is not None and leaves(death.pid):
                left.append(death)
            else:
                yield death
        self._dead = left

    def adopt(self) -> Pid:
        """Be the parent of a process that nobody has forked here."""
        pid = self.fork(lambda: 0)
        self.strangers.add(pid)
        return pid

    def end(self, pid: Pid, *, code: int | None = None, by: int | None = None) -> None:
        """Let a process end."""
        self._living.remove(pid)
        self._dead.append(Death(pid=pid, code=code, signal=by))

    def steal(self, pid: Pid) -> None:
        """Let somebody else reap a process."""
        self._living.discard(pid)
        self._dead = [death for death in self._dead if death.pid != pid]


class Driver(Protocol):
    """What the cases need beside the kernel: children that end when they are told to."""

    kernel: Kernel

    def start(self) -> Pid:
        """Fork a child that waits."""

    def stop(self, pid: Pid) -> None:
        """Stop it; returns when it is stopped."""

    def let_end(self, pid: Pid, code: int) -> None:
        """Have it end with a code; returns when it has ended and nobody has reaped it."""

    def await_death(self, pid: Pid) -> None:
        """Wait until it has ended and nobody has reaped it."""

    def steal(self, pid: Pid) -> None:
        """Reap it behind the kernel's back."""

    def close(self) -> None:
        """End what is left."""


class FakeDriver:
    """Drives `FakeKernel`."""

    def __init__(self) -> None:
        self.fake = FakeKernel()
        self.kernel: Kernel = self.fake

    def start(self) -> Pid:
        return self.kernel.fork(lambda: 0)

    def stop(self, pid: Pid) -> None:
        self.fake.stopped.add(pid)

    def let_end(self, pid: Pid, code: int) -> None:
        self.fake.end(pid, code=code)

    def await_death(self, pid: Pid) -> None:
        """It has died already."""

    def steal(self, pid: Pid) -> None:
        self.fake.steal(pid)

    def close(self) -> None:
        """Nothing is left."""


class LinuxDriver:
    """Drives `LinuxKernel`: each child reads its exit code from a pipe."""

    def __init__(self) -> None:
        self.kernel: Kernel = LinuxKernel()
        self._orders: dict[Pid, int] = {}

    def start(self) -> Pid:
        reader, writer = os.pipe()

        def live() -> int:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.close(writer)
            return int(os.read(reader, 3) or b"0")

        pid = self.kernel.fork(live)
        os.close(reader)
        self._orders[pid] = writer
        return pid

    def stop(self, pid: Pid) -> None:
        self.kernel.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)

    def let_end(self, pid: Pid, code: int) -> None:
        os.write(self._orders[pid], str(code).encode())
        self.await_death(pid)

    def await_death(self, pid: Pid) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def steal(self, pid: Pid) -> None:
        os.waitpid(pid, 0)

    def close(self) -> None:
        for writer in self._orders.values():
            os.close(writer)
        for pid in self._orders:
            self.kernel.kill(pid, signal.SIGKILL)
        for pid in self._orders:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue
