"""The process table: the living workers and molds with the arbiter's ends of them, and what dead ones had counted.

Owned by the arbiter's loop, which takes what they report as events (`deliver`). A report is read when its channel becomes readable, and at the latest before the worker's
death is folded in: nothing that a worker said is lost because it died right after.

No worker and no mold is believed more than it has to be (`reports`): one that says what ours never say is killed,
whatever reading its channel meets ends it alone, and who was born is what the kernel says.
"""

from __future__ import annotations

import errno
import logging
import selectors
from collections import deque
from typing import TYPE_CHECKING, Literal, assert_never

from unicornd.arbiter import events
from unicornd.arbiter.deadlines import SILENCE
from unicornd.arbiter.molds import FORK_PATIENCE
from unicornd.arbiter.reports import MOST_AT_ONCE, Reports, UntrueError, read_birth
from unicornd.arbiter.state import Halt, Role
from unicornd.arbiter.troubles import Trouble, trouble_of
from unicornd.observe.memory import OomWatch
from unicornd.observe.metrics import Totals
from unicornd.observe.outlet import lost_lines
from unicornd.units import Monotonic
from unicornd.workers import signals
from unicornd.workers.channel import BootFailedReport, BornReport, ReadyReport, RetiringReport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from unicornd.arbiter.actions import Spawn
    from unicornd.arbiter.kernel import Death, Kernel
    from unicornd.arbiter.spawn import Awaited, Blueprint, Spawner, WorkerHandle
    from unicornd.arbiter.state import State
    from unicornd.observe.scoreboard import Reading
    from unicornd.units import Pid
    from unicornd.workers.channel import Report

SHORT_REQUEST = 0.25
"""Seconds that a request runs before the decision core hears of it: shorter ones decide nothing."""
REPORTED = (events.BecameReady, events.BootFailed, events.ReplacementAsked)
"""What a worker says of itself."""
BEAT_STEP = 0.25
"""Seconds by which a heartbeat must have advanced to be news: well below the shortest timeouts.heartbeat in use, 1 s."""


