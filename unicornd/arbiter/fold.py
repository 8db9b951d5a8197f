"""State and event → the next state: what an event means, and nothing else.

Pure. `fold` decides nothing: what follows from a state is `plan`'s. An event about a process that is not ours (any
more) changes nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, assert_never

from unicornd.arbiter import events
from unicornd.arbiter.lateness import REMEMBERED, Spell
from unicornd.arbiter.slots import oldest_first, resized
from unicornd.arbiter.state import Backoff, Child, Death, Expected, Halt, Order, Phase, Role, Rollout, State
from unicornd.dataclass import dataclass, replace
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.arbiter.events import Event
    from unicornd.arbiter.state import Pool
    from unicornd.units import Generation, Pid

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
"""Seconds between attempts to spawn after failures: doubled with each, up to the longest."""
SHORT_LIFE = 1.0
"""A worker that dies by itself within so many seconds of READY counts as one that failed to boot: it may do so again."""
CALM = 10.0
"""But one that was killed from outside in that time does not, if it is the first in so many seconds: somebody wanted that."""
DEATHS_KEPT = 5
"""Of workers that died unasked: as many as make a crash loop (`troubles`)."""
SIGKILL = 9
"""signal(7); for lack of memory the kernel sends it, too, and then again and again."""
HUNG = "was not ready within timeouts.boot"
NO_REASON = "it did not say why"

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A child that did not come to serve.

    Attributes:
        is_fatal: it ends a first start.
        is_final: one is enough to abandon a rollout.
    """

    at: Monotonic
    pool: str
    generation: Generation
    reason: str
    cause: str = "boot"
    is_fatal: bool = True
    is_final: bool = False


def fold(state: State, event: Event) -> State:
    """Return the state after `event`."""
    match event:
        case events.SpawnAsked():
            return replace(state, expected=_with(state.expected, {event.ticket: _expected(event)}))
        case events.Spawned():
            return _hold(_met(state, event.ticket), _born(event))
        case events.SpawnFailed():
            return _fail_spawn(state, event)
        case events.BecameReady():
            return _become_ready(state, event)
        case events.BootFailed():
            return _give_up_booting(state, event)
        case events.Distrusted():
            return _distrust(state, event)
        case events.ReplacementAsked():
            return _retire(state, event.pid)
        case events.Beaten():
            return _beat(state, event)
        case events.Ordered():
            return _order(state, event)
        case events.Exited():
            return _exit(state, event)
        case events.PoolDeclared():
            return replace(state, pools=_with(state.pools, {event.pool.name: event.pool}))
        case events.Resized():
            return _resize(state, event)
        case events.RolloutStarted():
            return _start_rollout(state, event)
        case events.RolloutFinished():
            return replace(state, rollouts=_without(state.rollouts, event.pool))
        case events.RolloutAbandoned():
            return _abandon(state, event.pool)
        case events.HaltAsked():
            return _halt(state, event.halt, at=event.at)
        case (
            events.ListenersLeft() | events.ListenersLooked() | events.SaturationChanged() | events.WokeLate()
        ):
            return _note(state, event)
        case _:
            assert_never(event)


def _note(
    state: State,
    event: events.ListenersLeft | events.ListenersLooked | events.SaturationChanged | events.WokeLate,
) -> State:
    """Remember what is no child's and no pool's."""
    match event:
        case events.ListenersLeft():
            return replace(state, has_left_listeners=True)
        case events.ListenersLooked():
            return replace(state, shut_listeners=event.shut)
        case events.SaturationChanged():
            return replace(state, saturated_since=event.since)
        case events.WokeLate():
            spell = Spell(since=event.since, until=event.at)
            return replace(state, lateness=(*state.lateness, spell)[-REMEMBERED:])
        case _:
            assert_never(event)


def _expected(event: events.SpawnAsked) -> Expected:
    return Expected(
        ticket=event.ticket,
        mold=event.mold,
        pool=event.pool,
        slot=event.slot,
        generation=event.generation,
        asked_at=event.at,
    )


def _met(state: State, ticket: int | None) -> State:
    """What a mold was asked for has come, or will not come any more."""
    if ticket is None:
        return state
    return replace(state, expected=_without(state.expected, ticket))


def child_of(state: State, pid: Pid) -> Child | None:
    """Return a worker or a mold."""
    return state.children.get(pid) or state.molds.get(pid)


def _born(event: events.Spawned) -> Child:
    return Child(
        pid=event.pid,
        pool=event.pool,
        slot=event.slot,
        generation=event.generation,
        phase=Phase.BOOTING,
        born_at=event.at,
        phase_since=event.at,
        beat_at=event.at,
        role=event.role or Role.WORKER,
    )


