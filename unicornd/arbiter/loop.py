"""The arbiter's loop: plan, perform, fold, wait.

One thread. It waits in one place, for the nearest deadline or for whatever the selector says; nothing that it calls
waits anywhere else. Signals, control requests, reports and deaths all become events.
"""

from __future__ import annotations

import logging
import selectors
import signal
from math import inf
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.actions import Command, Leave
from unicornd.arbiter.fold import child_of, name_of
from unicornd.arbiter.lastwords import LastWords
from unicornd.arbiter.lateness import LATE
from unicornd.arbiter.perform import perform
from unicornd.arbiter.plan import plan
from unicornd.arbiter.postmortems import Ended
from unicornd.arbiter.state import Halt, Order, Phase
from unicornd.arbiter.wakeup import hear
from unicornd.dataclass import dataclass, replace
from unicornd.escaping import one_line
from unicornd.frames import without_ours
from unicornd.units import Monotonic, Seconds
from unicornd.workers import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unicornd.arbiter.actions import AbandonRollout, Action, FinishRollout, LeaveListeners, Spawn
    from unicornd.arbiter.context import ArbiterContext
    from unicornd.arbiter.kernel import Death
    from unicornd.arbiter.wakeup import Wakeup
    from unicornd.observe.scoreboard import Reading
    from unicornd.units import Pid

