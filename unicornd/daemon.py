"""The arbiter put together: settings → parts → loop. The only place where everything meets.

Run in the arbiter's process, main thread. `run_daemon` returns the exit code; whatever goes wrong before the loop is an
exception with a message, a hint and a code.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from unicornd import __version__, escaping
from unicornd.arbiter.context import ArbiterContext
from unicornd.arbiter.control_service import ControlService
from unicornd.arbiter.core import Core
from unicornd.arbiter.crowding import Crowding
from unicornd.arbiter.daemonize import STDERR, daemonize, kept_streams
from unicornd.arbiter.enquiries import Enquiries
from unicornd.arbiter.eventlog import EventLog
from unicornd.arbiter.events import HaltAsked, PoolDeclared
from unicornd.arbiter.hooks import ArbiterHooks
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.kernel import LinuxKernel
from unicornd.arbiter.logwatch import LogWatch
from unicornd.arbiter.loop import Loop, Participants
from unicornd.arbiter.mending import Mending
from unicornd.arbiter.operations import Operations
from unicornd.arbiter.pidfile import Pidfile
from unicornd.arbiter.postmortems import Postmortems
from unicornd.arbiter.processes import ProcessTable
from unicornd.arbiter.reception import Reception
from unicornd.arbiter.reload import Deployments, config_path, writer_of
from unicornd.arbiter.retiring import Retiring
from unicornd.arbiter.service import ServiceStatus
from unicornd.arbiter.spawn import Spawner
from unicornd.arbiter.state import Halt
from unicornd.arbiter.strangers import Strangers
from unicornd.arbiter.survey import Survey
from unicornd.arbiter.telemetry import Telemetry
from unicornd.arbiter.upgrade.handoff import take_handoff
from unicornd.arbiter.upgrade.incoming import Baton, StartContext, confirm_main
from unicornd.arbiter.upgrade.launch import LaunchCommand
from unicornd.arbiter.upgrade.outgoing import OutgoingUpgrade
from unicornd.arbiter.upgrade.successor import Successor
from unicornd.arbiter.wakeup import HEARD, Wakeup
from unicornd.arbiter.watching import Watching, watched_of
from unicornd.config.exposed import exposed
from unicornd.config.instance import working_folder
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of, name_of, socket_mode_of, under_their_names
from unicornd.control.address import ControlAddress
from unicornd.control.listening import ControlSocket, open_control_socket
from unicornd.control.peers import make_peer_rule, socket_mode
from unicornd.control.wording import condensed
from unicornd.dataclass import dataclass
from unicornd.errors import AlreadyRunningError, DaemonExit, ListenError, UnicorndError
from unicornd.forking import BOUNDARY
from unicornd.observe import logs
from unicornd.observe.logfile import write_at_once
from unicornd.sockets.inherit import take_passed
from unicornd.sockets.notify import Notifier
from unicornd.sockets.store import Store, split_passed
from unicornd.units import Monotonic, Pid
from unicornd.workers.registry import share_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unicornd.arbiter.actions import Leave
    from unicornd.arbiter.reload import Deployment
    from unicornd.arbiter.snapshots import Watched
    from unicornd.arbiter.upgrade.handoff import Handoff, StateTransfer
    from unicornd.config.loaded import Loaded, Sources
    from unicornd.sockets.inherit import Passed

USUAL_KIND = "threads"
"""`sync` is made of it."""
EXITS = {"halt": DaemonExit.OK, "boot": DaemonExit.BOOT, "app": DaemonExit.APP}


def settle() -> None:
    """Do beforehand, while the configuration is being read, what most fleets need: their kind, and tidy memory."""
    share_kind(USUAL_KIND)
    gc.collect()
    gc.freeze()


def run_daemon(first: Callable[[], tuple[Sources, Loaded]]) -> DaemonExit:
    """Be the arbiter until the fleet has ended.

    Args:
        first: returns what the configuration says, and where it was read; or raises why it cannot.

    Raises:
        UnicorndError: the start is refused; a terminal that started a daemon has been told already.
    """
    handoff = take_handoff(os.environ)
    baton = Baton(handoff) if handoff is not None else None
    try:
        return _run(first, handoff, baton=baton)
    except UnicorndError as error:
        if baton is None:
            raise
        baton.give(error.exit_code, describe(error))
        return error.exit_code


def _run(
    first: Callable[[], tuple[Sources, Loaded]], handoff: Handoff | None, *, baton: Baton | None
) -> DaemonExit:
    command = LaunchCommand.of(
        sys.orig_argv, sys.executable, arguments=sys.argv[1:], environ=dict(os.environ)
    )
    given = handoff.passed if handoff is not None else take_passed(os.environ, os.getpid())
    passed, stored = split_passed(given)
    notifier = Notifier.from_environ(os.environ, os.getpid(), is_main=handoff is None)
    store = Store.from_environ(os.environ, notifier, passed=stored)
    sources, loaded = first()
    address = ControlAddress(loaded, sources)
    kept = kept_streams(is_asked_for=loaded.settings.process.inherit_stdio)
    is_daemon = loaded.settings.process.daemon
    verdict = baton or (daemonize(kept) if is_daemon else None)
    start = StartContext(command=command, verdict=verdict, handoff=handoff, baton=baton)
    try:
        fallback_log = address.fallback_log if is_daemon and STDERR not in kept else ""
        arbiter = Assembly(
            Inherited(passed=passed, store=store, sources=sources, fallback_log=fallback_log),
            loaded,
            address=address,
            start=start,
            notifier=notifier,
        )
        return arbiter.run()
    except UnicorndError as error:
        if verdict is None:
            raise
        verdict.give(error.exit_code, describe(error))
        return error.exit_code


def _about_log(log: str) -> str:
    """Return what a terminal is told about the log of a daemon that has no log file."""
    if log == os.devnull:
        return (
            "nothing is logged: no log file is configured, and there is no folder for one; set logging.error"
        )
    return f"no log file is configured; see {log}"


def describe(error: UnicorndError) -> str:
    """Return an error as text for a terminal: what, the details, what to do."""
    detail = escaping.lines(condensed(error.detail)).splitlines()
    lines = [f"unicornd: {escaping.one_line(error.message)}", *(f"  {line}" for line in detail)]
    return "\n".join([*lines, f"  hint: {escaping.one_line(error.hint)}"] if error.hint else lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What this process has from whoever started it.

    Attributes:
        passed: descriptors that systemd has passed on.
        store: listeners that it keeps over a restart.
        sources: where the configuration is read from, each time anew.
        fallback_log: where a daemon logs that would log to standard error; empty for a process that has one.
    """

    passed: tuple[Passed, ...]
    store: Store
    sources: Sources
    fallback_log: str


