"""What is wrong with a fleet although its workers are there: they die again and again, or nobody takes what waits.

Pure, but for what `Saturation` remembers of its samples. The state says it to whoever asks, the event log once.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.fold import DEATHS_KEPT, child_of
from unicornd.arbiter.state import Order, Phase, Role
from unicornd.control.wording import duration, plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.arbiter.state import Death, State
    from unicornd.units import Monotonic

LOOP_SECONDS = 60.0
LOOP_DEATHS = DEATHS_KEPT
"""So many workers that died unasked within so many seconds are a crash loop."""
SATURATED_AFTER = 5.0
"""Seconds that something waits, at each look, before a fleet is called saturated: a burst is none."""
CALM_AFTER = 5.0
"""Seconds without that, before it is called so no longer: it would come and go."""
ENDED_BADLY = frozenset({Order.EXPIRE, Order.ABORT, Order.KILL})


class Trouble(Enum):
    """What an event means for the counters."""

    BOOT_FAILURE = "a worker or a mold did not become ready"
    RESTART = "a worker died unasked, or has to be ended, after it was ready"


def trouble_of(event: events.Event, *, previous: State, state: State) -> Trouble | None:
    """Return what an event is counted as; each worker once."""
    pid = getattr(event, "pid", None)
    before = child_of(previous, pid) if pid is not None else None
    if pid is None or before is None:
        return None
    after = child_of(state, pid)
    is_failed = after is None or (after.phase is Phase.DYING and bool(after.failure))
    if before.phase is Phase.BOOTING:
        return Trouble.BOOT_FAILURE if is_failed else None
    if before.phase is not Phase.READY or before.role is Role.MOLD:
        return None
    is_ended = isinstance(event, events.Ordered) and event.order in ENDED_BADLY
    return Trouble.RESTART if is_failed or is_ended else None


def recent_deaths(deaths: Iterable[Death], now: Monotonic) -> list[Death]:
    """Return those that count at `now`."""
    return [death for death in deaths if now - death.at < LOOP_SECONDS]


def crash_loop(state: State, now: Monotonic) -> str:
    """Return what is told of workers that die again and again; empty if they do not."""
    deaths = recent_deaths(state.deaths, now)
    if len(deaths) < LOOP_DEATHS:
        return ""
    last, first = deaths[-1], deaths[0]
    span = duration(max(last.at - first.at, 0.0))
    return f"the last {len(deaths)} workers died within {span}: {last.text}, {duration(now - last.at)} ago"


def saturation(since: Monotonic, now: Monotonic, *, waiting: int, busy: int, slots: int) -> str:
    """Return what is told of a saturated fleet.

    Args:
        since: when something began to wait.
        now: the time.
        waiting: connections and requests that wait.
        busy: requests that run.
        slots: how many can; 0 where nothing bounds them.
    """
    full = f"{min(busy, slots)} of {slots} request slots are busy" if slots else "no worker accepts"
    return f"{full}, {plural(waiting, 'connection')} waiting, for {duration(now - since)}"


class Saturation:
    """Tells from samples when a fleet is saturated: something waits, and nobody has room for it."""

    def __init__(self) -> None:
        self._since: Monotonic | None = None
        self._calm_since: Monotonic | None = None
        self._is_told = False

    def look(
        self, now: Monotonic, *, waiting: int, has_room: bool = False
    ) -> events.SaturationChanged | None:
        """Take a sample; return the news, if there are any."""
        if waiting and not has_room:
            self._calm_since = None
            self._since = now if self._since is None else self._since
            if self._is_told or now - self._since < SATURATED_AFTER:
                return None
            self._is_told = True
            return events.SaturationChanged(at=now, since=self._since, waiting=waiting)
        if not self._is_told:
            self._since = None
            return None
        self._calm_since = now if self._calm_since is None else self._calm_since
        if now - self._calm_since < CALM_AFTER:
            return None
        self._is_told, self._since, self._calm_since = False, None, None
        return events.SaturationChanged(at=now, since=None, waiting=0)
