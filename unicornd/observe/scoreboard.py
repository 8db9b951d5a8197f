"""The scoreboard: one row of shared memory a worker, written by the worker, read by the arbiter.

A row is a mapping of its own (a memfd), made by the arbiter before it forks. The worker stores 8-byte numbers into it,
without locks and without system calls; each number has one writer, and 8-byte aligned stores are not torn on the
machines that we run on. A reader may see a number that is one request old, never half of one. The row outlives its
worker: what it was serving when it died can still be read.

The worker may be hostile, and the arbiter root. So the size of the memory is sealed, and whatever is read is held against
what it can be: times are past, counts do not sink and are not absurd, texts can be printed.

    header   heartbeat · requests · errors · seconds busy · connections · histogram · grace · stacks · timeouts
             · disconnects · waiting · lost log lines
    cells    one a thread: since when its request runs (0: idle) · length of its text · text ("GET /path")

A negative time in a cell is that of a stream (server-sent events, a WebSocket): shown, but under no time limit. A request
that was given up has a bit set in its length: its client has been told, so it is not lost when the worker dies.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass, field
from unicornd.observe.outlet import LOGS
from unicornd.observe.sealed import sealed_memory
from unicornd.observe.stacks import Stacks
from unicornd.units import Fd, Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram in seconds; one more bucket is for all above."""

SHORTEST = BUCKETS[0]
FAILED, OVERDUE, GONE = 1, 2, 4
"""What was not as it should be with a request, to be added up: its status was 5xx; it ran into timeouts.request; its client
has left before the end of the answer."""

_WORD = 8
_HEARTBEAT, _REQUESTS, _ERRORS, _BUSY, _CONNECTIONS, _FIRST_BUCKET = range(6)
_GRACE = _FIRST_BUCKET + len(BUCKETS) + 1
_STACKS, _TIMEOUTS, _DISCONNECTS, _WAITING = range(_GRACE + 1, _GRACE + 5)
_HEADER_WORDS = 32
_LOST = _HEADER_WORDS - len(LOGS)
_CELL_WORDS = 32
_TEXT_LENGTH = 1
_TEXT_OFFSET = 2 * _WORD
_GIVEN_UP = 1 << 32
MAX_TEXT_BYTES = (_CELL_WORDS - 2) * _WORD
LEEWAY = 1.0
"""Seconds by which a time may be ahead of the reader's clock, which was looked at before: one that is further ahead is
none. Otherwise one store would be a sign of life for ever."""
MAX_COUNT = 2**40
"""No worker counts further: at 100,000 requests a second it would take four months. What is summed of such numbers is exact
in JSON and in Prometheus, which know floats of 53 bits."""
MAX_CONNECTIONS = 2**30
"""The kernel's own limit of a process's descriptors (fs.nr_open cannot be larger)."""
_PRINTABLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""Control characters → how they are shown: a terminal would obey them (C0, DEL, C1)."""
_PACK_CELL = struct.Struct(f"@dQ{MAX_TEXT_BYTES}s").pack_into
"""A cell in one call: 0.2 µs, in three 0.4 µs. What is longer is cut. Native ("@"), not standard ("="): that stores each
number at once, this byte by byte, and a reader that saw half of a time would take it for a request without end."""
_LENGTH = struct.Struct("@Q")
_PACK_COUNTERS = struct.Struct("@dQQd").pack_into
"""Heartbeat, requests, errors, seconds busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A request that a worker is (or was, when it died) serving.

    Attributes:
        cell: number of the thread, from 0.
        since: when it began.
        text: method and path, without the query.
        is_stream: whether no time limit counts for it.
        is_given_up: whether its client has been told that there will be no answer.
    """

    cell: int
    since: Monotonic
    text: str
    is_stream: bool = False
    is_given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a row says at one moment.

    Attributes:
        heartbeat: when the worker last gave a sign of life; 0 before the first.
        requests: answered so far; `errors`: those with a 5xx status.
        connections: open now.
        busy_seconds: summed time of the answered requests.
        buckets: how many requests took up to each of `BUCKETS` (not cumulated), and above.
        in_flight: the requests that are running.
        lost_lines: log → lines that could not be written.
        timeouts: requests that ran into timeouts.request, as far as the worker has given them up itself.
        disconnects: clients that have left before the end of their answer, or of their request.
        waiting: complete requests that no thread runs yet.
    """

    heartbeat: Monotonic
    requests: int
    errors: int
    connections: int
    busy_seconds: Seconds
    buckets: tuple[int, ...]
    in_flight: tuple[InFlight, ...]
    lost_lines: Mapping[str, int] = field(default_factory=dict)
    timeouts: int = 0
    disconnects: int = 0
    waiting: int = 0

    @property
    def lost(self) -> tuple[InFlight, ...]:
        """The requests that get no answer if the worker is dead."""
        return tuple(request for request in self.in_flight if not request.is_given_up)

    @property
    def busy_since(self) -> Monotonic | None:
        """When the oldest running request began, or None."""
        return min((request.since for request in self.in_flight if not request.is_stream), default=None)


