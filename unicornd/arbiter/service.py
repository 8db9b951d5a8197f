"""What the service manager is told of the fleet (sd_notify(3)): that it serves, reloads, stops, and is alive.

Run by the arbiter's loop, as an observer and as a ticker. In an upgrade only one of two arbiters may speak: the manager
listens to its main process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.state import Halt, Phase
from unicornd.units import Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.state import State
    from unicornd.arbiter.upgrade.successor import Successor
    from unicornd.sockets.notify import Notifier
    from unicornd.units import Pid


class ServiceStatus:
    """Tells it.

    Args:
        notifier: leads to the manager.
        successor: the new unicornd of an upgrade, if there is one: with it the service goes on when this one stops.
        on_serving: called once, when the fleet serves for the first time.

    Attributes:
        served_at: when that was, or None.
    """

    def __init__(self, notifier: Notifier, *, successor: Successor, on_serving: Callable[[], None]) -> None:
        self._notifier = notifier
        self._successor = successor
        self._on_serving = on_serving
        self._next_sign = Monotonic(0.0)
        self.served_at: Monotonic | None = None

    def observe(self, event: events.Event, *, previous: State, state: State) -> None:  # noqa: ARG002 - an observer's
        """Tell what follows from an event."""
        match event:
            case events.BecameReady() | events.BootFailed() | events.Exited():
                self._note_serving(state, event.at)
            case events.RolloutStarted():
                self._notifier.reloading("Reloading", now=event.at)
            case events.RolloutFinished() | events.RolloutAbandoned():
                self._notifier.ready(status_line(state))
            case events.HaltAsked() if not self._successor.is_ready:
                limits = [pool.patience for pool in state.pools.values()]
                longest = max((each.drain + each.graceful + each.kill for each in limits), default=0.0)
                self._notifier.stopping("Stopping")
                self._notifier.extend(Seconds(longest))
            case _:
                pass

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Give a sign of life twice as often as the manager wants one."""
        if not self._notifier.watchdog:
            return None
        if now >= self._next_sign:
            self._notifier.beat()
            self._next_sign = Monotonic(now + self._notifier.watchdog / 2)
        return self._next_sign

    def refuse_reload(self, reason: str, *, now: Monotonic) -> None:
        """A reload was refused: `Type=notify-reload` waits for an end of it."""
        self._notifier.reloading("Reload refused", now=now)
        self._notifier.ready(f"Reload refused: {reason}")

    def take_over(self, pid: Pid, state: State) -> None:
        """This process is the main one from now on, and speaks for the service."""
        self._notifier.speak()
        self._notifier.main(pid)
        if self.served_at is not None:
            self._notifier.ready(status_line(state))

    def _note_serving(self, state: State, now: Monotonic) -> None:
        """The start has succeeded when the whole fleet is READY, or a part of it is and the rest cannot boot."""
        if self.served_at is not None or state.halt is not Halt.NO:
            return
        ready = [child for child in state.children.values() if child.phase is Phase.READY]
        is_whole = len(ready) >= sum(pool.size for pool in state.pools.values())
        if ready and (is_whole or state.backoffs):
            self.served_at = now
            self._notifier.ready(status_line(state))
            self._on_serving()


def status_line(state: State) -> str:
    """Return how the fleet is, in a line."""
    ready = sum(child.phase is Phase.READY for child in state.children.values())
    size = sum(pool.size for pool in state.pools.values())
    generation = max((pool.generation for pool in state.pools.values()), default=0)
    return f"{ready} of {size} workers ready, generation {generation}"
