"""A worker's life in one function: surroundings, application, READY, serving, leaving.

Run in the forked child, main thread; the only place in `workers/` that sees all settings. Whatever goes wrong before
READY is reported to the arbiter with its cause, then the process ends with exit code 3 or 4.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, TextIO, cast

from unicornd import __version__
from unicornd.config.exposed import WORKER_HOOKS
from unicornd.config.instance import working_folder
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of, under_their_names
from unicornd.dataclass import dataclass, replace
from unicornd.errors import BootError, DaemonExit, UnicorndError
from unicornd.forking import BOUNDARY, connections_at, let_go
from unicornd.http.limits import limits_of
from unicornd.observe import logs
from unicornd.observe.outlet import retry_in_thread
from unicornd.units import Seconds
from unicornd.workers import signals
from unicornd.workers.ahead import import_ahead
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.channel import BootFailedReport, ReadyReport, Report, RetiringReport, encode_report
from unicornd.workers.closed import hint_of_closed, hint_of_closed_path
from unicornd.workers.context import HttpPolicy, WorkerContext
from unicornd.workers.fitting import check_tls_fit, check_unpatched, check_wire, speaks_tls
from unicornd.workers.hooks import (
    Heartbeat,
    Hooks,
    ServerView,
    WorkerView,
    load_hooks,
    view_of,
)
from unicornd.workers.identity import become, identity_of
from unicornd.workers.importing import folders_of, kept_environment, settle_in
from unicornd.workers.interpreter import gil
from unicornd.workers.keeping import Keeper
from unicornd.workers.leaving import Attendance, call_exit_functions, wind_up
from unicornd.workers.loading import load_app, prepared_kind
from unicornd.workers.logbook import open_own_logs, open_their_logs
from unicornd.workers.overflow import Overflow
from unicornd.workers.possessions import Possessions, inherited_by
from unicornd.workers.recycle import Recycling
from unicornd.workers.renewal import LogReceiver
from unicornd.workers.served import on_served
from unicornd.workers.spew import spew
from unicornd.workers.title import set_title
from unicornd.workers.wire import wire_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ssl import SSLContext
    from wsgiref.types import WSGIApplication

    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.config.settings import Settings
    from unicornd.observe.logfile import OpenLog
    from unicornd.workers.context import Orders, Seat
    from unicornd.workers.loading import Loaded
    from unicornd.workers.registry import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """What the workers of a generation have in common (`mold.Casting`).

    Attributes:
        settings: of the generation.
        instance: the instance's name.
        tls: what TLS is spoken with, before `hooks.ssl_context`. Made by the arbiter: so the key may be for root only,
            what happens to the files meanwhile costs no worker, and clients may resume a session at another one.
        files: the log files, path → file. Opened by the arbiter, so they may be where only root can write.
        folders: of the application, where they were when the generation began; the last one is its home. A worker that is
            replaced finds its generation's code there, wherever links lead by then.
    """

    settings: Settings
    files: Mapping[str, OpenLog]
    folders: tuple[str, ...]
    instance: str = "unicornd"
    tls: SSLContext | None = None

    def load(self) -> Loaded:
        """Take on the workers' surroundings and load the application.

        Raises:
            UnicorndError: one of them cannot be had.
        """
        set_title("mold", self.instance)
        tls = _surround(self)
        return _load(self.settings, prepared_kind(self.settings.app, self.settings.workers), tls=tls)

    def run(self, seat: Seat, *, loaded: Loaded | None = None) -> int:
        """Be a worker until told to leave, and end; return the exit code."""
        set_title(f"worker {seat.slot}", self.instance)
        log = logging.getLogger(logs.ERROR_LOG)
        graceful = Seconds(self.settings.timeouts.graceful)
        attendance = Attendance(seat.row, log, lifeline=seat.lifeline, limit=graceful)
        code = run_worker(seat, self, loaded=loaded, attend=attendance.begin)
        wind_up(attendance, log)
        return code


def run_worker(seat: Seat, casting: Casting, *, loaded: Loaded | None, attend: Callable[[], None]) -> int:
    """Be a worker until told to leave; return the exit code.

    Args:
        seat: what the arbiter gave it.
        casting: of its generation.
        loaded: by the mold whose surroundings this worker shares; None to load it here.
        attend: to be called before anything that may take long while the worker leaves (`leaving.Attendance`).
    """
    settings = casting.settings
    log = logging.getLogger(logs.ERROR_LOG)
    server, worker = _views(seat, settings, log=log, name=casting.instance)
    hooks = Hooks({}, log)

    def on_quit() -> None:
        attend()
        hooks.call("worker_int", worker)
        hooks.call("worker_exit", server, worker)

    orders = _listen(seat, casting, on_quit=on_quit, on_abort=lambda: hooks.call("worker_abort", worker))
    orders.attend = attend
    try:
        _sit_down(seat)
        tls = loaded.tls if loaded is not None else _surround(casting)
        kind = loaded.kind if loaded is not None else prepared_kind(settings.app, settings.workers)
        with kept_environment(settings.app):
            hooks = load_hooks({name: getattr(settings.hooks, name) for name in WORKER_HOOKS}, log)
        hooks.call("post_fork", server, worker)
        kind, app, tls = loaded or _load(settings, kind, tls=tls)
        server.app.callable = worker.app.callable = app
        worker.on_retire = lambda: report(seat, RetiringReport(why="a hook set worker.alive = False"))
        hooks.call("post_worker_init", worker)
    except Exception as error:  # noqa: BLE001 - reported, whatever it is
        return give_up(seat, error)
    if orders.is_draining:
        return DaemonExit.OK

    leave = partial(_leave, hooks, server=server, worker=worker, attend=attend)
    orders.fail = partial(leave, code=DaemonExit.FAILED)
    context = _context(
        seat, settings, app=app, kind=kind, orders=orders, hooks=hooks, worker=worker, leave=leave
    )
    try:
        name = kind_of(settings.workers, kind.INTERFACE)
        return _serve(seat, kind, context=replace(context, tls=tls), worker=worker, name=name)
    finally:
        attend()
        hooks.call("worker_exit", server, worker)


def _listen(
    seat: Seat, casting: Casting, *, on_quit: Callable[[], None], on_abort: Callable[[], None]
) -> Orders:
    """Hear signals from now on, and take what the arbiter has sent before; a child that is forked does not."""
    receive_logs = LogReceiver(seat.channel, casting.files)
    log = logging.getLogger(logs.ERROR_LOG)
    orders = signals.install(
        on_quit=on_quit, on_abort=on_abort, log=log, row=seat.row, on_reopen=receive_logs
    )
    receive_logs.catch_up()
    BOUNDARY.arm(orders.signals, partial(_give_up_in_child, seat, orders))
    retry_in_thread(seat.row.set_lost)
    return orders


def _give_up_in_child(seat: Seat, orders: Orders) -> None:
    """In a process that the application has forked: it is no worker, and holds nothing of it."""
    orders.is_in_child = True
    signals.forget_stacks()
    connected = connections_at(listener.sock for listener in seat.listeners)
    let_go([*inherited_by(seat, orders), *connected], pollers=orders.pollers)
    orders.on_fork()


def _leave(
    hooks: Hooks,
    *,
    server: ServerView,
    worker: WorkerView,
    attend: Callable[[], None],
    code: DaemonExit = DaemonExit.OK,
) -> None:
    """End the process, whatever its threads are doing."""
    attend()
    hooks.call("worker_exit", server, worker)
    call_exit_functions()  # threads that are stuck are not waited for
    os._exit(code)


def _views(
    seat: Seat, settings: Settings, *, log: logging.Logger, name: str
) -> tuple[ServerView, WorkerView]:
    """Return what hooks get as `server` and as `worker`."""
    cfg = under_their_names(settings, name)
    server = ServerView(
        log=log,
        cfg=cfg,
        pid=os.getppid(),
        num_workers=count_of(settings.workers),
        proc_name=settings.process.name or name,
    )
    worker = WorkerView(
        pid=os.getpid(), age=seat.age, slot=seat.slot, generation=seat.generation, log=log, cfg=cfg
    )
    worker.tmp = Heartbeat(seat.row)
    server.see(listeners=lambda: seat.listeners)
    worker.sockets = server.LISTENERS
    vars(server).update(seat.kept.get("server", {}))
    vars(worker).update(seat.kept.get("worker", {}))
    return server, worker


def _load(settings: Settings, kind: Kind, *, tls: SSLContext | None) -> Loaded:
    if settings.app.spew:
        spew()
    loaded = load_app(
        settings.app,
        settings.workers,
        kind=kind,
        http=settings.http,
        asgi=settings.asgi,
        errors=_error_stream(),
    )
    kind_name = kind_of(settings.workers, loaded.kind.INTERFACE)
    check_wire(kind_name, http=settings.http, proxy=settings.proxy, server=settings.server)
    check_tls_fit(kind_name, loaded.kind, tls=settings.tls, hooks=settings.hooks)
    return loaded._replace(tls=tls)


def _asgi_policy(settings: Settings) -> AsgiPolicy:
    asgi, timeouts = settings.asgi, settings.timeouts
    return AsgiPolicy(
        loop=asgi.loop,
        lifespan=asgi.lifespan,
        warmup=settings.app.warmup,
        root_path=settings.app.root_path,
        trusted=settings.proxy.forwarded_allow_ips,
        secure=settings.proxy.secure_scheme_headers,
        request=Seconds(timeouts.request),
        disconnect_grace=Seconds(asgi.disconnect_grace_period),
        heartbeat=Seconds(timeouts.heartbeat),
        graceful=Seconds(timeouts.graceful),
        websocket_max_message=asgi.websocket_max_message_size,
    )


def _serve(seat: Seat, kind: Kind, *, context: WorkerContext, worker: WorkerView, name: str) -> int:
    """Serve; what goes wrong before the kind says that it is ready is a failed boot."""
    has_served = False
    keeper = Keeper(context.orders, context.log, possessions=Possessions(seat, context.orders))
    context.orders.look = keeper.look
    keeper.put_right()  # before the kind opens anything

    def ready() -> None:
        nonlocal has_served
        if not has_served:
            has_served = worker.booted = context.orders.is_serving = True
            keeper.put_right()
            report(seat, ReadyReport(kind=name, gil=gil()))

    try:
        check_unpatched(name)
        kind.run(replace(context, ready=ready))
    except UnicorndError as error:
        if has_served:
            raise
        return give_up(seat, error)
    return DaemonExit.OK


def _error_stream() -> TextIO:
    return cast("TextIO", logs.ErrorStream(logging.getLogger(logs.ERROR_LOG)))


def _surround(casting: Casting) -> SSLContext | None:
    """Take on user, directory, environment and import path; return what TLS is spoken with in the end.

    Raises:
        UnicorndError: one of them cannot be had.
    """
    settings = casting.settings
    process, app = settings.process, settings.app
    text = open_own_logs(
        settings.logging, files=casting.files
    )  # of its own generation, not those of the arbiter
    identity = identity_of(process.user, process.group, initgroups=process.initgroups)
    is_encrypted = speaks_tls(settings.tls, settings.hooks)
    import_ahead(settings.workers, app.interface, identity=identity, speaks_tls=is_encrypted)
    try:
        become(identity)
        folders = _settle(app, casting.folders)
    except OSError as error:
        raise BootError(
            f"the worker cannot be set up: {error.strerror}: {error.filename or 'user and group'}",
            hint=hint_of_closed([error.filename]) if error.filename else "",
        ) from error
    if process.umask is not None:
        os.umask(process.umask)
    settle_in(app, folders)
    os.environ["SERVER_SOFTWARE"] = f"unicornd/{__version__}"
    # As the worker's user: what it opens is that user's to open, and root never follows a link for it.
    cfg = under_their_names(settings, "unicornd")
    open_their_logs(settings.logging, text, metrics=settings.metrics, cfg=cfg)
    return _custom_tls_context(settings, casting.tls)


def _settle(app: AppSettings, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Enter the application's home, and return where its code is: where both were when the generation began.

    If that is gone (a release that was removed), where they are now.

    Raises:
        OSError: the home cannot be entered.
    """
    home = folders[-1]
    if not os.path.isdir(home) and os.path.isdir(app.chdir or working_folder()):  # noqa: PTH112 - texts
        folders = folders_of(app)
        logging.getLogger(logs.ERROR_LOG).warning(
            "%s, where this generation's code was, is gone: the worker runs what is in %s", home, folders[-1]
        )
        home = folders[-1]
    if app.chdir is not None or _is_elsewhere(home):
        os.chdir(home)
    return folders