class Cell:
    """One request in its worker's row: two calls a request, each a store.

    Args:
        times: the row as seconds.
        word: index of the cell's first word.
        memory: the cell's bytes.
    """

    __slots__ = ("_memory", "_times", "_word")

    def __init__(self, *, times: memoryview[float], word: int, memory: memoryview[int]) -> None:
        self._times = times
        self._word = word
        self._memory = memory

    def begin(self, now: Monotonic, text: bytes) -> None:
        """Say that a request begins; `text` is its method and path."""
        _PACK_CELL(self._memory, 0, now, len(text), text)

    def postpone(self, now: Monotonic) -> None:
        """Have its time counted from now on."""
        self._times[self._word] = now

    def give_up(self, since: float) -> None:
        """Say that the client of the request that runs since then has been told that there will be no answer."""
        if self._times[self._word] == since:
            (length,) = _LENGTH.unpack_from(self._memory, _WORD)
            _LENGTH.pack_into(self._memory, _WORD, length | _GIVEN_UP)

    def clear(self) -> None:
        """Say that it is over; `Counters` counts it."""
        self._times[self._word] = 0.0


class Counters:
    """A row's counters for their one writer: they are known here, and only stored there.

    Cheaper than to read each number, add, and store it, and nobody else's bytes are added to: the application may have written
    over the row. Where several threads answer requests, a lock is around it.

    Args:
        numbers: the row as whole numbers.
        memory: its bytes.

    Attributes:
        requests: so far.
        errors: how many of them ended in one; stored with the next `add` or `show`.
    """

    __slots__ = (
        "_buckets", "_busy", "_disconnects", "_long", "_memory", "_numbers", "_short", "_timeouts", "errors", "requests",
    )  # fmt: skip

    def __init__(self, *, numbers: memoryview[int], memory: memoryview[int]) -> None:
        self._numbers = numbers
        self._memory = memory
        self._busy = 0.0
        self._short = 0
        self._long: list[int] = []
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._timeouts = 0
        self._disconnects = 0
        self.requests = 0
        self.errors = 0

    def add(self, now: float, seconds: float) -> None:
        """Count a request that took so long, and show it."""
        self.count(seconds)
        self.show(now)

    def count(self, seconds: float) -> None:
        """Count a request that took so long; `show` lets others see it, once for several."""
        self.requests += 1
        self._busy += seconds
        if seconds <= SHORTEST:
            self._short += 1
        else:
            self._long.append(bisect_left(BUCKETS, seconds))

    def note(self, outcome: int) -> None:
        """Count what was not as it should be with a request: `FAILED`, `OVERDUE`, `GONE`, or several of them."""
        if outcome & FAILED:
            self.errors += 1
        if outcome & OVERDUE:
            self._timeouts += 1
            self._numbers[_TIMEOUTS] = self._timeouts
        if outcome & GONE:
            self._disconnects += 1
            self._numbers[_DISCONNECTS] = self._disconnects

    def uncount(self, seconds: float) -> None:
        """Take back a request that had been counted before, when it was given up."""
        self.requests -= 1
        self._busy -= seconds
        bucket = bisect_left(BUCKETS, seconds)
        if bucket in self._long:
            self._long.remove(bucket)
        elif self._buckets[bucket]:  # it is shown already
            self._buckets[bucket] -= 1
            self._numbers[_FIRST_BUCKET + bucket] = self._buckets[bucket]

    def show(self, now: float) -> None:
        """Store what has been counted."""
        _PACK_COUNTERS(self._memory, 0, now, self.requests, self.errors, self._busy)
        self._numbers[_FIRST_BUCKET] = self._short
        while self._long:
            bucket = self._long.pop()
            self._buckets[bucket] += 1
            self._numbers[_FIRST_BUCKET + bucket] = self._buckets[bucket]


