"""What settings come to that leave something open.

In every process of a fleet: as little as can be.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.gunicorn_view import GunicornView
    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.process import ProcessSettings
    from unicornd.config.sections.server import ServerSettings
    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.config.settings import Settings

MAX_WORKERS = 1024
USUAL_SOCKET_MODE = 0o666


def count_of(workers: WorkersSettings) -> int:
    """Return the number of workers, `auto` resolved by the processors that this process may use."""
    if workers.count == "auto":
        return min(2 * len(os.sched_getaffinity(0)) + 1, MAX_WORKERS)
    return workers.count


def socket_mode_of(server: ServerSettings, process: ProcessSettings) -> int:
    """Return the permission bits of Unix sockets that are listened on: a umask takes from the usual ones, as in gunicorn."""
    is_usual = server.socket_mode == USUAL_SOCKET_MODE
    return server.socket_mode & ~(process.umask or 0) if is_usual else server.socket_mode


def name_of(app: AppSettings) -> str:
    """Return what the application is called: its target, or the file that makes it."""
    return app.paste or str(app.target)


def under_their_names(settings: Settings, name: str) -> Callable[[], GunicornView]:
    """Return what makes the settings under gunicorn's names, once, for those who ask: the table takes memory.

    Args:
        settings: ours.
        name: of the instance.
    """

    @cache
    def view() -> GunicornView:
        from unicornd.config.gunicorn_view import GunicornView  # noqa: PLC0415 - see above

        return GunicornView(settings, name=name)

    return view