class ProcessTable:
    """Who lives, and what the arbiter has of each.

    Args:
        spawner: forks.
        selector: watches the channels.
        kernel: the clock and the signals.
    """

    def __init__(self, spawner: Spawner, selector: selectors.BaseSelector, *, kernel: Kernel) -> None:
        self._spawner = spawner
        self._selector = selector
        self._kernel = kernel
        self._oom_watch = OomWatch()
        self._events: deque[events.Event] = deque()
        self._workers: dict[Pid, WorkerHandle] = {}
        self._molds: dict[Pid, WorkerHandle] = {}
        self._reports: dict[Pid, Reports] = {}
        self._awaited: dict[int, Awaited] = {}
        self._last_ticket = 0
        self.totals = Totals()
        """Of our workers that are gone."""
        self.inherited = Totals()
        """Of the predecessor in an upgrade: all that it has counted, as far as it has told."""
        self.kind = ""
        """Of the worker that has become ready last."""
        self.gil: Literal["on", "off"] = "on"
        """As that worker has said."""

    @property
    def workers(self) -> Mapping[Pid, WorkerHandle]:
        """The living workers."""
        return self._workers

    def deliver(self, take: Callable[[events.Event], None]) -> None:
        """Hand over what workers and molds have reported, oldest first, each once.

        A report that meets an internal error ends its worker alone.
        """
        while self._events:
            event = self._events.popleft()
            try:
                take(event)
            except Exception:
                if not isinstance(event, REPORTED):
                    raise
                logging.getLogger("unicornd").exception(
                    "internal error: a report could not be taken", extra={"pid": event.pid}
                )
                pid = event.pid
                self._events = deque(each for each in self._events if getattr(each, "pid", None) != pid)
                self._distrust(pid, "what it reported has met an internal error of the arbiter")

    def observe(self, event: events.Event, *, previous: State, state: State) -> None:
        """Follow what has happened: count troubles, know cgroups, tell workers that the end has been announced."""
        if isinstance(event, events.BecameReady):
            self._oom_watch.know(event.pid)
        elif isinstance(event, events.Exited):  # by now `was_oom` has been asked
            self._oom_watch.forget(event.pid)
        match trouble_of(event, previous=previous, state=state):
            case Trouble.BOOT_FAILURE:
                self.totals.boot_failures += 1
            case Trouble.RESTART:
                self.totals.restarts += 1
            case _:
                pass
        is_announced = isinstance(event, events.HaltAsked) and event.halt is Halt.GRACEFUL
        # Once the listeners are left, a new unicornd takes whom our workers let go.
        if (
            is_announced
            and not state.has_left_listeners
            and any(pool.patience.drain for pool in state.pools.values())
        ):
            for pid in self._workers:
                self._kernel.kill(pid, signals.LAST_CALL)

    def was_oom(self, death: Death) -> bool:
        """Whether a child that was killed has been killed by the kernel, at the memory limit of its cgroup."""
        return self._oom_watch.has_killed(death.pid, last=death.kill_counter, now=self._kernel.now())

    def handle_of(self, pid: Pid) -> WorkerHandle | None:
        """Return what is held of a living worker or mold."""
        return self._workers.get(pid) or self._molds.get(pid)

    def fill(self, action: Spawn, blueprint: Blueprint) -> WorkerHandle:
        """Fork a worker.

        Raises:
            OSError: it cannot be had.
        """
        handle = self._spawner.spawn(action, blueprint)
        (self._molds if action.role is Role.MOLD else self._workers)[handle.pid] = handle
        self._listen(handle)
        return handle

    def ask(self, action: Spawn, blueprint: Blueprint) -> tuple[int, Pid]:
        """Ask the mold of the generation to fork a worker; return the ticket, and which mold that is.

        Raises:
            OSError: it cannot be had.
        """
        molds = [mold for mold in self._molds.values() if mold.generation == action.generation]
        if not molds:
            raise OSError(errno.ESRCH, "the mold is gone")
        awaited = self._spawner.ask(action, blueprint, mold=molds[-1])
        ticket = self._last_ticket = self._last_ticket + 1
        self._awaited[ticket] = awaited
        self._selector.register(awaited.channel, selectors.EVENT_READ, lambda _mask: self._meet(ticket))
        return ticket, molds[-1].pid

    def meet_all(self, *, reaped: Pid | None = None) -> None:
        """Look whether workers that were asked for are there: before a death is taken for a stranger's.

        Args:
            reaped: who has died, if anybody: a child of ours until just now.
        """
        for ticket in tuple(self._awaited):
            self._meet(ticket, reaped=reaped)

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Give up workers that do not come although their mold is gone: who holds their channel is none of ours.

        A mold that is there and does not fork is killed by the plan. Returns when to look again: now, if one was given up,
        since something follows from that.
        """
        orphans = {
            ticket: Monotonic(awaited.asked_at + FORK_PATIENCE)
            for ticket, awaited in self._awaited.items()
            if awaited.mold not in self._molds
        }
        for ticket, until in orphans.items():
            if until <= now:
                self._give_up(ticket, "the mold is gone, and it has not come")
        return min((max(until, now) for until in orphans.values()), default=None)

    def _listen(self, handle: WorkerHandle) -> None:
        self._reports[handle.pid] = Reports(handle.channel, speaker=handle.pid)
        self._selector.register(
            handle.channel, selectors.EVENT_READ, lambda _mask: self._read_reports(handle)
        )

    def _meet(self, ticket: int, *, reaped: Pid | None = None) -> None:
        """A worker that a mold was asked for says that it is there; or its channel is closed: it will not come."""
        awaited = self._awaited.get(ticket)
        if awaited is None:
            return
        try:
            pid, untrue = read_birth(awaited.channel), ""
        except BlockingIOError:
            return
        except UntrueError as error:
            pid, untrue = None, str(error)
        if pid is not None and not self._is_newborn(pid, reaped=reaped):
            pid, untrue = None, f"process {pid} says that it is there, which is no new child of the arbiter"
        if pid is not None:
            del self._awaited[ticket]
            self._selector.unregister(awaited.channel)
            self._welcome(awaited, pid, ticket=ticket)
            return
        self._give_up(ticket, "the mold is not believed" if untrue else "the mold could not fork it")
        if untrue:
            self._distrust(awaited.mold, f"it was asked to fork worker {awaited.action.slot}, and {untrue}")

    def _give_up(self, ticket: int, reason: str) -> None:
        """A worker that a mold was asked for will not come."""
        awaited = self._awaited.pop(ticket)
        self._selector.unregister(awaited.channel)
        awaited.close()
        action = awaited.action
        self._events.append(
            events.SpawnFailed(
                at=self._kernel.now(),
                pool=action.pool,
                slot=action.slot,
                generation=action.generation,
                reason=reason,
                ticket=ticket,
            )
        )

    def _is_newborn(self, pid: Pid, *, reaped: Pid | None) -> bool:
        """Whether it is a child of ours that we do not know yet."""
        if pid in self._workers or pid in self._molds:
            return False
        return pid == reaped or self._kernel.is_child(pid)

    def _welcome(self, awaited: Awaited, pid: Pid, *, ticket: int) -> None:
        """The worker is there."""
        action = awaited.action
        handle = self._workers[pid] = awaited.arrived(pid)
        self._events.append(
            events.Spawned(
                at=self._kernel.now(),
                pid=pid,
                pool=action.pool,
                slot=action.slot,
                generation=action.generation,
                ticket=ticket,
            )
        )
        self._listen(handle)
        self._read_reports(handle)

    def vacate(self, pid: Pid) -> Reading | None:
        """A worker has died: read its last reports and its last row, and let go of both."""
        handle = self._workers.get(pid) or self._molds.get(pid)
        if handle is None:
            return None
        self._read_reports(handle, is_last=True)
        self._reports.pop(pid, None)
        if self._molds.pop(pid, None) is None:
            del self._workers[pid]
        if self._is_watched(handle):
            self._selector.unregister(handle.channel)
        reading = handle.row.read(self._kernel.now())
        self.totals.add(reading)
        self.totals.lost += len(reading.lost)
        handle.close()
        return reading

    def sweep(self, state: State, now: Monotonic) -> Iterator[events.Beaten]:
        """Read every row and yield what is news to the decision core."""
        for pid, handle in self._workers.items():
            child = state.children.get(pid)
            if child is None:
                continue
            # As long as a worker has to react when it is told to give a request up: more it cannot ask for.
            grace = max(state.pools[child.pool].patience.kill, SILENCE)
            beat, busy = handle.row.oldest(now, grace=grace)
            if busy is not None and now - busy < SHORT_REQUEST:
                busy = None
            beat = max(beat, child.beat_at)
            if busy != child.busy_since or beat - child.beat_at >= BEAT_STEP:
                yield events.Beaten(at=now, pid=pid, beat_at=beat, busy_since=busy)

    def readings(self) -> dict[Pid, Reading]:
        """Return what all rows say now."""
        now = self._kernel.now()
        return {pid: handle.row.read(now) for pid, handle in self._workers.items()}

    def inherit(self, counted: Totals) -> None:
        """Take over what the predecessor has counted; the last word counts."""
        self.inherited = counted

    def counted(self) -> Totals:
        """Return what has been counted altogether until now."""
        own = Totals(lost_lines=lost_lines())
        return self.totals.with_living((self.inherited, own, *self.readings().values()))

    def lost_lines(self) -> int:
        """Return how many log lines this process and its workers could not write until now; cheaper than `counted`."""
        rows = (handle.row.lost_lines() for handle in self._workers.values())
        return sum(sum(lost.values()) for lost in (lost_lines(), self.totals.lost_lines, *rows))

    def _read_reports(self, handle: WorkerHandle, *, is_last: bool = False) -> None:
        """Read a few reports; `is_last`: all that it may have made, it is dead.

        The rest is read in the next turn of the loop: who reports without pause holds nobody else up.
        """
        reports = self._reports.get(handle.pid)
        if reports is None:  # its death has come in the same turn of the loop
            return
        try:
            for report in reports.read(reports.left if is_last else MOST_AT_ONCE):
                self._take(handle.pid, report)
        except UntrueError as error:
            self._distrust(handle.pid, str(error))
        if reports.is_over and self._is_watched(handle):
            self._selector.unregister(handle.channel)

    def _distrust(self, pid: Pid, why: str) -> None:
        """Have a worker or a mold killed, and hear nothing more of it."""
        if (reports := self._reports.get(pid)) is not None:
            reports.is_over = True
        handle = self._workers.get(pid) or self._molds.get(pid)
        if handle is not None and self._is_watched(handle):
            self._selector.unregister(handle.channel)
        self._events.append(events.Distrusted(at=self._kernel.now(), pid=pid, why=why))

    def _take(self, pid: Pid, report: Report) -> None:
        now = self._kernel.now()
        match report:
            case BornReport():
                pass  # the arbiter knows
            case ReadyReport():
                self.kind = report.kind or self.kind
                self.gil = report.gil or self.gil
                self._events.append(events.BecameReady(at=now, pid=pid))
            case BootFailedReport():
                reason = f"{report.text}\n{report.detail}".rstrip()
                self._events.append(events.BootFailed(at=now, pid=pid, cause=report.cause, reason=reason))
            case RetiringReport():
                self._events.append(events.ReplacementAsked(at=now, pid=pid, why=report.why))
            case _:
                assert_never(report)

    @property
    def molds(self) -> Mapping[Pid, WorkerHandle]:
        """The living molds."""
        return self._molds

    @property
    def channels(self) -> tuple[socket.socket, ...]:
        """Those of all workers and molds, also of workers that a mold was asked for."""
        known = (each.channel for each in (*self._workers.values(), *self._molds.values()))
        return (*known, *(each.channel for each in self._awaited.values()))

    def _is_watched(self, handle: WorkerHandle) -> bool:
        return handle.channel.fileno() in self._selector.get_map()