class Row:
    """One worker's row, and the file of its stacks.

    Args:
        fd: memfd of the row.
        stacks: memfd of the stacks.
        cells: how many threads the worker has.
    """

    def __init__(self, fd: Fd, stacks: Fd, *, cells: int) -> None:
        self.fd = fd
        self.cells = cells
        self._map = mmap.mmap(fd, _size(cells))
        self._bytes = memoryview(self._map)
        self._numbers = self._bytes.cast("Q")
        self._times = self._bytes.cast("d")
        self.stacks = Stacks(stacks, flag=self._numbers[_STACKS : _STACKS + 1])
        self._counted = [0] * _HEADER_WORDS
        self._busy = 0.0

    @classmethod
    def create(cls, cells: int) -> Self:
        """Make a row for a worker with so many threads.

        Raises:
            OSError: no memory or no file descriptor.
        """
        fd = sealed_memory("unicornd-row", _size(cells))
        try:
            stacks = Stacks.create()
        except OSError:
            os.close(fd)
            raise
        return cls(fd, stacks, cells=cells)

    def close(self) -> None:
        """Let go of the memory; it is freed when the last process has."""
        self.stacks.close()
        for view in (self._times, self._numbers, self._bytes):
            view.release()
        self._map.close()
        os.close(self.fd)

    # The worker's side.

    def beat(self, now: Monotonic) -> None:
        """Give a sign of life."""
        self._times[_HEARTBEAT] = now

    def counters(self) -> Counters:
        """Return the writer of the counters."""
        return Counters(numbers=self._numbers, memory=self._bytes)

    def cell(self, number: int) -> Cell:
        """Return the writer of one thread's cell."""
        word = _HEADER_WORDS + number * _CELL_WORDS
        return Cell(
            times=self._times,
            word=word,
            memory=self._bytes[word * _WORD : (word + _CELL_WORDS) * _WORD],
        )

    def set_connections(self, count: int) -> None:
        """Say how many connections are open."""
        self._numbers[_CONNECTIONS] = count

    def set_waiting(self, count: int) -> None:
        """Say how many complete requests no thread runs yet."""
        self._numbers[_WAITING] = count

    def set_grace(self, seconds: float) -> None:
        """Say how long the worker takes to end a request itself whose time is up, before the arbiter may."""
        self._times[_GRACE] = seconds

    def set_lost(self, log: str, lines: int) -> None:
        """Say how many lines of a log could not be written."""
        self._numbers[_LOST + LOGS.index(log)] = lines

    # The arbiter's side: what is read is nothing but bytes that somebody else has chosen.

    def read(self, now: Monotonic) -> Reading:
        """Return what the row says at `now`; counts are never lower than at an earlier reading."""
        connections = self._numbers[_CONNECTIONS]
        busy = self._times[_BUSY]
        if self._busy < busy <= MAX_COUNT:
            self._busy = busy
        return Reading(
            heartbeat=_past(self._times[_HEARTBEAT], now),
            requests=self._count(_REQUESTS),
            errors=self._count(_ERRORS),
            connections=connections if connections <= MAX_CONNECTIONS else 0,
            busy_seconds=Seconds(self._busy),
            buckets=tuple(self._count(_FIRST_BUCKET + number) for number in range(len(BUCKETS) + 1)),
            in_flight=tuple(request for cell in range(self.cells) if (request := self._read_cell(cell, now))),
            timeouts=self._count(_TIMEOUTS),
            disconnects=self._count(_DISCONNECTS),
            waiting=self.waiting(),
            lost_lines=self.lost_lines(),
        )

    def lost_lines(self) -> dict[str, int]:
        """Return log → lines that could not be written."""
        return {log: self._count(_LOST + number) for number, log in enumerate(LOGS)}

    def waiting(self) -> int:
        """Return how many complete requests no thread runs yet."""
        count = self._numbers[_WAITING]
        return count if count <= MAX_CONNECTIONS else 0

    def is_full(self, now: Monotonic) -> bool:
        """Return whether every cell has a request."""
        return all(0.0 < abs(since) <= now + LEEWAY for since in self._times[_HEADER_WORDS::_CELL_WORDS])

    def oldest(self, now: Monotonic, *, grace: float) -> tuple[Monotonic, Monotonic | None]:
        """Return the heartbeat, and from when on the oldest running request's time counts; cheaper than `read`.

        Args:
            now: nothing is later.
            grace: the most that the worker's own grace (`set_grace`) may be, in seconds.
        """
        times = self._times
        latest = now + LEEWAY
        # No comparison holds for a NaN.
        began = [since for since in times[_HEADER_WORDS::_CELL_WORDS] if 0.0 < since <= latest]
        beat = _past(times[_HEARTBEAT], now)
        if not began:
            return beat, None
        asked = times[_GRACE]
        granted = min(asked, grace) if asked > 0.0 else 0.0
        return beat, Monotonic(min(*began, now) + granted)

    def _count(self, word: int) -> int:
        count = self._numbers[word]
        if self._counted[word] < count <= MAX_COUNT:
            self._counted[word] = count
        return self._counted[word]

    def _read_cell(self, cell: int, now: Monotonic) -> InFlight | None:
        word = _HEADER_WORDS + cell * _CELL_WORDS
        said = self._times[word]
        since = _past(abs(said), now)
        if not since:
            return None
        offset = word * _WORD + _TEXT_OFFSET
        said_length = self._numbers[word + _TEXT_LENGTH]
        length = min(said_length & (_GIVEN_UP - 1), MAX_TEXT_BYTES)
        text = bytes(self._bytes[offset : offset + length]).decode("latin-1").translate(_PRINTABLE)
        return InFlight(
            cell=cell, since=since, text=text, is_stream=said < 0.0, is_given_up=bool(said_length & _GIVEN_UP)
        )


def _size(cells: int) -> int:
    return (_HEADER_WORDS + cells * _CELL_WORDS) * _WORD


def _past(time: float, now: Monotonic) -> Monotonic:
    """Return a time that is not after `now`; 0 for one that cannot be."""
    return Monotonic(min(time, now) if 0.0 < time <= now + LEEWAY else 0.0)
