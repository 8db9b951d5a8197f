"""What happens, told: each change in the fleet's life becomes one log line and one entry of the journal.

Run by the arbiter's loop after each fold. It changes nothing.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.fold import child_of, name_of
from unicornd.arbiter.journal import MAX_CHARACTERS
from unicornd.arbiter.state import DISK_IS_NEWER, Halt, Order, Phase, Role
from unicornd.arbiter.troubles import crash_loop
from unicornd.control.wording import plural
from unicornd.escaping import lines, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.arbiter.events import Event
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.state import Child, State
    from unicornd.units import Monotonic

Fact = str | int | float | bool | None


class EventLog:
    """Tells what happens.

    Args:
        log: the error log.
        journal: for `unicornctl events` and `status`.
    """

    def __init__(self, log: logging.Logger, journal: Journal) -> None:
        self._log = log
        self._journal = journal

    def record(
        self,
        kind: str,
        text: str,
        *,
        facts: Mapping[str, Fact] | None = None,
        level: int = logging.INFO,
        detail: str = "",
    ) -> None:
        """Tell one thing; `detail` (a traceback) goes to the log only."""
        facts = facts or {}
        text, detail = (
            shortened(one_line(text), MAX_CHARACTERS),
            lines(detail),
        )  # forms of the operator's may not
        self._log.log(level, "%s%s", text, f"\n{detail}" if detail else "", extra=facts)
        self._journal.append(kind, text, **facts)

    def observe(self, event: Event, *, previous: State, state: State) -> None:
        """Tell what an event means."""
        match event:
            case events.Spawned():
                name = "the mold" if event.role is Role.MOLD else f"worker {event.slot}"
                self._log.debug("%s spawned", name, extra=_who_spawned(event))
                self._journal.append("worker.spawned", f"{name} spawned", **_who_spawned(event))
            case events.SpawnFailed():
                text = f"worker {event.slot} cannot be forked: {event.reason}"
                self.record("worker.spawn_failed", text, level=logging.ERROR, facts={"slot": event.slot})
            case events.BecameReady() | events.BootFailed() | events.ReplacementAsked() | events.Exited():
                child = child_of(previous, event.pid)
                if child is not None:
                    self._tell_of_child(event, child)
                self._tell_of_crash_loop(event.at, previous=previous, state=state)
            case events.Resized():
                before = previous.pools[event.pool].size
                text = f"scaled from {before} to {event.size} workers"
                self.record("fleet.scaled", text, facts={"size": event.size})
            case events.RolloutStarted():
                generation = event.pool.generation
                self.record(
                    "reload.started",
                    f"generation {generation} is booted beside the old one",
                    facts={"generation": generation},
                )
            case events.RolloutFinished():
                generation = state.pools[event.pool].generation
                self.record(
                    "reload.finished", f"generation {generation} serves", facts={"generation": generation}
                )
            case events.RolloutAbandoned():
                self._tell_of_rollback(event, previous=previous, state=state)
            case events.HaltAsked():
                if state.halt is not previous.halt:
                    how = "at once" if state.halt is Halt.QUICK else "gracefully"
                    self.record("fleet.stopping", f"stopping {how}", facts={"workers": len(state.children)})
            case events.ListenersLooked() | events.SaturationChanged():
                self._tell_of_look(event, previous=previous)
            case _:
                pass  # Beaten is no news; Ordered is told with its reason by `perform`; PoolDeclared by `daemon`

    def record_order(self, child: Child, order: Order, *, why: str) -> None:
        """Tell that a child is given an order, and why."""
        is_workless = child.phase is Phase.BOOTING or child.role is Role.MOLD  # nothing is lost with it
        is_normal = order is Order.DRAIN or (order is Order.QUIT and is_workless)
        text = f"{name_of(child)} is told to {order.value}: {why}"
        if is_normal:
            self._log.debug("%s", text, extra=_who(child))
            self._journal.append(f"worker.{order.value}", text, **_who(child))
        else:
            self.record(f"worker.{order.value}", text, level=logging.WARNING, facts=_who(child))

    def _tell_of_child(
        self,
        event: events.BecameReady | events.BootFailed | events.ReplacementAsked | events.Exited,
        child: Child,
    ) -> None:
        match event:
            case events.BecameReady() if child.phase is not Phase.BOOTING:
                pass  # it changes nothing
            case events.BecameReady():
                seconds = round(event.at - child.born_at, 3)
                self.record(
                    "worker.ready",
                    f"{name_of(child)} is ready",
                    facts={**_who(child), "boot_seconds": seconds},
                )
            case events.BootFailed():
                first, _, detail = event.reason.partition("\n")
                text = f"{name_of(child)} cannot boot: {first}"
                self.record("worker.boot_failed", text, level=logging.ERROR, detail=detail, facts=_who(child))
            case events.ReplacementAsked():
                self.record(
                    "worker.retiring",
                    f"{name_of(child)} is to be replaced: {event.why}",
                    facts=_who(child),
                )
            case events.Exited():
                self._tell_of_exit(event, child)

    def _tell_of_exit(self, event: events.Exited, child: Child) -> None:
        how = _how_it_ended(event)
        lived = round(event.at - child.born_at, 3)
        if child.ordered is not None or child.failure:
            text = f"{name_of(child)} has left ({how})"
            self.record("worker.left", text, facts={**_who(child), "lived_seconds": lived})
        else:
            text = f"{name_of(child)} died: {how}"
            self.record(
                "worker.died", text, level=logging.ERROR, facts={**_who(child), "lived_seconds": lived}
            )

    def _tell_of_crash_loop(self, at: Monotonic, *, previous: State, state: State) -> None:
        """Say it once, when it begins."""
        if (loop := crash_loop(state, at)) and not crash_loop(previous, at):
            self.record("fleet.crash_looping", f"crash loop: {loop}", level=logging.ERROR)

    def _tell_of_look(
        self, event: events.ListenersLooked | events.SaturationChanged, *, previous: State
    ) -> None:
        if isinstance(event, events.ListenersLooked):
            self._tell_of_listeners(event, previous=previous)
        elif event.since is None:
            self.record("fleet.keeps_up", "no longer saturated: workers take what comes")
        else:
            text = f"saturated: {plural(event.waiting, 'connection')} waiting, and no worker takes one"
            facts = {"waiting": event.waiting, "seconds": round(event.at - event.since, 3)}
            self.record("fleet.saturated", text, level=logging.WARNING, facts=facts)

    def _tell_of_listeners(self, event: events.ListenersLooked, *, previous: State) -> None:
        for address in event.shut:
            if address not in previous.shut_listeners:
                text = f"a process of the fleet has shut {address} down: nobody can connect"
                if address.startswith("unix:") and not address.startswith("unix:@"):
                    text = f"{address} was shut down, or its file was removed: nobody can connect"
                self.record("listener.shut", text, level=logging.ERROR, facts={"address": address})
        for address in previous.shut_listeners:
            if address not in event.shut:
                self.record("listener.open", f"{address} is open again", facts={"address": address})

    def _tell_of_rollback(self, event: events.RolloutAbandoned, *, previous: State, state: State) -> None:
        rollout = previous.rollouts.get(event.pool)
        first = rollout.reason.partition("\n")[0] if rollout is not None else ""
        failed, kept = previous.pools[event.pool].generation, state.pools[event.pool].generation
        text = f"generation {failed} is given up, generation {kept} stays: {first}"
        detail = DISK_IS_NEWER if state.pools[event.pool].is_disk_newer else ""
        self.record(
            "reload.rolled_back", text, level=logging.ERROR, facts={"generation": kept}, detail=detail
        )


def _how_it_ended(event: events.Exited) -> str:
    if event.signal is None:
        return f"exit code {event.code}" if event.code is not None else "reaped by somebody else"
    try:
        return f"signal {event.signal} ({signal.Signals(event.signal).name})"
    except ValueError:
        return f"signal {event.signal}"


def _who(child: Child) -> dict[str, Fact]:
    return {"slot": child.slot, "pid": child.pid, "generation": child.generation}


def _who_spawned(event: events.Spawned) -> dict[str, Fact]:
    return {"slot": event.slot, "pid": event.pid, "generation": event.generation}
