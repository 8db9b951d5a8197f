"""A mold's life: load the application once, then fork a worker whenever the arbiter asks for one.

Run in a process of its own (`app.preload`), one a generation. What it has loaded is shared copy-on-write by its workers,
which are ready in milliseconds. A worker is forked through a short-lived process in between, so that it becomes the child
of the arbiter, which is the subreaper (prctl(2)): the arbiter reaps it, and outlives its mold.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from contextlib import suppress
from functools import partial
from os import fork, waitpid  # as they are before a kind patches the module
from select import POLLIN  # as it is before a kind patches the module
from select import poll as make_poll
from time import sleep  # as it is before a kind patches the module
from typing import TYPE_CHECKING, Protocol

from unicornd.errors import DaemonExit
from unicornd.forking import BOUNDARY, let_go
from unicornd.observe import logs
from unicornd.units import Seconds
from unicornd.workers.boot import give_up, report
from unicornd.workers.channel import BornReport, ReadyReport
from unicornd.workers.forksafety import ImportWatch
from unicornd.workers.handlers import Handlers
from unicornd.workers.leaving import Attendance, wind_up
from unicornd.workers.order import close_seat, receive_order
from unicornd.workers.renewal import renew
from unicornd.workers.signals import IGNORED, do_nothing, ignore, write_stacks_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from unicornd.observe.logfile import OpenLog
    from unicornd.workers.context import Seat
    from unicornd.workers.loading import Loaded


ADOPTION_LOOK = 0.0005
"""Seconds between two looks whether the process in between has ended; it does nothing else."""


class Casting(Protocol):
    """What the workers of a generation have in common."""

    @property
    def files(self) -> Mapping[str, OpenLog]:
        """The log files, which the arbiter has opened: path → file."""

    def load(self) -> Loaded:
        """Take on the workers' surroundings and load the application; raises UnicorndError."""

    def run(self, seat: Seat, *, loaded: Loaded) -> int:
        """Be a worker, and end; return its exit code."""


def run_mold(seat: Seat, casting: Casting) -> int:
    """Be a mold until told to leave, or until the arbiter is gone, and end; return the exit code.

    Args:
        seat: slot 0; it listens on nothing.
        casting: of its generation.
    """
    log = logging.getLogger(logs.ERROR_LOG)
    code = _live(seat, casting, log=log)
    # Of a mold that is told to end, timeouts.kill is the bound.
    wind_up(Attendance(seat.row, log, lifeline=seat.lifeline, limit=Seconds(0)), log)
    return code


def _live(seat: Seat, casting: Casting, *, log: logging.Logger) -> int:
    _install_signals(seat, _end)
    try:
        with ImportWatch() as watch:
            loaded = casting.load()
    except Exception as error:  # noqa: BLE001 - reported, whatever it is
        return give_up(seat, error)
    for finding in watch.findings():
        log.warning("app.preload: the application has opened %s", finding)
    gc.collect()
    gc.freeze()  # the collector leaves alone what is shared
    with suppress(ToldToLeave):
        _install_signals(
            seat, _leave
        )  # what the application has taken over while it was loaded is ours again
        Handlers(
            {number: signal.getsignal(number) for number in (*MINE, signal.SIGUSR1)}, log, nothing=do_nothing
        ).put_right()
        BOUNDARY.arm(MINE, partial(_give_up_in_child, seat))
        report(seat, ReadyReport())
        _serve(seat, casting, loaded=loaded)
    return DaemonExit.OK


class ToldToLeave(BaseException):
    """A signal has said so; no error, and not for anybody's `except Exception`."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise ToldToLeave


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


MINE = (*IGNORED, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def _give_up_in_child(seat: Seat) -> None:
    """In a process that the application has forked (a thread of it goes on in the mold): it holds nothing of ours."""
    let_go((seat.channel.fileno(), seat.lifeline))


def _install_signals(seat: Seat, leave: Callable[[int, FrameType | None], None]) -> None:
    """A mold has no requests to finish: whatever tells it to leave ends it, as soon as it is not forking."""
    ignore()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, leave)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: logs.reopen())
    write_stacks_to(seat.row.stacks.fd)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _serve(seat: Seat, casting: Casting, *, loaded: Loaded) -> None:
    poll = make_poll()
    poll.register(seat.channel, POLLIN)
    poll.register(seat.lifeline, POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if seat.lifeline in ready:
            return
        try:
            ordered = receive_order(seat)
        except ValueError as error:
            logging.getLogger(logs.ERROR_LOG).error("the mold ignores an order: %s", error)  # noqa: TRY400 - a fact
            continue
        if ordered is None:
            return
        if isinstance(ordered, dict):
            renew(ordered, casting.files)
            continue
        try:
            _fork(ordered, seat, casting=casting, loaded=loaded)
        except OSError as error:  # the arbiter sees the channel closed, and tries again later
            log = logging.getLogger(logs.ERROR_LOG)
            log.error("the mold cannot fork", extra={"slot": ordered.slot, "why": error.strerror})  # noqa: TRY400 - a fact
        finally:
            close_seat(ordered)


def _fork(ordered: Seat, mold: Seat, *, casting: Casting, loaded: Loaded) -> None:
    """Fork the worker by a process in between, which ends at once: the worker is the arbiter's child then.

    Raises:
        OSError: no process can be made.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with BOUNDARY.ours():  # the child crosses no boundary, nor does the next fork
            between = fork()
        if between == 0:
            try:
                here = os.getpid()
                if os.fork() == 0:  # that of the library, if there is one: its loop begins anew in the child
                    _await_adoption(here)
                    _be_worker(ordered, mold, casting=casting, loaded=loaded)
            finally:
                os._exit(0)
        waitpid(between, 0)  # gevent's own would wait for a signal, and all are blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _await_adoption(between: int) -> None:
    """Wait until this process is the arbiter's child: it believes no other one that it was born.

    The process in between is about to end. No wait(2) can tell: it is this one's parent, not its child.
    """
    while os.getppid() == between:
        sleep(ADOPTION_LOOK)


def _be_worker(ordered: Seat, mold: Seat, *, casting: Casting, loaded: Loaded) -> None:
    """Be the worker; never returns into the mold's code."""
    code = 1
    try:
        report(ordered, BornReport())
        mold.channel.close()
        mold.row.close()
        code = casting.run(ordered, loaded=loaded)
    except BaseException:
        logging.getLogger(logs.ERROR_LOG).exception("a worker ended by a defect")
    finally:
        os._exit(code)
