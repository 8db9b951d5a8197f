"""Log lines on their way out: written at once, or kept while nobody takes them, or lost and counted. Nobody waits.

Used by every process, in whatever thread logs, and in signal handlers. As long as all is well, a line is one write(2) and
nothing else. What is not taken is kept in memory, up to `MAX_KEPT_BYTES`; what comes then is lost. Lines are written whole:
the rest of one that was cut goes first, and one that a full disk has cut is written again, on a line of its own. When lines
are taken again, one says how many were lost.

Who tries again depends on the process: the arbiter's loop does (`push_all`); a worker has a thread for it while it has
something to try (`retry_in_thread`), as its kinds have no loop in common; a mold must not have threads, and tries with its
next line.
"""

from __future__ import annotations

import atexit
import os
import signal
from _thread import LockType, allocate_lock, start_new_thread  # before a library of greenlets patches them
from collections import deque
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING
from weakref import WeakSet

from unicornd.dataclass import dataclass
from unicornd.observe.nonblocking import NO_LIMIT, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_KEPT_BYTES = 256 * 1024
LAST_PUSH_SECONDS = 0.2
"""How long a process that ends gives others to take what was kept."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Between two tries (seconds): short while something goes out, then longer and longer."""
PATIENCE = 1.0
"""Seconds for which a record that is longer than a pipe takes at one go waits for room, so that it stays in one piece."""
MOMENT = 0.05
"""Seconds for which a signal handler waits for what its own thread is in the middle of."""
LOGS = ("error", "access", "syslog", "own")
"""`own`: what handlers of the operator's own write to a standard stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Lines that were lost, up to now.

    Attributes:
        log: one of `LOGS`.
        lines: how many.
        seconds: since the first of them.
        why: in words: where they went, and what was the matter.
    """

    log: str
    lines: int
    seconds: float
    why: str

    def __str__(self) -> str:
        lines = "line was" if self.lines == 1 else "lines were"
        name = f"{self.log} log" if self.log in {"access", "syslog"} else "log"
        return f"{self.lines} {name} {lines} lost in {self.seconds:.1f} seconds: {self.why}"


@contextmanager
def _held(lock: LockType) -> Iterator[None]:
    """Hold a lock that nobody has for longer than a few system calls that do not wait.

    A signal handler may come in the middle of its own thread, which has the lock: it goes on without. No RLock: eventlet
    replaces all that it finds in the process by its own.
    """
    is_held = lock.acquire(timeout=MOMENT)
    try:
        yield
    finally:
        if is_held:
            lock.release()


class Outlet:
    """One log's way out of this process.

    Args:
        fd: leads there; -1: nowhere.
        log: one of `LOGS`.
        place: what that is, in words.
        tell: called when lines are taken again, in whatever thread notices.

    Attributes:
        log: which it is.
    """

    def __init__(self, fd: int, *, log: str, place: str, tell: Callable[[Loss], None]) -> None:
        self.log = log
        self._place = place
        self._tell = tell
        self._target: Target | None = None
        self._put: Callable[[bytes], int] = _nowhere
        self._most = NO_LIMIT
        self._lock = allocate_lock()
        self._forget()
        self.lead_to(fd)
        _PROCESS.outlets.add(self)

    def _forget(self) -> None:
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._lost_since = self._held_since = 0.0
        self._why = ""
        self._is_pushing = self._may_be_torn = False

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits."""
        return not self._kept

    def lead_to(self, fd: int) -> None:
        """Lead to another descriptor."""
        former, self._target = self._target, None
        if fd >= 0:
            with suppress(OSError):  # the application has closed it: `put` will say so
                self._target = Target(fd)
        self._put = self._target.put if self._target is not None else _nowhere
        self._most = self._target.most if self._target is not None else NO_LIMIT
        if former is not None:
            former.close()

    def write(self, data: bytes) -> None:
        """Write a record, which ends with a line feed; never waits, never raises OSError."""
        if self._kept or len(data) > self._most:
            self._keep(data)
            self.push()
            return
        try:
            sent = self._put(data)
        except OSError as error:
            self._note(error)
            sent = 0
        if sent != len(data):
            self._keep(data, sent=sent)
            _PROCESS.wants_retry()

    def push(self) -> None:
        """Write what was kept, as far as it is taken."""
        with _held(self._lock):
            if self._is_pushing:  # a signal handler in the middle of this
                return
            self._is_pushing = True
            try:
                while self._kept and self._push_first():
                    pass
                loss = self._settled() if not self._kept else None
            finally:
                self._is_pushing = False
        if loss is not None:
            self._tell(loss)
        if self._kept:
            _PROCESS.wants_retry()

    def take_over(self, former: Outlet) -> None:
        """Go on where another outlet to the same place ends."""
        with _held(self._lock), _held(former._lock):
            self._kept.extendleft(reversed(former._kept))
            self._bytes += former._bytes
            self._lost += former._lost
            self._lost_since, self._why = former._lost_since, former._why
            self._may_be_torn = former._may_be_torn
            former._forget()

    def close(self) -> None:
        """Let go of what was opened for it; what was kept is lost."""
        self.push()
        for _ in range(len(self._kept)):
            count_lost(self.log)
        self._forget()
        self.lead_to(-1)
        _PROCESS.outlets.discard(self)

    def begin_anew(self) -> None:
        """In a forked child: what is kept is the parent's to write."""
        self._lock = allocate_lock()
        self._forget()

    def _keep(self, data: bytes, *, sent: int = 0) -> None:
        """Keep a record of which so many bytes have been written, or lose it."""
        with _held(self._lock):
            if sent and self._target is not None and self._target.is_file:
                self._may_be_torn, sent = True, 0
            if self._kept and self._bytes + len(data) > MAX_KEPT_BYTES:
                self._lost += 1
                self._lost_since = self._lost_since or monotonic()
                count_lost(self.log)
                return
            self._held_since = self._held_since or monotonic()
            self._kept.append(data[sent:] if sent else data)
            self._bytes += len(data) - sent

    def _push_first(self) -> bool:
        """Write the record that has waited longest; return whether it has gone out."""
        data, target = self._kept[0], self._target
        is_long = len(data) > self._most
        if is_long and target is not None and not target.has_room(len(data)) and self._is_patient():
            self._why = self._why or f"{self._place} was not read"
            return False
        mends = self._may_be_torn and target is not None and target.is_file and not target.is_whole()
        line = b"\n" + data if mends else data
        try:
            sent = self._put(line)
        except OSError as error:
            self._note(error)
            return False
        if sent == len(line):
            self._kept.popleft()
            self._bytes -= len(data)
            self._may_be_torn, self._held_since = False, 0.0
            return True
        if target is not None and target.is_file:
            self._may_be_torn = True
        else:
            self._kept[0] = data[sent:]
            self._bytes -= sent
        return False

    def _is_patient(self) -> bool:
        self._held_since = self._held_since or monotonic()
        return monotonic() - self._held_since < PATIENCE

    def _note(self, error: OSError) -> None:
        """Remember what is the matter."""
        if isinstance(error, BlockingIOError):
            self._why = f"{self._place} was not read"
            return
        self._may_be_torn = True  # not by us, perhaps: all processes write to the same disk
        self._why = f"{self._place} could not be written ({error.strerror or error})"

    def _settled(self) -> Loss | None:
        """Return what was lost, once."""
        if not self._lost:
            return None
        loss = Loss(log=self.log, lines=self._lost, seconds=monotonic() - self._lost_since, why=self._why)
        self._forget()
        return loss


