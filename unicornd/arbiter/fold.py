"""State and event → the next state: what an event means, and nothing else.

Pure. `fold` decides nothing: what follows from a state is `plan`'s. An event about a process that is not ours (any
more) changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, assert_never

from unicornd.arbiter import events
from unicornd.arbiter.state import Backoff, Child, Halt, Order, Phase, Rollout, State
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.arbiter.events import Event
    from unicornd.arbiter.state import Pool
    from unicornd.units import Generation

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
"""Seconds between attempts to spawn after failures: doubled with each, up to the longest."""
HUNG = "it was not ready in time"
SHORT_LIFE = 1.0
"""A worker that dies by itself within so many seconds of READY is replaced with a delay: it may do so again."""

_K = TypeVar("_K")
_V = TypeVar("_V")


def fold(state: State, event: Event) -> State:
    """Return the state after `event`."""
    match event:
        case events.Spawned():
            return replace(state, children=_with(state.children, {event.pid: _born(event)}))
        case events.SpawnFailed():
            state = _delay(state, event.pool, at=event.at)
            return _fail_rollout(state, event.pool, generation=event.generation, reason=event.reason)
        case events.BecameReady():
            return _become_ready(state, event)
        case events.BootFailed():
            return _update(state, event.pid, failure=event.reason, failure_cause=event.cause)
        case events.ReplacementAsked():
            return _update(state, event.pid, is_retiring=True)
        case events.Beaten():
            return _update(state, event.pid, beat_at=event.beat_at, busy_since=event.busy_since)
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
        case _:
            assert_never(event)


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
    )


def _become_ready(state: State, event: events.BecameReady) -> State:
    child = state.children.get(event.pid)
    if child is None or child.phase is not Phase.BOOTING:
        return state
    ready = replace(child, phase=Phase.READY, phase_since=event.at, beat_at=event.at)
    return replace(
        state,
        children=_with(state.children, {child.pid: ready}),
        served=state.served | {child.pool},
        backoffs=_without(state.backoffs, child.pool),
    )


def _order(state: State, event: events.Ordered) -> State:
    """A child was told something; one that is killed while it boots has failed to boot in time."""
    child = state.children.get(event.pid)
    if child is None:
        return state
    phase = max(child.phase, Phase.DRAINING if event.order is Order.DRAIN else Phase.DYING)
    since = event.at if phase is not child.phase else child.phase_since
    is_hung = child.phase is Phase.BOOTING and event.order is Order.KILL
    ordered = replace(
        child,
        phase=phase,
        phase_since=since,
        ordered=event.order,
        ordered_at=event.at,
        failure=HUNG if is_hung else child.failure,
        is_hung=child.is_hung or is_hung,
    )
    state = replace(state, children=_with(state.children, {child.pid: ordered}))
    return _fail_boot(state, ordered, at=event.at, reason=HUNG, is_final=True) if is_hung else state


def _exit(state: State, event: events.Exited) -> State:
    child = state.children.get(event.pid)
    if child is None:
        return state
    state = replace(state, children=_without(state.children, event.pid))
    if child.phase is Phase.BOOTING and child.ordered is None:
        reason = child.failure or f"worker {child.slot} died while booting ({how_it_ended(event)})"
        return _fail_boot(state, child, at=event.at, reason=reason)
    if child.phase is Phase.READY and event.at - child.phase_since < SHORT_LIFE:
        return _delay(state, child.pool, at=event.at)
    return state


def _fail_boot(state: State, child: Child, *, at: Monotonic, reason: str, is_final: bool = False) -> State:
    """A child cannot boot: at first start that is the end, later it is tried again."""
    state = _delay(state, child.pool, at=at)
    if child.pool not in state.served:
        state = _halt(state, Halt.QUICK, at=at)
        return replace(
            state, fatal=state.fatal or reason, fatal_cause=state.fatal_cause or child.failure_cause or "boot"
        )
    return _fail_rollout(state, child.pool, generation=child.generation, reason=reason, is_final=is_final)


def _fail_rollout(
    state: State, name: str, *, generation: Generation, reason: str, is_final: bool = False
) -> State:
    """A child of the new generation cannot boot; one that hangs has used up all the patience there is."""
    pool, rollout = state.pools[name], state.rollouts.get(name)
    if rollout is None or generation != pool.generation:
        return state
    failures = pool.max_failures if is_final else rollout.failures + 1
    return replace(
        state, rollouts=_with(state.rollouts, {name: replace(rollout, failures=failures, reason=reason)})
    )


def how_it_ended(event: events.Exited) -> str:
    """Return how a child ended, in words: `signal 9`, `exit code 3`."""
    return f"signal {event.signal}" if event.signal is not None else f"exit code {event.code}"


def _delay(state: State, pool: str, *, at: Monotonic) -> State:
    failures = state.backoffs[pool].failures + 1 if pool in state.backoffs else 1
    delay = min(FIRST_DELAY * 2 ** min(failures - 1, 16), LONGEST_DELAY)
    backoff = Backoff(failures=failures, not_before=Monotonic(at + delay))
    return replace(state, backoffs=_with(state.backoffs, {pool: backoff}))


def _resize(state: State, event: events.Resized) -> State:
    """Another size is wanted, now and if a rollout in progress should be abandoned."""
    pool = state.pools[event.pool]
    state = replace(state, pools=_with(state.pools, {pool.name: replace(pool, size=event.size)}))
    rollout = state.rollouts.get(pool.name)
    if rollout is None:
        return state
    resized = replace(rollout, previous=replace(rollout.previous, size=event.size))
    return replace(state, rollouts=_with(state.rollouts, {pool.name: resized}))


def _start_rollout(state: State, event: events.RolloutStarted) -> State:
    """A rollout during another one takes its place; what it would go back to stays the last good generation."""
    name = event.pool.name
    running = state.rollouts.get(name)
    previous: Pool = running.previous if running is not None else state.pools[name]
    return replace(
        state,
        pools=_with(state.pools, {name: event.pool}),
        rollouts=_with(state.rollouts, {name: Rollout(previous=previous, started_at=event.at)}),
        backoffs=_without(state.backoffs, name),
    )


def _abandon(state: State, name: str) -> State:
    rollout = state.rollouts.get(name)
    if rollout is None:
        return state
    return replace(
        state,
        pools=_with(state.pools, {name: rollout.previous}),
        rollouts=_without(state.rollouts, name),
        backoffs=_without(state.backoffs, name),
    )


def _halt(state: State, halt: Halt, *, at: Monotonic) -> State:
    if state.halt is Halt.QUICK or state.halt is halt:
        return state
    return replace(state, halt=halt, halt_since=at)


def _update(state: State, pid: int, **changes: object) -> State:
    child = next((child for child in state.children.values() if child.pid == pid), None)
    if child is None:
        return state
    return replace(state, children=_with(state.children, {child.pid: replace(child, **changes)}))  # type: ignore[arg-type] # fields of Child


def _with(mapping: Mapping[_K, _V], changes: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType({**mapping, **changes})


def _without(mapping: Mapping[_K, _V], key: _K) -> Mapping[_K, _V]:
    return MappingProxyType({name: value for name, value in mapping.items() if name != key})
