"""A worker's life in one function: surroundings, application, READY, serving, leaving.

Run in the forked child, main thread; the only place in `workers/` that sees all settings. Whatever goes wrong before
READY is reported to the arbiter with its cause, then the process ends with exit code 3 or 4.
"""

from __future__ import annotations

import logging
import os
import random
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TextIO, cast

from unicornd import __version__
from unicornd.errors import AppError, BootError, DaemonExit, UnicorndError
from unicornd.http.limits import Limits
from unicornd.observe import access, logs
from unicornd.units import Seconds
from unicornd.workers import signals
from unicornd.workers.apploader import load_app
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.channel import BootFailedReport, ReadyReport, Report, encode_report
from unicornd.workers.context import HttpPolicy, Served, WorkerContext
from unicornd.workers.fitting import check_fit
from unicornd.workers.hooks import (
    WORKER_HOOKS,
    Hooks,
    RequestView,
    ResponseView,
    ServerView,
    WorkerView,
    load_hooks,
)
from unicornd.workers.identity import become, identity_of
from unicornd.workers.interface import check_served, chosen_interface
from unicornd.workers.recycle import Recycling
from unicornd.workers.registry import load_kind, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.config.settings import Settings
    from unicornd.workers.context import Orders, Seat
    from unicornd.workers.registry import Kind


def run_worker(seat: Seat, settings: Settings) -> int:
    """Be a worker until told to leave; return the exit code.

    Args:
        seat: what the arbiter gave it.
        settings: of its generation.
    """
    log = logging.getLogger(logs.ERROR_LOG)
    worker = WorkerView(
        pid=os.getpid(), age=seat.age, slot=seat.slot, generation=seat.generation, log=log, cfg=settings
    )
    server = ServerView(
        log=log,
        cfg=settings,
        pid=os.getppid(),
        num_workers=settings.workers.resolved_count(),
        proc_name=settings.process.name or "unicornd",
    )
    hooks = Hooks({}, log)

    def on_quit() -> None:
        hooks.call("worker_int", worker)
        hooks.call("worker_exit", server, worker)

    orders = signals.install(on_quit=on_quit, on_abort=lambda: hooks.call("worker_abort", worker))
    try:
        _surround(seat, settings)
        kind = _prepared_kind(settings)
        hooks = load_hooks({name: getattr(settings.hooks, name) for name in WORKER_HOOKS}, log)
        hooks.call("post_fork", server, worker)
        app = _load(settings)
        kind = _fitting_kind(settings, app, kind=kind)
        worker.app = app
        hooks.call("post_worker_init", worker)
    except UnicorndError as error:
        return _give_up(seat, error)
    except Exception as error:  # noqa: BLE001 - reported, whatever it is
        return _give_up(seat, BootError(f"the worker cannot be set up: {error!r}"))
    if orders.is_draining:
        return DaemonExit.OK
    context = _context(seat, settings, app=app, kind=kind, orders=orders, hooks=hooks, worker=worker)
    try:
        return _serve(seat, kind, context=context)
    finally:
        hooks.call("worker_exit", server, worker)


def _prepared_kind(settings: Settings) -> Kind:
    """Return the kind; it has prepared the process for its ways, before anything of the operator's is imported."""
    kind = load_kind(settings.workers.resolved_kind(settings.app.interface))
    prepare(kind)
    return kind


def _load(settings: Settings) -> WSGIApplication:
    if settings.app.target is None:
        raise AppError("app.target is not set")
    return cast("WSGIApplication", load_app(settings.app.target))


def _fitting_kind(settings: Settings, app: WSGIApplication, *, kind: Kind) -> Kind:
    """Return the kind that serves this application: the one that is set, which has to fit, or one that does.

    Raises:
        AppError: it does not fit.
        ConfigError: the one that does cannot be had, or cannot honour what was set.
    """
    workers, said, target = settings.workers, settings.app.interface, settings.app.target
    interface = chosen_interface(app, said, target=target)
    if workers.kind is None and interface != kind.INTERFACE:
        kind = load_kind(workers.resolved_kind(interface))
    check_served(workers.resolved_kind(said), kind.INTERFACE, app=interface, target=target)
    check_fit(interface, app=settings.app, http=settings.http, asgi=settings.asgi)
    return kind


def _asgi_policy(settings: Settings) -> AsgiPolicy:
    asgi, timeouts = settings.asgi, settings.timeouts
    return AsgiPolicy(
        loop=asgi.loop,
        lifespan=asgi.lifespan,
        root_path=settings.app.root_path,
        trusted=settings.proxy.forwarded_allow_ips,
        request=Seconds(timeouts.request),
        disconnect_grace=Seconds(asgi.disconnect_grace_period),
        graceful=Seconds(timeouts.graceful),
        websocket_max_message=asgi.websocket_max_message_size,
    )


def _serve(seat: Seat, kind: Kind, *, context: WorkerContext) -> int:
    """Serve; what goes wrong before the kind says that it is ready is a failed boot."""
    has_served = False

    def ready() -> None:
        nonlocal has_served
        if not has_served:
            has_served = True
            _report(seat, ReadyReport())

    try:
        kind.run(replace(context, ready=ready))
    except UnicorndError as error:
        if has_served:
            raise
        return _give_up(seat, error)
    return DaemonExit.OK


