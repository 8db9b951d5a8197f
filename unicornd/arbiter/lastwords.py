"""Has a child that did not become ready in time say where it hangs, before it is killed; run by the arbiter's loop.

As for `unicornctl stacks`: Python code writes them if it can run, else the signal itself does. The arbiter waits for
neither, it comes back to it a moment later.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass
from unicornd.frames import without_ours
from unicornd.units import Monotonic
from unicornd.workers.signals import STACKS, STACKS_AT_ONCE

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.spawn import WorkerHandle
    from unicornd.units import Pid

MOMENT = 0.3
"""Seconds that a child has to write its stacks, each way."""


@dataclass(slots=True)
class _Asked:
    """A child that was asked: who it is, until when it is waited for, and whether the signal has to write them."""

    name: str
    until: Monotonic
    is_insisted_on: bool = False


class LastWords:
    """Asks children, and kills them.

    Args:
        kernel: sends the signals.
        handle_of: returns what is held of a child that has not been reaped, or None.
        log: gets the stacks.
    """

    def __init__(
        self, kernel: Kernel, *, handle_of: Callable[[Pid], WorkerHandle | None], log: logging.Logger
    ) -> None:
        self._kernel = kernel
        self._handle_of = handle_of
        self._log = log
        self._asked: dict[Pid, _Asked] = {}

    def ask(self, pid: Pid, name: str) -> None:
        """Ask a child for its stacks; it is killed when they are there, or after a moment."""
        seated = self._handle_of(pid)
        if seated is None or pid in self._asked or self._kernel.is_stopped(pid):
            self._kernel.kill(pid, signal.SIGKILL)
            return
        seated.row.stacks.forget()
        self._kernel.kill(pid, STACKS)
        self._asked[pid] = _Asked(name=name, until=Monotonic(self._kernel.now() + MOMENT))

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Look who has written them; return when to look again."""
        for pid, asked in tuple(self._asked.items()):
            seated = self._handle_of(pid)
            if seated is None:  # it has died
                del self._asked[pid]
            elif now < asked.until:
                continue
            elif seated.row.stacks.read() or asked.is_insisted_on:
                self._end(pid, asked, told=without_ours(seated.row.stacks.read()))
            else:
                asked.is_insisted_on, asked.until = True, Monotonic(now + MOMENT)
                seated.row.stacks.insist()
                self._kernel.kill(pid, STACKS_AT_ONCE)
        return min((asked.until for asked in self._asked.values()), default=None)

    def _end(self, pid: Pid, asked: _Asked, *, told: str) -> None:
        del self._asked[pid]
        if told:
            self._log.error("%s hung here\n%s", asked.name, told.rstrip(), extra={"pid": pid})
        else:
            self._log.error("%s did not say where it hangs", asked.name, extra={"pid": pid})
        self._kernel.kill(pid, signal.SIGKILL)
