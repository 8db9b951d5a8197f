"""The arbiter's memory: what is desired, what is observed, as immutable values.

Pure: the arbiter's loop holds the one current `State`, `fold` makes the next one of it and an event, `plan` reads it.
Intention (`Pool.size`, `Pool.generation`, `State.halt`) and fact (`State.children`) are separate fields.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass, field
from unicornd.units import Seconds, Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.arbiter.lateness import Spell
    from unicornd.units import Generation, Monotonic, Pid


NO_TIME = Seconds(0.0)


class Phase(IntEnum):
    """Where a child is in its life; it only ever moves forward."""

    BOOTING = 1
    READY = 2
    DRAINING = 3
    """It was told to finish what it has and to leave (DRAIN or EXPIRE)."""
    DYING = 4
    """It was told to end now (QUIT, ABRT or KILL), or said that it cannot boot, and has not been reaped."""


class Role(Enum):
    """What a child is for."""

    WORKER = "worker"
    MOLD = "mold"
    """It has loaded the application and forks the workers of its generation; it serves nobody."""


class Order(Enum):
    """What the arbiter can tell a child; each is one signal."""

    DRAIN = "drain"
    """SIGTERM: leave the listeners, finish what is in flight, exit."""
    QUIT = "quit"
    """SIGQUIT: exit at once, without waiting for requests."""
    EXPIRE = "expire"
    """SIGRTMIN+1: write the stacks of all threads, give the requests up that run too long, drain the others."""
    ABORT = "abort"
    """SIGABRT: write the stacks of all threads, then die."""
    KILL = "kill"
    """SIGKILL."""


class Halt(Enum):
    """Whether, and how, everything is to end."""

    NO = "no"
    GRACEFUL = "graceful"
    QUICK = "quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what; seconds, 0 means for ever.

    Attributes:
        boot: from fork to READY.
        request: one request inside the application.
        heartbeat: a worker that gives no sign of life.
        drain: from the wish to stop until the listeners are left; meanwhile everything is accepted and answered.
        graceful: from DRAIN to exit.
        kill: from ABORT or QUIT, or from the report that it cannot boot, to KILL; always a limit.
        spares_siblings: whether a worker with a request that ran too long can finish its other ones (EXPIRE); else it
            is aborted.
    """

    boot: Seconds
    request: Seconds
    heartbeat: Seconds
    graceful: Seconds
    kill: Seconds
    drain: Seconds = NO_TIME
    spares_siblings: bool = False


