"""What is desired and what is observed → what to do now, and when to think again.

Pure, and without memory: the same state and time give the same plan. Whatever it asks for is answered by an event that
makes it stop asking, so the loop may ask as often as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.actions import AbandonRollout, Action, Command, FinishRollout, Leave, Plan, Spawn
from unicornd.arbiter.deadlines import deadlines_of
from unicornd.arbiter.roster import Roster
from unicornd.arbiter.state import Halt, Order, Phase
from unicornd.units import Slot

if TYPE_CHECKING:
    from unicornd.arbiter.state import Child, Pool, State
    from unicornd.units import Monotonic


def plan(state: State, now: Monotonic) -> Plan:
    """Return what to do at `now`."""
    actions: list[Action] = []
    moments: list[Monotonic] = []
    for pool in state.pools.values():
        _keep_deadlines(state, pool, now=now, actions=actions, moments=moments)
    if actions:  # what is due comes first: what follows from it is seen when it has been done
        return Plan(actions=tuple(actions), wake_at=None)
    if state.halt is not Halt.NO:
        actions += _end_everything(state)
    else:
        for pool in state.pools.values():
            roster = Roster.of(state, pool)
            actions += _shape(state, roster)
            actions += _spawn(state, roster, now=now, moments=moments)
    return Plan(actions=tuple(actions), wake_at=min(moments, default=None))


def _keep_deadlines(
    state: State, pool: Pool, *, now: Monotonic, actions: list[Action], moments: list[Monotonic]
) -> None:
    """Order what is due, note what is to come."""
    for child in state.children.values():
        if child.pool != pool.name:
            continue
        for deadline in deadlines_of(child, pool.patience):
            if deadline.at <= now:
                actions.append(Command(pid=child.pid, order=deadline.order, why=deadline.why))
                break
            moments.append(deadline.at)


def _end_everything(state: State) -> list[Action]:
    """Nothing is spawned any more; everybody leaves, and then the arbiter."""
    if not state.children:
        return [Leave(cause=state.fatal_cause or "halt", reason=state.fatal)]
    is_quick = state.halt is Halt.QUICK
    why = "everything stops at once" if is_quick else "everything stops"
    return [
        Command(
            pid=child.pid,
            order=Order.QUIT if is_quick or child.phase is Phase.BOOTING else Order.DRAIN,
            why=why,
        )
        for child in state.children.values()
        if child.phase < (Phase.DYING if is_quick else Phase.DRAINING)
    ]


def _shape(state: State, roster: Roster) -> list[Action]:
    """Let go of what is too much or too old, and end a rollout that is complete or has failed."""
    pool = roster.pool
    rollout = state.rollouts.get(pool.name)
    if rollout is not None and rollout.failures >= pool.max_failures:
        return [AbandonRollout(pool=pool.name, generation=pool.generation, reason=rollout.reason)]
    actions: list[Action] = [
        _dismiss(child, "it is of another generation") for child in roster.obsolete_booting
    ]
    actions += [_dismiss(child, "fewer workers are wanted") for child in roster.surplus()]
    actions += [_dismiss(child, _why_obsolete(child, pool)) for child in roster.replaceable()]
    if rollout is not None and roster.is_complete:
        actions.append(FinishRollout(pool=pool.name, generation=pool.generation))
    return actions


def _spawn(state: State, roster: Roster, *, now: Monotonic, moments: list[Monotonic]) -> list[Action]:
    """Fill free slots, unless spawning has failed lately: then one at a time, after a delay."""
    pool = roster.pool
    rollout = state.rollouts.get(pool.name)
    slots = roster.slots_to_fill()
    if not slots or (rollout is not None and rollout.failures >= pool.max_failures):
        return []
    backoff = state.backoffs.get(pool.name)
    if backoff is not None:
        if roster.booting:
            return []
        if backoff.not_before > now:
            moments.append(backoff.not_before)
            return []
        slots = slots[:1]
    why = "a new generation" if rollout is not None else "the slot is empty"
    return [Spawn(pool=pool.name, slot=Slot(slot), generation=pool.generation, why=why) for slot in slots]


def _dismiss(child: Child, why: str) -> Command:
    """A child that serves may finish; one that only boots is not waited for."""
    order = Order.QUIT if child.phase is Phase.BOOTING else Order.DRAIN
    return Command(pid=child.pid, order=order, why=why)


def _why_obsolete(child: Child, pool: Pool) -> str:
    return (
        "it is replaced"
        if child.generation == pool.generation
        else f"generation {pool.generation} takes its place"
    )
