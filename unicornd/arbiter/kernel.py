"""The system calls that change processes, as a protocol: the seam between the arbiter's shell and Linux.

Used by the arbiter's loop. `LinuxKernel` is the real one; the tests run the same cases on it and on theirs.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import suppress
from os import (
    fork,
)  # as it is before a hook's file patches the module: gevent's own takes SIGCHLD away from us
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from unicornd.forking import BOUNDARY
from unicornd.observe.memory import kill_counter_of
from unicornd.units import Monotonic, Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from unicornd.forking import Closable


PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""
STOPPED = b"T"
"""Stopped by a signal; `t` is a debugger's (proc_pid_stat(5))."""


class Death(NamedTuple):
    """A child that has been reaped: its exit code, or the signal that killed it, and the most memory that it had."""

    pid: Pid
    code: int | None
    signal: int | None
    peak_memory: int = 0
    """Bytes (getrusage(2), ru_maxrss)."""
    kill_counter: Path | None = None
    """What counts the kernel's kills in the cgroup that it has died in, where the kernel tells."""


class Kernel(Protocol):
    """What the arbiter asks of the kernel."""

    def now(self) -> Monotonic:
        """CLOCK_MONOTONIC."""

    def fork(self, child: Callable[[], int], *, kept: Collection[Closable] | None = ()) -> Pid:
        """Run `child` in a new process, which ends with the code that it returns.

        Args:
            child: what it does.
            kept: what it keeps of all that the arbiter owns (`forking.BOUNDARY`). None: everything, it executes a program.

        Raises:
            OSError: no process can be made.
        """

    def is_child(self, pid: Pid) -> bool:
        """Return whether it is a child of this process; a dead one is, until it is reaped."""

    def kill(self, pid: Pid, number: int) -> bool:
        """Send a child a signal; False if it is no child of ours (any more): then nothing is sent."""

    def kill_group(self, leader: Pid, number: int) -> bool:
        """Send a signal to a child and the process group that it leads, as `kill`."""

    def is_stopped(self, pid: Pid) -> bool:
        """Return whether a child is stopped by a signal (SIGSTOP, SIGTSTP): of all signals, only KILL ends it."""

    def adopt_orphans(self) -> None:
        """Become the parent of descendants whose own parent has ended (PR_SET_CHILD_SUBREAPER, prctl(2)).

        Raises:
            OSError: the kernel refuses.
        """

    def is_forked(self, pid: Pid) -> bool:
        """Whether it is a child that `fork` has made; or that was there before the kernel was asked for anything."""

    def reap(self, leaves: Callable[[Pid], bool] | None = None) -> Iterator[Death]:
        """Yield every child that has ended and was not reaped yet.

        Args:
            leaves: asked for each one; True: it is not reaped, somebody else in this process waits for it.
        """


class LinuxKernel:
    """The real one."""

    def __init__(self) -> None:
        self._forked = set(_children())

    def now(self) -> Monotonic:
        """See `Kernel`."""
        return Monotonic(time.monotonic())

    def fork(self, child: Callable[[], int], *, kept: Collection[Closable] | None = ()) -> Pid:
        """See `Kernel`. Signals stay blocked in the child until it has handlers of its own."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with BOUNDARY.ours():
                pid = fork()
            if pid == 0:
                _be(child, kept)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self._forked.add(Pid(pid))
        return Pid(pid)

    def is_forked(self, pid: Pid) -> bool:
        """See `Kernel`."""
        return pid in self._forked

    def is_child(self, pid: Pid) -> bool:
        """See `Kernel`."""
        if pid <= 1 or pid == os.getpid():  # to kill(2), 0 and below mean many processes
            return False
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (ChildProcessError, OverflowError):
            return False
        return True

    def kill(self, pid: Pid, number: int) -> bool:
        """See `Kernel`.

        Every signal of the arbiter goes through here. A child's pid cannot become another process's before the child is
        reaped, which only this thread does: so nothing can come between the question and the signal, and a pidfd for
        each child would say no more.
        """
        if not self.is_child(pid):
            return False
        with suppress(
            ProcessLookupError, PermissionError
        ):  # it runs a set-user-ID program, and we are not root
            os.kill(pid, number)
        return True

    def kill_group(self, leader: Pid, number: int) -> bool:
        """See `Kernel`."""
        if not self.is_child(leader):
            return False
        with suppress(ProcessLookupError, PermissionError):  # it does not lead a group yet
            os.killpg(leader, number)
        return self.kill(leader, number)

    def is_stopped(self, pid: Pid) -> bool:
        """See `Kernel`. The state is behind the name, which may have any characters (proc_pid_stat(5))."""
        try:
            said = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        return said.rpartition(b") ")[2][:1] == STOPPED

    def adopt_orphans(self) -> None:
        """See `Kernel`."""
        import ctypes  # noqa: PLC0415 - only a fleet with a mold needs it

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def reap(self, leaves: Callable[[Pid], bool] | None = None) -> Iterator[Death]:
        """See `Kernel`.

        Without reaping, the kernel tells only of the first one that has ended. So as long as one is left, all children
        are looked at.
        """
        left: set[Pid] = set()
        while (pid := _ended(left)) is not None:
            if leaves is not None and leaves(pid):
                left.add(pid)
                continue
            counter = kill_counter_of(pid, is_dead=True)  # nobody can be asked when it is reaped
            try:
                _, status, usage = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:  # whoever was asked has reaped it
                continue
            self._forked.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            yield Death(
                pid=pid,
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                peak_memory=usage.ru_maxrss * 1024,
                kill_counter=counter,
            )


def _ended(left: set[Pid]) -> Pid | None:
    """Return a child that has ended and is not among those that are `left`, or None."""
    first = _ended_of(os.P_ALL, 0)
    if first not in left:
        return first
    return next((pid for pid in _children() if pid not in left and _ended_of(os.P_PID, pid)), None)


def _ended_of(kind: int, pid: int) -> Pid | None:
    try:
        found = os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return Pid(found.si_pid) if found is not None else None


def _children() -> Iterator[Pid]:
    """Yield the children of this process: each is listed with the thread that has forked it (proc_tid_children(5))."""
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            yield from (Pid(int(pid)) for pid in file.read_text().split())


def _be(child: Callable[[], int], kept: Collection[Closable] | None) -> None:
    """Be the child: whatever happens, this process never returns into the arbiter's code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # now: a library of greenlets may set its own
        if kept is not None:
            BOUNDARY.close_owned(kept)
            gc.unfreeze()  # the arbiter has frozen what it shares with its workers; they collect their own
        code = child()
    except BaseException:  # noqa: BLE001 - told, then the process ends
        import traceback  # noqa: PLC0415 - only in a disaster

        traceback.print_exc()
    finally:
        os._exit(code)