class Assembly:
    """The arbiter's parts, made in the order in which they may fail.

    Each is given what it needs when it is made, and nothing later: who needs whom is read off `_assemble` from top to
    bottom.

    Args:
        inherited: from whoever started us.
        loaded: the settings of the first deployment, which is started here.
        address: of the control socket.
        start: how this process was started.
        notifier: tells systemd how the fleet is.
    """

    def __init__(
        self,
        inherited: Inherited,
        loaded: Loaded,
        *,
        address: ControlAddress,
        start: StartContext,
        notifier: Notifier,
    ) -> None:
        self._stack = ExitStack()
        self._loaded = loaded
        self._settings = loaded.settings
        self._address = address
        self._start = start
        self._verdict = start.verdict
        if self._verdict is not None:
            BOUNDARY.own(self._verdict)
        self._size = start.size(count_of(loaded.settings.workers))
        self._notifier = notifier
        self._log = logging.getLogger(logs.ERROR_LOG)
        self._journal = Journal(time.time)
        self._selector = BOUNDARY.own(selectors.DefaultSelector())
        self._wakeup = Wakeup()
        self._kernel = LinuxKernel()  # before a hook can have children
        self._successor = Successor(self._kernel, self._selector)
        self._deployments = Deployments(
            inherited.sources,
            inherited.passed,
            store=inherited.store,
            fallback_log=inherited.fallback_log,
            instance=address.instance,
            handoff=start.handoff,
            is_shared=lambda: not start.is_alone or self._successor.pid is not None,
        )
        self._control: ControlSocket | None = None
        self._pidfile: Pidfile | None = None

    def run(self) -> DaemonExit:
        """Start, supervise, clean up."""
        with self._stack:
            loop, core, outgoing = self._assemble()
            try:
                leave = loop.run()
                outgoing.say_farewell()
                return self._conclude(leave)
            except Exception:  # noqa: BLE001 - told in the log, with its traceback
                # A defect of ours must not take requests with it: the workers are drained before we leave.
                self._log.exception("internal error in the arbiter; the fleet is stopped")
                core.take(HaltAsked(at=Monotonic(time.monotonic()), halt=Halt.GRACEFUL))
                loop.run()
                return DaemonExit.FAILED

    def _assemble(self) -> tuple[Loop, Core, OutgoingUpgrade]:
        last = self._prepare()
        hooks = self._load_hooks()
        deployment = self._deployments.start(self._loaded)
        self._stack.callback(self._deployments.close_listeners)
        context = self._context(hooks)
        hooks.show(self._deployments, context.processes)
        enquiries = Enquiries(self._kernel, self._selector)
        self._stack.callback(enquiries.end)
        reception = Reception(self._selector, clock=self._kernel.now, log=self._log)
        self._stack.callback(reception.close)
        outgoing = OutgoingUpgrade(
            context,
            self._successor,
            command=self._start.command,
            notifier=self._notifier,
            control=self._control,
            reception=reception,
            before_exec=lambda: hooks.call("pre_exec"),
        )
        dead = Postmortems(self._kernel.now, time.time)
        survey = Survey(
            context,
            instance=self._address.instance,
            control=self._control.address if self._control is not None else None,
        )
        service = ControlService(context, enquiries=enquiries, survey=survey, outgoing=outgoing, dead=dead)
        loop = self._loop(context, service, hooks=hooks, enquiries=enquiries, dead=dead, reception=reception)
        self._answer(context, service, reception=reception)
        self._prepare_memory(deployment)
        self._tell_start(deployment)
        hooks.call("when_ready")
        context.core.take(PoolDeclared(at=self._kernel.now(), pool=deployment.pool(self._size)))
        last.callback(hooks.call, "on_exit")
        return loop, context.core, outgoing

    def _loop(
        self,
        context: ArbiterContext,
        service: ControlService,
        *,
        hooks: ArbiterHooks,
        enquiries: Enquiries,
        dead: Postmortems,
        reception: Reception,
    ) -> Loop:
        """Name everybody who takes part in the loop's turns."""
        strangers = self._strangers(hooks, context.processes)
        participants = Participants(
            signals=service.take_signal,
            tickers=(
                context.service.tick,
                enquiries.tick,
                service.tick,
                context.processes.tick,
                strangers.tick,
                *self._watchers(context),
                self._watching(service).tick,
                self._successor.tick,
                reception.tick,
            ),
            death_claims=(enquiries.take_death, self._successor.take_death),
            death_observers=(dead.observe, hooks.observe_death),
            postponed=(enquiries.postpone, self._successor.postpone),
            leaves=strangers.leaves,
        )
        return Loop(context, self._wakeup, participants=participants)

    def _prepare(self) -> ExitStack:
        """Have logs, signals, control socket and pidfile; return what is called when all of these are gone."""
        settings = self._settings
        self._deployments.open_first_logs(settings)
        if self._verdict is not None:  # what applications print has to go somewhere
            self._verdict.fill_streams(logs.error_fd())
        last = self._stack.enter_context(ExitStack())
        self._wakeup.install()
        self._open_control()
        if settings.process.pidfile is not None:
            self._pidfile = Pidfile.write(
                settings.process.pidfile,
                os.getpid(),
                predecessor=self._start.predecessor,
                writer=writer_of(settings),
            )
            BOUNDARY.own(self._pidfile)
            self._stack.callback(self._pidfile.remove)
        # Hooks run from now on, and may fork.
        BOUNDARY.arm((*HEARD, signal.SIGPIPE), BOUNDARY.close_owned)
        return last

    def _load_hooks(self) -> ArbiterHooks:
        """Load the operator's hooks, and call the first ones."""
        self._deployments.settle_in(self._settings)
        hooks = ArbiterHooks.load(
            self._settings.hooks,
            under_their_names(self._settings, self._address.instance),
            log=self._log,
            name=self._address.instance,
            next_deployment=lambda: self._deployments.next,
        )
        hooks.call_starting(self._size)
        return hooks

    def _context(self, hooks: ArbiterHooks) -> ArbiterContext:
        """Make what the other parts share. The order of the observers is that in which they are told."""
        spawner = Spawner(self._kernel, prepare=hooks.prepare)
        processes = ProcessTable(spawner, self._selector, kernel=self._kernel)
        eventlog, operations = EventLog(self._log, self._journal), Operations()
        service = ServiceStatus(self._notifier, successor=self._successor, on_serving=self._tell_ready)
        return ArbiterContext(
            kernel=self._kernel,
            selector=self._selector,
            core=Core(
                eventlog.observe, operations.observe, processes.observe, service.observe, hooks.observe
            ),
            processes=processes,
            deployments=self._deployments,
            operations=operations,
            eventlog=eventlog,
            journal=self._journal,
            service=service,
            log=self._log,
        )

    def _strangers(self, hooks: ArbiterHooks, processes: ProcessTable) -> Strangers:
        """Leave to the hooks what they have started."""

        def is_worker(pid: Pid) -> bool:
            processes.meet_all()
            return pid in processes.workers

        return Strangers(self._kernel, is_worker=is_worker, has_hooks=lambda: hooks.are_set)

    def _watchers(self, context: ArbiterContext) -> Iterator[Callable[[Monotonic], Monotonic | None]]:
        """Yield who looks what happens to the fleet: to its size, its listeners, to those who wait, to its logs."""
        core, processes, deployments = context.core, context.processes, self._deployments
        yield Retiring(core, processes, settings=lambda: deployments.present.settings.workers).tick
        yield Telemetry(core, processes, deployments=deployments).tick
        yield Mending(core, deployments, log=self._log).tick
        yield Crowding(core, processes, deployments=deployments).tick
        yield LogWatch(processes, self._journal).tick

    def _watching(self, service: ControlService) -> Watching:
        """Have files watched that a reload may be wanted for."""
        folder = str(working_folder())

        def wanted() -> Watched:
            settings = self._deployments.present.settings
            return watched_of(settings.reload, settings.app, folder=folder)

        watching = Watching(self._kernel, self._selector, wanted=wanted, changed=service.reload_for)
        self._stack.callback(watching.end)
        return watching

    def _open_control(self) -> None:
        """Open the control socket; one that cannot be had is a line in the log, one that answers is the end.

        Raises:
            AlreadyRunningError: this instance runs already.
        """
        control = self._settings.control
        if not control.enabled:
            return
        handoff = self._start.handoff
        if handoff is not None and handoff.control is not None:
            self._control = ControlSocket.inherited(handoff.control, handoff.control_address)
            self._stack.callback(self._remove_control)
            return
        rule = make_peer_rule(control)
        try:
            self._control = open_control_socket(
                self._address.candidates, mode=socket_mode(control.mode, rule)
            )
            self._stack.callback(self._remove_control)
            if self._control.note:
                self._log.warning("%s; listening at %s instead", self._control.note, self._control.address)
        except ListenError as error:
            reason = error.detail or error.message
            self._log.info("no control socket: unicornctl cannot reach this fleet\n%s", reason)
        except AlreadyRunningError as error:
            raise AlreadyRunningError(
                f"{self._address.instance} is already running: {error.message}", hint=error.hint
            ) from error

    def _remove_control(self) -> None:
        """Take the control socket's path away, unless another arbiter listens there."""
        if self._control is not None and not self._deployments.is_shared():
            self._control.remove()

    def _answer(self, context: ArbiterContext, service: ControlService, *, reception: Reception) -> None:
        """Answer at the control socket; as the new arbiter of an upgrade, when the predecessor does not any more."""
        settings, handoff = self._settings, self._start.handoff
        left = handoff.admin if handoff is not None else None
        mode = socket_mode_of(settings.server, settings.process)
        reception.open_admin(settings.admin, service, mode=mode, left=left)
        if self._start.baton is None:
            reception.take_over(self._control, settings.control, service=service)
            return
        self._start.baton.watch(
            self._selector,
            lambda: self._promote(context, service, reception=reception),
            heard=lambda transfer: _inherit(transfer, context),
            gone=lambda: confirm_main(self._notifier, self._kernel, predecessor=self._start.predecessor),
        )

    def _promote(self, context: ArbiterContext, service: ControlService, *, reception: Reception) -> None:
        """The predecessor is gone, or has left everything to us."""
        context.eventlog.record("upgrade.promoted", "upgrade finished: this process is now the only arbiter")
        if self._pidfile is not None and self._settings.process.pidfile is not None:
            self._pidfile.promote(self._settings.process.pidfile)
        reception.take_over(self._control, self._settings.control, service=service)
        context.service.take_over(Pid(os.getpid()), context.core.state)
        self._deployments.take_over_store()

    def _prepare_memory(self, deployment: Deployment) -> None:
        """Load what every worker needs, and keep the collector from touching it: it is shared copy-on-write."""
        share_kind(kind_of(deployment.settings.workers, deployment.settings.app.interface))
        gc.collect()
        gc.freeze()
        gc.enable()

    def _tell_start(self, deployment: Deployment) -> None:
        workers = deployment.settings.workers
        file = config_path(deployment)
        addresses = ", ".join(listener.bound for listener in deployment.listeners)
        text = f"unicornd {__version__} serves {name_of(deployment.settings.app)} at {addresses}"
        facts: dict[str, str | int] = {
            "instance": self._address.instance,
            "config": str(file) if file is not None else "none",
            "workers": self._size,
            "worker_kind": workers.kind or "by the application",
        }
        for line in exposed(deployment.settings, uid=os.geteuid()):
            self._log.warning("%s", line)
        self._log.info("%s", text, extra=facts)
        self._journal.append("fleet.starting", text, **facts)

    def _tell_ready(self) -> None:
        self._log.info("the fleet is ready")
        self._journal.append("fleet.ready", "the fleet is ready")
        if self._verdict is not None:
            log = self._deployments.present.settings.logging.error
            is_asked_for = log == self._settings.logging.error
            self._verdict.give(DaemonExit.OK, "" if is_asked_for else f"unicornd: {_about_log(log)}")

    def _conclude(self, leave: Leave) -> DaemonExit:
        code = EXITS[leave.cause]
        if code is DaemonExit.OK:
            self._log.info("stopped")
            if self._verdict is not None:
                self._verdict.give(DaemonExit.FAILED, "unicornd: stopped before it was ready")
            return code
        first, _, detail = leave.reason.partition("\n")
        error = UnicorndError(f"the fleet cannot start: {first}", detail=detail)
        self._log.critical("%s", error.message)
        if self._verdict is not None:
            self._verdict.give(code, describe(error))
        elif logs.stream_of(self._settings.logging.error) is None:
            write_at_once(f"{describe(error)}\n".encode("utf-8", "backslashreplace"), is_last=True)
        return code


def _inherit(transfer: StateTransfer, context: ArbiterContext) -> None:
    """Go on where the predecessor was: with what it had counted, written down, and been asked for."""
    context.processes.inherit(transfer.counted)
    context.journal.inherit(transfer.journal)
    if transfer.upgrade is not None:
        context.operations.inherit(transfer.upgrade)
