"""Log files opened anew: by the arbiter, once for everybody, after something has rotated them.

Run by the loop (USR1, `unicornctl reopen`).
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

from unicornd.observe import logs
from unicornd.workers.renewal import send_logs

if TYPE_CHECKING:
    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployments


def reopen_logs(deployments: Deployments, processes: ProcessTable, *, kernel: Kernel) -> str:
    """Open all log files anew, here and in every worker and mold.

    A worker that its mold has just forked, or is about to, hears no signal yet: its channel holds the files until it
    looks, once, at its start. So those that say meanwhile that they are there are met before the signal is sent.

    Returns:
        Which files cannot be opened, and why, in words; empty if all is well.
    """
    files = deployments.log_files()
    given, failed = logs.opened_anew((each.path for each in files), writer=deployments.writer)
    try:
        logs.reopen(given, files=files)
        for channel in processes.channels:
            try:
                send_logs(channel, given)
            except OSError as error:
                log = logging.getLogger(logs.ERROR_LOG)
                log.warning("a worker keeps its old log files", extra={"why": error.strerror or str(error)})
        processes.meet_all()
        for pid in tuple(processes.workers):
            kernel.kill(pid, signal.SIGUSR1)
    finally:
        for fd in given.values():
            os.close(fd)
    return "; ".join(f"cannot reopen {path}: {why}" for path, why in failed.items())
