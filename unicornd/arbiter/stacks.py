"""The answer of `POST /v1/workers/{slot}/stacks`: what a worker writes a moment after it was told to.

Run by the arbiter's loop, which waits for nobody: each wait is a long poll. A moment is long for a program and short for
a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter import view
from unicornd.control import protocol
from unicornd.control.documents import reply_with
from unicornd.control.exchange import LongPoll
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.requests import ControlPort
    from unicornd.control.exchange import Reply
    from unicornd.units import Pid, Slot

WRITTEN = 0.2
"""Seconds in which a worker writes its stacks, if nothing holds its interpreter."""

MISSED = 0.8
"""Seconds beyond, for a worker that has much to do; then the signal itself has to write them."""


class StacksOf:
    """Waits for the stacks of a worker that was told to write them."""

    def __init__(self, pid: Pid, slot: Slot, *, port: ControlPort) -> None:
        self._pid = pid
        self._slot = slot
        self._port = port

    def wait(self) -> LongPoll:
        """Return the wait whose answer they are."""
        return self._wait(WRITTEN, then=self._look)

    def _look(self) -> Reply | LongPoll:
        return self._show_if_there() or self._wait(MISSED, then=self._insist, poll=self._show_if_there)

    def _insist(self) -> LongPoll:
        self._port.insist_on_stacks(self._pid)
        return self._wait(WRITTEN, then=self._show)

    def _show_if_there(self) -> Reply | None:
        return self._show() if self._port.stacks(self._pid) else None

    def _show(self) -> Reply:
        workers = view.workers(self._port.state, self._port.facts())
        now = next((worker.now for worker in workers if worker.pid == self._pid), [])
        stacks = self._port.stacks(self._pid)
        return reply_with(protocol.Stacks(slot=self._slot, pid=self._pid, now=now, stacks=stacks))

    def _wait(
        self,
        seconds: float,
        *,
        then: Callable[[], Reply | LongPoll],
        poll: Callable[[], Reply | None] = lambda: None,
    ) -> LongPoll:
        return LongPoll(poll=poll, until=Monotonic(self._port.now() + seconds), expire=then)
