"""From settings to the application and the kind that serves it.

Run in the worker, or in the mold that forks the workers. The kind is known first, as far as the settings tell: it may
have to prepare the process before anything of the operator's is imported.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

from unicornd.config.kinds import kind_of
from unicornd.config.values import ImportString
from unicornd.errors import AppError, ConfigError
from unicornd.observe.logs import ERROR_LOG
from unicornd.workers import apploader
from unicornd.workers.asyncviews import warning_for
from unicornd.workers.fitting import check_fit
from unicornd.workers.interface import check_served, chosen_interface, is_tornado
from unicornd.workers.paste import load_paste
from unicornd.workers.registry import load_kind, prepare
from unicornd.workers.warmup import warm_up

if TYPE_CHECKING:
    from ssl import SSLContext
    from wsgiref.types import WSGIApplication

    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.asgi import AsgiSettings
    from unicornd.config.sections.http import HttpSettings
    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.workers.registry import Kind


class Loaded(NamedTuple):
    """The application, what serves it, and what its TCP listeners speak TLS with."""

    kind: Kind
    app: WSGIApplication
    tls: SSLContext | None = None


def prepared_kind(app: AppSettings, workers: WorkersSettings) -> Kind:
    """Return the kind; it has prepared the process for its ways."""
    kind = load_kind(kind_of(workers, app.interface))
    prepare(kind)
    return kind


def load_app(
    app: AppSettings,
    workers: WorkersSettings,
    *,
    kind: Kind,
    http: HttpSettings,
    asgi: AsgiSettings,
    errors: TextIO,
) -> Loaded:
    """Import the application, find the kind that fits it, and have it answer the requests of `app.warmup`.

    Args:
        app: what to load.
        workers: how it is to be served.
        kind: prepared.
        http: what a kind may not be able to honour.
        asgi: the same.
        errors: `wsgi.errors` of the requests.

    Raises:
        UnicorndError: it cannot be had, it does not fit, or it cannot answer.
    """
    target, loaded = _loaded(app)
    if is_tornado(loaded):
        return Loaded(_tornado_kind(app, workers, kind=kind), loaded)
    interface = chosen_interface(loaded, app.interface, target=target)
    if workers.kind is None and interface != kind.INTERFACE:
        kind = load_kind(kind_of(workers, interface))
    check_served(kind_of(workers, app.interface), kind.INTERFACE, app=interface, target=target)
    check_fit(interface, http=http, asgi=asgi)
    if interface == "wsgi":
        if warning := warning_for(loaded, kind=kind_of(workers, app.interface), threads=workers.threads):
            logging.getLogger(ERROR_LOG).warning("%s", warning)
        warm_up(loaded, app.warmup, errors=errors)
    return Loaded(kind, loaded)


def _tornado_kind(app: AppSettings, workers: WorkersSettings, *, kind: Kind) -> Kind:
    """Return the kind for an application of tornado's own.

    Raises:
        AppError: it is another one.
        ConfigError: `app.warmup` or `app.root_path` is set.
    """
    if workers.kind != "tornado":
        raise AppError(
            f"app.target: {app.target} is a tornado application, which only its own server can call",
            hint='set kind = "tornado" under [workers]',
        )
    if app.warmup:
        raise ConfigError(
            "app.warmup has no effect on a tornado application: it is called by its server only",
            hint="leave it out",
        )
    if app.root_path:
        raise ConfigError(
            "app.root_path has no effect on a tornado application: its routes are whole paths",
            hint="leave it out",
        )
    return kind


def _loaded(app: AppSettings) -> tuple[ImportString, WSGIApplication]:
    """Return the application, and what it is called."""
    if app.paste is not None:
        made = load_paste(app.paste, app.paste_global)
        return ImportString(module=app.paste), cast("WSGIApplication", made)
    if app.target is None:
        raise AppError("app.target is not set")
    return app.target, cast("WSGIApplication", apploader.load_app(app.target))
