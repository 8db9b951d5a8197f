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
from unicornd.arbiter.changeover import Changeover, Estate
from unicornd.arbiter.crowding import Crowding
from unicornd.arbiter.daemonize import STDERR, daemonize, kept_streams
from unicornd.arbiter.enquiries import Enquiries
from unicornd.arbiter.events import HaltAsked, PoolDeclared
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.kernel import LinuxKernel
from unicornd.arbiter.logwatch import LogWatch
from unicornd.arbiter.loop import Loop, Means
from unicornd.arbiter.mending import Mending
from unicornd.arbiter.narration import Narrator
from unicornd.arbiter.operations import Operations
from unicornd.arbiter.pidfile import Pidfile
from unicornd.arbiter.port import Port
from unicornd.arbiter.reception import Reception
from unicornd.arbiter.reload import Deployments, config_path, writer_of
from unicornd.arbiter.retiring import Retiring
from unicornd.arbiter.seats import Seats
from unicornd.arbiter.spawn import Spawner
from unicornd.arbiter.state import Halt
from unicornd.arbiter.strangers import Strangers
from unicornd.arbiter.succession import Baton, Birth, confirm_main
from unicornd.arbiter.survey import Survey
from unicornd.arbiter.telemetry import Telemetry
from unicornd.arbiter.tellers import ArbiterHooks
from unicornd.arbiter.upgrade import Origin
from unicornd.arbiter.wakeup import HEARD, Wakeup
from unicornd.arbiter.watching import Watching, watched_of
from unicornd.config.exposed import exposed
from unicornd.config.instance import working_folder
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of, name_of, socket_mode_of, under_their_names
from unicornd.control.address import ControlAddress
from unicornd.control.listening import ControlSocket, open_control_socket
from unicornd.control.peers import make_peer_rule, socket_mode
from unicornd.errors import AlreadyRunningError, DaemonExit, ListenError, UnicorndError
from unicornd.forking import BOUNDARY
from unicornd.observe import logs
from unicornd.observe.logfile import write_at_once
from unicornd.sockets.inherit import take_passed
from unicornd.sockets.legacy import take_legacy
from unicornd.sockets.notify import Notifier
from unicornd.sockets.store import Store, split_passed
from unicornd.units import Monotonic
from unicornd.workers.registry import share_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.actions import Leave
    from unicornd.arbiter.reload import Deployment
    from unicornd.arbiter.snapshots import Watched
    from unicornd.arbiter.succession import Bequest
    from unicornd.config.loaded import Loaded, Sources
    from unicornd.sockets.legacy import Legacy
    from unicornd.sockets.listener import Listener
    from unicornd.units import Pid

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
    legacy = take_legacy(os.environ)
    baton = Baton(legacy) if legacy is not None else None
    try:
        return _run(first, legacy, baton=baton)
    except UnicorndError as error:
        if baton is None:
            raise
        baton.give(error.exit_code, describe(error))
        return error.exit_code


def _run(
    first: Callable[[], tuple[Sources, Loaded]], legacy: Legacy | None, *, baton: Baton | None
) -> DaemonExit:
    origin = Origin.of(sys.orig_argv, sys.executable, arguments=sys.argv[1:], environ=dict(os.environ))
    given = legacy.passed if legacy is not None else take_passed(os.environ, os.getpid())
    passed, stored = split_passed(given)
    notifier = Notifier.from_environ(os.environ, os.getpid())
    notifier.is_heard = legacy is None
    store = Store.from_environ(os.environ, notifier, passed=stored)
    sources, loaded = first()
    address = ControlAddress(loaded, sources)
    kept = kept_streams(is_asked_for=loaded.settings.process.inherit_stdio)
    is_daemon = loaded.settings.process.daemon
    verdict = baton or (daemonize(kept) if is_daemon else None)
    try:
        fallback_log = address.fallback_log if is_daemon and STDERR not in kept else ""
        deployments = Deployments(
            sources,
            passed,
            store=store,
            fallback_log=fallback_log,
            instance=address.instance,
            legacy=legacy,
        )
        birth = Birth(origin=origin, verdict=verdict, legacy=legacy, baton=baton)
        arbiter = Assembly(deployments, loaded, address=address, birth=birth, notifier=notifier)
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
    detail = escaping.lines(error.detail).splitlines()
    lines = [f"unicornd: {escaping.one_line(error.message)}", *(f"  {line}" for line in detail)]
    return "\n".join([*lines, f"  hint: {escaping.one_line(error.hint)}"] if error.hint else lines)


