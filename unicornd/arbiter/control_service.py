"""What the arbiter does for the control API and for signals: wishes in, facts out.

Run by the arbiter's loop. Every call returns at once.
"""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from unicornd.arbiter.events import Resized, RolloutStarted
from unicornd.arbiter.operations import Kind, Outcome
from unicornd.arbiter.reload import config_path
from unicornd.arbiter.requests import (
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
    refusal_of,
    size_asked,
)
from unicornd.arbiter.rotation import reopen_logs
from unicornd.arbiter.state import Halt, State
from unicornd.config.loaded import differences
from unicornd.config.resolved import count_of
from unicornd.errors import AlreadyRunningError, ConfigError, UnicorndError
from unicornd.workers import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from unicornd.arbiter.context import ArbiterContext
    from unicornd.arbiter.enquiries import Enquiries
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.operations import Operation, Operations
    from unicornd.arbiter.postmortems import Postmortem, Postmortems
    from unicornd.arbiter.survey import Survey
    from unicornd.arbiter.upgrade.candidate import Candidate
    from unicornd.arbiter.upgrade.outgoing import OutgoingUpgrade
    from unicornd.arbiter.view import Facts
    from unicornd.config.loaded import Loaded
    from unicornd.control.protocol import ConfigReport
    from unicornd.units import Monotonic, Pid, Slot

T = TypeVar("T")

READING_SECONDS = 60.0
"""How long the reading of the configuration may take: more than a Python configuration (30 s) and logs (10 s) together."""

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