def _become_ready(state: State, event: events.BecameReady) -> State:
    child = child_of(state, event.pid)
    if child is None or child.phase is not Phase.BOOTING:
        return state
    ready = replace(child, phase=Phase.READY, phase_since=event.at, beat_at=event.at)
    if child.role is Role.MOLD:  # it serves nobody: whether its workers can boot is not known yet
        return _hold(state, ready)
    return replace(
        _hold(state, ready),
        served=state.served | {child.pool},
        backoffs=_without(state.backoffs, child.pool),
    )


def _retire(state: State, pid: Pid) -> State:
    child = state.children.get(pid)
    if child is None or child.phase is not Phase.READY:
        return state
    return _hold(state, replace(child, is_retiring=True))


def _beat(state: State, event: events.Beaten) -> State:
    child = child_of(state, event.pid)
    if child is None:
        return state
    return _hold(state, replace(child, beat_at=event.beat_at, busy_since=event.busy_since))


def _order(state: State, event: events.Ordered) -> State:
    """A child was told something; one that is killed while it boots has failed to boot in time."""
    child = child_of(state, event.pid)
    if child is None:
        return state
    leaves_in_peace = event.order in {Order.DRAIN, Order.EXPIRE}
    phase = max(child.phase, Phase.DRAINING if leaves_in_peace else Phase.DYING)
    since = event.at if phase is not child.phase else child.phase_since
    ordered = replace(child, phase=phase, phase_since=since, ordered=event.order, ordered_at=event.at)
    if child.phase is not Phase.BOOTING or event.order is not Order.KILL:
        return _hold(state, ordered)
    what = f"{HUNG} ({state.pools[child.pool].patience.boot:g} s)"
    hung = replace(ordered, is_hung=True, failure=f"it {what}")
    return _fail(
        _hold(state, hung), _failure_of(hung, event.at, reason=f"{name_of(child)} {what}", is_final=True)
    )


def _exit(state: State, event: events.Exited) -> State:
    """A child is gone; unless it had been told to go, or served for a while, that is a failure."""
    child = child_of(state, event.pid)
    if child is None:
        return state
    state = replace(
        state, children=_without(state.children, event.pid), molds=_without(state.molds, event.pid)
    )
    if child.phase is Phase.BOOTING:
        reason = f"{name_of(child)} died while booting ({how_it_ended(event)})"
        return _fail(state, _failure_of(child, event.at, reason=reason))
    if child.phase is not Phase.READY:
        return state
    if child.role is Role.WORKER:
        death = Death(at=event.at, text=f"{name_of(child)} ended by {how_it_ended(event)}")
        state = replace(state, deaths=(*state.deaths, death)[-DEATHS_KEPT:])
    if event.at - child.phase_since >= SHORT_LIFE:
        return state
    if event.signal == SIGKILL:
        killed_at, state = state.killed_at, replace(state, killed_at=event.at)
        if killed_at is None or event.at - killed_at >= CALM:
            return state
    reason = f"{name_of(child)} died as soon as it was ready ({how_it_ended(event)})"
    return _fail(state, _failure_of(child, event.at, reason=reason))


def name_of(child: Child) -> str:
    """Return what a child is called: `worker 3`, `the mold`."""
    return "the mold" if child.role is Role.MOLD else f"worker {child.slot}"


def how_it_ended(event: events.Exited) -> str:
    """Return how a child ended, in words: `signal 9`, `exit code 3`."""
    return f"signal {event.signal}" if event.signal is not None else f"exit code {event.code}"


def _give_up_booting(state: State, event: events.BootFailed) -> State:
    """A child says that it cannot boot: that counts at once, its exit follows."""
    child = child_of(state, event.pid)
    if child is None or child.phase is not Phase.BOOTING:
        return state
    reason = event.reason or NO_REASON
    failed = replace(
        child, phase=Phase.DYING, phase_since=event.at, failure=reason, failure_cause=event.cause
    )
    return _fail(
        _hold(state, failed), replace(_failure_of(child, event.at, reason=reason), cause=event.cause)
    )


def _distrust(state: State, event: events.Distrusted) -> State:
    """A child is to be killed for what it has said: a failure, unless it was about to leave; it may come again."""
    child = child_of(state, event.pid)
    if child is None or child.is_distrusted:
        return state
    doubted = replace(child, phase=Phase.DYING, phase_since=event.at, failure=event.why, is_distrusted=True)
    if child.phase > Phase.READY:
        return _hold(state, doubted)
    reason = f"{name_of(child)} is not believed: {event.why}"
    return _fail(_hold(state, doubted), _failure_of(child, event.at, reason=reason, is_final=True))


