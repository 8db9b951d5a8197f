"""What has happened: the only things that change the arbiter's `State` (through `fold`).

Pure values. Signals, control requests, reports of children and deaths of children all become one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from unicornd.arbiter.state import Halt, Order, Pool, Role
    from unicornd.units import Generation, Monotonic, Pid, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnAsked:
    """A mold was asked to fork a worker; Spawned or SpawnFailed with the same ticket will follow."""

    at: Monotonic
    ticket: int
    mold: Pid
    pool: str
    slot: Slot
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """A child was forked; `ticket` if a mold was asked for it, `role` if it is not a worker."""

    at: Monotonic
    pid: Pid
    pool: str
    slot: Slot
    generation: Generation
    role: Role | None = None
    ticket: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnFailed:
    """The kernel refused a fork (or what a fork needs)."""

    at: Monotonic
    pool: str
    slot: Slot
    generation: Generation
    reason: str
    ticket: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BecameReady:
    """A child has loaded the application and serves."""

    at: Monotonic
    pid: Pid


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFailed:
    """A child said that it cannot boot, and why; its exit follows."""

    at: Monotonic
    pid: Pid
    cause: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Distrusted:
    """A child says what a child of ours never says; it is to be killed."""

    at: Monotonic
    pid: Pid
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementAsked:
    """A child serves on, but wants to be replaced (`max_requests`, `unicornctl recycle`)."""

    at: Monotonic
    pid: Pid
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beaten:
    """The scoreboard was read: a child's last heartbeat, and since when its oldest request runs."""

    at: Monotonic
    pid: Pid
    beat_at: Monotonic
    busy_since: Monotonic | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A child was given an order (the signal was sent)."""

    at: Monotonic
    pid: Pid
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A child was reaped: `code` if it exited, `signal` if it was killed by one."""

    at: Monotonic
    pid: Pid
    code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDeclared:
    """A pool exists (first start)."""

    at: Monotonic
    pool: Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """Somebody wants another size (scale, TTIN, TTOU, WINCH); `from_oldest`: if fewer, the oldest workers go (TTOU)."""

    at: Monotonic
    pool: str
    size: int
    from_oldest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted:
    """A new generation is to replace the old one; `pool` is the new desire, with its generation."""

    at: Monotonic
    pool: Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFinished:
    """Every READY child of the pool is of the new generation, and the old ones have been told to leave."""

    at: Monotonic
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAbandoned:
    """The new generation was given up; the pool is desired as it was before."""

    at: Monotonic
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltAsked:
    """Everything is to end. A quick halt overrides a graceful one, never the other way round."""

    at: Monotonic
    halt: Halt


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenersLeft:
    """The listeners are closed to newcomers; everything is to end."""

    at: Monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenersLooked:
    """The listeners were looked at, and it is news which are shut down: `shut`, their addresses."""

    at: Monotonic
    shut: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationChanged:
    """So many connections wait, and nobody has taken one since `since`; None: that is over."""

    at: Monotonic
    since: Monotonic | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WokeLate:
    """The arbiter had wanted to be awake since `since`, and is so only now."""

    at: Monotonic
    since: Monotonic


Event = (
    SpawnAsked
    | Spawned
    | SpawnFailed
    | BecameReady
    | BootFailed
    | Distrusted
    | ReplacementAsked
    | Beaten
    | Ordered
    | Exited
    | PoolDeclared
    | Resized
    | RolloutStarted
    | RolloutFinished
    | RolloutAbandoned
    | HaltAsked
    | ListenersLeft
    | ListenersLooked
    | SaturationChanged
    | WokeLate
)
