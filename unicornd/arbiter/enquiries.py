"""What a process of its own finds out while the loop goes on: it may take its time, hang or die, and holds nobody up.

Run by the arbiter's loop. The answer comes over a pipe that the selector watches. Whoever has asked is told once: what
was found, what was raised, or how the process ended.
"""

from __future__ import annotations

import os
import selectors
import signal
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from unicornd.apart import PART_BYTES, LateError, answer_in, is_whole, tell
from unicornd.arbiter.wakeup import HEARD
from unicornd.dataclass import dataclass
from unicornd.forking import OwnedFd
from unicornd.units import Monotonic, Pid, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.kernel import Death, Kernel

T = TypeVar("T")


@dataclass(slots=True)
class _Enquiry:
    """One question.

    Attributes:
        reader: our end of the pipe.
        until: when it is given up; seconds: after how long that is.
        then: takes what gives the answer, or raises.
        told: what has come of it.
    """

    reader: OwnedFd
    until: Monotonic
    seconds: float
    then: Callable[[Callable[[], object]], None]
    told: bytes = b""


class Enquiries:
    """The questions that have no answer yet.

    Args:
        kernel: forks.
        selector: hears the answers.
    """

    def __init__(self, kernel: Kernel, selector: selectors.BaseSelector) -> None:
        self._kernel = kernel
        self._selector = selector
        self._open: dict[Pid, _Enquiry] = {}
        self._answered: set[Pid] = set()

    def ask(self, work: Callable[[], T], then: Callable[[Callable[[], T]], None], *, seconds: float) -> None:
        """Have a process of its own work.

        Args:
            work: what it does; the result has to be of plain values, or of classes that both sides know.
            then: called with a function that returns what `work` has returned, or raises what it has raised (as
                `apart.answer_in`), or LateError.
            seconds: how long it may take.

        Raises:
            OSError: no process can be made.
        """
        fd, writer = os.pipe()
        os.set_blocking(fd, False)
        reader = OwnedFd(fd)

        def answer() -> int:
            os.setpgid(0, 0)  # what it starts can be ended with it, and ends by itself if we are gone
            signal.alarm(int(seconds) + 1)
            for number in HEARD:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            tell(work, writer)
            return 0

        try:
            pid = self._kernel.fork(answer)
        except OSError:
            reader.close()
            raise
        finally:
            os.close(writer)
        self._open[pid] = _Enquiry(
            reader=reader,
            until=Monotonic(self._kernel.now() + seconds),
            seconds=seconds,
            then=cast("Callable[[Callable[[], object]], None]", then),
        )
        self._selector.register(reader, selectors.EVENT_READ, lambda _mask: self._read(pid))

    def tick(self, now: Monotonic) -> Monotonic | None:
        """End what takes too long; return when to look again."""
        for pid, enquiry in tuple(self._open.items()):
            if now >= enquiry.until:
                self._kill(pid)
                self._end(pid, partial(_be_late, enquiry.seconds))
        return min((enquiry.until for enquiry in self._open.values()), default=None)

    def postpone(self, late: Seconds) -> None:
        """The arbiter was late itself: the others may take so much longer."""
        for enquiry in self._open.values():
            enquiry.until = Monotonic(enquiry.until + late)

    def take_death(self, death: Death) -> bool:
        """Return whether it was one of these processes that died."""
        if death.pid in self._answered:
            self._answered.discard(death.pid)
            return True
        if death.pid not in self._open:
            return False
        self._read(death.pid)  # what it said before it died
        if (enquiry := self._open.get(death.pid)) is not None:
            how = f"signal {death.signal}" if death.signal is not None else f"exit code {death.code}"
            self._end(death.pid, lambda: answer_in(enquiry.told, how=how))
        self._answered.discard(death.pid)
        return True

    def end(self) -> None:
        """End all of them; nobody is told any more."""
        for pid, enquiry in self._open.items():
            self._kill(pid)
            self._forget(enquiry)
            enquiry.reader.close()
        self._open.clear()

    def _read(self, pid: Pid) -> None:
        enquiry = self._open.get(pid)
        if enquiry is None:
            return
        while True:
            try:
                part = os.read(enquiry.reader.fileno(), PART_BYTES)
            except BlockingIOError:
                return
            enquiry.told += part
            if is_whole(enquiry.told):
                self._end(pid, lambda: answer_in(enquiry.told, how="it has told everything"))
                return
            if not part:  # it ends, which its death will say
                self._forget(enquiry)
                return

    def _end(self, pid: Pid, answer: Callable[[], object]) -> None:
        enquiry = self._open.pop(pid)
        self._answered.add(pid)
        self._forget(enquiry)
        enquiry.reader.close()
        enquiry.then(answer)

    def _forget(self, enquiry: _Enquiry) -> None:
        if enquiry.reader.fileno() in self._selector.get_map():
            self._selector.unregister(enquiry.reader)

    def _kill(self, pid: Pid) -> None:
        self._kernel.kill_group(pid, signal.SIGKILL)  # with what it has started


def _be_late(seconds: float) -> NoReturn:
    raise LateError(f"not done after {seconds:g} s")
