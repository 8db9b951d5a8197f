"""The loop's side of the control API: wishes in, facts out.

Run by the arbiter's loop, called by the control routes and for signals. Every call returns at once.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd import __version__
from unicornd.apart import Apart
from unicornd.arbiter.events import Resized, RolloutStarted
from unicornd.arbiter.operations import Outcome
from unicornd.arbiter.reload import config_path
from unicornd.arbiter.requests import (
    MAX_WORKERS,
    Granted,
    Refusal,
    Reload,
    Reopen,
    Scale,
    Stop,
    Upgrade,
    Wish,
    decide,
    no_worker,
    only_pool,
)
from unicornd.arbiter.state import Halt, Phase, State
from unicornd.arbiter.view import Facts, ListenerFacts
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of, name_of
from unicornd.errors import AlreadyRunningError, ConfigError, CtlExit, UnicorndError
from unicornd.observe import logs
from unicornd.observe.memory import memory_of
from unicornd.observe.metrics import Fleet, exposition
from unicornd.sockets.queues import queue_of
from unicornd.units import Monotonic, Pid, Slot
from unicornd.workers import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from unicornd.arbiter.changeover import Changeover
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.loop import Loop, Means
    from unicornd.arbiter.operations import Operation, Operations
    from unicornd.arbiter.postmortems import Postmortem
    from unicornd.arbiter.reload import Deployment
    from unicornd.control.protocol import ConfigReport

LAST_EVENTS = 8
"""How many of the newest events `status` shows."""

SIGNAL_WISHES: Mapping[signal.Signals, Wish] = {
    signal.SIGTERM: Stop(halt=Halt.GRACEFUL),
    signal.SIGINT: Stop(halt=Halt.QUICK),
    signal.SIGQUIT: Stop(halt=Halt.QUICK),
    signal.SIGHUP: Reload(),
    signal.SIGTTIN: Scale(count=1, is_relative=True),
    signal.SIGTTOU: Scale(count=-1, is_relative=True),
    signal.SIGUSR1: Reopen(),
    signal.SIGUSR2: Upgrade(is_final=False),
}


class Port:
    """What the control routes need of the loop (`requests.ControlPort`).

    Args:
        means: what the loop works with.
        instance: the instance's name.
        journal: what happened lately.
        report_config: makes the report of a deployment's settings.
        compare: says what differs between two deployments' settings, one line each.
    """

    def __init__(
        self,
        means: Means,
        *,
        instance: str,
        journal: Journal,
        report_config: Callable[[Deployment], ConfigReport],
        compare: Callable[[Deployment], Sequence[str]],
    ) -> None:
        self._means = means
        self._instance = instance
        self._journal = journal
        self._report_config = report_config
        self._compare = compare
        self._started_at = means.kernel.now()
        self._wall_at_start = time.time()
        self.loop: Loop
        self.changeover: Changeover
        self.control: str | None = None
        self._has_pending_reload = False
        self.on_reload: Callable[[], None] = lambda: None
        self.on_resize: Callable[[int, int], None] = lambda _new, _old: None

    @property
    def means(self) -> Means:
        """What the loop works with."""
        return self._means

    @property
    def state(self) -> State:
        """The current state."""
        return self.loop.state

    @property
    def journal(self) -> Journal:
        """What happened lately."""
        return self._journal

    @property
    def operations(self) -> Operations:
        """What is and was being done."""
        return self._means.operations

    def now(self) -> Monotonic:
        """CLOCK_MONOTONIC."""
        return self._means.kernel.now()

    def take_signal(self, number: signal.Signals) -> None:
        """Do what a signal wishes; a refusal can only be logged."""
        if number is signal.SIGWINCH:
            self._drain_all()
            return
        wish = SIGNAL_WISHES.get(number)
        if wish is None:
            self._means.log.warning("%s is not available in this version", number.name)
            return
        self._means.log.info("received %s", number.name)
        running = self.operations.running
        if isinstance(wish, Reload) and running is not None and self.state.halt is Halt.NO:
            self._has_pending_reload = (
                True  # nobody would repeat a signal: it is done when the other has ended
            )
            self._means.log.info("%s waits for %s", number.name, running.id)
        elif isinstance(wish, Scale) and self.state.halt is Halt.NO:
            self._resize_by(wish.count, number.name)
        else:
            self._submit_signal(wish, number.name)

    def tick(self, _now: Monotonic) -> None:
        """Begin the reload that has waited for another operation."""
        if self._has_pending_reload and self.operations.running is None:
            self._has_pending_reload = False
            self._submit_signal(Reload(), signal.SIGHUP.name)

    def reload_for(self, path: str) -> None:
        """A watched file has changed."""
        self._means.narrator.say("reload.watched", f"{path} has changed", facts={"path": path})
        if self.operations.running is not None:
            self._has_pending_reload = True
        elif self.state.halt is Halt.NO:
            self._submit_signal(Reload(), "the reload for it")

    def _submit_signal(self, wish: Wish, name: str) -> None:
        result = self.submit(wish, is_final=False)
        if not isinstance(result, Refusal):
            return
        detail = f"\n{result.detail}" if result.detail else ""
        self._means.log.error("%s refused: %s%s", name, result.message, detail)
        self._journal.append("signal.refused", f"{name} refused: {result.message}")
        if isinstance(wish, Reload):  # Type=notify-reload waits for an end of the reload
            self._means.notifier.reloading("Reload refused", now=self.now())
            self._means.notifier.ready(f"Reload refused: {result.message}")

    def _resize_by(self, change: int, name: str) -> None:
        """TTIN and TTOU: one more or one fewer, whatever else is going on; a fleet keeps at least one."""
        pool = only_pool(self.state)
        size = pool.size + change
        if not 1 <= size <= MAX_WORKERS:
            text = f"{name} refused: cannot scale to {size} workers: a fleet has 1 to {MAX_WORKERS}"
            self._means.log.warning("%s", text)
            return
        self.loop.take(Resized(at=self.now(), pool=pool.name, size=size))
        self.on_resize(size, pool.size)

    def ask_stacks(self, slot: Slot) -> Pid | Refusal:
        """Have the worker of a slot write its stacks."""
        seated = [each for each in self.loop.seats.seated.values() if each.slot == slot]
        if not seated:
            return no_worker(slot, self.state)
        newest = max(seated, key=lambda each: each.age)
        newest.row.forget_stacks()
        self._means.kernel.kill(newest.pid, signals.STACKS)
        return newest.pid

    def insist_on_stacks(self, pid: Pid) -> None:
        """Have it write them from inside a signal: it has not done so, something holds its interpreter."""
        if pid in self.loop.seats.seated:
            self._means.kernel.kill(pid, signals.STACKS_AT_ONCE)

    def stacks(self, pid: Pid) -> str:
        """Return what it has written."""
        seated = self.loop.seats.seated.get(pid)
        return seated.row.stacks() if seated is not None else ""

    def postmortems(self) -> Iterable[Postmortem]:
        """Return the workers that have died, newest first."""
        return self.loop.postmortems

    def submit(self, wish: Wish, *, is_final: bool = True) -> Operation | Refusal:
        """Set a wish going, or say why not.

        Args:
            wish: what is wished for.
            is_final: whether a stop is one; systemd sends the same signal for a stop and for a restart.
        """
        decision = decide(wish, state=self.state, running=self.operations.running, now=self.now())
        if isinstance(decision, Refusal):
            return decision
        if decision.joins is not None:
            return decision.joins
        match wish:
            case Reload():
                return self._reload(decision)
            case Scale(save=True):
                refusal = self._save(decision)
                return refusal or self._begin(decision)
            case Upgrade():
                return self._upgrade(decision, is_final=wish.is_final)
            case Reopen():
                logs.reopen()
                for pid in self.loop.seats.seated:
                    self._means.kernel.kill(pid, signal.SIGUSR1)
                return self._begin(decision)
            case Stop() if is_final:
                self._means.deployments.keep_nothing()
                return self._begin(decision)
            case _:
                return self._begin(decision)

    def _upgrade(self, granted: Granted, *, is_final: bool) -> Operation | Refusal:
        if self.changeover.successor is not None:
            error = AlreadyRunningError(
                f"an upgrade is there already: process {self.changeover.successor}",
                hint="end one of the two first",
            )
            return _refused(error, self.state)
        operation = self._begin(granted)
        try:
            self.changeover.start(is_final=is_final)
        except OSError as error:
            result = f"unicornd cannot be executed: {error.strerror}"
            self.operations.end(Outcome.FAILED, result=result, now=self.now())
        return self.operations.find(operation.id) or operation

    def preview_reload(self) -> Sequence[str] | Refusal:
        """Say what a reload would change, or why it would be refused."""
        try:
            return self._compare(self._means.deployments.present)
        except UnicorndError as error:
            return _refused(error, self.state)

    def facts(self) -> Facts:
        """Return what the status shows beside the state."""
        deployment = self._means.deployments.present
        settings = deployment.settings
        file = config_path(deployment)
        readings = self.loop.seats.readings()
        total = self.loop.seats.totals.with_living(readings.values())
        pid = Pid(os.getpid())
        now = self.now()
        return Facts(
            version=__version__,
            instance=self._instance,
            target=name_of(settings.app),
            config_file=str(file) if file is not None else None,
            control=self.control,
            kind=self.loop.seats.kind or kind_of(settings.workers, settings.app.interface),
            threads=settings.workers.threads,
            pid=pid,
            started_at=self._started_at,
            served_at=self.loop.served_at,
            at=now,
            wall=time.time(),
            listeners=self._listeners(deployment),
            readings=readings,
            memory={
                each: size
                for each in (pid, *readings, *self.loop.seats.molds)
                if (size := memory_of(each)) is not None
            },
            file_size=count_of(settings.workers),
            requests=total.requests,
            errors=total.errors,
            restarts=self.loop.seats.restarts,
            last_events=self._journal.tail(LAST_EVENTS),
        )

    def config(self) -> ConfigReport:
        """Return the effective settings with their origins."""
        return self._report_config(self._means.deployments.present)

    def metrics(self) -> bytes:
        """Return the Prometheus text."""
        readings = self.loop.seats.readings()
        children = self.state.children.values()
        pool = only_pool(self.state)
        listeners = self._listeners(self._means.deployments.present)
        fleet = Fleet(
            workers={phase.name.lower(): sum(child.phase is phase for child in children) for phase in Phase},
            wanted=pool.size,
            generation=pool.generation,
            restarts=self.loop.seats.restarts,
            connections=sum(reading.connections for reading in readings.values()),
            busy=sum(len(reading.in_flight) for reading in readings.values()),
            queues={each.address: each.queue for each in listeners if each.queue is not None},
            started=self._wall_at_start,
        )
        return exposition(fleet, self.loop.seats.totals.with_living(readings.values()))

    def _begin(self, granted: Granted) -> Operation:
        operation = self.operations.begin(
            granted.kind, title=granted.title, pool=granted.pool, now=self.now(), pid=granted.pid
        )
        before = only_pool(self.state).size
        for event in granted.events:
            self.loop.take(event)
        if granted.size is not None:
            self.on_resize(granted.size, before)
        return self.operations.find(operation.id) or operation

    def _reload(self, granted: Granted) -> Operation | Refusal:
        deployments = self._means.deployments
        try:
            deployment = deployments.prepare()
        except UnicorndError as error:
            return _refused(error, self.state)
        operation = self._begin(granted)
        for line in deployments.unapplied:
            text = f"not applied by a reload: {line}"
            self._means.narrator.say("reload.restart_needed", text, level=logging.WARNING)
            self.operations.note(text, now=self.now())
        pool = only_pool(self.state)
        file_size = count_of(deployment.settings.workers)
        was_changed = file_size != count_of(deployments.present.settings.workers)
        size = file_size if was_changed or not pool.size else pool.size
        if size != pool.size:
            self.on_resize(size, pool.size)
        self.on_reload()
        self.loop.take(RolloutStarted(at=self.now(), pool=deployment.pool(size)))
        return self.operations.find(operation.id) or operation

    def _save(self, granted: Granted) -> Refusal | None:
        """Write the size to a drop-in; return why that is not possible."""
        file = config_path(self._means.deployments.present)
        if file is None:
            error = ConfigError("the fleet runs without a configuration file: there is no place to save to")
            return _refused(error, self.state)
        try:
            Apart(lambda: _write(file, granted.size)).result()
        except UnicorndError as error:
            return _refused(error, self.state)
        return None

    def _drain_all(self) -> None:
        """WINCH, daemonized: keep the arbiter, let all workers go (gunicorn's half of an exchange by hand)."""
        pool = only_pool(self.state)
        if not self._means.deployments.present.settings.process.daemon:
            self._means.log.debug("SIGWINCH is for daemons; ignored")
            return
        self._means.log.info("received SIGWINCH: all workers leave")
        self._means.deployments.renew_handover()
        self.loop.take(Resized(at=self.now(), pool=pool.name, size=0))

    def _listeners(self, deployment: Deployment) -> tuple[ListenerFacts, ...]:
        found = []
        for listener in () if self.state.has_left_listeners else deployment.listeners:
            queue = queue_of(listener)
            found.append(
                ListenerFacts(
                    address=listener.bound,
                    queue=queue[0] if queue is not None else None,
                    backlog=queue[1] if queue is not None else deployment.settings.server.backlog,
                )
            )
        return tuple(found)


def _write(file: Path, size: int | None) -> None:
    """In a process of its own: lay the size over the configuration."""
    from unicornd.config.write import save_drop_in  # noqa: PLC0415 - brings what reads a configuration

    save_drop_in(file, {"workers.count": size})


def _refused(error: UnicorndError, state: State) -> Refusal:
    is_config = isinstance(error, ConfigError)
    generation = only_pool(state).generation
    return Refusal(
        status=HTTPStatus.UNPROCESSABLE_ENTITY if is_config else HTTPStatus.CONFLICT,
        exit_code=CtlExit.CONFIG if is_config else CtlExit.FAILED,
        message=f"{error.message}; generation {generation} goes on serving",
        hint=error.hint,
        detail=error.detail,
    )
