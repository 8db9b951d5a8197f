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
    from collections.abc import Callable, Mapping
    from types import FrameType

    from unicornd.units import Fd

IGNORED = (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)
"""Meant for the arbiter: `pkill -HUP` must not cost a request."""
EXPIRE = signal.SIGRTMIN + 1
"""Give up the requests that run too long, and drain."""
LAST_CALL = signal.SIGRTMIN + 2
"""Answer with `Connection: close` from now on: the fleet is about to stop."""
STACKS = signal.SIGRTMIN + 3
"""Write the stacks of all threads for whoever has asked (`unicornctl stacks`)."""
ABORTED = 128 + signal.SIGABRT


def install(*, on_quit: Callable[[], None], on_abort: Callable[[], None], stacks: Fd | None = None) -> Orders:
    """Take over the signals and unblock them.

    Args:
        on_quit: called before the process ends at once (INT, QUIT).
        on_abort: called after the stacks have been written, before the process ends (ABRT).
        stacks: where STACKS writes them.

    Returns:
        What the poller has to look at.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    orders = Orders(reader, writer.detach())
    orders.on_abort = on_abort
    signal.set_wakeup_fd(orders.wake_fd, warn_on_full_buffer=False)

    def end(_number: int, _frame: FrameType | None) -> None:
        try:
            on_quit()
        finally:
            os._exit(0)

    def abort(_number: int, _frame: FrameType | None) -> None:
        try:
            if orders.tell_stacks is not None:
                orders.tell_stacks()
            orders.give_up()
            on_abort()
        finally:
            os._exit(ABORTED)

    if stacks is not None:
        faulthandler.register(STACKS, file=stacks, all_threads=True)
    _take_over({signal.SIGINT: end, signal.SIGQUIT: end, signal.SIGABRT: abort, **_notes(orders)})
    return orders


def _notes(orders: Orders) -> dict[int, Callable[[int, FrameType | None], None]]:
    """Return what only has to be noted; the poller sees it."""

    def drain(_number: int, _frame: FrameType | None) -> None:
        orders.is_draining = True

    def expire(_number: int, _frame: FrameType | None) -> None:
        orders.is_expiring = orders.is_draining = True

    def close(_number: int, _frame: FrameType | None) -> None:
        orders.is_last_call = True

    return {signal.SIGTERM: drain, EXPIRE: expire, LAST_CALL: close}


def _take_over(meanings: Mapping[int, Callable[[int, FrameType | None], None]]) -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: logs.reopen())
    for each, meaning in meanings.items():
        signal.signal(each, meaning)
    write_stacks_to(logs.error_fd())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def write_stacks_to(fd: int) -> None:
    """Have ABRT and EXPIRE write the stacks of all threads: from the signal itself, so even if Python is stuck.

    Then they let the functions above have it. To be said again whenever the error log was opened anew: its descriptor is
    another one then, and the old number may have become somebody's connection.
    """
    faulthandler.enable(file=fd, all_threads=True)
    if callable(signal.getsignal(EXPIRE)):  # a mold has no requests
        faulthandler.unregister(EXPIRE)
        faulthandler.register(EXPIRE, file=fd, all_threads=True, chain=True)
