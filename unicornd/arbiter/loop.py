"""The arbiter's loop: plan, perform, fold, wait.

One thread. It waits in one place, for the nearest deadline or for whatever the selector says; nothing that it calls
waits anywhere else. Signals, control requests, reports and deaths all become events.
"""

from __future__ import annotations

import logging
import signal
import time
from math import inf
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.actions import Command, Leave
from unicornd.arbiter.fold import child_of, fold, name_of
from unicornd.arbiter.lastwords import LastWords
from unicornd.arbiter.lateness import LATE
from unicornd.arbiter.perform import perform
from unicornd.arbiter.plan import plan
from unicornd.arbiter.postmortems import Postmortems, examine, is_worth_one
from unicornd.arbiter.state import Halt, Order, Phase, Role, State
from unicornd.arbiter.troubles import Trouble, trouble_of
from unicornd.arbiter.wakeup import hear
from unicornd.dataclass import dataclass, replace
from unicornd.escaping import one_line
from unicornd.frames import without_ours
from unicornd.observe.memory import OomWatch
from unicornd.units import Monotonic, Seconds
from unicornd.workers import signals

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

    from unicornd.arbiter.actions import AbandonRollout, Action, FinishRollout, LeaveListeners, Spawn
    from unicornd.arbiter.events import Event
    from unicornd.arbiter.kernel import Death, Kernel
    from unicornd.arbiter.narration import Narrator
    from unicornd.arbiter.operations import Operations
    from unicornd.arbiter.reload import Deployments
    from unicornd.arbiter.seats import Seats
    from unicornd.arbiter.spawn import Seated
    from unicornd.arbiter.wakeup import Wakeup
    from unicornd.observe.scoreboard import Reading
    from unicornd.sockets.notify import Notifier
    from unicornd.units import Pid

LONGEST_SWEEP = 1.0
SHORTEST_SWEEP = 0.05
"""How often the rows are read (seconds): a quarter of the shortest timeout, within these bounds."""
GIVES_UP = frozenset({Order.ABORT, Order.EXPIRE})
"""Orders after which a request is lost; it has been told when the order was given."""
WAITING_LINE = 5.0
"""How often the log says for what a stop waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the loop works with."""

    kernel: Kernel
    selector: selectors.BaseSelector
    wakeup: Wakeup
    deployments: Deployments
    operations: Operations
    narrator: Narrator
    notifier: Notifier
    log: logging.Logger


