"""What signals mean to a worker: TERM drains, INT and QUIT end it at once, USR1 reopens logs, ABRT tells where it hangs.

Installed by the worker right after the fork, while all signals are still blocked. The handlers run in the main thread;
the wake-up fd wakes the poller, whichever thread that is.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
from typing import TYPE_CHECKING

from unicornd.observe import logs
from unicornd.workers.context import Orders

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

IGNORED = (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)
"""Meant for the arbiter: `pkill -HUP` must not cost a request."""
ABORTED = 128 + signal.SIGABRT


def install(*, on_quit: Callable[[], None], on_abort: Callable[[], None]) -> Orders:
    """Take over the signals and unblock them.

    Args:
        on_quit: called before the process ends at once (INT, QUIT).
        on_abort: called after the stacks have been written, before the process ends (ABRT).

    Returns:
        What the poller has to look at.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    orders = Orders(reader, writer.detach())
    signal.set_wakeup_fd(orders.wake_fd, warn_on_full_buffer=False)

    def drain(_number: int, _frame: FrameType | None) -> None:
        orders.is_draining = True

    def end(_number: int, _frame: FrameType | None) -> None:
        try:
            on_quit()
        finally:
            os._exit(0)

    def abort(_number: int, _frame: FrameType | None) -> None:
        try:
            if orders.tell_stacks is not None:
                orders.tell_stacks()
            on_abort()
        finally:
            os._exit(ABORTED)

    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGQUIT, end)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: logs.reopen())
    signal.signal(signal.SIGABRT, abort)
    # Writes the stacks from the signal itself, then lets `abort` have it: works even if Python code is stuck.
    faulthandler.enable(file=logs.error_fd(), all_threads=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return orders
