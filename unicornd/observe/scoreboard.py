"""The scoreboard: one row of shared memory a worker, written by the worker, read by the arbiter.

A row is a mapping of its own (a memfd), made by the arbiter before it forks. The worker stores 8-byte numbers into it,
without locks and without system calls; each number has one writer, and 8-byte aligned stores are not torn on the
machines that we run on. A reader may see a number that is one request old, never half of one. The row outlives its
worker: what it was serving when it died can still be read.

    header   heartbeat · requests · errors · seconds busy · connections · histogram · grace
    cells    one a thread: since when its request runs (0: idle) · length of its text · text ("GET /path")

A negative time in a cell is that of a stream (server-sent events, a WebSocket): shown, but under no time limit.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass
from unicornd.units import Fd, Monotonic, Seconds

if TYPE_CHECKING:
    from typing import Self

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram in seconds; one more bucket is for all above."""

SHORTEST = BUCKETS[0]

_WORD = 8
_HEARTBEAT, _REQUESTS, _ERRORS, _BUSY, _CONNECTIONS, _FIRST_BUCKET = range(6)
_GRACE = _FIRST_BUCKET + len(BUCKETS) + 1
_HEADER_WORDS = 24
_CELL_WORDS = 32
_TEXT_LENGTH = 1
_TEXT_OFFSET = 2 * _WORD
MAX_TEXT_BYTES = (_CELL_WORDS - 2) * _WORD
MAX_STACKS_BYTES = 256 * 1024
_PACK_CELL = struct.Struct(f"@dQ{MAX_TEXT_BYTES}s").pack_into
"""A cell in one call: 0.2 µs, in three 0.4 µs. What is longer is cut. Native ("@"), not standard ("="): that stores each
number at once, this byte by byte, and a reader that saw half of a time would take it for a request without end."""
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
    """

    cell: int
    since: Monotonic
    text: str
    is_stream: bool = False


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
    """

    heartbeat: Monotonic
    requests: int
    errors: int
    connections: int
    busy_seconds: Seconds
    buckets: tuple[int, ...]
    in_flight: tuple[InFlight, ...]

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

    def clear(self) -> None:
        """Say that it is over; `Counters` counts it."""
        self._times[self._word] = 0.0


class Counters:
    """A row's counters for their one writer: they are known here, and only stored there.

    Cheaper than to read each number, add, and store it. Where several threads answer requests, a lock is around it.

    Args:
        numbers: the row as whole numbers.
        memory: its bytes.

    Attributes:
        requests: so far.
        errors: how many of them ended in one; stored with the next `add` or `show`.
    """

    __slots__ = ("_busy", "_long", "_memory", "_numbers", "_short", "errors", "requests")

    def __init__(self, *, numbers: memoryview[int], memory: memoryview[int]) -> None:
        self._numbers = numbers
        self._memory = memory
        self._busy = 0.0
        self._short = 0
        self._long: list[int] = []
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

    def show(self, now: float) -> None:
        """Store what has been counted."""
        _PACK_COUNTERS(self._memory, 0, now, self.requests, self.errors, self._busy)
        self._numbers[_FIRST_BUCKET] = self._short
        while self._long:
            self._numbers[_FIRST_BUCKET + self._long.pop()] += 1


class Row:
    """One worker's row.

    Args:
        fd: memfd of the row.
        cells: how many threads the worker has.
    """

    def __init__(self, fd: Fd, *, cells: int) -> None:
        self.fd = fd
        self.cells = cells
        self._map = mmap.mmap(fd, (_HEADER_WORDS + cells * _CELL_WORDS) * _WORD)
        self._bytes = memoryview(self._map)
        self._numbers = self._bytes.cast("Q")
        self._times = self._bytes.cast("d")

    @classmethod
    def create(cls, cells: int) -> Self:
        """Make a row for a worker with so many threads.

        Raises:
            OSError: no memory or no file descriptor.
        """
        fd = os.memfd_create("unicornd-row")
        os.ftruncate(fd, (_HEADER_WORDS + cells * _CELL_WORDS) * _WORD)
        return cls(Fd(fd), cells=cells)

    def close(self) -> None:
        """Let go of the memory; it is freed when the last process has."""
        for view in (self._times, self._numbers, self._bytes):
            view.release()
        self._map.close()
        os.close(self.fd)

    # Stacks: written behind the row, through the descriptor, which faulthandler can do, too.

    def forget_stacks(self) -> None:
        """Have the next stacks written behind the row (the offset is that of all processes, open(2))."""
        size = len(self._map)
        os.ftruncate(self.fd, size)
        os.lseek(self.fd, size, os.SEEK_SET)

    def stacks(self) -> str:
        """Return what was written since."""
        return os.pread(self.fd, MAX_STACKS_BYTES, len(self._map)).decode(errors="replace")

    def write_stacks(self, text: bytes) -> None:
        """Write them at one go, if they do not come from faulthandler itself; raises OSError."""
        os.pwrite(self.fd, text, len(self._map))

    @property
    def has_stacks(self) -> bool:
        """Whether anything was."""
        return os.fstat(self.fd).st_size > len(self._map)

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

    def set_grace(self, seconds: float) -> None:
        """Say how long the worker takes to end a request itself whose time is up, before the arbiter may."""
        self._times[_GRACE] = seconds

    # The arbiter's side.

    def read(self) -> Reading:
        """Return what the row says now."""
        numbers, times = self._numbers, self._times
        return Reading(
            heartbeat=Monotonic(times[_HEARTBEAT]),
            requests=numbers[_REQUESTS],
            errors=numbers[_ERRORS],
            connections=numbers[_CONNECTIONS],
            busy_seconds=Seconds(times[_BUSY]),
            buckets=tuple(numbers[_FIRST_BUCKET : _FIRST_BUCKET + len(BUCKETS) + 1]),
            in_flight=tuple(request for cell in range(self.cells) if (request := self._read_cell(cell))),
        )

    def oldest(self) -> tuple[Monotonic, Monotonic | None]:
        """Return the heartbeat, and from when on the oldest running request's time counts; cheaper than `read`."""
        times = self._times
        began = [since for since in times[_HEADER_WORDS::_CELL_WORDS] if since > 0.0]
        return Monotonic(times[_HEARTBEAT]), Monotonic(min(began) + times[_GRACE]) if began else None

    def _read_cell(self, cell: int) -> InFlight | None:
        word = _HEADER_WORDS + cell * _CELL_WORDS
        since = self._times[word]
        if not since:
            return None
        offset = word * _WORD + _TEXT_OFFSET
        length = min(self._numbers[word + _TEXT_LENGTH], MAX_TEXT_BYTES)
        text = bytes(self._bytes[offset : offset + length]).decode("latin-1")
        return InFlight(cell=cell, since=Monotonic(abs(since)), text=text, is_stream=since < 0.0)
