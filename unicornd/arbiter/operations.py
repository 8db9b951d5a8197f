"""Operations: what somebody asked the fleet to do, how far it is, how it ended.

Owned by the arbiter's loop, which tells it every event (`observe`) and every end that it decides itself (`end`). It
never changes the fleet: it watches the same states that `plan` works on and says in words what they mean for the
one operation that runs. At most one runs; an ended operation never changes again.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.fold import child_of, name_of
from unicornd.arbiter.state import DISK_IS_NEWER, Halt, Order, Phase
from unicornd.control.wording import duration
from unicornd.dataclass import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.arbiter.state import Child, State
    from unicornd.errors import CtlExit
    from unicornd.units import Monotonic, Pid

ROLLED_BACK = "rolled back; still serving "
"""How the result of an operation begins that was rolled back; whoever says that in another way leaves it out."""
REMEMBERED = 50
"""Ended operations that are kept: an hour of a nervous deploy script, in some hundred kilobytes."""

MAX_STEPS = 5000
"""Steps kept of one operation: three for each of 1024 workers, and room for their failures."""


class Kind(StrEnum):
    """What was asked for."""

    RELOAD = "reload"
    SCALE = "scale"
    STOP = "stop"
    REOPEN = "reopen"
    RECYCLE = "recycle"
    UPGRADE = "upgrade"


class Outcome(StrEnum):
    """Where an operation is; all but RUNNING are final."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that the operation has brought about, in one line."""

    at: Monotonic
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request to change the fleet, from its acceptance to its end.

    Attributes:
        id: names it for people: `reload-3`.
        title: what it does, in words: `scale from 2 to 4 workers`.
        result: how it ended, one line; empty while it runs.
        detail: the traceback or the list of errors behind a failure, or empty.
        hint: what to do about a failure, or empty.
        asking: what it waits for before it is known whether it may happen, in words, or empty.
        refused: the exit code of one that may not happen, or None; nothing was changed.
        pid: the worker that is to be replaced (recycle), or None.
        failures: how many workers failed to boot while it ran.
        is_shaped: the fleet has the wanted shape; only workers in `leaving` are still waited for.
        leaving: workers that must be gone before it is done.
    """

    id: str
    kind: Kind
    title: str
    pool: str
    started_at: Monotonic
    state: Outcome = Outcome.RUNNING
    ended_at: Monotonic | None = None
    steps: tuple[Step, ...] = ()
    result: str = ""
    detail: str = ""
    hint: str = ""
    asking: str = ""
    refused: CtlExit | None = None
    pid: Pid | None = None
    failures: int = 0
    is_shaped: bool = False
    leaving: frozenset[Pid] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """An event and the states before and after it."""

    previous: State
    state: State
    event: events.Event


class Operations:
    """The operation that runs, and the ended ones that somebody may still ask about."""

    def __init__(self) -> None:
        self._count = 0
        self._known: OrderedDict[str, Operation] = OrderedDict()
        self._running_id = ""
        self.last_reload: Operation | None = None
        """The last one that has ended, whatever else has happened since then."""

    def begin(
        self,
        kind: Kind,
        *,
        title: str,
        pool: str,
        now: Monotonic,
        pid: Pid | None = None,
        asking: str = "",
        failure: str = "",
    ) -> Operation:
        """Start an operation; a running one (only a stop may meet one) ends as FAILED, superseded.

        To reopen logs takes no time and disturbs nobody: it has ended at once and may meet a running operation.

        Args:
            kind: what is done.
            title: the same in words.
            pool: to which.
            now: the time.
            pid: of the worker that it is about, if of one.
            asking: what another process has to say first, in words.
            failure: why logs were not reopened.
        """
        self._count += 1
        operation = Operation(
            id=f"{kind}-{self._count}",
            kind=kind,
            title=title,
            pool=pool,
            started_at=now,
            pid=pid,
            asking=asking,
        )
        if kind is Kind.REOPEN:
            outcome = Outcome.FAILED if failure else Outcome.DONE
            operation = _end(operation, outcome, now=now, result=failure or "log files reopened")
        else:
            self.end(Outcome.FAILED, result=f"superseded by {operation.id}", now=now)
            self._running_id = operation.id
        self._remember(operation)
        return operation

    def inherit(self, ended: Operation) -> None:
        """Remember an operation of the predecessor in an upgrade; those that begin here are counted on from it."""
        self._count = max(self._count, int(ended.id.rpartition("-")[2]))
        self._remember(ended)

    def note(self, text: str, *, now: Monotonic) -> None:
        """Add a step to the running operation, if there is one (`the configuration is valid`)."""
        if (operation := self.running) is not None:
            self._remember(_add_step(operation, text, now=now))

    def accept(self) -> None:
        """What the running operation has waited for is there: it may happen."""
        if (operation := self.running) is not None:
            self._remember(replace(operation, asking=""))

    def refuse(self, code: CtlExit, *, result: str, now: Monotonic, detail: str = "", hint: str = "") -> None:
        """What the running operation has waited for says that it may not happen."""
        if (operation := self.running) is not None:
            operation = replace(operation, refused=code, hint=hint)
            self._remember(_end(operation, Outcome.FAILED, now=now, result=result, detail=detail))

    def observe(self, event: events.Event, *, previous: State, state: State) -> None:
        """Take note of an event that led from `previous` to `state`; ends the operation when its goal is reached."""
        if (operation := self.running) is not None:
            self._remember(advance(operation, _Moment(previous=previous, state=state, event=event)))

    def end(self, outcome: Outcome, *, result: str, now: Monotonic, detail: str = "") -> None:
        """End the running operation, if there is one."""
        if (operation := self.running) is not None:
            self._remember(_end(operation, outcome, now=now, result=result, detail=detail))

    @property
    def running(self) -> Operation | None:
        """The operation in progress."""
        return self._known.get(self._running_id)

    def find(self, operation_id: str) -> Operation | None:
        """Return an operation by its id, if it is still remembered."""
        return self._known.get(operation_id)

    def _remember(self, operation: Operation) -> None:
        self._known[operation.id] = operation
        if operation.kind is Kind.RELOAD and operation.state is not Outcome.RUNNING:
            self.last_reload = operation
        if operation.id == self._running_id and operation.state is not Outcome.RUNNING:
            self._running_id = ""
        while len(self._known) > REMEMBERED:
            oldest = next(known for known in self._known if known != self._running_id)
            del self._known[oldest]


def advance(operation: Operation, moment: _Moment) -> Operation:
    """Return `operation` as it is after an event."""
    told = _tell(operation, moment)
    if operation.kind is not Kind.STOP and (reason := _interruption(moment.state)):
        return _end(told, Outcome.FAILED, now=moment.event.at, result=reason)
    if operation.asking:
        return told
    return _GOALS[operation.kind](told, moment)


def _interruption(state: State) -> str:
    if state.halt is not Halt.NO:
        return "the fleet is being stopped"
    return state.fatal.partition("\n")[0]


# What an event means in words.


def _tell(operation: Operation, moment: _Moment) -> Operation:
    """Add what an event says: a step, a failure, a worker that has to leave."""
    event, child = moment.event, _child_of(moment)
    if isinstance(event, events.SpawnFailed) and event.pool == operation.pool:
        return _fail(operation, f"worker {event.slot} cannot be started", reason=event.reason, now=event.at)
    if child is None or child.pool != operation.pool:
        return operation
    match event:
        case events.BecameReady():
            took = duration(event.at - child.born_at)
            text = f"{name_of(child)} is ready (pid {child.pid}, generation {child.generation}, {took})"
            operation = _add_step(operation, text, now=event.at)
        case events.BootFailed():
            what = f"{name_of(child)} (pid {child.pid}) cannot boot"
            operation = _fail(operation, what, reason=event.reason, now=event.at)
        case events.Ordered():
            operation = _tell_order(operation, event, child=child)
        case events.Exited():
            operation = _tell_exit(operation, event, child=child)
        case _:
            pass
    return operation


def _child_of(moment: _Moment) -> Child | None:
    """Return the child that an event is about, as it was before it."""
    pid = getattr(moment.event, "pid", None)
    return child_of(moment.previous, pid) if pid is not None else None


def _tell_order(operation: Operation, event: events.Ordered, *, child: Child) -> Operation:
    if event.order is Order.KILL and child.ordered is not None:
        waited = f" after {event.at - child.ordered_at:.0f} s" if child.ordered_at is not None else ""
        text = f"{name_of(child)} (pid {child.pid}) is killed: it had not ended{waited}"
        operation = _add_step(operation, text, now=event.at)
    if operation.is_shaped:
        return operation
    return replace(operation, leaving=operation.leaving | {event.pid})


def _tell_exit(operation: Operation, event: events.Exited, *, child: Child) -> Operation:
    left = replace(operation, leaving=operation.leaving - {event.pid})
    if child.is_hung or child.is_distrusted:
        return _fail(
            left, f"{name_of(child)} (pid {child.pid}) was killed", reason=child.failure, now=event.at
        )
    if child.ordered is not None:
        text = f"{name_of(child)} of generation {child.generation} has left (pid {child.pid})"
        return _add_step(left, text, now=event.at)
    how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.code}"
    if child.failure:  # it had said so before it exited, and has been counted
        return left
    if child.phase is not Phase.BOOTING:
        text = f"{name_of(child)} (pid {child.pid}) died by {how}"
        return _add_step(left, text, now=event.at)
    return _fail(left, f"{name_of(child)} (pid {child.pid}) died while booting", reason=how, now=event.at)


def _fail(operation: Operation, what: str, *, reason: str, now: Monotonic) -> Operation:
    first, _, detail = reason.partition("\n")
    text = f"{what}: {first}" if first else what
    failed = replace(operation, failures=operation.failures + 1, detail=detail or operation.detail)
    return _add_step(failed, text, now=now)


def _add_step(operation: Operation, text: str, *, now: Monotonic) -> Operation:
    if len(operation.steps) >= MAX_STEPS:
        return operation
    return replace(operation, steps=(*operation.steps, Step(at=now, text=text)))


def _end(
    operation: Operation, outcome: Outcome, *, now: Monotonic, result: str, detail: str = ""
) -> Operation:
    kept = "" if outcome is Outcome.DONE else detail or operation.detail
    return replace(operation, state=outcome, ended_at=now, result=result, detail=kept, asking="")


# When an operation is over.


def _reach_size(operation: Operation, moment: _Moment) -> Operation:
    """A scale is done when as many workers as wanted are ready and those too many have left."""
    pool = moment.state.pools[operation.pool]
    children = [child for child in moment.state.children.values() if child.pool == operation.pool]
    ready = [child for child in children if child.phase is Phase.READY]
    staying = [child for child in children if child.phase <= Phase.READY and not child.is_retiring]
    if not operation.is_shaped and len(ready) >= pool.size >= len(staying):
        operation = replace(operation, is_shaped=True)
    if operation.is_shaped and not operation.leaving:
        count = f"{pool.size} worker{'s' if pool.size != 1 else ''} ready"
        return _end(operation, Outcome.DONE, now=moment.event.at, result=count)
    return _give_up(operation, moment)


def _replace_worker(operation: Operation, moment: _Moment) -> Operation:
    """A recycle is done when the worker is gone and another is ready in its place."""
    pool = moment.state.pools[operation.pool]
    ready = [
        child
        for child in moment.state.children.values()
        if child.pool == operation.pool and child.phase is Phase.READY
    ]
    if operation.pid not in moment.state.children and len(ready) >= pool.size:
        return _end(operation, Outcome.DONE, now=moment.event.at, result="the worker has been replaced")
    return _give_up(operation, moment)


def _give_up(operation: Operation, moment: _Moment) -> Operation:
    if operation.failures < moment.state.pools[operation.pool].max_failures:
        return operation
    result = f"{operation.failures} workers failed to boot; the arbiter goes on trying, more slowly"
    return _end(operation, Outcome.FAILED, now=moment.event.at, result=result)


def _finish_rollout(operation: Operation, moment: _Moment) -> Operation:
    """A reload is done when the new generation serves and the old has left; rolled back when it was abandoned."""
    now = moment.event.at
    match moment.event:
        case events.RolloutAbandoned(pool=operation.pool):
            return _roll_back(operation, moment)
        case events.RolloutFinished(pool=operation.pool):
            generation = moment.state.pools[operation.pool].generation
            old = frozenset(
                child.pid
                for child in moment.state.children.values()
                if child.pool == operation.pool and child.generation != generation
            )
            operation = _add_step(operation, f"generation {generation} serves", now=now)
            operation = replace(operation, is_shaped=True, leaving=old)
        case _:
            pass
    if not operation.is_shaped or operation.leaving:
        return operation
    generation = moment.state.pools[operation.pool].generation
    return _end(operation, Outcome.DONE, now=now, result=f"generation {generation} has replaced the old one")


def _roll_back(operation: Operation, moment: _Moment) -> Operation:
    pool = moment.state.pools[operation.pool]
    rollout = moment.previous.rollouts.get(operation.pool)
    first, _, detail = (rollout.reason if rollout is not None else "").partition("\n")
    result = f"{ROLLED_BACK}generation {pool.generation}" + (f": {first}" if first else "")
    if pool.is_disk_newer:
        detail = f"{detail}\n{DISK_IS_NEWER}".lstrip("\n")
    return _end(operation, Outcome.ROLLED_BACK, now=moment.event.at, result=result, detail=detail)


def _empty_fleet(operation: Operation, moment: _Moment) -> Operation:
    """A stop is done when no child is left; the loop leaves then."""
    if moment.state.halt is Halt.NO or moment.state.children or moment.state.molds:
        return operation
    return _end(operation, Outcome.DONE, now=moment.event.at, result="all workers have left")


_GOALS: Mapping[Kind, Callable[[Operation, _Moment], Operation]] = {
    Kind.RELOAD: _finish_rollout,
    Kind.SCALE: _reach_size,
    Kind.RECYCLE: _replace_worker,
    Kind.STOP: _empty_fleet,
    Kind.REOPEN: lambda operation, _moment: operation,  # it has ended when it begins
    Kind.UPGRADE: lambda operation, _moment: operation,  # the loop says how it ends
}