class Loop:
    """The arbiter.

    Args:
        means: what it works with.
        on_signal: takes the signals that are wishes (all but CHLD).
        on_ready: called once, when the fleet serves for the first time.

    Attributes:
        state: the present state.
        seats: the workers' other ends; set before `run`.
        hooks: the arbiter's hooks and what they are given; set before `run`.
        is_replaced: a new unicornd has taken over, and speaks to the service manager.
        has_successor: says whether one is there that will, when this one has left.
        leaves: says which child that has ended is left to somebody else in this process; None: none is.
        claims_death: asked with each death; return whether it was a process of theirs, no worker and no mold.
        on_late: called with the seconds by which the arbiter was late; deadlines of others move by so much.
        tickers: called in each turn with the time; return when they want to be called again, or None.
    """

    def __init__(
        self, means: Means, *, on_signal: Callable[[signal.Signals], None], on_ready: Callable[[], None]
    ) -> None:
        self._means = means
        self._on_signal = on_signal
        self._on_ready = on_ready
        self._next_sweep = 0.0
        self._woke_at = means.kernel.now()
        self._next_line = 0.0
        self._next_feeding = Monotonic(0.0)
        self._oom_watch = OomWatch()
        self.served_at: Monotonic | None = None
        self.state = State()
        self.postmortems = Postmortems()
        self.is_replaced = False
        self.has_successor: Callable[[], bool] = lambda: False
        self.leaves: Callable[[Pid], bool] | None = None
        self.claims_death: list[Callable[[Death], bool]] = []
        self.seats: Seats
        self.last_words = LastWords(means.kernel, seated_of=self._seat_of, log=means.log)
        self.tickers: list[Callable[[Monotonic], Monotonic | None]] = [
            self._feed_watchdog,
            self.last_words.tick,
        ]
        self.on_late: list[Callable[[Seconds], None]] = []
        self.on_exit: Callable[[Seated], None] = lambda _seated: None
        self.before_spawn: Callable[[Action], None] = lambda _action: None

    @property
    def means(self) -> Means:
        """What it works with."""
        return self._means

    def run(self) -> Leave:
        """Supervise until nothing is left to supervise; return why it ended."""
        while True:
            planned = plan(self.state, self._means.kernel.now())
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
            self._means.kernel,
            seats=self.seats,
            deployments=self._means.deployments,
            is_quick=self.state.halt is Halt.QUICK,
        ):
            self.take(event)
            is_known = is_known and not isinstance(event, events.SpawnFailed)
        return is_known

    def _seat_of(self, pid: Pid) -> Seated | None:
        return self.seats.seat_of(pid)

    def _asks_for_last_words(self, command: Command) -> bool:
        """Whether a child that hangs while it boots is asked where, before it is killed; then it counts as killed."""
        child = child_of(self.state, command.pid)
        if child is None or child.phase is not Phase.BOOTING or command.order is not Order.KILL:
            return False
        self.last_words.ask(command.pid, name_of(child))
        self.take(events.Ordered(at=self._means.kernel.now(), pid=command.pid, order=Order.KILL))
        return True

    def _that_reaches(self, command: Command) -> Command:
        """A stopped process hears of no other signal than KILL: to give it time would only prolong the outage."""
        if command.order in GIVES_UP and self._means.kernel.is_stopped(command.pid):
            return replace(
                command, order=Order.KILL, why=f"{command.why}; it is stopped, and only KILL reaches it"
            )
        return command

    def take(self, event: Event) -> None:
        """Fold an event in, and tell everybody whom it concerns."""
        previous, self.state = self.state, fold(self.state, event)
        self._means.narrator.tell(event, previous=previous, state=self.state)
        self._means.operations.observe(event, previous=previous, state=self.state)
        if isinstance(event, events.BecameReady):
            self._oom_watch.know(event.pid)
        match trouble_of(event, previous=previous, state=self.state):
            case Trouble.BOOT_FAILURE:
                self.seats.totals.boot_failures += 1
            case Trouble.RESTART:
                self.seats.totals.restarts += 1
            case _:
                pass
        match event:
            case events.BecameReady() | events.BootFailed() | events.Exited():
                self._note_ready()
            case events.RolloutStarted():
                self._means.notifier.reloading("Reloading", now=event.at)
            case events.RolloutFinished() | events.RolloutAbandoned():
                self._means.notifier.ready(self.status_line())
            case events.HaltAsked():
                self._begin_to_stop(drains=event.halt is Halt.GRACEFUL)
            case _:
                pass

    def _begin_to_stop(self, *, drains: bool) -> None:
        """Ask the service manager for the time that it may take; have the workers send their clients elsewhere."""
        if self.is_replaced:
            return
        limits = [pool.patience for pool in self.state.pools.values()]
        longest = max((each.drain + each.graceful + each.kill for each in limits), default=0.0)
        if not self.has_successor():  # else the service goes on
            self._means.notifier.stopping("Stopping")
            self._means.notifier.extend(Seconds(longest))
        if drains and any(each.drain for each in limits):
            for pid in self.seats.seated:
                self._means.kernel.kill(pid, signals.LAST_CALL)

    def _feed_watchdog(self, now: Monotonic) -> Monotonic | None:
        """Give the service manager a sign of life twice as often as it wants one."""
        notifier = self._means.notifier
        if not notifier.watchdog:
            return None
        if now >= self._next_feeding:
            notifier.beat()
            self._next_feeding = Monotonic(now + notifier.watchdog / 2)
        return self._next_feeding

    def _announce(self, action: Action) -> None:
        """Say what is about to be done to a worker that ran into a timeout, while its row can still be read."""
        if not isinstance(action, Command):
            self.before_spawn(action)
            return
        child = child_of(self.state, action.pid)
        if child is None:
            return
        self._means.narrator.tell_order(child, action.order, why=action.why)
        seated = self.seats.seated.get(action.pid)
        if action.order in GIVES_UP and seated is not None:
            now = self._means.kernel.now()
            request = self.state.pools[child.pool].patience.request
            oldest = now - request if action.order is Order.EXPIRE else inf
            self._tell_requests(
                seated.row.read(now), "was stuck in", slot=child.slot, pid=action.pid, until=oldest
            )

    def _wait(self, wake_at: Monotonic | None) -> None:
        now = self._means.kernel.now()
        moments = [self._tick(), self._next_sweep if self.seats.seated else None, wake_at]
        nearest = min((moment for moment in moments if moment is not None), default=None)
        timeout = None if nearest is None else max(0.0, nearest - now)
        hear(self._means.selector, timeout)
        now = self._means.kernel.now()
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
        self.take(events.WokeLate(at=now, since=since))
        for postpone in self.on_late:
            postpone(late)
        self._means.log.warning(
            "the arbiter was not run for %.1f s; all timeouts that it keeps are longer by that", late
        )
        return True

    def _tick(self) -> Monotonic | None:
        """Give everybody who waits for time a turn; return when the next one wants another."""
        now = self._means.kernel.now()
        moments = [moment for ticker in self.tickers if (moment := ticker(now)) is not None]
        return min(moments, default=None)

    def _sweep(self, now: Monotonic) -> None:
        """Read the rows; during a stop, say now and then for what it waits."""
        for event in tuple(self.seats.sweep(self.state, now)):
            self.take(event)
        limits = [
            limit
            for pool in self.state.pools.values()
            for limit in (pool.patience.request, pool.patience.heartbeat)
        ]
        shortest = min((limit for limit in limits if limit), default=4 * LONGEST_SWEEP)
        self._next_sweep = now + min(max(shortest / 4, SHORTEST_SWEEP), LONGEST_SWEEP)
        if self.state.halt is not Halt.NO:
            self._tell_waiting(now)

    def take_signals(self, _mask: int) -> None:
        """Read the signals that have come: wishes first, and deaths in the next turn if there was a wish.

        Ctrl-C goes to the workers, too: who has followed it before we have told them to is not one that died.
        """
        numbers = self._means.wakeup.read()
        wishes = [number for number in numbers if number is not signal.SIGCHLD]
        for number in wishes:
            self._on_signal(number)
        if signal.SIGCHLD not in numbers:
            return
        if wishes:
            signal.raise_signal(signal.SIGCHLD)
            return
        self.reap()

    def reap(self) -> None:
        """Reap all children that have ended, and take their deaths."""
        for death in self._means.kernel.reap(self.leaves):
            self._take_death(death)

    def _take_death(self, death: Death) -> None:
        if any(claims(death) for claims in self.claims_death):
            return
        if child_of(self.state, death.pid) is None:
            self.seats.meet_all(reaped=death.pid)
        child = child_of(self.state, death.pid)
        seated = self.seats.seated.get(death.pid)
        stacks = self._last_stacks(death.pid)
        reading = self.seats.vacate(death.pid)
        if child is None:
            self._means.log.debug("a stranger's child was reaped", extra={"pid": death.pid})
            return
        event = events.Exited(
            at=self._means.kernel.now(), pid=death.pid, code=death.code, signal=death.signal
        )
        child = child_of(self.state, death.pid) or child
        self.take(event)
        is_worker = child.role is Role.WORKER
        if reading is not None and child.ordered not in GIVES_UP:
            self._tell_requests(reading, "was serving", slot=child.slot, pid=death.pid)
        was_oom = False
        if death.signal == signal.SIGKILL and child.ordered is not Order.KILL:
            was_oom = self._oom_watch.has_killed(death.pid, last=death.kill_counter, now=event.at)
            self._tell_kill(name_of(child), was_oom=was_oom)
        self._oom_watch.forget(death.pid)
        if is_worth_one(child):
            self.postmortems.keep(
                examine(
                    child,
                    death,
                    name=name_of(child),
                    reading=reading,
                    was_oom=was_oom,
                    now=event.at,
                    wall=time.time(),
                    stacks=stacks,
                )
            )
        if is_worker and seated is not None:
            self.on_exit(seated)

    def _last_stacks(self, pid: Pid) -> str:
        seat, child = self.seats.seat_of(pid), child_of(self.state, pid)
        if seat is None or child is None or not child.is_hung:
            return ""
        return without_ours(seat.row.stacks.read())

    def _tell_kill(self, name: str, *, was_oom: bool) -> None:
        """Somebody has killed a child, and it was not us."""
        if was_oom:
            text = f"{name} was killed by the kernel: the memory limit of the cgroup was reached"
        else:
            text = f"{name} was killed from outside (not by unicornd)"
        self._means.log.error("%s", text)

    def _tell_requests(self, reading: Reading, what: str, *, slot: int, pid: int, until: float = inf) -> None:
        """Tell the running requests that began until some time."""
        now = self._means.kernel.now()
        for request in (each for each in reading.in_flight if each.since <= until):
            seconds = round(now - request.since, 3)
            text = f"worker {slot} {what} {request.text}"
            self._means.narrator.say(
                "worker.lost", text, level=logging.ERROR, facts={"slot": slot, "pid": pid, "seconds": seconds}
            )

    def _tell_waiting(self, now: Monotonic) -> None:
        """One line every five seconds says which requests a stop waits for."""
        if not self._next_line:
            self._next_line = now + WAITING_LINE
        if now < self._next_line:
            return
        self._next_line = now + WAITING_LINE
        for pid, seated in self.seats.seated.items():
            for request in seated.row.read(now).in_flight:
                facts = {"slot": seated.slot, "pid": pid, "seconds": round(now - request.since, 1)}
                text = one_line(request.text)
                self._means.log.info("waiting for worker %s: %s", seated.slot, text, extra=facts)

    def _note_ready(self) -> None:
        """The start has succeeded when the whole fleet is READY, or a part of it is and the rest cannot boot."""
        if self.served_at is not None or self.state.halt is not Halt.NO:
            return
        ready = [child for child in self.state.children.values() if child.phase is Phase.READY]
        is_whole = len(ready) >= sum(pool.size for pool in self.state.pools.values())
        if ready and (is_whole or self.state.backoffs):
            self.served_at = self._means.kernel.now()
            self._means.notifier.ready(self.status_line())
            self._on_ready()

    def status_line(self) -> str:
        """Return how the fleet is, in a line."""
        ready = sum(child.phase is Phase.READY for child in self.state.children.values())
        size = sum(pool.size for pool in self.state.pools.values())
        generation = max((pool.generation for pool in self.state.pools.values()), default=0)
        return f"{ready} of {size} workers ready, generation {generation}"