class Assembly:
    """The arbiter's parts, made in the order in which they may fail.

    Args:
        deployments: the first one is started here.
        loaded: its settings.
        address: of the control socket.
        birth: where this process comes from.
        notifier: tells systemd how the fleet is.
    """

    def __init__(
        self,
        deployments: Deployments,
        loaded: Loaded,
        *,
        address: ControlAddress,
        birth: Birth,
        notifier: Notifier,
    ) -> None:
        self._stack = ExitStack()
        self._deployments = deployments
        self._loaded = loaded
        self._settings = loaded.settings
        self._address = address
        self._birth = birth
        self._verdict = birth.verdict
        self._size = birth.size(count_of(loaded.settings.workers))
        self._notifier = notifier
        self._log = logging.getLogger(logs.ERROR_LOG)
        self._journal = Journal(time.time)
        self._selector = selectors.DefaultSelector()
        self._wakeup = Wakeup()
        self._kernel = LinuxKernel()  # before a hook can have children
        self._control: ControlSocket | None = None
        self._pidfile: Pidfile | None = None

    def run(self) -> DaemonExit:
        """Start, supervise, clean up."""
        with self._stack:
            loop = self._assemble()
            try:
                leave = loop.run()
                self._changeover.say_farewell()
                return self._conclude(leave)
            except Exception:  # noqa: BLE001 - told in the log, with its traceback
                # A defect of ours must not take requests with it: the workers are drained before we leave.
                self._log.exception("the arbiter has a defect; the fleet is stopped")
                loop.take(HaltAsked(at=Monotonic(time.monotonic()), halt=Halt.GRACEFUL))
                loop.run()
                return DaemonExit.FAILED

    def _assemble(self) -> Loop:
        settings = self._settings
        self._deployments.open_first_logs(settings)
        if self._verdict is not None:  # what applications print has to go somewhere
            self._verdict.fill_streams(logs.error_fd())
        last = self._stack.enter_context(ExitStack())  # when pidfile and sockets are gone
        self._wakeup.install()
        self._open_control()
        if settings.process.pidfile is not None:
            self._pidfile = Pidfile.write(
                settings.process.pidfile,
                os.getpid(),
                predecessor=self._birth.predecessor,
                writer=writer_of(settings),
            )
            self._stack.callback(self._pidfile.remove)
        BOUNDARY.arm((*HEARD, signal.SIGPIPE), self._wakeup.close)  # nothing else is there yet
        hooks = self._call_operator()
        deployment = self._deployments.start(self._loaded)
        self._stack.callback(self._deployments.close_listeners)
        means = self._means()
        port = self._port(means)
        loop = port.loop
        hooks.connect(loop, port, deployments=self._deployments)
        self._leave_to(hooks, loop)
        retiring = Retiring(loop, lambda: self._deployments.present.settings.workers)
        loop.tickers += [retiring.tick, Telemetry(loop, self._deployments).tick]
        self._look_around(loop)
        self._watch_files(port, loop)
        self._receive(port)
        self._prepare_upgrades(port, loop, hooks=hooks)
        self._answer(loop)
        self._prepare_memory(deployment)
        pool = deployment.pool(self._size)
        self._tell_start(deployment)
        BOUNDARY.arm((*HEARD, signal.SIGPIPE), lambda: self._leave_behind(loop, ()))
        hooks.call("when_ready")
        loop.take(PoolDeclared(at=means.kernel.now(), pool=pool))
        last.callback(hooks.call, "on_exit")
        return loop

    def _call_operator(self) -> ArbiterHooks:
        """Load the hooks, and call the first ones."""
        self._deployments.settle_in(self._settings)
        cfg = under_their_names(self._settings, self._address.instance)
        hooks = ArbiterHooks.load(self._settings.hooks, cfg, log=self._log, name=self._address.instance)
        hooks.call_starting(self._size)
        return hooks

    def _leave_to(self, hooks: ArbiterHooks, loop: Loop) -> None:
        """Leave to the hooks what they have started."""

        def is_worker(pid: Pid) -> bool:
            loop.seats.meet_all()
            return pid in loop.seats.seated

        strangers = Strangers(
            self._kernel, is_worker=is_worker, has_hooks=lambda: hooks.are_set, reap=loop.reap
        )
        loop.leaves = strangers.leaves
        loop.tickers.append(strangers.tick)

    def _means(self) -> Means:
        return Means(
            kernel=self._kernel,
            selector=self._selector,
            wakeup=self._wakeup,
            deployments=self._deployments,
            operations=Operations(),
            narrator=Narrator(self._log, self._journal),
            notifier=self._notifier,
            log=self._log,
        )

    def _port(self, means: Means) -> Port:
        """Make the loop, and what speaks for it."""
        self._enquiries = Enquiries(
            means.kernel, self._selector, leave_behind=lambda: self._leave_behind(loop, ())
        )
        self._stack.callback(self._enquiries.end)
        port = Port(means, journal=self._journal, enquiries=self._enquiries)
        loop = port.loop = Loop(means, on_signal=port.take_signal, on_ready=self._tell_ready)
        self._selector.register(self._wakeup, selectors.EVENT_READ, loop.take_signals)
        spawner = Spawner(means.kernel, leave_behind=lambda kept: self._leave_behind(loop, kept))
        loop.seats = Seats(spawner, self._selector, on_event=loop.take, kernel=means.kernel)
        loop.claims_death.append(self._enquiries.take_death)
        loop.tickers += [self._enquiries.tick, port.tick, loop.seats.tick]
        loop.on_late.append(self._enquiries.postpone)
        port.survey = Survey(
            loop,
            means,
            instance=self._address.instance,
            control=self._control.address if self._control is not None else None,
            journal=self._journal,
        )
        return port

    def _receive(self, port: Port) -> None:
        settings, legacy = self._settings, self._birth.legacy
        self._reception = Reception(self._selector, port)
        self._stack.callback(self._reception.close)
        left = legacy.admin if legacy is not None else None
        mode = socket_mode_of(settings.server, settings.process)
        self._reception.open_admin(settings.admin, mode=mode, left=left)

    def _open_control(self) -> None:
        """Open the control socket; one that cannot be had is a line in the log, one that answers is the end.

        Raises:
            AlreadyRunningError: this instance runs already.
        """
        control = self._settings.control
        if not control.enabled:
            return
        legacy = self._birth.legacy
        if legacy is not None and legacy.control is not None:
            self._control = ControlSocket.inherited(legacy.control, legacy.control_address)
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

    def _prepare_upgrades(self, port: Port, loop: Loop, *, hooks: ArbiterHooks) -> None:
        estate = Estate(
            origin=self._birth.origin,
            control=self._control,
            admin=self._reception.admin,
            let_go=self._reception.stop_listening,
            leave=lambda _legacy: hooks.call("pre_exec"),
        )
        self._changeover = port.changeover = Changeover(
            loop, port.means, estate=estate, journal=self._journal
        )
        self._deployments.is_shared = lambda: (
            not self._birth.is_alone or self._changeover.successor is not None
        )

    def _answer(self, loop: Loop) -> None:
        """Answer at the control socket; as the new arbiter of an upgrade, when the predecessor does not any more."""
        if self._birth.baton is None:
            self._reception.take_over(self._control, self._settings.control)
            return
        self._birth.baton.watch(
            self._selector,
            lambda: self._promote(loop),
            heard=lambda bequest: self._inherit(bequest, loop),
            gone=lambda: self._settle_alone(loop),
        )

    def _inherit(self, bequest: Bequest, loop: Loop) -> None:
        loop.seats.inherit(bequest.counted)
        self._journal.inherit(bequest.journal)
        if bequest.upgrade is not None:
            loop.means.operations.inherit(bequest.upgrade)

    def _promote(self, loop: Loop) -> None:
        """The predecessor is gone, or has left everything to us."""
        self._log.info("this unicornd is the only one now")
        self._journal.append("upgrade.promoted", "this unicornd is the only one now")
        if self._pidfile is not None and self._settings.process.pidfile is not None:
            self._pidfile.promote(self._settings.process.pidfile)
        self._reception.take_over(self._control, self._settings.control)
        self._notifier.is_heard = True
        self._notifier.main(os.getpid())
        self._deployments.take_over_store()
        if loop.served_at is not None:
            self._notifier.ready(loop.status_line())

    def _settle_alone(self, loop: Loop) -> None:
        """The predecessor is gone."""
        confirm_main(
            self._notifier,
            self._kernel,
            predecessor=self._birth.predecessor,
            leave_behind=lambda: self._leave_behind(loop, ()),
        )

    def _look_around(self, loop: Loop) -> None:
        """Have it seen what happens to the fleet: to its listeners, to those who wait, to its logs."""
        looks = (
            Mending(loop, self._deployments).tick,
            Crowding(loop, self._deployments).tick,
            LogWatch(loop, self._journal).tick,
        )
        loop.tickers += looks

    def _watch_files(self, port: Port, loop: Loop) -> None:
        folder = str(working_folder())

        def wanted() -> Watched:
            settings = self._deployments.present.settings
            return watched_of(settings.reload, settings.app, folder=folder)

        watching = Watching(
            port.means.kernel,
            self._selector,
            wanted=wanted,
            changed=port.reload_for,
            leave_behind=lambda: self._leave_behind(loop, ()),
        )
        loop.tickers.append(watching.tick)
        self._stack.callback(watching.end)

    def _leave_behind(self, loop: Loop, kept: tuple[Listener, ...]) -> None:
        """In a forked child: close whatever is the arbiter's."""
        for listener in self._deployments.all_listeners():
            if listener not in kept:
                listener.sock.close()
        self._selector.close()
        self._wakeup.close()
        self._reception.leave_behind()
        loop.seats.leave_behind()
        self._enquiries.leave_behind()
        self._changeover.leave_behind()
        if self._verdict is not None:
            self._verdict.close()
        if self._pidfile is not None:
            self._pidfile.close()
        gc.unfreeze()

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
