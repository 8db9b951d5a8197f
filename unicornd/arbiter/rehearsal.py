"""Loading the application to see whether it can be had: `unicornd --check-config`, as gunicorn does.

Run in the process that reads the configuration, which ends afterwards: what the application starts there, ends there. It
is run as the workers' user: the application's files may belong to that user, so they must not run as root; and what this
user cannot read is found here. `app.warmup` is left out: nobody is asked.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from unicornd.config.exposed import WORKER_HOOKS
from unicornd.config.record import replaced
from unicornd.observe import logs
from unicornd.workers.ahead import import_ahead
from unicornd.workers.fitting import speaks_tls
from unicornd.workers.hooks import load_hooks
from unicornd.workers.identity import become, identity_of
from unicornd.workers.importing import folders_of, settle_in
from unicornd.workers.loading import load_app, prepared_kind

if TYPE_CHECKING:
    from unicornd.config.loaded import Loaded


def rehearse(loaded: Loaded) -> None:
    """Import the worker's hooks and the application.

    Raises:
        UnicorndError: one of them cannot be had, or does not fit.
    """
    settings = loaded.settings
    app, process = replaced(settings.app, warmup=()), settings.process
    identity = identity_of(process.user, process.group, initgroups=process.initgroups)
    is_encrypted = speaks_tls(settings.tls, settings.hooks)
    import_ahead(settings.workers, app.interface, identity=identity, speaks_tls=is_encrypted)
    become(identity)
    if app.chdir is not None:
        os.chdir(app.chdir)
    settle_in(app, folders_of(app))
    kind = prepared_kind(app, settings.workers)
    targets = {name: getattr(settings.hooks, name) for name in WORKER_HOOKS}
    load_hooks(targets, logging.getLogger(logs.ERROR_LOG))
    load_app(app, settings.workers, kind=kind, http=settings.http, asgi=settings.asgi, errors=sys.stderr)
