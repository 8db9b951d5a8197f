"""What signals mean to a worker: TERM drains, INT and QUIT end it at once, USR1 reopens logs, ABRT tells where it hangs.

Installed by the worker right after the fork, while all signals are still blocked. The handlers run in the main thread;
the wake-up fd wakes the poller, whichever thread that is.

The stacks of all threads are written by Python code while it can run: it holds the interpreter, so the frames hold
still. Written from inside a signal while another thread goes on, they may lead it into freed memory, which ends the
process (https://docs.python.org/3/library/faulthandler.html); that is left for a worker that cannot run Python code.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from unicornd.frames import without_ours
from unicornd.observe import logs
from unicornd.workers.context import STDERR, Orders
from unicornd.workers.leaving import call_exit_functions

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from types import FrameType

    from unicornd.observe.scoreboard import Row

IGNORED = (signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)
"""Meant for the arbiter: `pkill -HUP` must not cost a request."""
EXPIRE = signal.SIGRTMIN + 1
"""Give up the requests that run too long, and drain."""
LAST_CALL = signal.SIGRTMIN + 2
"""Answer with `Connection: close` from now on: the fleet is about to stop."""
STACKS = signal.SIGRTMIN + 3
"""Write the stacks of all threads for whoever has asked (`unicornctl stacks`), as soon as Python code can run."""
STACKS_AT_ONCE = signal.SIGRTMIN + 4
"""Write them from inside the signal: something holds the interpreter."""
TURN_OF_MAIN = 0.5
"""Seconds that the main thread has to run the handler of INT or QUIT, before another thread does it."""
DISMISS = signal.SIGRTMIN + 5
"""Leave, since you are not needed: at once, unless you serve already. The arbiter's word for a worker that it takes to be booting
still: that it is ready may be on its way, and it may have accepted requests by then. Only the worker knows."""
LEAVE = frozenset({signal.SIGTERM, DISMISS})
"""What a poller takes for an order to drain: it polls, so the worker serves."""
ABORTED = 128 + signal.SIGABRT


def install(
    *,
    on_quit: Callable[[], None],
    on_abort: Callable[[], None],
    log: logging.Logger,
    row: Row | None = None,
    on_reopen: Callable[[], None] = logs.reopen,
) -> Orders:
    """Take over the signals and unblock them.

    Args:
        on_quit: called before the process ends at once (INT, QUIT).
        on_abort: called after the stacks have been written, before the process ends (ABRT).
        log: gets what the kind knows beside the stacks of threads (ABRT).
        row: beside which the stacks are written that are asked for.
        on_reopen: called for USR1.

    Returns:
        What the poller has to look at.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    orders = Orders(reader, writer.detach(), log=log)
    orders.on_abort = on_abort
    signal.set_wakeup_fd(orders.wake_fd, warn_on_full_buffer=False)

    end = _ender(on_quit)
    orders.end = _insister(end)

    def abort(_number: int, _frame: FrameType | None) -> None:
        try:
            if more := _more_stacks(orders):
                log.error("where tasks and greenlets are\n%s", more.rstrip())
            orders.give_up()
            on_abort()
            call_exit_functions()
        finally:
            os._exit(ABORTED)

    if row is not None:
        orders.write_stacks = offer_stacks(row, orders)
        orders.keep_stacks = partial(_keep, row)
        orders.stacks_fd = row.stacks.fd
    notes = {**_notes(orders), DISMISS: _dismisser(orders, end), signal.SIGUSR1: _on(on_reopen)}
    at_once = _on(lambda: orders.aside(end))
    meanings = {signal.SIGINT: at_once, signal.SIGQUIT: at_once, signal.SIGABRT: abort, **notes}
    _take_over(meanings, orders.stacks_fd)
    relied_on = (*meanings, *((STACKS,) if row is not None else ()))
    orders.handlers = {number: signal.getsignal(number) for number in relied_on}
    orders.signals = (*IGNORED, *relied_on)
    return orders


def _ender(on_quit: Callable[[], None]) -> Callable[[], bool]:
    """Return what ends the process, called by whichever thread; True if another call is at it already."""
    lock = threading.Lock()

    def end() -> bool:
        if not lock.acquire(blocking=False):
            return True
        try:
            on_quit()
            call_exit_functions()  # the arbiter's timeouts.kill bounds it
        finally:
            os._exit(0)

    return end


