"""Actions → system calls → events: the only place where a plan touches the world.

Run by the arbiter's loop. What fails becomes an event too; nothing is raised.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, assert_never

from unicornd.arbiter import events
from unicornd.arbiter.actions import AbandonRollout, Command, FinishRollout, LeaveListeners, Spawn
from unicornd.arbiter.state import Order, Role
from unicornd.workers import signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployments

_SIGNALS: Mapping[Order, int] = {
    Order.EXPIRE: signals.EXPIRE,
    Order.DRAIN: signal.SIGTERM,
    Order.QUIT: signal.SIGQUIT,
    Order.ABORT: signal.SIGABRT,
    Order.KILL: signal.SIGKILL,
}


def perform(
    action: Spawn | Command | FinishRollout | AbandonRollout | LeaveListeners,
    kernel: Kernel,
    *,
    processes: ProcessTable,
    deployments: Deployments,
    is_quick: bool = True,
) -> Iterator[events.Event]:
    """Do what `action` asks for, and yield what has happened.

    Args:
        action: of the plan.
        kernel: does it.
        processes: the workers and molds.
        deployments: how workers are made.
        is_quick: whether the fleet stops at once. Otherwise whoever is to quit is taken to be booting, and finishes what it
            has if it is ready by now (`signals.DISMISS`).
    """
    match action:
        case Spawn():
            yield _spawn(action, kernel, processes=processes, deployments=deployments)
        case Command():
            is_dismissed = action.order is Order.QUIT and not is_quick and action.pid in processes.workers
            if kernel.kill(action.pid, signals.DISMISS if is_dismissed else _SIGNALS[action.order]):
                yield events.Ordered(at=kernel.now(), pid=action.pid, order=action.order)
            else:  # somebody else has reaped it: nobody will tell us of its death
                processes.vacate(action.pid)
                yield events.Exited(at=kernel.now(), pid=action.pid, code=None, signal=None)
        case FinishRollout():
            deployments.adopt()
            yield events.RolloutFinished(at=kernel.now(), pool=action.pool)
        case AbandonRollout():
            deployments.discard()
            yield events.RolloutAbandoned(at=kernel.now(), pool=action.pool)
        case LeaveListeners():
            deployments.close_listeners()
            yield events.ListenersLeft(at=kernel.now())
        case _:
            assert_never(action)


def _spawn(
    action: Spawn, kernel: Kernel, *, processes: ProcessTable, deployments: Deployments
) -> events.Event:
    """Fork, or ask a mold to; a worker of a molded generation says itself when it is there."""
    blueprint = deployments.blueprint(action.generation)
    try:
        if action.role is Role.WORKER and blueprint.mold is not None:
            ticket, mold = processes.ask(action, blueprint)
            return events.SpawnAsked(
                at=kernel.now(),
                ticket=ticket,
                mold=mold,
                pool=action.pool,
                slot=action.slot,
                generation=action.generation,
            )
        if action.role is Role.MOLD:
            kernel.adopt_orphans()
        handle = processes.fill(action, blueprint)
    except OSError as error:
        return events.SpawnFailed(
            at=kernel.now(),
            pool=action.pool,
            slot=action.slot,
            generation=action.generation,
            reason=error.strerror or str(error),
        )
    return events.Spawned(
        at=kernel.now(),
        pid=handle.pid,
        pool=action.pool,
        slot=action.slot,
        generation=action.generation,
        role=action.role,
    )
