"""What can be known to be wrong before anything is changed: users, folders, files, formats.

Run where the configuration is read, at the start and at each reload, after the settings have been validated as text.
What only some settings need is imported for these.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.config.kinds import kind_of
from unicornd.config.resolved import under_their_names
from unicornd.errors import ConfigError
from unicornd.workers import fitting
from unicornd.workers.fitting import check_fit, check_green_fit, check_tls_wire, speaks_tls
from unicornd.workers.identity import account_of, identity_of
from unicornd.workers.registry import KINDS, check_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from unicornd.accounts import Account
    from unicornd.config.loaded import Loaded
    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.asgi import AsgiSettings
    from unicornd.config.sections.control import ControlSettings
    from unicornd.config.sections.hooks import HooksSettings
    from unicornd.config.sections.http import HttpSettings
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings
    from unicornd.config.sections.process import ProcessSettings
    from unicornd.config.sections.proxy import ProxySettings
    from unicornd.config.sections.reload import ReloadSettings
    from unicornd.config.sections.server import ServerSettings
    from unicornd.config.sections.tls import TlsSettings
    from unicornd.config.sections.workers import WorkersSettings


def check(loaded: Loaded) -> None:
    """Raise ConfigError for what validation cannot see."""
    settings = loaded.settings
    check_app(settings.app)
    check_process(settings.process)
    check_workers(settings.workers, settings.app, http=settings.http, asgi=settings.asgi)
    check_reload(settings.reload)
    if settings.http.tmp_upload_dir is not None:
        _check_folder("http.tmp_upload_dir", settings.http.tmp_upload_dir)
    check_control(settings.control)
    check_wire(
        settings.workers, settings.app, http=settings.http, proxy=settings.proxy, server=settings.server
    )
    check_listening(settings.server)
    check_tls(settings.tls, hooks=settings.hooks, server=settings.server, proxy=settings.proxy)
    if settings.logging.said - {"level"} or settings.metrics.said:  # no level can be wrong by now
        cfg = under_their_names(settings, "unicornd")
        process = settings.process
        writer = account_of(process.user, process.group, initgroups=process.initgroups)
        check_logging(settings.logging, metrics=settings.metrics, app=settings.app, cfg=cfg, writer=writer)


def check_app(app: AppSettings) -> None:
    """Raise ConfigError if there is nothing to serve, or no folder to serve it from."""
    if app.paste is not None:
        from unicornd.workers.paste import check_paste  # noqa: PLC0415 - a start does not wait for what it does not need

        check_paste(app.paste)
    elif app.target is None:
        raise ConfigError(
            "app.target is not set: there is nothing to serve",
            hint='write target = "module:application" under [app], or `unicornd module:application`',
        )
    if app.chdir is not None:
        _check_folder("app.chdir", app.chdir)


def check_process(process: ProcessSettings) -> None:
    """Raise ConfigError if a user, a group or a folder is not there."""
    identity_of(process.user, process.group, initgroups=process.initgroups)
    if process.pidfile is not None:
        _check_folder("process.pidfile", process.pidfile.parent)


def check_workers(
    workers: WorkersSettings, app: AppSettings, *, http: HttpSettings, asgi: AsgiSettings
) -> None:
    """Raise ConfigError if the kind, or what it needs, is not there, or cannot honour what was set."""
    kind = kind_of(workers, app.interface)
    check_kind(kind)
    check_green_fit(kind, workers=workers, http=http)
    if kind == "asgi":
        check_fit("asgi", http=http, asgi=asgi)
    elif app.interface == "wsgi" or workers.kind in KINDS:
        check_fit("wsgi", http=http, asgi=asgi)


def check_wire(
    settings: WorkersSettings,
    app: AppSettings,
    *,
    http: HttpSettings,
    proxy: ProxySettings,
    server: ServerSettings,
) -> None:
    """Raise ConfigError if what is to be spoken on the listeners is not read by the kind."""
    fitting.check_wire(kind_of(settings, app.interface), http=http, proxy=proxy, server=server)


def check_control(control: ControlSettings) -> None:
    """Raise ConfigError if somebody who may ask is not known here."""
    if not (control.allow_users or control.allow_groups or control.view_users or control.view_groups):
        return
    from unicornd.control.peers import make_peer_rule  # noqa: PLC0415 - a start does not wait for what it does not need

    make_peer_rule(control)


def check_reload(reload: ReloadSettings) -> None:
    """Raise ConfigError if changes cannot be noticed as asked."""
    if reload.extra_files:
        _check_extra_files(reload.extra_files)
    if reload.engine != "inotify":
        return
    from unicornd.arbiter.watching import has_watchfiles  # noqa: PLC0415 - likewise

    if not has_watchfiles():
        raise ConfigError(
            'reload.engine: "inotify" needs watchfiles, which is not installed',
            hint="pip install 'unicornd[watch]', or engine = \"poll\"",
        )


def _check_extra_files(files: Iterable[str]) -> None:
    from glob import has_magic  # noqa: PLC0415 - a start does not wait for what it does not need

    for text in files:
        if not has_magic(text) and not os.path.exists(text):  # noqa: PTH110 - a text, which may be a pattern
            raise ConfigError(
                f"reload.extra_files: there is no {text}",
                hint="correct it, or write a pattern such as *.html",
            )


def check_tls(
    tls: TlsSettings, *, hooks: HooksSettings, server: ServerSettings, proxy: ProxySettings
) -> None:
    """Raise ConfigError if certificate and key cannot be used, or nobody could speak TLS with them.

    What `hooks.ssl_context` makes of them is found out in the worker.
    """
    if not speaks_tls(tls, hooks):
        return
    check_tls_wire(server, proxy)
    if all(address.kind in {"unix", "abstract"} for address in server.bind):
        setting = "tls.certfile" if tls.certfile is not None else "hooks.ssl_context"
        raise ConfigError(
            f"{setting} has no effect: every listener of server.bind is a Unix socket, which stays plain",
            hint="leave it out, or listen at a port",
        )
    from unicornd.workers.tls import make_context  # noqa: PLC0415 - OpenSSL takes memory that others need not spend

    make_context(tls)


def check_listening(server: ServerSettings) -> None:
    """Raise ConfigError if a port is to be shared and there is none."""
    if server.reuse_port and all(address.kind != "tcp" for address in server.bind):
        raise ConfigError(
            "server.reuse_port has no effect: no address of server.bind is a TCP port",
            hint="leave it out; a socket that systemd opens is shared by ReusePort= in its unit",
        )


def check_logging(
    logging: LoggingSettings,
    *,
    metrics: MetricsSettings,
    app: AppSettings,
    cfg: Callable[[], object],
    writer: Account | None,
) -> None:
    """Raise ConfigError if a log cannot be opened, its format is wrong, or the operator's logging does not work."""
    from unicornd.arbiter.trial import try_logs  # noqa: PLC0415 - a start does not wait for what it does not need
    from unicornd.observe import access, logs  # noqa: PLC0415 - likewise

    logs.check_files(logging, writer=writer)
    access.compile_format(logging.access.format)
    try_logs(logging, metrics=metrics, app=app, cfg=cfg, writer=writer)


def _check_folder(key: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{key}: there is no folder {folder}", hint="make it, or change the setting")