def _on(act: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
    """Return a handler."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    return handle


def _dismisser(orders: Orders, end: Callable[[], bool]) -> Callable[[int, FrameType | None], None]:
    """Return the handler of DISMISS."""

    def dismiss(_number: int, _frame: FrameType | None) -> None:
        if orders.is_serving:
            orders.is_draining = True
        else:
            end()

    return dismiss


def _insister(end: Callable[[], bool]) -> Callable[[], None]:
    """Return what a poller does for INT and QUIT that another thread than the main one has received.

    The handler's place is the main thread. It may sleep on a lock, which only a signal of its own interrupts; or be in a
    call that no signal interrupts, so after a moment the process is ended without it.
    """
    lock = threading.Lock()

    def insist() -> None:
        main = threading.main_thread()
        if main is threading.current_thread() or not lock.acquire(blocking=False):
            return
        if main.ident is not None:
            signal.pthread_kill(main.ident, signal.SIGQUIT)
        timer = threading.Timer(TURN_OF_MAIN, end)
        timer.daemon = True
        timer.start()

    return insist


def obey(orders: Orders, numbers: bytes) -> None:
    """Do what signals mean that have come, before the main thread does: it may not come to its handlers.

    Args:
        orders: the worker's.
        numbers: read from `orders.wake`.
    """
    if not LEAVE.isdisjoint(numbers):
        orders.is_draining = True
    if EXPIRE in numbers:
        expire(orders)
    if STACKS in numbers:
        orders.write_stacks()
    if signal.SIGINT in numbers or signal.SIGQUIT in numbers:
        orders.end()


def _notes(orders: Orders) -> dict[int, Callable[[int, FrameType | None], None]]:
    """Return what only has to be noted; the poller sees it."""

    def drain(_number: int, _frame: FrameType | None) -> None:
        orders.is_draining = True

    def close(_number: int, _frame: FrameType | None) -> None:
        orders.is_last_call = True

    return {
        signal.SIGTERM: drain,
        EXPIRE: lambda _number, _frame: expire(orders),
        LAST_CALL: close,
    }


def expire(orders: Orders) -> None:
    """Give up the requests that run too long, once; the log gets the stacks of this moment, as one record."""
    if not orders.is_expiring:
        orders.is_expiring = orders.is_draining = True
        try:
            stacks = _stacks(_more_stacks(orders))
        except (
            OSError
        ):  # no file descriptor is left for the detour: the arbiter logs them, when the process has ended
            faulthandler.dump_traceback(orders.stacks_fd, all_threads=True)
            return
        orders.keep_stacks(stacks)
        orders.log.error(
            "a request ran into timeouts.request; the threads are here\n%s",
            without_ours(stacks.decode(errors="replace")).rstrip(),
        )


def offer_stacks(row: Row, orders: Orders) -> Callable[[], None]:
    """Have STACKS and STACKS_AT_ONCE write the stacks of all threads beside a row; return what a poller does for STACKS.

    Handler and poller both come to it, in any order and in each other's middle: who is first writes. They are written at
    one go, so whoever asks while another one reads gets no halves.
    """
    lock = threading.Lock()

    def write() -> None:
        if lock.acquire(blocking=False):
            try:
                if not row.stacks.are_written:
                    row.stacks.write(_stacks(_more_stacks(orders)))
            except OSError:  # no file descriptor is left: STACKS_AT_ONCE needs none
                pass
            finally:
                lock.release()

    signal.signal(STACKS, lambda _number, _frame: write())
    faulthandler.register(STACKS_AT_ONCE, file=row.stacks.fd, all_threads=True)
    return write


def forget_stacks() -> None:
    """In a child of the application's: nobody asks it for stacks, and a fault of its own is none of the worker's."""
    faulthandler.unregister(STACKS_AT_ONCE)
    if faulthandler.is_enabled():
        write_stacks_to(STDERR)


def _keep(row: Row, stacks: bytes) -> None:
    with suppress(OSError):
        row.stacks.write(stacks)


def _more_stacks(orders: Orders) -> str:
    """Return what the kind knows of its tasks or greenlets, whatever state they are in."""
    try:
        return orders.more_stacks() if orders.more_stacks is not None else ""
    except Exception as error:  # noqa: BLE001 - in the middle of anything; it is told rather than raised there
        return f"the tasks cannot be told: {error!r}\n"


def _stacks(more: str) -> bytes:
    """Return the stacks of tasks or greenlets, then those of all threads; raises OSError."""
    with os.fdopen(os.memfd_create("unicornd-stacks"), "w+b", buffering=0) as file:
        file.write(more.encode(errors="replace"))
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def _take_over(meanings: Mapping[int, Callable[[int, FrameType | None], None]], stacks_fd: int) -> None:
    ignore()
    for each, meaning in meanings.items():
        signal.signal(each, meaning)
    write_stacks_to(stacks_fd)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def ignore() -> None:
    """Let the signals that are meant for the arbiter do nothing here.

    By a handler, which exec(3) resets: programs that the application starts would inherit that a signal is ignored. SIGPIPE
    is ignored by every Python program, and `subprocess` restores it.
    """
    for number in IGNORED:
        signal.signal(number, do_nothing if number != signal.SIGPIPE else signal.SIG_IGN)


def do_nothing(_number: int, _frame: FrameType | None) -> None:
    """See above."""


def write_stacks_to(fd: int) -> None:
    """Have ABRT and faults write the stacks of all threads: from the signal itself, so even if Python is stuck.

    Args:
        fd: the file beside the row: the arbiter reads it when the process is dead, and logs it as one record.
    """
    faulthandler.enable(file=fd, all_threads=True)