LONGEST_SWEEP = 1.0
SHORTEST_SWEEP = 0.05
"""How often the rows are read (seconds): a quarter of the shortest timeout, within these bounds."""
GIVES_UP = frozenset({Order.ABORT, Order.EXPIRE})
"""Orders after which a request is lost; it has been told when the order was given."""
FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT})
"""Signals at which faulthandler writes stacks."""
WAITING_LINE = 5.0
"""How often the log says for what a stop waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """Who takes part in the loop's turns, beside the plan; each is named once, before it begins.

    Attributes:
        signals: take each signal but CHLD.
        tickers: called in each turn with the time; return when they want to be called again, or None.
        death_claims: asked with each death; return whether it was a process of theirs, no worker and no mold.
        death_observers: shown each worker and mold that has ended.
        postponed: told the seconds by which the arbiter was late: deadlines of others move by so much.
        leaves: says which child that has ended is left to somebody else in this process.
    """

    signals: Callable[[signal.Signals], None]
    tickers: Sequence[Callable[[Monotonic], Monotonic | None]]
    death_claims: Sequence[Callable[[Death], bool]] = ()
    death_observers: Sequence[Callable[[Ended], None]] = ()
    postponed: Sequence[Callable[[Seconds], None]] = ()
    leaves: Callable[[Pid], bool] | None = None


class Loop:
    """The arbiter.

    Args:
        context: what it works with.
        wakeup: the signals.
        participants: the others.
    """

    def __init__(self, context: ArbiterContext, wakeup: Wakeup, *, participants: Participants) -> None:
        self._core, self._processes = context.core, context.processes
        self._kernel, self._selector = context.kernel, context.selector
        self._deployments = context.deployments
        self._eventlog, self._log = context.eventlog, context.log
        self._wakeup = wakeup
        self._participants = participants
        self._last_words = LastWords(self._kernel, handle_of=self._processes.handle_of, log=self._log)
        self._tickers = (self._last_words.tick, *participants.tickers)
        self._next_sweep = 0.0
        self._woke_at = self._kernel.now()
        self._next_line = 0.0
        self._selector.register(wakeup, selectors.EVENT_READ, self._take_signals)

    def run(self) -> Leave:
        """Supervise until nothing is left to supervise; return why it ended."""
        while True:
            planned = plan(self._core.state, self._kernel.now())
            for action in planned.actions:
                if isinstance(action, Leave):
                    self._tick()
                    return action
                if not self._do(action):
                    break
            if not planned.actions:
                self._wait(planned.wake_at)

    def _do(self, action: Spawn | Command | FinishRollout | AbandonRollout | LeaveListeners) -> bool:
        """Perform one action; False if a fork failed: the rest of the plan was made without knowing that."""
        if isinstance(action, Command):
            action = self._that_reaches(action)
        self._announce(action)
        if isinstance(action, Command) and self._asks_for_last_words(action):
            return True
        is_known = True
        for event in perform(
            action,
            self._kernel,
            processes=self._processes,
            deployments=self._deployments,
            is_quick=self._core.state.halt is Halt.QUICK,
        ):
            self._take_reports()  # it may have died: what it said comes first
            self._core.take(event)
            is_known = is_known and not isinstance(event, events.SpawnFailed)
        return is_known

    def _asks_for_last_words(self, command: Command) -> bool:
        """Whether a child that hangs while it boots is asked where, before it is killed; then it counts as killed."""
        child = child_of(self._core.state, command.pid)
        if child is None or child.phase is not Phase.BOOTING or command.order is not Order.KILL:
            return False
        self._last_words.ask(command.pid, name_of(child))
        self._core.take(events.Ordered(at=self._kernel.now(), pid=command.pid, order=Order.KILL))
        return True

    def _that_reaches(self, command: Command) -> Command:
        """A stopped process hears of no other signal than KILL: to give it time would only prolong the outage."""
        if command.order in GIVES_UP and self._kernel.is_stopped(command.pid):
            return replace(
                command, order=Order.KILL, why=f"{command.why}; it is stopped, and only KILL reaches it"
            )
        return command

    def _take_reports(self) -> None:
        """Take what workers have reported; after whatever may have read a channel."""
        self._processes.deliver(self._core.take)

    def _announce(self, action: Action) -> None:
        """Say what is about to be done to a worker that ran into a timeout, while its row can still be read."""
        if not isinstance(action, Command):
            return
        child = child_of(self._core.state, action.pid)
        if child is None:
            return
        self._eventlog.record_order(child, action.order, why=action.why)
        handle = self._processes.workers.get(action.pid)
        if action.order in GIVES_UP and handle is not None:
            now = self._kernel.now()
            request = self._core.state.pools[child.pool].patience.request
            oldest = now - request if action.order is Order.EXPIRE else inf
            self._report_requests(
                handle.row.read(now), "was stuck in", slot=child.slot, pid=action.pid, until=oldest
            )

    def _wait(self, wake_at: Monotonic | None) -> None:
        now = self._kernel.now()
        moments = [self._tick(), self._next_sweep if self._processes.workers else None, wake_at]
        nearest = min((moment for moment in moments if moment is not None), default=None)
        timeout = None if nearest is None else max(0.0, nearest - now)
        hear(self._selector, timeout, after_each=self._take_reports)
        now = self._kernel.now()
        is_late = nearest is not None and self._note_lateness(Monotonic(nearest), now)
        if is_late or now >= self._next_sweep or (wake_at is not None and now >= wake_at):
            self._sweep(now)

    def _note_lateness(self, nearest: Monotonic, now: Monotonic) -> bool:
        """Give the others as much time as this process was late itself (suspended, stopped, throttled), if it was."""
        since = max(nearest, self._woke_at)
        self._woke_at = now
        late = Seconds(now - since)
        if late < LATE:
            return False
        self._core.take(events.WokeLate(at=now, since=since))
        for postpone in self._participants.postponed:
            postpone(late)
        self._log.warning(
            "the arbiter was not run for %.1f s; all timeouts that it keeps are longer by that", late
        )
        return True

    def _tick(self) -> Monotonic | None:
        """Give everybody who waits for time a turn; return when the next one wants another."""
        now = self._kernel.now()
        moments = [moment for ticker in self._tickers if (moment := ticker(now)) is not None]
        self._take_reports()
        return min(moments, default=None)

    def _sweep(self, now: Monotonic) -> None:
        """Read the rows; during a stop, say now and then for what it waits."""
        for event in tuple(self._processes.sweep(self._core.state, now)):
            self._core.take(event)
        limits = [
            limit
            for pool in self._core.state.pools.values()
            for limit in (pool.patience.request, pool.patience.heartbeat)
        ]
        shortest = min((limit for limit in limits if limit), default=4 * LONGEST_SWEEP)
        self._next_sweep = now + min(max(shortest / 4, SHORTEST_SWEEP), LONGEST_SWEEP)
        if self._core.state.halt is not Halt.NO:
            self._report_waiting(now)

    def _take_signals(self, _mask: int) -> None:
        """Read the signals that have come: wishes first, and deaths in the next turn if there was a wish.

        Ctrl-C goes to the workers, too: who has followed it before we have told them to is not one that died.
        """
        numbers = self._wakeup.read()
        wishes = [number for number in numbers if number is not signal.SIGCHLD]
        for number in wishes:
            self._participants.signals(number)
        if signal.SIGCHLD not in numbers:
            return
        if wishes:
            signal.raise_signal(signal.SIGCHLD)
            return
        self._reap()

    def _reap(self) -> None:
        """Reap all children that have ended, and take their deaths."""
        for death in self._kernel.reap(self._participants.leaves):
            self._take_death(death)

    def _take_death(self, death: Death) -> None:
        if any(claims(death) for claims in self._participants.death_claims):
            return
        if child_of(self._core.state, death.pid) is None:
            self._processes.meet_all(reaped=death.pid)
            self._take_reports()
        handle = self._processes.handle_of(death.pid)
        stacks = self._last_stacks(death)
        reading = self._processes.vacate(death.pid)
        self._take_reports()
        child = child_of(self._core.state, death.pid)
        if child is None:
            self._log.debug("reaped an unknown child process", extra={"pid": death.pid})
            return
        was_killed = death.signal == signal.SIGKILL and child.ordered is not Order.KILL
        was_oom = was_killed and self._processes.was_oom(death)
        event = events.Exited(at=self._kernel.now(), pid=death.pid, code=death.code, signal=death.signal)
        self._core.take(event)
        if reading is not None and child.ordered not in GIVES_UP:
            self._report_requests(reading, "was serving", slot=child.slot, pid=death.pid)
        if stacks and not child.is_hung and child.ordered is not Order.EXPIRE:  # else it is in the log
            self._log.error("%s was here\n%s", name_of(child), stacks.rstrip(), extra={"pid": death.pid})
        if was_killed:
            self._report_kill(name_of(child), was_oom=was_oom)
        ended = Ended(
            child=child, death=death, handle=handle, reading=reading, was_oom=was_oom, stacks=stacks
        )
        for observe in self._participants.death_observers:
            observe(ended)

    def _last_stacks(self, death: Death) -> str:
        """Return where the threads of a child were that has not ended in peace, as far as it has written that."""
        handle, child = self._processes.handle_of(death.pid), child_of(self._core.state, death.pid)
        if handle is None or child is None:
            return ""
        if child.is_hung:  # it was asked
            return without_ours(handle.row.stacks.read())
        is_fault = death.signal in FAULTS or death.code == signals.ABORTED
        return without_ours(handle.row.stacks.left()) if is_fault or child.ordered in GIVES_UP else ""

    def _report_kill(self, name: str, *, was_oom: bool) -> None:
        """Somebody has killed a child, and it was not us."""
        if was_oom:
            text = f"{name} was killed by the kernel: the memory limit of the cgroup was reached"
        else:
            text = f"{name} was killed from outside (not by unicornd)"
        self._log.error("%s", text)

    def _report_requests(
        self, reading: Reading, what: str, *, slot: int, pid: int, until: float = inf
    ) -> None:
        """Tell the running requests that began until some time."""
        now = self._kernel.now()
        for request in (each for each in reading.in_flight if each.since <= until):
            seconds = round(now - request.since, 3)
            text = f"worker {slot} {what} {request.text}"
            self._eventlog.record(
                "worker.lost", text, level=logging.ERROR, facts={"slot": slot, "pid": pid, "seconds": seconds}
            )

    def _report_waiting(self, now: Monotonic) -> None:
        """One line every five seconds says which requests a stop waits for."""
        if not self._next_line:
            self._next_line = now + WAITING_LINE
        if now < self._next_line:
            return
        self._next_line = now + WAITING_LINE
        for pid, handle in self._processes.workers.items():
            for request in handle.row.read(now).in_flight:
                facts = {"slot": handle.slot, "pid": pid, "seconds": round(now - request.since, 1)}
                text = one_line(request.text)
                self._log.info("waiting for worker %s: %s", handle.slot, text, extra=facts)
