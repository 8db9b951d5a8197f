"""Deployments: settings with what they need, listeners and a blueprint; the present one, and the next on trial.

Run by the arbiter's loop. Everything that can fail happens before anything is changed: a deployment that cannot be
prepared leaves no trace.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.arbiter.reading import read
from unicornd.arbiter.spawn import Blueprint
from unicornd.arbiter.state import Patience, Pool
from unicornd.arbiter.upgrade.handoff import Handoff
from unicornd.config.instance import as_said
from unicornd.config.kinds import kind_of
from unicornd.config.loaded import in_force, needing_restart
from unicornd.config.record import replaced
from unicornd.config.resolved import count_of, socket_mode_of, under_their_names
from unicornd.dataclass import dataclass, replace
from unicornd.errors import ConfigError, ListenError
from unicornd.forking import BOUNDARY
from unicornd.observe import logs
from unicornd.sockets.inherit import expand
from unicornd.sockets.listener import Listener, Ownership, close_listener, refuse_newcomers, renew_listener
from unicornd.sockets.opening import Manner, open_wanted
from unicornd.sockets.sharing import is_port_shared, lead_back, lead_elsewhere
from unicornd.sockets.shut import without_file
from unicornd.units import Generation, Pid, Seconds
from unicornd.workers.boot import Casting, tls_context
from unicornd.workers.handover import Handover
from unicornd.workers.identity import account_of, identity_of
from unicornd.workers.importing import folders_of, prepare_hooks
from unicornd.workers.logbook import open_logs
from unicornd.workers.mold import run_mold
from unicornd.workers.registry import cells_of
from unicornd.workers.title import set_title

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from ssl import SSLContext

    from unicornd.accounts import Account
    from unicornd.config.loaded import Loaded, Sources
    from unicornd.config.settings import Settings
    from unicornd.control.listening import ControlSocket
    from unicornd.observe.logfile import OpenLog
    from unicornd.sockets.inherit import Passed
    from unicornd.sockets.store import Store

GIVES_UP = frozenset({None, "threads"})
"""Kinds whose workers can give a request up that is stuck in a thread, and finish the others."""
HANDS_OVER = frozenset({"sync", "threads", "gevent", "eventlet"})
"""Kinds whose workers hand idle connections over when they leave."""
POOL = "web"
"""The one pool that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One generation's settings and means.

    Attributes:
        files: the log files, by path, which its workers inherit.
        folders: of the application, where they were when the generation began (`importing.folders_of`).
    """

    loaded: Loaded
    blueprint: Blueprint
    files: Mapping[str, OpenLog]
    folders: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.loaded.settings

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What it listens on."""
        return self.blueprint.listeners

    def pool(self, size: int) -> Pool:
        """Return the pool that it wants."""
        timeouts, reload = self.settings.timeouts, self.settings.reload
        patience = Patience(
            boot=Seconds(timeouts.boot),
            request=Seconds(timeouts.request),
            heartbeat=Seconds(timeouts.heartbeat),
            graceful=Seconds(timeouts.graceful),
            kill=Seconds(timeouts.kill),
            drain=Seconds(timeouts.drain),
            spares_siblings=self.settings.workers.threads > 1 and self.settings.workers.kind in GIVES_UP,
        )
        return Pool(
            name=POOL,
            size=size,
            generation=self.blueprint.generation,
            surge=size if reload.surge == "all" else reload.surge,
            max_failures=reload.max_failures,
            patience=patience,
            is_molded=self.blueprint.mold is not None,
            folders=self.folders,
        )


