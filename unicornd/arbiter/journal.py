"""The journal: what has happened lately, in words, for `status` and `events`.

Written and read by the arbiter's loop only. A ring: the oldest entries go, and memory is bounded whatever happens.
Sequence numbers rise by one and are never given twice, so a reader knows what it has seen and what it has missed.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass, replace
from unicornd.escaping import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CAPACITY = 1000
"""Entries kept: a rollout of a few hundred workers, or days of quiet life; about 0.3 MB at most."""

MAX_CHARACTERS = 1000
"""Of an entry's text: some of it comes from workers."""

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        seq: its number, from 1.
        at: wall-clock time, seconds since the epoch.
        kind: what sort of thing, dotted: `worker.ready`, `reload.rolled_back`.
        text: the same for people, one line.
        facts: what a program wants to know: slot, pid, generation, …
    """

    seq: int
    at: float
    kind: str
    text: str
    facts: Mapping[str, Fact]


class Journal:
    """A bounded ring of entries.

    Args:
        clock: wall-clock time, `time.time`.
        capacity: how many entries are kept.
    """

    def __init__(self, clock: Callable[[], float], *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._last = 0

    @property
    def last(self) -> int:
        """The number of the newest entry; 0 when nothing has happened."""
        return self._last

    def append(self, kind: str, text: str, **facts: Fact) -> None:
        """Write down that something happened; `text` becomes one line, and is cut if it is long."""
        self._last += 1
        line = shortened(one_line(" ".join(text.split())), MAX_CHARACTERS)
        self._entries.append(Entry(seq=self._last, at=self._clock(), kind=kind, text=line, facts=facts))

    def inherit(self, entries: Iterable[Entry]) -> None:
        """Put what a predecessor has written down in front; what is here already is numbered on from it."""
        former = tuple(entries)
        if not former:
            return
        own = tuple(self._entries)
        self._last = former[-1].seq
        self._entries.clear()
        self._entries.extend(former)
        for entry in own:
            self._last += 1
            self._entries.append(replace(entry, seq=self._last))

    def since(self, seq: int) -> tuple[Entry, ...]:
        """Return the kept entries that are newer than `seq`; a gap to the first one's number was dropped."""
        newest_first = islice(reversed(self._entries), max(self._last - seq, 0))
        return tuple(newest_first)[::-1]

    def tail(self, count: int) -> tuple[Entry, ...]:
        """Return the newest `count` entries, oldest first."""
        return self.since(max(self._last - count, 0))