class _Process:
    """The outlets of this process, what they have lost, and who tries again."""

    def __init__(self) -> None:
        self.outlets: WeakSet[Outlet] = WeakSet()
        self.begin_anew()

    def begin_anew(self) -> None:
        """In a forked child: nothing has been lost, and nobody tries again yet."""
        self.lost = dict.fromkeys(LOGS, 0)
        self.show: Callable[[str, int], None] | None = None
        self.has_thread = self.may_have_thread = False
        for outlet in self.outlets:
            outlet.begin_anew()

    def wants_retry(self) -> None:
        """Something waits."""
        if self.may_have_thread and not self.has_thread:
            self.has_thread = True
            try:
                start_new_thread(self._retry, ())
            except RuntimeError:  # no thread is left, or the interpreter ends: the next line tries
                self.has_thread = False

    def _retry(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pause = Pause()
        while True:
            if not push_all():
                self.has_thread = False
                if not waiting():  # else it came in between
                    return
                self.has_thread = True
            sleep(pause.next(waiting()))


class Pause:
    """How long to wait until the next try."""

    def __init__(self) -> None:
        self._seconds = SHORTEST_PAUSE
        self._waiting = 0

    def next(self, waiting: int) -> float:
        """Return seconds, given how many bytes wait."""
        goes_on = waiting < self._waiting
        self._waiting = waiting
        self._seconds = SHORTEST_PAUSE if goes_on else min(2 * self._seconds, LONGEST_PAUSE)
        return self._seconds


_PROCESS = _Process()
os.register_at_fork(after_in_child=_PROCESS.begin_anew)


def push_last() -> None:
    """The process ends (atexit): give others a moment to take what was kept."""
    deadline = monotonic() + LAST_PUSH_SECONDS
    while push_all() and monotonic() < deadline:
        sleep(SHORTEST_PAUSE)


atexit.register(push_last)


def push_all() -> bool:
    """Write what was kept, in all outlets of this process; return whether something still waits."""
    for outlet in tuple(_PROCESS.outlets):
        if not outlet.is_clear:
            outlet.push()
    return any(not outlet.is_clear for outlet in tuple(_PROCESS.outlets))


def waiting() -> int:
    """Return how many bytes wait in this process."""
    return sum(outlet._bytes for outlet in tuple(_PROCESS.outlets))  # noqa: SLF001 - of this module


def count_lost(log: str) -> None:
    """Count a line that was lost."""
    _PROCESS.lost[log] += 1
    if _PROCESS.show is not None:
        _PROCESS.show(log, _PROCESS.lost[log])


def lost_lines() -> dict[str, int]:
    """Return how many lines this process has lost, log → lines."""
    return dict(_PROCESS.lost)


def retry_in_thread(show: Callable[[str, int], None]) -> None:
    """In a worker: have a thread try again while something waits.

    Args:
        show: called with log and lines, whenever one more has been lost.
    """
    _PROCESS.may_have_thread = True
    _PROCESS.show = show
    for log, lines in _PROCESS.lost.items():
        show(log, lines)
    if waiting():
        _PROCESS.wants_retry()


def _nowhere(_data: bytes) -> int:
    raise OSError(9, os.strerror(9))