def _is_elsewhere(home: str) -> bool:
    """Whether another directory than `home` is the working directory, and `home` can be entered.

    Nobody has asked to enter it: the workers' user need not be allowed to, as long as it is where the arbiter is.
    """
    with suppress(FileNotFoundError):
        if os.getcwd() == home:  # noqa: PTH109 - compared as texts
            return False
    return os.access(home, os.X_OK)


def tls_context(settings: Settings) -> SSLContext | None:
    """Return what TLS is spoken with, or None for plain HTTP.

    Raises:
        ConfigError: the certificate cannot be used.
    """
    if not speaks_tls(settings.tls, settings.hooks):
        return None
    from unicornd.workers.tls import make_context  # noqa: PLC0415 - OpenSSL takes memory that others need not spend

    return make_context(settings.tls)


def _custom_tls_context(settings: Settings, context: SSLContext | None) -> SSLContext | None:
    """Have the operator's function change the context: it is run as the worker's user, where the application is."""
    if context is None or settings.hooks.ssl_context is None:
        return context
    from unicornd.workers.tls import custom_context  # noqa: PLC0415 - as above

    return custom_context(context, settings.hooks.ssl_context, cfg=under_their_names(settings, "unicornd")())


def _sit_down(seat: Seat) -> None:
    """Take on what tells this worker from its siblings."""
    os.environ["UNICORND_WORKER_SLOT"] = str(seat.slot)
    os.environ["UNICORND_GENERATION"] = str(seat.generation)
    for listener in seat.listeners:
        # A flag of the open file, so of all workers: one that was taken over may have changed it.
        listener.sock.setblocking(False)
    if (random := sys.modules.get("random")) is not None:
        random.seed()  # not the state that the arbiter or the mold had, the same in every worker


