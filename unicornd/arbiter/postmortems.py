"""What is known of workers that have died, or had to be ended: for `unicornctl postmortem`.

Owned by the arbiter's loop. A few are kept, the last ones; what happened is also in the log.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from unicornd.arbiter.fold import name_of
from unicornd.arbiter.state import Order, Phase
from unicornd.dataclass import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unicornd.arbiter.kernel import Death
    from unicornd.arbiter.spawn import WorkerHandle
    from unicornd.arbiter.state import Child
    from unicornd.observe.scoreboard import InFlight, Reading
    from unicornd.units import Generation, Monotonic, Pid, Slot

REMEMBERED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that has ended, with all that the arbiter had of it.

    Attributes:
        child: as it was before; death: how the kernel says that it ended.
        handle: the arbiter's ends of it, closed by now; None: it was never met.
        reading: the last one of its row, or None.
        was_oom: whether the kernel killed it for lack of memory.
        stacks: where its threads were, if it was asked before it was killed.
    """

    child: Child
    death: Death
    handle: WorkerHandle | None
    reading: Reading | None
    was_oom: bool
    stacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A request that a worker had when it died: what, and how long it had run (seconds)."""

    request: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmortem:
    """One worker's end.

    Attributes:
        wall: when (seconds since the epoch).
        name: what it is called, `worker 3`; its slot, pid and generation.
        code, signal: how it ended; `told` what it had been told to, or empty.
        lived: seconds since its birth; `requests` how many it had answered.
        peak_memory: the most it had, in bytes.
        was_oom: whether the kernel killed something of our cgroup for lack of memory meanwhile.
        lost: what it was serving; `timed_out` what it had given up: those clients were answered (504).
        failure: what it said when it could not boot.
        stacks: where its threads were, if it was asked before it was killed.
        count: how often the same failure has happened, the first time at `first` (seconds since the epoch).
    """

    wall: float
    name: str
    slot: Slot
    pid: Pid
    generation: Generation
    code: int | None
    signal: int | None
    told: str
    lived: float
    requests: int
    peak_memory: int
    was_oom: bool
    lost: tuple[Loss, ...]
    timed_out: tuple[Loss, ...] = ()
    failure: str
    stacks: str = ""
    count: int = 1
    first: float = 0.0


class Postmortems:
    """The last ones.

    Args:
        clock: CLOCK_MONOTONIC.
        wall: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], Monotonic], wall: Callable[[], float]) -> None:
        self._clock, self._wall = clock, wall
        self._kept: deque[Postmortem] = deque(maxlen=REMEMBERED)

    def __iter__(self) -> Iterator[Postmortem]:
        """Newest first."""
        return reversed(self._kept)

    def observe(self, ended: Ended) -> None:
        """Keep what is known of a child that has ended, unless it was asked to in peace."""
        if is_worth_one(ended.child):
            self.keep(examine(ended, now=self._clock(), wall=self._wall()))

    def keep(self, postmortem: Postmortem) -> None:
        """Keep one; of equal failures to boot the last one stands for all."""
        same = next((kept for kept in self._kept if _is_same_failure(kept, postmortem)), None)
        if same is not None:
            self._kept.remove(same)
            postmortem = replace(postmortem, count=same.count + 1, first=same.first)
        self._kept.append(postmortem)


def _is_same_failure(one: Postmortem, other: Postmortem) -> bool:
    return bool(other.failure) and (one.failure, one.code, one.signal, one.generation) == (
        other.failure,
        other.code,
        other.signal,
        other.generation,
    )


def is_worth_one(child: Child) -> bool:
    """Whether a child's end is not one that it was asked for in peace."""
    is_in_peace = child.ordered in {Order.DRAIN, Order.QUIT} and child.phase is not Phase.BOOTING
    return not is_in_peace


def _loss(request: InFlight, now: Monotonic) -> Loss:
    return Loss(request=request.text, age=now - request.since)


def examine(ended: Ended, *, now: Monotonic, wall: float) -> Postmortem:
    """Return what is known of a child's end."""
    child, death, reading = ended.child, ended.death, ended.reading
    return Postmortem(
        wall=wall,
        name=name_of(child),
        slot=child.slot,
        pid=child.pid,
        generation=child.generation,
        code=death.code,
        signal=death.signal,
        told=child.ordered.value if child.ordered is not None else "",
        lived=now - child.born_at,
        requests=reading.requests if reading is not None else 0,
        peak_memory=death.peak_memory,
        was_oom=ended.was_oom,
        lost=tuple(_loss(each, now) for each in reading.lost) if reading is not None else (),
        timed_out=tuple(_loss(each, now) for each in reading.in_flight if each.is_given_up)
        if reading is not None
        else (),
        failure=child.failure,
        stacks=ended.stacks,
        first=wall,
    )
