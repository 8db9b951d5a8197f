"""Trying a logging configuration, or a logger class, in a process of its own before anything relies on it.

Run where the configuration is read. Such a configuration changes the whole process and may run anybody's code: in the
arbiter it would be too late to find that it is wrong, and there is no way back.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.apart import Apart, ApartError, LateError
from unicornd.errors import ConfigError, UnicorndError
from unicornd.observe.logs import open_files
from unicornd.workers.importing import folders_of, prepare_hooks
from unicornd.workers.logbook import is_own, open_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.accounts import Account
    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings

PATIENCE_SECONDS = 10.0


def try_logs(
    settings: LoggingSettings,
    *,
    metrics: MetricsSettings,
    app: AppSettings,
    cfg: Callable[[], object],
    writer: Account | None = None,
) -> None:
    """Open the logs in a child, if that is more than opening files; what is the operator's as the workers' user.

    Raises:
        ConfigError: it raised, with the traceback of the operator's code; or it takes longer than 10 s.
    """
    if not is_own(settings):
        return

    def attempt() -> None:
        if app.chdir is not None:
            os.chdir(app.chdir)
        prepare_hooks(app, folders_of(app))
        files = open_files(settings, writer=writer)
        open_logs(settings, metrics=metrics, cfg=cfg, files=files, writer=writer)

    try:
        Apart(attempt).result(patience=PATIENCE_SECONDS)
    except LateError as error:
        raise ConfigError(
            f"logging: opening the logs has not ended after {PATIENCE_SECONDS:g} s",
            hint="logging.config or logging.logger_class waits for something",
        ) from error
    except ApartError as error:
        raise ConfigError(f"logging: {error.message}", detail=error.detail) from error
    except UnicorndError as error:
        raise ConfigError(error.message, hint=error.hint, detail=error.detail) from error
