"""Trying a logging configuration, or a logger class, in a process of its own before anything relies on it.

Run by the arbiter at start and at each reload. Such a configuration changes the whole process and may run anybody's code:
in the arbiter it would be too late to find that it is wrong, and there is no way back.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.errors import ConfigError, UnicorndError
from unicornd.workers.logbook import is_own, open_logs

if TYPE_CHECKING:
    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings

PATIENCE_SECONDS = 10.0
MAX_BYTES = 1 << 20


def try_logs(settings: LoggingSettings, *, metrics: MetricsSettings, app: AppSettings, cfg: object) -> None:
    """Open the logs in a child, if that is more than opening files.

    Raises:
        ConfigError: it raised, with the traceback of the operator's code; or it takes longer than 10 s.
    """
    if not is_own(settings):
        return
    reader, writer = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        pid = os.fork()
        if pid == 0:
            _try(writer, settings, metrics=metrics, app=app, cfg=cfg)
        os.close(writer)
        said = _read(reader, pid)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if said is None:
        raise ConfigError(
            f"logging: opening the logs has not ended after {PATIENCE_SECONDS:g} s",
            hint="logging.config or logging.logger_class waits for something",
        )
    verdict = json.loads(
        said or '{"message": "logging: the process that tried it has died", "hint": "", "detail": ""}'
    )
    if verdict["message"]:
        raise ConfigError(verdict["message"], hint=verdict["hint"], detail=verdict["detail"])


def _try(
    writer: int, settings: LoggingSettings, *, metrics: MetricsSettings, app: AppSettings, cfg: object
) -> None:
    """The child: open the logs, say how it went, end."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        verdict = {"message": "", "hint": "", "detail": ""}
        try:
            if app.chdir is not None:
                os.chdir(app.chdir)
            sys.path[:0] = [*app.pythonpath, os.getcwd()]  # noqa: PTH109 - a str is what sys.path wants
            open_logs(settings, metrics=metrics, cfg=cfg)
        except UnicorndError as error:
            verdict = {"message": error.message, "hint": error.hint, "detail": error.detail}
        except BaseException as error:  # noqa: BLE001 - told, whatever it is
            verdict["message"] = f"logging: {type(error).__name__}: {error}"
        os.write(writer, json.dumps(verdict).encode()[:MAX_BYTES])
    finally:
        os._exit(0)


def _read(reader: int, pid: int) -> bytes | None:
    """Return what the child says; None if it does not come to an end, which is then made."""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    said = b""
    while True:
        if not poller.poll(PATIENCE_SECONDS * 1000):
            os.kill(pid, signal.SIGKILL)
            return None
        data = os.read(reader, MAX_BYTES)
        if not data:
            return said
        said += data
