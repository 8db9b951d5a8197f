"""How long a child may take, and what it is told when it takes longer.

Pure. Every deadline is one row: when it is over, what is ordered then, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

from unicornd.arbiter.lateness import owed
from unicornd.arbiter.state import Order, Phase, Role
from unicornd.units import Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unicornd.arbiter.lateness import Spell
    from unicornd.arbiter.state import Child, Patience

KILL_AGAIN = Seconds(5.0)
"""Seconds after which a SIGKILL is repeated: the child is stuck in the kernel, or the order was lost."""

SILENCE = 3.0
"""Seconds without a sign of life after which a worker that still can should have given one: it looks every second."""


class Deadline(NamedTuple):
    """When a child's time is up, since when it runs, and what the child is told then."""

    at: Monotonic
    since: Monotonic
    order: Order
    why: str


def deadlines_of(child: Child, patience: Patience, *, lateness: Sequence[Spell] = ()) -> Iterator[Deadline]:
    """Yield the deadlines of a child in its phase; the first one that is over counts.

    Args:
        child: a worker or a mold.
        patience: how long it may take.
        lateness: when the arbiter was late; each deadline is moved by that.
    """
    for deadline in _deadlines(child, patience):
        if lateness:
            yield deadline._replace(at=Monotonic(deadline.at + owed(lateness, deadline.since)))
        else:
            yield deadline


def _deadlines(child: Child, patience: Patience) -> Iterator[Deadline]:
    match child.phase:
        case Phase.BOOTING:
            yield from _limit(
                child.born_at, patience.boot, order=Order.KILL, why="it was not ready within timeouts.boot"
            )
        case Phase.READY:
            if child.role is Role.WORKER:
                yield from _of_work(child, patience)
        case Phase.DRAINING:
            yield from _limit(
                child.phase_since,
                patience.graceful,
                order=Order.KILL,
                why="it had not drained within timeouts.graceful",
            )
            yield from _of_work(child, patience)
        case Phase.DYING:
            yield from _of_dying(child, patience)
        case _:
            assert_never(child.phase)


def _of_work(child: Child, patience: Patience) -> Iterator[Deadline]:
    """A request that runs too long; or no sign of life while none runs (a running one explains the silence)."""
    if child.ordered is Order.EXPIRE:
        yield from _of_expiring(child, patience)
    elif child.busy_since is not None:
        order = Order.EXPIRE if patience.spares_siblings else Order.ABORT
        yield from _limit(
            child.busy_since, patience.request, order=order, why="a request ran into timeouts.request"
        )
    else:
        yield from _limit(
            child.beat_at,
            patience.heartbeat,
            order=Order.ABORT,
            why="it gave no sign of life within timeouts.heartbeat",
        )


def _of_expiring(child: Child, patience: Patience) -> Iterator[Deadline]:
    """It was told to give a request up: from then on it gives signs of life, whatever that request does."""
    heard_of = child.beat_at if child.ordered_at is None else max(child.beat_at, child.ordered_at)
    yield from _limit(
        heard_of,
        Seconds(max(patience.kill, SILENCE)),
        order=Order.ABORT,
        why="it does not react: something holds the interpreter",
    )


def _of_dying(child: Child, patience: Patience) -> Iterator[Deadline]:
    since = child.ordered_at if child.ordered_at is not None else child.phase_since
    if child.ordered is Order.KILL:
        yield from _limit(since, KILL_AGAIN, order=Order.KILL, why="it has not ended yet")
    elif child.is_distrusted:
        yield Deadline(child.phase_since, child.phase_since, Order.KILL, child.failure)
    else:
        yield from _limit(since, patience.kill, order=Order.KILL, why="it had not ended within timeouts.kill")


def _limit(since: Monotonic, limit: Seconds, *, order: Order, why: str) -> Iterator[Deadline]:
    if limit:
        yield Deadline(Monotonic(since + limit), since, order, why)
