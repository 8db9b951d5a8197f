"""Log lines that could not be written: tried again, and told in the journal.

Run by the arbiter's loop as a ticker. It wants to be called again only while something waits to be written or to be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.observe.outlet import Pause, push_all, waiting
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.processes import ProcessTable

LOOK_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds between two entries while lines are lost: each time twice as long, so that a day of it does not fill the journal."""


class LogWatch:
    """Tries again, and tells.

    Args:
        processes: what they have counted.
        journal: for `unicornctl events`.
    """

    def __init__(self, processes: ProcessTable, journal: Journal) -> None:
        self._processes = processes
        self._journal = journal
        self._pause = Pause()
        self._next_try = 0.0
        self._next_look = 0.0
        self._told = 0
        self._next_entry = 0.0
        self._silence = FIRST_PAUSE

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Do what is due; return when something is due again."""
        if now >= self._next_look:  # the rows are swept once a second anyway: it need not be called for this
            self._next_look = now + LOOK_SECONDS
            lost = self._processes.lost_lines() - self._told
            if lost > 0 and now >= self._next_entry:
                self._tell(lost, now)
        return self._push(now)

    def _push(self, now: Monotonic) -> Monotonic | None:
        bytes_waiting = waiting()
        if not bytes_waiting:
            self._pause, self._next_try = Pause(), 0.0
            return None
        if now >= self._next_try:
            push_all()
            self._next_try = now + self._pause.next(waiting())
        return Monotonic(self._next_try)

    def _tell(self, lost: int, now: Monotonic) -> None:
        is_new = now >= self._next_entry + self._silence
        self._silence = FIRST_PAUSE if is_new else min(2 * self._silence, LONGEST_PAUSE)
        self._next_entry = now + self._silence
        self._told += lost
        counted = self._processes.counted().lost_lines
        more = "one log line" if lost == 1 else f"{lost} log lines"
        text = f"{more} could not be written: nobody reads them, or the disk is full"
        facts = {f"{log}_total": lines for log, lines in counted.items() if lines}
        self._journal.append("log.lost", text, lines=lost, **facts)
