"""Loading the application to see whether it can be had: `unicornd --check-config`, as gunicorn does.

Run in the process that reads the configuration, which ends afterwards: what the application starts there, ends there. It
is run as whoever asks, not as `process.user`: a check needs no privileges. `app.warmup` is left out: nobody is asked.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from unicornd.config.record import replaced
from unicornd.observe import logs
from unicornd.workers.hooks import WORKER_HOOKS, load_hooks
from unicornd.workers.loading import load_app, prepared_kind

if TYPE_CHECKING:
    from unicornd.config.loaded import Loaded


def rehearse(loaded: Loaded) -> None:
    """Import the worker's hooks and the application.

    Raises:
        UnicorndError: one of them cannot be had, or does not fit.
    """
    settings = loaded.settings
    app = replaced(settings.app, warmup=())
    if app.chdir is not None:
        os.chdir(app.chdir)
    os.environ.update(app.env)
    sys.path[:0] = [*app.pythonpath, os.getcwd()]  # noqa: PTH109 - a str is what sys.path wants
    kind = prepared_kind(app, settings.workers)
    targets = {name: getattr(settings.hooks, name) for name in WORKER_HOOKS}
    load_hooks(targets, logging.getLogger(logs.ERROR_LOG))
    load_app(app, settings.workers, kind=kind, http=settings.http, asgi=settings.asgi, errors=sys.stderr)