DISK_IS_NEWER = (
    "a replaced worker would run the code on disk, which failed: put that right, or reload what ran before"
)
"""What everybody is told after a reload was rolled back, where no mold has the old code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A named group of equal processes, as desired.

    Attributes:
        size: how many READY children it should have.
        closed: slots that it leaves out, all below its highest one; changed by `slots.resized` only.
        generation: which generation they should be of.
        surge: how many more than `size` a rollout may run at once; 0 replaces one by one, `size` all at once.
        max_failures: how many children of a new generation may fail to boot before the rollout is abandoned.
        is_molded: whether its workers are forked by a mold, one a generation.
        folders: the application's, where they were when the generation began, or empty; workers that are replaced find
            its code there.
        is_disk_newer: its reload was rolled back: what is on disk is not what its workers run, and would be run by one
            that is replaced. Never where a mold has the generation's own code, or its folders still do.
    """

    name: str
    size: int
    generation: Generation
    surge: int
    max_failures: int
    patience: Patience
    is_molded: bool = False
    folders: tuple[str, ...] = ()
    is_disk_newer: bool = False
    closed: frozenset[Slot] = frozenset()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Its slots, in their order."""
        return tuple(
            Slot(slot) for slot in range(1, self.size + len(self.closed) + 1) if self.has(Slot(slot))
        )

    def has(self, slot: Slot) -> bool:
        """Whether the slot is one of its."""
        return slot <= self.size + len(self.closed) and slot not in self.closed

    def keeps_code_beside(self, other: Pool) -> bool:
        """Whether a replaced worker would run this generation's code, although another one's has been deployed."""
        has_own_folders = bool(self.folders) and set(self.folders).isdisjoint(other.folders)
        return self.is_molded or has_own_folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A new generation on its way to replace an old one.

    Attributes:
        previous: the pool as it was; it comes back if the rollout is abandoned.
        started_at: when it began.
        failures: how many children of the new generation could not be forked, failed to boot, or died right after.
        reason: what the last of them said, or empty.
        has_failed: it is to be abandoned: too many failures, or a child that was not ready in time.
    """

    previous: Pool
    started_at: Monotonic
    failures: int = 0
    reason: str = ""
    has_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long not to spawn after failures to boot.

    Attributes:
        failures: consecutive failures to boot or to fork since a child was last READY.
        not_before: no spawn before this time.
    """

    failures: int
    not_before: Monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A worker that died unasked after it had been ready: when, and who how (`worker 1: exit code 3`)."""

    at: Monotonic
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process of ours, as observed.

    Attributes:
        phase_since: when it entered its phase.
        beat_at: its last heartbeat (its birth, before the first).
        busy_since: when its oldest unfinished request began, or None.
        is_retiring: it asked for a replacement (`max_requests`) and serves until that is READY.
        ordered: the last order it was given, or None.
        ordered_at: when.
    """

    pid: Pid
    pool: str
    slot: Slot
    generation: Generation
    phase: Phase
    born_at: Monotonic
    phase_since: Monotonic
    beat_at: Monotonic
    busy_since: Monotonic | None = None
    is_retiring: bool = False
    ordered: Order | None = None
    ordered_at: Monotonic | None = None
    is_hung: bool = False
    """It was killed because it did not become ready in time."""
    failure: str = ""
    """What it reported when it failed to boot: one line, then the traceback."""
    failure_cause: str = ""
    """`app`, `boot`, or empty."""
    is_distrusted: bool = False
    """It is to be killed for what it has said; `failure` tells what that was."""
    role: Role = Role.WORKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A worker that a mold was asked to fork, and that has not said that it is there.

    Attributes:
        ticket: tells it from others that were asked for.
        mold: the mold that was asked.
        asked_at: when.
    """

    ticket: int
    mold: Pid
    pool: str
    slot: Slot
    generation: Generation
    asked_at: Monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that the arbiter decides from.

    Attributes:
        pools: what is desired, by name.
        children: the workers that are observed, by pid.
        molds: the molds that are observed, by pid.
        expected: workers that molds were asked to fork, by ticket.
        rollouts: reloads in progress, by pool name.
        backoffs: spawn delays, by pool name.
        killed_at: when a child was last killed from outside as soon as it was ready, or None.
        served: names of pools that have had a READY child; before that, a failure to boot ends the daemon.
        halt: whether everything is to end.
        halt_since: when that was asked for.
        has_left_listeners: nobody new is let in any more.
        shut_listeners: addresses of listeners that a worker has shut down: nobody can connect.
        lateness: when the arbiter was late itself, the latest spells in their order.
        deaths: of workers that died unasked, the latest in their order; none of before the last reload.
        saturated_since: since when requests wait that no worker takes, or None; `troubles.Saturation` decides.
        fatal: why the daemon has to end (boot failure at first start), or empty.
        fatal_cause: `app` or `boot`.
    """

    pools: Mapping[str, Pool] = field(default_factory=lambda: MappingProxyType({}))
    children: Mapping[Pid, Child] = field(default_factory=lambda: MappingProxyType({}))
    molds: Mapping[Pid, Child] = field(default_factory=lambda: MappingProxyType({}))
    expected: Mapping[int, Expected] = field(default_factory=lambda: MappingProxyType({}))
    rollouts: Mapping[str, Rollout] = field(default_factory=lambda: MappingProxyType({}))
    backoffs: Mapping[str, Backoff] = field(default_factory=lambda: MappingProxyType({}))
    killed_at: Monotonic | None = None
    served: frozenset[str] = frozenset()
    halt: Halt = Halt.NO
    halt_since: Monotonic | None = None
    has_left_listeners: bool = False
    shut_listeners: tuple[str, ...] = ()
    lateness: tuple[Spell, ...] = ()
    deaths: tuple[Death, ...] = ()
    saturated_since: Monotonic | None = None
    fatal: str = ""
    fatal_cause: str = ""
