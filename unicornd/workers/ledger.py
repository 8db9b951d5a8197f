"""Requests in flight of a kind whose concurrency no thread count bounds: into cells, counted, the oldest one known.

Used by the one thread of the worker's loop. A row has a fixed number of cells; what is beyond waits for one. A cell that
becomes free is given to the request that has waited longest, so the cells always show the oldest requests, and
`timeouts.request` sees the oldest of all. Counters are exact, however many requests there are.

A *stream* is a request whose answer has begun and has no foreseeable end (server-sent events, a WebSocket): it is shown,
but no time limit counts for it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from unicornd.units import Monotonic

if TYPE_CHECKING:
    from unicornd.observe.scoreboard import Cell, Row


class Entry:
    """A request in flight.

    Attributes:
        since: when it began (monotonic).
        text: method and path.
        is_stream: whether no time limit counts for it.
    """

    __slots__ = ("cell", "is_stream", "since", "text")

    def __init__(self, since: float, text: bytes, *, cell: Cell | None) -> None:
        self.since = since
        self.text = text
        self.cell = cell
        self.is_stream = False


class Ledger:
    """All requests in flight of one worker.

    Args:
        row: the worker's.
    """

    __slots__ = ("_free", "_row", "_waiting", "count", "running")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._free = deque(row.cell(number) for number in range(row.cells))
        self._waiting: OrderedDict[Entry, None] = OrderedDict()
        self.running: dict[Entry, None] = {}
        self.count = 0
        """Requests that were answered."""

    def begin(self, now: float, text: bytes) -> Entry:
        """Note that a request begins; `text` is its method and path."""
        if self._free:
            cell = self._free.popleft()
            cell.begin(Monotonic(now), text)
            entry = Entry(now, text, cell=cell)
        else:
            entry = Entry(now, text, cell=None)
            self._waiting[entry] = None
        self.running[entry] = None
        return entry

    def finish(self, entry: Entry, now: float, *, is_error: bool) -> None:
        """Note that it has been answered."""
        del self.running[entry]
        self.count += 1
        self._row.count(Monotonic(now), now - entry.since, is_error=is_error)
        cell = entry.cell
        if cell is None:
            del self._waiting[entry]
        elif self._waiting:
            entry.cell = None
            self._pass_on(cell)
        else:
            cell.clear()
            self._free.append(cell)

    def begin_stream(self, entry: Entry) -> None:
        """Note that its answer has begun and goes on for as long as it likes."""
        entry.is_stream = True
        if entry.cell is not None:
            entry.cell.begin(Monotonic(-entry.since), entry.text)

    def postpone(self, entry: Entry, since: float) -> None:
        """Have its time limit counted from `since` on."""
        entry.since = since
        if entry.cell is not None and not entry.is_stream:
            entry.cell.begin(Monotonic(since), entry.text)

    def _pass_on(self, cell: Cell) -> None:
        entry, _ = self._waiting.popitem(last=False)
        entry.cell = cell
        cell.begin(Monotonic(-entry.since if entry.is_stream else entry.since), entry.text)
