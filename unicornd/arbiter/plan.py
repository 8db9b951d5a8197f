"""What is desired and what is observed → what to do now, and when to think again.

Pure, and without memory: the same state and time give the same plan. Whatever it asks for is answered by an event that
makes it stop asking, so the loop may ask as often as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.actions import (
    AbandonRollout,
    Action,
    Command,
    FinishRollout,
    Leave,
    LeaveListeners,
    Plan,
    Spawn,
)
from unicornd.arbiter.deadlines import deadlines_of
from unicornd.arbiter.molds import Molds, stuck_molds
from unicornd.arbiter.roster import Roster
from unicornd.arbiter.state import Halt, Order, Phase, Role
from unicornd.units import Monotonic, Slot

if TYPE_CHECKING:
    from unicornd.arbiter.state import Child, Pool, State


MOLD_SLOT = Slot(0)
"""A mold is in nobody's way: it serves nobody."""


def plan(state: State, now: Monotonic) -> Plan:
    """Return what to do at `now`.

    What is due comes first and alone: it may change what else is to be done (a worker that does not become ready is a
    failure, which delays the next attempt).
    """
    moments: list[Monotonic] = []
    commands = _what_is_due(state, now, moments=moments)
    if commands:
        return Plan(actions=tuple(commands), wake_at=min(moments, default=None))
    actions: list[Action] = []
    if state.halt is not Halt.NO:
        actions += _end_everything(state, now, moments=moments)
    else:
        for pool in state.pools.values():
            roster = Roster.of(state, pool)
            actions += _shape(state, roster)
            actions += _spawn(state, roster, now=now, moments=moments)
    return Plan(actions=tuple(actions), wake_at=min(moments, default=None))


def _what_is_due(state: State, now: Monotonic, *, moments: list[Monotonic]) -> list[Action]:
    """Tell those whose time is up; the deadlines to come are added to `moments`."""
    commands: list[Action] = []
    for child in (*state.children.values(), *state.molds.values()):
        for deadline in deadlines_of(child, state.pools[child.pool].patience, lateness=state.lateness):
            if deadline.at <= now:
                commands.append(Command(pid=child.pid, order=deadline.order, why=deadline.why))
                break
            moments.append(deadline.at)
    for mold, until in stuck_molds(state):
        if until <= now:
            commands.append(Command(pid=mold.pid, order=Order.KILL, why="it does not fork"))
        else:
            moments.append(until)
    return commands


def _end_everything(state: State, now: Monotonic, *, moments: list[Monotonic]) -> list[Action]:
    """Nothing is spawned any more; the listeners are left, everybody leaves, and then the arbiter."""
    if not state.children and not state.molds and not state.expected:
        return [Leave(cause=state.fatal_cause or "halt", reason=state.fatal)]
    if not state.has_left_listeners:
        until = _end_of_drain(state)
        if until is None or until <= now:
            return [LeaveListeners()]
        moments.append(until)
        return []
    is_quick = state.halt is Halt.QUICK
    why = "everything stops at once" if is_quick else "everything stops"
    leaving: list[Action] = [
        Command(
            pid=child.pid,
            order=Order.QUIT if is_quick or child.phase is Phase.BOOTING else Order.DRAIN,
            why=why,
        )
        for child in state.children.values()
        if child.phase < (Phase.DYING if is_quick else Phase.DRAINING)
    ]
    leaving += [
        Command(pid=mold.pid, order=Order.QUIT, why=why)
        for mold in state.molds.values()
        if mold.phase < Phase.DYING
    ]
    return leaving


def _end_of_drain(state: State) -> Monotonic | None:
    """Return until when everything is still accepted; None for a quick end, and where nobody has served yet."""
    if state.halt is Halt.QUICK or state.halt_since is None or not state.served:
        return None
    longest = max((pool.patience.drain for pool in state.pools.values()), default=0.0)
    return Monotonic(state.halt_since + longest)


def _shape(state: State, roster: Roster) -> list[Action]:
    """Let go of what is too much or too old, and end a rollout that is complete or has failed."""
    pool = roster.pool
    rollout = state.rollouts.get(pool.name)
    if rollout is not None and roster.is_complete:
        return [FinishRollout(pool=pool.name, generation=pool.generation)]
    if rollout is not None and rollout.has_failed:
        return [AbandonRollout(pool=pool.name, generation=pool.generation, reason=rollout.reason)]
    return [
        Command(pid=child.pid, order=order, why=_why_obsolete(child, pool))
        for order, children in (
            (Order.QUIT, Molds.of(state, pool).obsolete),
            (Order.QUIT, roster.obsolete_booting),
            (Order.DRAIN, roster.replaceable()),
        )
        for child in children
    ]


def _spawn(state: State, roster: Roster, *, now: Monotonic, moments: list[Monotonic]) -> list[Action]:
    """Fill free slots, unless spawning has failed lately: then one at a time, after a delay."""
    pool = roster.pool
    rollout = state.rollouts.get(pool.name)
    molds = Molds.of(state, pool)
    slots = (MOLD_SLOT,) if molds.is_missing else roster.slots_to_fill() if molds.is_ready else ()
    if not slots or (rollout is not None and rollout.has_failed):
        return []
    backoff = state.backoffs.get(pool.name)
    if backoff is not None:
        if roster.is_booting:
            return []
        if backoff.not_before > now:
            moments.append(backoff.not_before)
            return []
        slots = slots[:1]
    why = "a new generation" if rollout is not None else "the slot is empty"
    role = Role.MOLD if molds.is_missing else Role.WORKER
    return [
        Spawn(pool=pool.name, slot=slot, generation=pool.generation, why=why, role=role) for slot in slots
    ]


def _why_obsolete(child: Child, pool: Pool) -> str:
    if child.generation != pool.generation:
        return f"generation {pool.generation} takes its place"
    return "it is replaced" if pool.has(child.slot) else "fewer workers are wanted"
