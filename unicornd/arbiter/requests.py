"""What may be asked of the arbiter, and whether it may happen now: wish → decision.

Pure: signals and control requests become the same wishes, and `decide` answers for both. A refusal changes nothing.
`ControlPort` is the seam to the loop: everything that the control routes need of it, and nothing else.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, assert_never

from unicornd.arbiter.actions import Command, Spawn
from unicornd.arbiter.events import HaltAsked, ListenersLeft, ReplacementAsked, Resized
from unicornd.arbiter.fold import fold
from unicornd.arbiter.operations import Kind
from unicornd.arbiter.plan import plan
from unicornd.arbiter.state import Halt, Phase
from unicornd.config.resolved import MAX_WORKERS
from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from unicornd.arbiter.actions import Action
    from unicornd.arbiter.events import Event
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.operations import Operation, Operations
    from unicornd.arbiter.postmortems import Postmortem
    from unicornd.arbiter.state import Pool, State
    from unicornd.arbiter.view import Facts
    from unicornd.control.protocol import ConfigReport
    from unicornd.errors import UnicorndError
    from unicornd.units import Monotonic, Pid, Slot

STATUS_OF_CONFIG = HTTPStatus.UNPROCESSABLE_ENTITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Boot a new generation from the configuration and the code on disk (HUP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Have `count` workers, or `count` more or fewer than now (TTIN, TTOU); `save` writes it to a drop-in."""

    count: int
    is_relative: bool = False
    save: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End everything (TERM, INT, QUIT)."""

    halt: Halt = Halt.GRACEFUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    """Open the log files anew (USR1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """Replace the worker in a slot."""

    slot: Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """Execute unicornd anew, beside this one, and leave when it serves (USR2: stay).

    Attributes:
        executable: absolute path of what is executed: an interpreter, or the program unicornd; None: as this one was started.
    """

    is_final: bool = True
    executable: str | None = None


Wish = Reload | Scale | Stop | Reopen | Recycle | Upgrade


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a wish is not granted; nothing was changed.

    Attributes:
        status: of the HTTP answer.
        exit_code: of unicornctl.
        message: what is wrong, one sentence; `hint`: what to do; `detail`: further lines.
        operation: id of the operation that is in the way, or empty.
    """

    status: HTTPStatus
    exit_code: CtlExit
    message: str
    hint: str = ""
    detail: str = ""
    operation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A wish that may happen: what the operation is called, and the events that set it going.

    Reload and Reopen carry no events: the loop does their effects (it reads the configuration; it signals).

    Attributes:
        pid: the worker that a recycle replaces, or None.
        joins: the operation that already does this, or None (a second graceful stop): nothing new is to begin.
        size: what a scale makes of the pool's size, or None.
    """

    kind: Kind
    title: str
    pool: str
    events: tuple[Event, ...] = ()
    pid: Pid | None = None
    joins: Operation | None = None
    size: int | None = None


def decide(wish: Wish, *, state: State, running: Operation | None, now: Monotonic) -> Granted | Refusal:
    """Say whether, and how, `wish` may happen now.

    Args:
        wish: what is asked.
        state: the arbiter's current state.
        running: the operation in progress (`operations.running`).
        now: the time of the events.
    """
    if (refusal := _veto(wish, state=state, running=running)) is not None:
        return refusal
    match wish:
        case Reopen():
            return Granted(kind=Kind.REOPEN, title="reopen the log files", pool=only_pool(state).name)
        case Stop():
            return _stop(wish, state=state, running=running, now=now)
        case Reload():
            return _reload(state)
        case Scale():
            return _scale(wish, state=state, now=now)
        case Recycle():
            return _recycle(wish, state=state, now=now)
        case Upgrade():
            return _upgrade(state)
        case _:
            assert_never(wish)


def _veto(wish: Wish, *, state: State, running: Operation | None) -> Refusal | None:
    """Refuse what may not happen now, whatever it is in detail; logs may be reopened and all be stopped at any time."""
    if not state.pools:
        return _busy("the fleet has not been started yet")
    if isinstance(wish, Reopen | Stop):
        return None
    if state.halt is not Halt.NO:
        return _busy("the fleet is being stopped", running=running)
    if running is not None:
        return _busy(f"{running.id} is in progress: {running.title}", running=running)
    return None


def only_pool(state: State) -> Pool:
    """Return the pool that requests without a pool's name are about: today there is one."""
    return next(iter(state.pools.values()))


def rehearse(granted: Granted, *, state: State, now: Monotonic) -> tuple[str, ...]:
    """Say what the arbiter would do first if it were granted; each line is one action."""
    for event in granted.events:
        state = fold(state, event)
    lines = []
    if state.halt is not Halt.NO:
        lines = ["leave the listeners"]
        state = fold(state, ListenersLeft(at=now))
    return (
        *lines,
        *(line for action in plan(state, now).actions if (line := _describe(action, state=state))),
    )


def _describe(action: Action, *, state: State) -> str:
    match action:
        case Spawn():
            return f"boot worker {action.slot} (generation {action.generation})"
        case Command():
            child = state.children[action.pid]
            return f"{action.order.value} worker {child.slot} (pid {child.pid})"
        case _:
            return ""


def _stop(wish: Stop, *, state: State, running: Operation | None, now: Monotonic) -> Granted:
    quick = wish.halt is Halt.QUICK
    title = "stop now" if quick else "stop"
    pool = only_pool(state).name
    is_stopping = running is not None and running.kind is Kind.STOP
    if is_stopping and (state.halt is Halt.QUICK or not quick):
        return Granted(kind=Kind.STOP, title=title, pool=pool, joins=running)
    events = (HaltAsked(at=now, halt=wish.halt),)
    return Granted(kind=Kind.STOP, title=title, pool=pool, events=events)


def _reload(state: State) -> Granted | Refusal:
    pool = only_pool(state)
    if pool.name not in state.served:
        return _busy("the fleet has not been ready yet: there is nothing to go back to if the reload failed")
    title = f"replace generation {pool.generation} by what is on disk"
    return Granted(kind=Kind.RELOAD, title=title, pool=pool.name)


def _upgrade(state: State) -> Granted | Refusal:
    pool = only_pool(state)
    if pool.name not in state.served:
        return _busy("the fleet has not been ready yet: there is nothing to go back to if the upgrade failed")
    return Granted(kind=Kind.UPGRADE, title="execute unicornd anew and leave to it", pool=pool.name)


def size_asked(wish: Scale, pool: Pool) -> int | Refusal:
    """Return which size a pool is to have, or why it cannot."""
    size = pool.size + wish.count if wish.is_relative else wish.count
    if not 1 <= size <= MAX_WORKERS or (wish.is_relative and not wish.count):
        asked = (
            f"by {wish.count:+d} from {pool.size} workers" if wish.is_relative else f"to {wish.count} workers"
        )
        return Refusal(
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            exit_code=CtlExit.USAGE,
            message=f"cannot scale {asked}: a fleet has 1 to {MAX_WORKERS} workers",
            hint="`unicornctl stop` ends the fleet" if size <= 0 else "",
        )
    return size


def _scale(wish: Scale, *, state: State, now: Monotonic) -> Granted | Refusal:
    pool = only_pool(state)
    size = size_asked(wish, pool)
    if isinstance(size, Refusal):
        return size
    events = (Resized(at=now, pool=pool.name, size=size),)
    title = f"scale from {pool.size} to {size} workers"
    return Granted(kind=Kind.SCALE, title=title, pool=pool.name, events=events, size=size)


def _recycle(wish: Recycle, *, state: State, now: Monotonic) -> Granted | Refusal:
    pool = only_pool(state)
    seated = [
        child for child in state.children.values() if child.pool == pool.name and child.slot == wish.slot
    ]
    ready = [child for child in seated if child.phase is Phase.READY and not child.is_retiring]
    if not seated:
        return no_worker(wish.slot, state)
    if not ready:
        return _busy(f"worker {wish.slot} is being replaced or is booting")
    [child] = ready[:1]
    return Granted(
        kind=Kind.RECYCLE,
        title=f"recycle worker {child.slot} (pid {child.pid})",
        pool=pool.name,
        events=(ReplacementAsked(at=now, pid=child.pid, why="asked for by unicornctl recycle"),),
        pid=child.pid,
    )


def no_worker(slot: Slot, state: State) -> Refusal:
    """Say that a slot is empty, and which are not."""
    slots = ", ".join(str(each) for each in sorted({child.slot for child in state.children.values()}))
    return Refusal(
        status=HTTPStatus.NOT_FOUND,
        exit_code=CtlExit.FAILED,
        message=f"there is no worker {slot}",
        hint=f"workers: {slots}" if slots else "no worker runs",
    )


def refusal_of(error: UnicorndError, state: State) -> Refusal:
    """Return an error as the refusal of what cannot be done for it."""
    is_config = isinstance(error, ConfigError)
    generation = only_pool(state).generation
    return Refusal(
        status=STATUS_OF_CONFIG if is_config else HTTPStatus.CONFLICT,
        exit_code=CtlExit.CONFIG if is_config else CtlExit.FAILED,
        message=f"{error.message}; still serving generation {generation}",
        hint=error.hint,
        detail=error.detail,
    )


def refused_as(operation: Operation) -> Refusal | None:
    """Return why an operation was refused after all, or None."""
    if operation.refused is None:
        return None
    return Refusal(
        status=STATUS_OF_CONFIG if operation.refused is CtlExit.CONFIG else HTTPStatus.CONFLICT,
        exit_code=operation.refused,
        message=operation.result,
        hint=operation.hint,
        detail=operation.detail,
    )


def _busy(message: str, *, running: Operation | None = None) -> Refusal:
    return Refusal(
        status=HTTPStatus.CONFLICT,
        exit_code=CtlExit.BUSY,
        message=message,
        hint="wait until it has ended" if running is not None else "try again in a moment",
        operation=running.id if running is not None else "",
    )


class ControlPort(Protocol):
    """What the arbiter's loop offers to the control routes. All calls return at once."""

    @property
    def state(self) -> State:
        """The current state."""

    @property
    def journal(self) -> Journal:
        """What happened lately."""

    @property
    def operations(self) -> Operations:
        """What is and was being done."""

    def now(self) -> Monotonic:
        """CLOCK_MONOTONIC."""

    def facts(self, *, is_brief: bool = False) -> Facts:
        """What `view.status` shows beside the state: listeners with their queues, readings of the scoreboard, memory (not if brief)."""

    def config(self) -> ConfigReport:
        """The effective settings with their origins, secrets as `***`."""

    def metrics(self) -> bytes:
        """Prometheus text of the whole fleet."""

    def ask_stacks(self, slot: Slot) -> Pid | Refusal:
        """Have the worker of a slot write its stacks; they are there a moment later."""

    def insist_on_stacks(self, pid: Pid) -> None:
        """Have it write them although something holds its interpreter."""

    def stacks(self, pid: Pid) -> str:
        """What it has written."""

    def postmortems(self) -> Iterable[Postmortem]:
        """The workers that have died, newest first."""

    def submit(self, wish: Wish) -> Operation | Refusal:
        """Set a wish going (for signals as for requests).

        `decide`; on a refusal, return it with nothing changed. Else `operations.begin(kind, title, pool, pid)`, do the
        effect, fold the events, return the operation (`granted.joins` if set).

        A reload has to read the configuration, a scale with `save` to write the drop-in, an upgrade to ask the program
        for its version first; another process does that, and so long the operation is `asking`. If the configuration
        does not validate, an address cannot be bound, nothing can be written, or the program is no unicornd, it ends
        `refused` with nothing changed.
        """

    def preview_reload(self, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        """Tell `then` what a reload would change (one line a setting), or why it would be refused; change nothing."""

    def preview_upgrade(self, wish: Upgrade, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        """Tell `then` what would be left, and what be executed, or why it would be refused; change nothing."""