def _fail_spawn(state: State, event: events.SpawnFailed) -> State:
    """Count a refused fork. It says nothing about the application: even a first start tries again."""
    failure = _Failure(
        at=event.at, pool=event.pool, generation=event.generation, reason=event.reason, is_fatal=False
    )
    return _fail(_met(state, event.ticket), failure)


def _failure_of(child: Child, at: Monotonic, *, reason: str, is_final: bool = False) -> _Failure:
    return _Failure(at=at, pool=child.pool, generation=child.generation, reason=reason, is_final=is_final)


def _fail(state: State, failure: _Failure) -> State:
    """Count a failure: it delays the next attempt, ends a first start, and counts against a rollout."""
    if state.halt is not Halt.NO:
        return state
    pool, rollout = state.pools[failure.pool], state.rollouts.get(failure.pool)
    state = _delay(state, pool.name, at=failure.at)
    if pool.name not in state.served:
        if not failure.is_fatal:
            return state
        state = _halt(state, Halt.QUICK, at=failure.at)
        return replace(state, fatal=failure.reason, fatal_cause=failure.cause)
    if rollout is None or failure.generation != pool.generation:
        return state
    failures = rollout.failures + 1
    failed = replace(
        rollout,
        failures=failures,
        reason=failure.reason,
        has_failed=failure.is_final or failures >= pool.max_failures,
    )
    return replace(state, rollouts=_with(state.rollouts, {pool.name: failed}))


def _delay(state: State, pool: str, *, at: Monotonic) -> State:
    failures = state.backoffs[pool].failures + 1 if pool in state.backoffs else 1
    delay = min(FIRST_DELAY * 2 ** min(failures - 1, 16), LONGEST_DELAY)
    backoff = Backoff(failures=failures, not_before=Monotonic(at + delay))
    return replace(state, backoffs=_with(state.backoffs, {pool: backoff}))


def _resize(state: State, event: events.Resized) -> State:
    """Another size is wanted, now and if a rollout in progress should be abandoned."""
    pool = state.pools[event.pool]
    first = oldest_first(state, pool) if event.from_oldest else ()
    state = replace(state, pools=_with(state.pools, {pool.name: resized(pool, event.size, first=first)}))
    rollout = state.rollouts.get(pool.name)
    if rollout is None:
        return state
    rollout = replace(rollout, previous=resized(rollout.previous, event.size, first=first))
    return replace(state, rollouts=_with(state.rollouts, {pool.name: rollout}))


def _start_rollout(state: State, event: events.RolloutStarted) -> State:
    """A rollout during another one takes its place; what it would go back to stays the last good generation.

    The new generation takes over the slots of the present one: each of its workers has one that it replaces.
    """
    name = event.pool.name
    present = state.pools[name]
    pool = replace(event.pool, closed=resized(present, event.pool.size).closed)
    running = state.rollouts.get(name)
    previous: Pool = running.previous if running is not None else present
    return replace(
        state,
        pools=_with(state.pools, {name: pool}),
        rollouts=_with(state.rollouts, {name: Rollout(previous=previous, started_at=event.at)}),
        deaths=(),
        backoffs=_without(state.backoffs, name),
    )


def _abandon(state: State, name: str) -> State:
    rollout = state.rollouts.get(name)
    if rollout is None:
        return state
    previous = rollout.previous
    pool = replace(previous, is_disk_newer=not previous.keeps_code_beside(state.pools[name]))
    return replace(
        state,
        pools=_with(state.pools, {name: pool}),
        rollouts=_without(state.rollouts, name),
        backoffs=_without(state.backoffs, name),
    )


def _halt(state: State, halt: Halt, *, at: Monotonic) -> State:
    if state.halt is Halt.QUICK or state.halt is halt:
        return state
    return replace(state, halt=halt, halt_since=at)


def _hold(state: State, child: Child) -> State:
    if child.role is Role.MOLD:
        return replace(state, molds=_with(state.molds, {child.pid: child}))
    return replace(state, children=_with(state.children, {child.pid: child}))


def _with(mapping: Mapping[_K, _V], changes: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType({**mapping, **changes})


def _without(mapping: Mapping[_K, _V], key: _K) -> Mapping[_K, _V]:
    return MappingProxyType({name: value for name, value in mapping.items() if name != key})