def _surround(seat: Seat, settings: Settings) -> None:
    """Take on user, directory, environment and import path.

    Raises:
        UnicorndError: one of them cannot be had.
    """
    process, app = settings.process, settings.app
    logs.configure(settings.logging)  # of its own generation, not those of the arbiter
    identity = identity_of(process.user, process.group, initgroups=process.initgroups)
    for log_file in logs.log_files():
        log_file.give_to(identity.uid, identity.gid)
    try:
        become(identity)
        if app.chdir is not None:
            os.chdir(app.chdir)
    except OSError as error:
        raise BootError(
            f"the worker cannot be set up: {error.strerror}: {error.filename or 'user and group'}"
        ) from error
    if process.umask is not None:
        os.umask(process.umask)
    os.environ.update(app.env)
    os.environ["SERVER_SOFTWARE"] = f"unicornd/{__version__}"
    os.environ["UNICORND_WORKER_SLOT"] = str(seat.slot)
    os.environ["UNICORND_GENERATION"] = str(seat.generation)
    sys.path[:0] = [*app.pythonpath, os.getcwd()]  # noqa: PTH109 - a str is what sys.path wants
    random.seed()  # not the state that the arbiter had, the same in every worker


def _give_up(seat: Seat, error: UnicorndError) -> int:
    code = error.exit_code if error.exit_code is DaemonExit.APP else DaemonExit.BOOT
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    cause: Literal["app", "boot"] = "app" if code is DaemonExit.APP else "boot"
    _report(seat, BootFailedReport(cause=cause, text=text, detail=error.detail))
    return code


def _report(seat: Seat, report: Report) -> None:
    with suppress(OSError):  # the arbiter is gone: the lifeline says the same
        seat.channel.send(encode_report(report))


def _context(
    seat: Seat,
    settings: Settings,
    *,
    app: WSGIApplication,
    kind: Kind,
    orders: Orders,
    hooks: Hooks,
    worker: WorkerView,
) -> WorkerContext:
    workers = settings.workers
    log = logging.getLogger(logs.ERROR_LOG)
    has_pre_request = hooks.has("pre_request")
    return WorkerContext(
        seat=seat,
        app=app,
        orders=orders,
        http=_policy(settings, keeps_alive=kind.KEEPS_ALIVE),
        threads=workers.threads,
        is_multiprocess=workers.resolved_count() > 1,
        log=log,
        errors=cast("TextIO", logs.ErrorStream(log)),
        recycling=_recycling(workers),
        report=lambda report: _report(seat, report),
        ready=lambda: None,
        asgi=_asgi_policy(settings),
        pre_request=(lambda head: hooks.call("pre_request", worker, RequestView(head)))
        if has_pre_request
        else None,
        on_served=_on_served(settings, hooks=hooks, worker=worker),
    )


def _recycling(workers: WorkersSettings) -> Recycling | None:
    if not workers.max_requests:
        return None
    return Recycling(workers.max_requests, jitter=workers.max_requests_jitter, random=random.Random())  # noqa: S311 - no secret


def _policy(settings: Settings, *, keeps_alive: bool) -> HttpPolicy:
    http, timeouts = settings.http, settings.timeouts
    return HttpPolicy(
        limits=Limits(
            request_line=http.max_request_line,
            header_count=http.max_headers,
            header_size=http.max_header_size,
            body_size=http.max_body_size,
        ),
        body_memory=http.body_memory,
        tmp_upload_dir=str(http.tmp_upload_dir) if http.tmp_upload_dir is not None else None,
        response_buffer=http.response_buffer,
        has_sendfile=http.sendfile,
        head=Seconds(timeouts.head),
        body=Seconds(timeouts.body),
        write=Seconds(timeouts.write),
        keepalive=Seconds(timeouts.keepalive),
        is_kept_alive=keeps_alive and timeouts.keepalive > 0,
        connections=settings.workers.connections,
    )


def _on_served(settings: Settings, *, hooks: Hooks, worker: WorkerView) -> Callable[[Served], None] | None:
    """Return what is to be done after a request, or None if nobody wants to know."""
    tellers: list[Callable[[Served], None]] = []
    if settings.logging.access.file is not None:
        line = access.compile_format(settings.logging.access.format)
        log = logging.getLogger(logs.ACCESS_LOG)
        tellers.append(lambda served: log.info("%s", line(_loggable(served))))
    if hooks.has("post_request"):
        tellers.append(
            lambda served: hooks.call(
                "post_request", worker, RequestView(served.head), served.environ, ResponseView(served)
            )
        )
    if not tellers:
        return None

    def tell(served: Served) -> None:
        for teller in tellers:
            teller(served)

    return tell


def _loggable(served: Served) -> access.Request:
    return access.Request(
        environ=served.environ,
        status=served.status,
        headers={name.lower(): value for name, value in served.headers},
        size=served.size,
        seconds=served.seconds,
    )