def give_up(seat: Seat, why: Exception) -> int:
    """Report why this process cannot serve; return its exit code."""
    hint = hint_of_closed_path() if isinstance(why, ImportError | PermissionError) else ""
    error = (
        why
        if isinstance(why, UnicorndError)
        else BootError(f"the process cannot be set up: {why!r}", hint=hint)
    )
    code = error.exit_code if error.exit_code is DaemonExit.APP else DaemonExit.BOOT
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    cause: Literal["app", "boot"] = "app" if code is DaemonExit.APP else "boot"
    report(seat, BootFailedReport(cause=cause, text=text, detail=error.detail))
    return code


def report(seat: Seat, what: Report) -> None:
    """Tell the arbiter something."""
    with suppress(OSError):  # the arbiter is gone: the lifeline says the same
        seat.channel.send(encode_report(what))


def _context(
    seat: Seat,
    settings: Settings,
    *,
    app: WSGIApplication,
    kind: Kind,
    orders: Orders,
    hooks: Hooks,
    worker: WorkerView,
    leave: Callable[[], None],
) -> WorkerContext:
    workers = settings.workers
    log = logging.getLogger(logs.ERROR_LOG)
    has_pre_request = hooks.has("pre_request")
    return WorkerContext(
        seat=seat,
        app=app,
        orders=orders,
        http=_policy(settings, keeps_alive=kind.KEEPS_ALIVE, log=log),
        threads=workers.threads,
        request_timeout=Seconds(settings.timeouts.request),
        is_multiprocess=count_of(workers) > 1,
        log=log,
        errors=_error_stream(),
        recycling=_recycling(workers),
        report=lambda what: report(seat, what),
        leave=leave,
        ready=lambda: None,
        asgi=_asgi_policy(settings),
        pre_request=(lambda head: hooks.call("pre_request", worker, view_of(head)))
        if has_pre_request
        else None,
        on_served=on_served(settings.logging, metrics=settings.metrics, hooks=hooks, worker=worker),
    )