class Deployments:
    """The present deployment and, during a rollout, the next one.

    Args:
        sources: where the configuration is read from, each time anew.
        instance: the instance's name.
        passed: descriptors that systemd has passed on.
        store: listeners that it keeps over a restart.
        fallback_log: where a daemon logs that would log to standard error; empty for a process that has one.
        handoff: what the predecessor in an upgrade has left, or None.
        is_shared: says whether another arbiter uses the listeners, too: then they are only let go of.

    Attributes:
        present: what serves.
        next: what is on trial, or None.
        unapplied: what the last reload has read and only a restart applies, a line each.
    """

    def __init__(
        self,
        sources: Sources,
        passed: tuple[Passed, ...],
        *,
        store: Store,
        fallback_log: str = "",
        instance: str = "unicornd",
        handoff: Handoff | None = None,
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self._handoff = handoff
        self.is_shared = is_shared
        self._instance = instance
        self._sources = sources
        self._fallback_log = fallback_log
        self._passed = passed
        self._store = store
        for listener in (*(handoff.listeners if handoff is not None else ()), *store.returned):
            BOUNDARY.own(listener.sock)
        self._adopted: set[Listener] = set()
        self._path = tuple(sys.path)
        self._left: set[Listener] = set()
        self._generation = Generation(handoff.generation if handoff is not None else 0)
        self._files: Mapping[str, OpenLog] = {}
        self._is_started = False
        self.present: Deployment
        self.next: Deployment | None = None
        self.unapplied: Sequence[str] = ()
        self._saved_size: int | None = None

    @property
    def file_size(self) -> int:
        """How many workers the configuration says, with what `scale --save` has laid over it since it was read."""
        return count_of(self.present.settings.workers) if self._saved_size is None else self._saved_size

    def note_saved(self, size: int) -> None:
        """A number of workers was written beside the configuration: the next one that is read has it."""
        self._saved_size = size

    @property
    def sources(self) -> Sources:
        """Where the configuration is read from."""
        return self._sources

    @property
    def writer(self) -> Account | None:
        """Whom the workers run as, if not as the arbiter."""
        return writer_of(self.present.settings)

    def log_files(self) -> list[OpenLog]:
        """Return the log files of all deployments."""
        deployments = (self.present, self.next)
        return [file for each in deployments if each is not None for file in each.files.values()]

    def open_first_logs(self, settings: Settings) -> None:
        """Open the log files, before anything else that may fail.

        Raises:
            ConfigError: a file cannot be opened.
        """
        section = self.with_log(settings).logging
        self._files = logs.open_files(section, writer=writer_of(settings))
        logs.configure(section, files=self._files)

    def start(self, loaded: Loaded) -> Deployment:
        """Open the listeners of the first deployment.

        Raises:
            UnicorndError: something that it needs is not there.
        """
        left = self._handoff.listeners if self._handoff is not None else ()
        tls = tls_context(loaded.settings)
        listeners = self._opened(loaded.settings, (*left, *self._store.returned))
        self.present = self._made(loaded, listeners, tls=tls, files=self._files)
        self._is_started = True
        for listener in left:
            if listener not in self.present.listeners:
                listener.sock.close()  # not wanted any more; its file is the predecessor's
        for listener in self._store.settle(self.present.listeners):
            manner = _manner(loaded.settings)
            renew_listener(
                listener, backlog=manner.backlog, ownership=manner.ownership, is_shared=manner.is_shared
            )
        return self.present

    def prepare(self, read: Loaded) -> Deployment:
        """Get what a configuration that has just been read needs, beside the present deployment.

        Raises:
            UnicorndError: why not; nothing was changed.
        """
        read = self.here(read)
        self.unapplied = needing_restart(self.present.loaded, read)
        loaded = in_force(self.present.loaded, read)
        tls = tls_context(loaded.settings)
        files = logs.open_files(self.with_log(loaded.settings).logging, writer=writer_of(loaded.settings))
        try:
            listeners = self._opened(loaded.settings, self.present.listeners)
        except BaseException:
            logs.close_files(files.values())
            raise
        self.next = self._made(loaded, listeners, tls=tls, files=files)
        present, wanted = self.present.blueprint.handover, self.next.blueprint.handover
        if present is not None and present is not wanted:
            present.shut()  # the new workers are of a kind that takes no connections over
        return self.next

    def renew_handover(self) -> None:
        """All workers leave, nobody takes their connections over; later ones have a pair of their own."""
        blueprint = self.present.blueprint
        if blueprint.handover is not None:
            blueprint.handover.shut()
            blueprint.handover.close()
            renewed = replace(blueprint, handover=Handover.open())
            self.present = replace(self.present, blueprint=renewed)

    def reading(self) -> Callable[[], Loaded]:
        """Return what reads and checks the configuration as it is now, in a process of its own.

        The working directory is entered anew by the name that it had at the start, as gunicorn does at HUP.
        """
        with suppress(OSError):  # it may be gone, and nothing be needed of it
            os.chdir(self._sources.folder)  # a symbolic link may lead to the next release by now
        sources = replace(self._sources, environ=dict(os.environ))
        return partial(read, sources, path=self._path)

    def here(self, loaded: Loaded) -> Loaded:
        """Return what was read with the places of the logs as they are here."""
        return _with_settings(loaded, self.with_log(loaded.settings))

    def handoff(
        self, baton: int, *, size: int, control: ControlSocket | None, admin: Listener | None
    ) -> Handoff:
        """Return what a successor gets; `size`: how many workers are wanted."""
        handover = self.present.blueprint.handover
        return Handoff(
            pid=Pid(os.getpid()),
            baton=baton,
            control=control.sock.fileno() if control is not None else None,
            control_address=control.address if control is not None else "",
            admin=admin,
            handover=(handover.giving.fileno(), handover.taking.fileno()) if handover is not None else (),
            listeners=tuple(each for each in self.present.listeners if not each.is_inherited),
            passed=self._passed,
            generation=self._generation,
            size=size,
            file_size=self.file_size,
        )

    def adopt(self) -> None:
        """The next deployment is the present one from now on."""
        if self.next is not None:
            _close_others(self.present.listeners, kept=self.next.listeners)
            former = self.present.files
            self.present, self.next = self.next, None
            self._saved_size = None
            self._store.settle(self.present.listeners)
            prepare_hooks(self.present.settings.app, self.present.folders)
            try:
                self.open_logs(self.present.settings, self.present.files)
            except (
                ConfigError
            ) as error:  # it worked a moment ago, or the class that is loaded is not the one on disk
                log = logging.getLogger(logs.ERROR_LOG)
                log.error("the arbiter's logs were not opened anew: %s", error.message)  # noqa: TRY400 - told
            logs.close_files(former.values())

    def discard(self) -> None:
        """Give the next deployment up."""
        if self.next is not None:
            _close_others(self.next.listeners, kept=self.present.listeners)
            logs.close_files(self.next.files.values())
            self.next = None

    def reopen(self, listener: Listener) -> None:
        """Put a new socket in the place of a Unix socket that was shut down or has lost its file; workers that are there have the old one.

        Raises:
            ListenError: it cannot be had.
        """
        if listener.is_inherited or listener.address.kind != "unix" or self.is_shared():
            raise ListenError(
                f"{listener.bound} was shut down, and nothing but a restart can open it again",
                hint="it has an abstract name, or others use it, too",
            )
        has_lost_file = bool(without_file((listener,)))
        (fresh,) = open_wanted((listener.address,), (), manner=_manner(self.present.settings))
        BOUNDARY.own(fresh.sock)
        self.present = _with_listener(self.present, fresh, old=listener)
        if self.next is not None:
            self.next = _with_listener(self.next, fresh, old=listener)
        if has_lost_file:  # the new one may have its inode number by now
            listener.sock.close()
        else:
            close_listener(listener)
        self._store.settle(self.present.listeners)

    def blueprint(self, generation: Generation) -> Blueprint:
        """Return how workers of a generation are made."""
        if self.next is not None and self.next.blueprint.generation == generation:
            return self.next.blueprint
        return self.present.blueprint

    def close_listeners(self) -> None:
        """Let nobody new in, and close our copies: the workers answer what has been sent, and close the last ones.

        What systemd keeps for the next start stays as it is: connections queue there. Where another fleet shares the
        port, it serves them; our copy stays open until the workers have gone, so that nobody is led to us again.
        """
        if self.is_shared():
            for listener in self.all_listeners():
                listener.sock.close()
            return
        for deployment in (self.present, self.next):
            if deployment is not None and deployment.blueprint.handover is not None:
                deployment.blueprint.handover.shut()
        for listener in self.all_listeners():
            if listener in self._left:
                lead_back(listener.sock)
                close_listener(listener)
                self._left.discard(listener)
            elif _leads_elsewhere(listener):
                self._store.forget(listener)
                self._left.add(listener)
            elif self._store.keeps(listener):
                listener.sock.close()
            elif listener.sock.fileno() >= 0:
                refuse_newcomers(listener)
                close_listener(listener)

    def take_over_store(self) -> None:
        """The predecessor speaks to systemd no more: what is kept over a restart is ours to say."""
        left = self._handoff.listeners if self._handoff is not None else ()
        self._store.take_over(self.present.listeners, former=left)

    def keep_nothing(self) -> None:
        """There will be no next start: whoever connects is to be refused, not to queue in vain."""
        self._store.settle(())

    def all_listeners(self) -> set[Listener]:
        """Return every listener that is ours, in use or not."""
        used = (deployment.listeners for deployment in (self.present, self.next) if deployment is not None)
        return self._adopted.union(*used)

    def _made(
        self,
        loaded: Loaded,
        listeners: tuple[Listener, ...],
        *,
        tls: SSLContext | None,
        files: Mapping[str, OpenLog],
    ) -> Deployment:
        self._generation = Generation(self._generation + 1)
        for line in loaded.losses:
            logging.getLogger(logs.ERROR_LOG).warning("%s", line)
        loaded = self.here(loaded)
        settings = loaded.settings
        folders = folders_of(settings.app)
        casting = Casting(settings=settings, instance=self._instance, tls=tls, files=files, folders=folders)
        blueprint = Blueprint(
            generation=self._generation,
            listeners=listeners,
            cells=cells_of(settings.workers, settings.app.interface),
            run=casting.run,
            mold=partial(run_mold, casting=casting) if settings.app.preload else None,
            handover=self._handover(kind_of(settings.workers, settings.app.interface)),
        )
        return Deployment(loaded=loaded, blueprint=blueprint, files=files, folders=folders)

    def _handover(self, kind: str) -> Handover | None:
        """Return the pair that the workers share with those that they replace, if both can hand over."""
        if kind not in HANDS_OVER:
            return None
        if self._is_started:
            shared = self.present.blueprint.handover
        else:
            left = self._handoff.handover if self._handoff is not None else ()
            shared = Handover.of(*left) if left else None
        return shared or Handover.open()

    def with_log(self, settings: Settings) -> Settings:
        """Return the settings with a log file, for a daemon that has none, and with a name for syslog."""
        section = settings.logging
        if self._fallback_log and logs.stream_of(section.error) is not None:
            section = replaced(section, error=self._fallback_log)
        if section.syslog.enabled and section.syslog.prefix is None:
            syslog = replaced(section.syslog, prefix=self._instance)
            section = replaced(section, syslog=syslog)
        return settings if section is settings.logging else replaced(settings, logging=section)

    def settle_in(self, settings: Settings) -> None:
        """Be where the application is at home, as the operator's logging and hooks are; open the logs with them.

        Raises:
            ConfigError: see `logbook.open_logs`.
        """
        if settings.app.chdir is not None:
            os.chdir(settings.app.chdir)
        prepare_hooks(settings.app, folders_of(settings.app))
        set_title("arbiter", self._instance)
        self.open_logs(settings, self._files)

    def open_logs(self, settings: Settings, files: Mapping[str, OpenLog]) -> None:
        """Let the arbiter's logs lead where a deployment's settings say.

        Raises:
            ConfigError: see `logbook.open_logs`.
        """
        settings = self.with_log(settings)
        cfg = under_their_names(settings, self._instance)
        writer = writer_of(settings)
        open_logs(settings.logging, metrics=settings.metrics, cfg=cfg, files=files, writer=writer)

    def _opened(self, settings: Settings, present: tuple[Listener, ...]) -> tuple[Listener, ...]:
        """Return the wanted listeners: those that are open already, and new ones."""
        is_default = "bind" not in settings.server.said
        addresses = expand(settings.server.bind, self._passed, is_default=is_default)
        there = (*present, *self._adopted)
        wanted = open_wanted(addresses, there, manner=_manner(settings))
        for listener in wanted:
            BOUNDARY.own(listener.sock)
        self._adopted |= {listener for listener in wanted if listener.is_inherited}
        return wanted


def writer_of(settings: Settings) -> Account | None:
    """Return whom the workers run as, if not as the arbiter; raises ConfigError."""
    process = settings.process
    return account_of(process.user, process.group, initgroups=process.initgroups)


def _manner(settings: Settings) -> Manner:
    server, process = settings.server, settings.process
    identity = identity_of(process.user, process.group, initgroups=False)
    mode = socket_mode_of(server, process)
    ownership = Ownership(mode=mode, uid=identity.uid, gid=identity.gid, writer=writer_of(settings))
    return Manner(backlog=server.backlog, ownership=ownership, is_shared=server.reuse_port)


def _leads_elsewhere(listener: Listener) -> bool:
    """Whether there is another fleet that takes the newcomers from now on."""
    if listener.is_inherited or listener.sock.fileno() < 0 or not is_port_shared(listener.sock):
        return False
    return lead_elsewhere(listener.sock)


def _with_settings(loaded: Loaded, settings: Settings) -> Loaded:
    """Return what was loaded with the places of the logs as they are here."""
    places = {
        "logging.error": settings.logging.error,
        "logging.syslog.prefix": settings.logging.syslog.prefix,
    }
    rows = tuple(row._replace(value=places.get(row.key, row.value)) for row in loaded.rows)
    return replace(loaded, settings=settings, rows=rows)


def _with_listener(deployment: Deployment, fresh: Listener, *, old: Listener) -> Deployment:
    listeners = tuple(fresh if each is old else each for each in deployment.listeners)
    return replace(deployment, blueprint=replace(deployment.blueprint, listeners=listeners))


def _close_others(listeners: tuple[Listener, ...], *, kept: tuple[Listener, ...]) -> None:
    for listener in listeners:
        # Passed ones stay open: what one reload leaves out, the next may take up again.
        if not listener.is_inherited and all(listener.sock is not other.sock for other in kept):
            close_listener(listener)


def config_path(deployment: Deployment) -> Path | None:
    """Return the absolute path of the configuration file, as it was said."""
    file = deployment.loaded.config_file
    return as_said(Path(file)) if file is not None else None
