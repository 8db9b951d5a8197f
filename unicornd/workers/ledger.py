"""Requests in flight of a kind whose concurrency no thread count bounds: into cells, counted, the oldest one known.

Used by the one thread of the worker's loop. A row has a fixed number of cells; what is beyond waits for one. A cell that
becomes free is given to the request that has waited longest, so the cells always show the oldest requests, and
`timeouts.request` sees the oldest of all. Counters are exact, however many requests there are.

A *stream* is a request whose answer has begun and has no foreseeable end (server-sent events, a WebSocket): it is shown,
but no time limit counts for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from unicornd.observe.scoreboard import FAILED, GONE, OVERDUE
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from unicornd.observe.scoreboard import Cell, Row


class Entry:
    """A request in flight; a kind may add to it what it has to know of one.

    Args:
        began: when (monotonic).
        text: method and path.

    Attributes:
        since: from when on its time limit counts.
        cell: the one that shows it, or None.
        is_stream: whether no time limit counts for it.
        outcome: what was not as it should be, of `scoreboard`'s `FAILED`, `OVERDUE` and `GONE`.
    """

    cell: Cell | None = None
    is_stream: bool = False
    outcome: int = 0
    # Of the class until they differ: an object a request, so what is not stored is time.

    def __init__(self, began: float, text: bytes) -> None:
        self.began = self.since = began
        self.text = text


EntryT = TypeVar("EntryT", bound=Entry)


class Ledger(Generic[EntryT]):
    """All requests in flight of one worker.

    Args:
        row: the worker's.

    Attributes:
        running: the requests in flight, in the order in which they began.
    """

    __slots__ = ("_counters", "_free", "_looked_at", "_waiting", "running")

    def __init__(self, row: Row) -> None:
        self._counters = row.counters()
        self._free = [row.cell(number) for number in reversed(range(row.cells))]
        self._looked_at = 0.0
        self._waiting: OrderedDict[EntryT, None] = OrderedDict()
        self.running: dict[EntryT, None] = {}

    @property
    def count(self) -> int:
        """How many have been answered."""
        return self._counters.requests

    def begin(self, entry: EntryT) -> None:
        """Note that a request begins."""
        if self._free:
            entry.cell = cell = self._free.pop()
            cell.begin(entry.began, entry.text)  # type: ignore[arg-type] # monotonic; a cast costs 50 ns
        else:
            self._waiting[entry] = None
        self.running[entry] = None

    def finish(self, entry: EntryT, now: float) -> None:
        """Note that it has been answered."""
        del self.running[entry]
        if entry.outcome:
            self._counters.note(entry.outcome)
        self._counters.add(now, now - entry.began)
        cell = entry.cell
        if cell is None:
            del self._waiting[entry]
            return
        entry.cell = None
        if self._waiting:
            self._pass_on(cell)
        else:
            cell.clear()
            self._free.append(cell)

    def note_gone(self) -> None:
        """Count a client that has left, of which no request that is in flight is to tell."""
        self._counters.note(GONE)

    def give_up(self, entry: EntryT, now: float) -> None:
        """Count a request whose client was told that there will be no answer; the process ends with the request in it."""
        self._counters.note(FAILED | OVERDUE)
        self._counters.add(now, now - entry.began)
        if entry.cell is not None:
            entry.cell.give_up(entry.since)

    def begin_stream(self, entry: EntryT) -> None:
        """Note that its answer has begun and goes on for as long as it likes."""
        entry.is_stream = True
        if entry.cell is not None:
            entry.cell.begin(Monotonic(-entry.began), entry.text)

    def postpone(self, entry: EntryT, since: float) -> None:
        """Have its time limit counted from `since` on."""
        entry.since = since
        if entry.cell is not None and not entry.is_stream:
            entry.cell.begin(Monotonic(since), entry.text)

    def look(self, now: float, *, tick: float, limit: float) -> None:
        """Note a regular look at the requests; if it comes too late by half a limit, everybody gets that much longer.

        Everything stood still then (a suspended machine, a frozen cgroup). Half a limit, since a loop that an application
        blocks now and then is late, too, which must not keep its requests from ever being too old.

        Args:
            now: the time.
            tick: seconds after which the next look is due.
            limit: of a request, in seconds; 0 for none.
        """
        late = now - self._looked_at - tick if self._looked_at else 0.0
        self._looked_at = now
        if limit and late >= limit / 2:
            for entry in self.running:
                self.postpone(entry, min(entry.since + late, now))

    def _pass_on(self, cell: Cell) -> None:
        entry, _ = self._waiting.popitem(last=False)
        entry.cell = cell
        cell.begin(Monotonic(-entry.began if entry.is_stream else entry.since), entry.text)