class ControlService:
    """What the control routes need of the arbiter (`requests.ControlPort`).

    Args:
        context: the arbiter's parts.
        enquiries: have other processes read and write configurations.
        survey: gathers what `status` and the metrics show.
        outgoing: what an upgrade does.
        dead: the workers that have died.
    """

    def __init__(
        self,
        context: ArbiterContext,
        *,
        enquiries: Enquiries,
        survey: Survey,
        outgoing: OutgoingUpgrade,
        dead: Postmortems,
    ) -> None:
        self._context = context
        self._enquiries = enquiries
        self._survey = survey
        self._outgoing = outgoing
        self._dead = dead
        self._has_pending_reload = False

    @property
    def state(self) -> State:
        """The current state."""
        return self._context.core.state

    @property
    def journal(self) -> Journal:
        """What happened lately."""
        return self._context.journal

    @property
    def operations(self) -> Operations:
        """What is and was being done."""
        return self._context.operations

    def now(self) -> Monotonic:
        """CLOCK_MONOTONIC."""
        return self._context.kernel.now()

    def take_signal(self, number: signal.Signals) -> None:
        """Do what a signal wishes; a refusal can only be logged."""
        if number is signal.SIGWINCH:
            self._drain_all()
            return
        wish = SIGNAL_WISHES.get(number)
        if wish is None:
            self._context.log.warning("%s is not available in this version", number.name)
            return
        self._context.log.info("received %s", number.name)
        running = self.operations.running
        if isinstance(wish, Reload) and self._has_to_wait and self.state.halt is Halt.NO:
            # Nobody would repeat a signal: it is done when the other operation has ended, or the fleet serves.
            self._has_pending_reload = True
            what = running.id if running is not None else "the first worker to be ready"
            self._context.log.info("%s waits for %s", number.name, what)
        elif isinstance(wish, Scale) and self.state.halt is Halt.NO:
            self._resize_by(wish.count, number.name)
        else:
            self._submit_signal(wish, number.name)

    def tick(self, _now: Monotonic) -> None:
        """Begin the reload that has waited for another operation, or for a fleet that serves."""
        if self._has_pending_reload and not self._has_to_wait:
            self._has_pending_reload = False
            self._submit_signal(Reload(), signal.SIGHUP.name)

    @property
    def _has_to_wait(self) -> bool:
        """Whether a reload cannot begin yet: another operation runs, or there is no generation to go back to."""
        return self.operations.running is not None or not self.state.served

    def reload_for(self, path: str) -> None:
        """A watched file has changed."""
        self._context.eventlog.record("reload.watched", f"{path} has changed", facts={"path": path})
        if self._has_to_wait:
            self._has_pending_reload = True
        elif self.state.halt is Halt.NO:
            self._submit_signal(Reload(), "the reload for it")

    def _submit_signal(self, wish: Wish, name: str) -> None:
        result = self.submit(wish, is_final=False, name=name)
        if isinstance(result, Refusal):
            self._tell_refusal(result, name, is_reload=isinstance(wish, Reload))

    def _tell_refusal(self, refusal: Refusal, name: str, *, is_reload: bool) -> None:
        """Nobody waits for the answer to a signal: it is in the log."""
        text = f"{name} refused: {refusal.message}"
        self._context.eventlog.record("signal.refused", text, level=logging.ERROR, detail=refusal.detail)
        if is_reload:
            self._context.service.refuse_reload(refusal.message, now=self.now())

    def _resize_by(self, change: int, name: str) -> None:
        """TTIN and TTOU: one more or one fewer, the oldest, whatever else is going on; a fleet keeps at least one."""
        pool = only_pool(self.state)
        size = size_asked(Scale(count=change, is_relative=True), pool)
        if isinstance(size, Refusal):
            self._context.log.warning("%s refused: %s", name, size.message)
            return
        self._context.core.take(Resized(at=self.now(), pool=pool.name, size=size, from_oldest=change < 0))

    def ask_stacks(self, slot: Slot) -> Pid | Refusal:
        """Have the worker of a slot write its stacks."""
        workers = [each for each in self._context.processes.workers.values() if each.slot == slot]
        if not workers:
            return no_worker(slot, self.state)
        newest = max(workers, key=lambda each: each.age)
        newest.row.stacks.forget()
        self._context.kernel.kill(newest.pid, signals.STACKS)
        return newest.pid

    def insist_on_stacks(self, pid: Pid) -> None:
        """Have it write them from inside a signal: it has not done so, something holds its interpreter."""
        workers = self._context.processes.workers.get(pid)
        if workers is not None:
            workers.row.stacks.insist()
            self._context.kernel.kill(pid, signals.STACKS_AT_ONCE)

    def stacks(self, pid: Pid) -> str:
        """Return what it has written."""
        workers = self._context.processes.workers.get(pid)
        return workers.row.stacks.read() if workers is not None else ""

    def postmortems(self) -> Iterable[Postmortem]:
        """Return the workers that have died, newest first."""
        return self._dead

    def submit(self, wish: Wish, *, is_final: bool = True, name: str = "") -> Operation | Refusal:
        """Set a wish going, or say why not.

        Args:
            wish: what is wished for.
            is_final: whether a stop is one; systemd sends the same signal for a stop and for a restart.
            name: of the signal that wishes it, or empty: somebody waits for the answer.
        """
        decision = decide(wish, state=self.state, running=self.operations.running, now=self.now())
        if isinstance(decision, Refusal):
            return decision
        if decision.joins is not None:
            return decision.joins
        match wish:
            case Reload():
                asking, reading = "the configuration is being read", self._context.deployments.reading()
                return self._enquire(decision, reading, go_on=self._roll_out, asking=asking, name=name)
            case Scale(save=True):
                return self._save(decision)
            case Upgrade():
                return self._upgrade(decision, wish, name=name)
            case Reopen():
                failure = reopen_logs(
                    self._context.deployments, self._context.processes, kernel=self._context.kernel
                )
                if failure:  # an event, too: the log itself may be what cannot be written
                    self._context.eventlog.record("logs.not_reopened", failure, level=logging.ERROR)
                return self._begin(decision, failure=failure)
            case Stop() if is_final:
                self._context.deployments.keep_nothing()
                return self._begin(decision)
            case _:
                return self._begin(decision)

    def _upgrade(self, granted: Granted, wish: Upgrade, *, name: str) -> Operation | Refusal:
        if self._outgoing.successor is not None:
            error = AlreadyRunningError(
                f"an upgrade is there already: process {self._outgoing.successor}",
                hint="end one of the two first",
            )
            return refusal_of(error, self.state)

        def go_on(found: Candidate) -> None:
            self.operations.accept()
            for line in _changes(self._outgoing.present, found):
                self.operations.note(line, now=self.now())
            try:
                self._outgoing.start(found, is_final=wish.is_final)
            except OSError as error:
                result = f"unicornd cannot be executed: {error.strerror}"
                self.operations.end(Outcome.FAILED, result=result, now=self.now())

        asking = "the new unicornd is asked for its version"
        examining = self._outgoing.examining(wish.executable)
        return self._enquire(granted, examining, go_on=go_on, asking=asking, name=name)

    def preview_reload(self, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        """Tell what a reload would change, or why it would be refused."""
        deployments = self._context.deployments

        def changes(read: Loaded) -> Sequence[str]:
            return differences(deployments.present.loaded, deployments.here(read))

        self._preview(deployments.reading(), changes, then=then)

    def preview_upgrade(self, wish: Upgrade, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        """Tell what would be left, and what be executed, or why it would be refused."""
        present = self._outgoing.present
        self._preview(
            self._outgoing.examining(wish.executable), lambda found: _changes(present, found), then=then
        )

    def _preview(
        self,
        work: Callable[[], T],
        changes: Callable[[T], Sequence[str]],
        *,
        then: Callable[[Sequence[str] | Refusal], None],
    ) -> None:
        """Have another process look, and tell what it has found, or why it would be refused."""

        def tell(answer: Callable[[], T]) -> None:
            try:
                then(changes(answer()))
            except UnicorndError as error:
                then(refusal_of(error, self.state))

        self._ask(work, tell)

    def facts(self, *, is_brief: bool = False) -> Facts:
        """Return what the status shows beside the state; see `Survey`."""
        return self._survey.facts(is_brief=is_brief)

    def config(self) -> ConfigReport:
        """Return the effective settings with their origins."""
        return self._survey.config()

    def metrics(self) -> bytes:
        """Return the Prometheus text."""
        return self._survey.metrics()

    def _begin(self, granted: Granted, *, failure: str = "") -> Operation:
        operation = self.operations.begin(
            granted.kind,
            title=granted.title,
            pool=granted.pool,
            now=self.now(),
            pid=granted.pid,
            failure=failure,
        )
        return self._set_going(granted, operation)

    def _set_going(self, granted: Granted, operation: Operation) -> Operation:
        for event in granted.events:
            self._context.core.take(event)
        return self.operations.find(operation.id) or operation

    def _enquire(
        self,
        granted: Granted,
        work: Callable[[], T],
        *,
        go_on: Callable[[T], None],
        asking: str,
        name: str = "",
    ) -> Operation:
        """Begin an operation of which another process has to say whether it may happen.

        Args:
            granted: as far as we know.
            work: what that process does.
            go_on: takes what it has found; UnicorndError from both is a refusal.
            asking: what is waited for, in words.
            name: see `submit`.
        """
        operation = self.operations.begin(
            granted.kind, title=granted.title, pool=granted.pool, now=self.now(), asking=asking
        )

        def hear(answer: Callable[[], T]) -> None:
            running = self.operations.running
            if running is None or running.id != operation.id:
                return  # the fleet is being stopped
            try:
                go_on(answer())
            except UnicorndError as error:
                self._refuse(running, error, name=name)

        self._ask(work, hear)
        return self.operations.find(operation.id) or operation

    def _ask(self, work: Callable[[], T], then: Callable[[Callable[[], T]], None]) -> None:
        try:
            self._enquiries.ask(work, then, seconds=READING_SECONDS)
        except OSError as error:
            then(partial(_fail, f"no process can be made: {error.strerror}"))

    def _refuse(self, operation: Operation, error: UnicorndError, *, name: str) -> None:
        refusal = refusal_of(error, self.state)
        self.operations.refuse(
            refusal.exit_code,
            result=refusal.message,
            now=self.now(),
            detail=refusal.detail,
            hint=refusal.hint,
        )
        if name:
            self._tell_refusal(refusal, name, is_reload=operation.kind is Kind.RELOAD)
        else:
            text = f"{operation.id} refused: {refusal.message}"
            self._context.eventlog.record(
                "operation.refused", text, level=logging.ERROR, detail=refusal.detail
            )

    def _roll_out(self, read: Loaded) -> None:
        deployments = self._context.deployments
        deployment = deployments.prepare(read)
        self.operations.accept()
        for line in deployments.unapplied:
            text = f"not applied by a reload: {line}"
            self._context.eventlog.record("reload.restart_needed", text, level=logging.WARNING)
            self.operations.note(text, now=self.now())
        pool = only_pool(self.state)
        file_size = count_of(deployment.settings.workers)
        was_changed = file_size != deployments.file_size
        size = file_size if was_changed or not pool.size else pool.size
        self._context.core.take(RolloutStarted(at=self.now(), pool=deployment.pool(size)))

    def _save(self, granted: Granted) -> Operation | Refusal:
        """Write the size to a drop-in; then change it."""
        file = config_path(self._context.deployments.present)
        if file is None:
            error = ConfigError("the fleet runs without a configuration file: there is no place to save to")
            return refusal_of(error, self.state)

        def go_on(_written: None) -> None:
            self.operations.accept()
            if granted.size is not None:
                self._context.deployments.note_saved(granted.size)
            running = self.operations.running
            if running is not None:
                self._set_going(granted, running)

        return self._enquire(
            granted, partial(_write, file, granted.size), go_on=go_on, asking="the drop-in is being written"
        )

    def _drain_all(self) -> None:
        """WINCH, daemonized: keep the arbiter, let all workers go (gunicorn's half of an exchange by hand)."""
        pool = only_pool(self.state)
        if not self._context.deployments.present.settings.process.daemon:
            self._context.log.debug("SIGWINCH is for daemons; ignored")
            return
        self._context.log.info("received SIGWINCH: all workers leave")
        self._context.deployments.renew_handover()
        self._context.core.take(Resized(at=self.now(), pool=pool.name, size=0))


def _write(file: Path, size: int | None) -> None:
    """In a process of its own: lay the size over the configuration."""
    from unicornd.config.write import save_drop_in  # noqa: PLC0415 - brings what reads a configuration

    save_drop_in(file, {"workers.count": size})


def _changes(present: Candidate, found: Candidate) -> list[str]:
    """Say what an upgrade leaves, and what it executes."""
    return [f"from {present}: {' '.join(present.program)}", f"to {found}: {' '.join(found.program)}"]


def _fail(message: str) -> NoReturn:
    raise UnicorndError(message)