def _recycling(workers: WorkersSettings) -> Recycling | None:
    if not workers.max_requests:
        return None
    import random  # noqa: PLC0415 - it brings much

    return Recycling(workers.max_requests, jitter=workers.max_requests_jitter, random=random.Random())  # noqa: S311 - no secret


def _policy(settings: Settings, *, keeps_alive: bool, log: logging.Logger) -> HttpPolicy:
    http, timeouts = settings.http, settings.timeouts
    folder = str(http.tmp_upload_dir) if http.tmp_upload_dir is not None else None
    overflow = Overflow(mark=http.response_buffer, most=http.response_spool, folder=folder, log=log)
    return HttpPolicy(
        limits=limits_of(
            request_line=http.max_request_line,
            header_count=http.max_headers,
            header_size=http.max_header_size,
            body_size=http.max_body_size,
        ),
        body_memory=http.body_memory,
        tmp_upload_dir=folder,
        response_buffer=http.response_buffer,
        overflow=overflow,
        has_sendfile=http.sendfile,
        head=Seconds(timeouts.head),
        body=Seconds(timeouts.body),
        write=Seconds(timeouts.write),
        keepalive=Seconds(timeouts.keepalive),
        is_kept_alive=keeps_alive and timeouts.keepalive > 0,
        connections=settings.workers.connections,
        **wire_of(
            settings.http, settings.proxy, server=settings.server, root_path=settings.app.root_path, log=log
        ),
    )
