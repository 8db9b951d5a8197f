"""The end of a forked process, as Python's own end is: `os._exit` follows, which does none of it.

In the order of Py_FinalizeEx: threads that are no daemons are waited for, and executors finish what they were given
(`threading._shutdown`); then what was registered with atexit is called, the last one first, which includes finalizers,
`logging.shutdown` and multiprocessing's own end; then what was printed is written. The other way round, a process pool's
children would be waited for before anybody had told them to end.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from _thread import start_new_thread  # before a library of greenlets patches it
from contextlib import suppress
from select import POLLIN  # as above
from select import poll as make_poll
from time import monotonic, sleep
from typing import TYPE_CHECKING

from unicornd.units import Monotonic

if TYPE_CHECKING:
    import logging

    from unicornd.observe.scoreboard import Row
    from unicornd.units import Fd, Seconds

BEAT_SECONDS = 0.25
TELL_AFTER = 2.0
"""Seconds after which the log says what is waited for."""
CUT = 1
"""Exit code of a process that ends although something still runs in it."""


class Attendance:
    """Gives signs of life from when a process begins to end until it has, and says what is waited for.

    Whoever ends in good order is not stuck, whatever its main thread, event loop or hub does meanwhile, and `timeouts.heartbeat`
    is not for it. So a thread of the operating system does it, in every kind: exit functions may hold the only other one.

    Args:
        row: of the process.
        log: is told.
        lifeline: see `Seat`.
        limit: `timeouts.graceful` when the process was set up; 0: none. The arbiter keeps it for those that it has told to
            leave. For others (somebody has sent a signal, the arbiter is gone) the signs of life stop when it is over.
    """

    def __init__(self, row: Row, log: logging.Logger, *, lifeline: Fd, limit: Seconds) -> None:
        self._row = row
        self._log = log
        self._lifeline = lifeline
        self._limit = limit
        self._has_begun = False

    def begin(self) -> None:
        """Attend from now on; nothing more if it has begun."""
        if not self._has_begun:
            self._has_begun = True
            with suppress(RuntimeError):  # no thread can be had: it ends all the same
                start_new_thread(self._attend, ())

    def _attend(self) -> None:
        began, is_told = monotonic(), False
        while not self._limit or monotonic() - began < self._limit:
            now = monotonic()
            self._row.beat(Monotonic(now))
            if not is_told and now - began >= TELL_AFTER:
                is_told = True
                self._tell(
                    f"the worker waits for {_waited_for()} before it ends; timeouts.graceful bounds that"
                )
            sleep(BEAT_SECONDS)
        poll = make_poll()
        poll.register(self._lifeline, POLLIN)
        poll.poll()  # as long as there is an arbiter, that ends it
        self._tell(f"timeouts.graceful is over and the arbiter gone: {_waited_for()} are cut off")
        sleep(BEAT_SECONDS)  # until it is written
        os._exit(CUT)

    def _tell(self, text: str) -> None:
        """Log in a thread of its own: the log's lock may be a greenlet's, which only another greenlet can give back."""
        with suppress(RuntimeError):
            start_new_thread(self._log.warning, ("%s", text))


def wind_up(attendance: Attendance, log: logging.Logger) -> None:
    """Do what the interpreter would do at its end, in the main thread; takes as long as the application's threads take."""
    attendance.begin()
    try:
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - it has no public name, and os._exit skips it
    except BaseException:  # a signal handler of the application's, or an executor's end; Python goes on, too
        log.exception("the wait for threads of the application was cut short")
    call_exit_functions()


def call_exit_functions() -> None:
    """Call what was registered with atexit, and write what was printed, without waiting for threads."""
    _end_pools()
    atexit._run_exitfuncs()  # noqa: SLF001 - applications rely on theirs being called
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _end_pools() -> None:
    """End the processes of executors that are left: multiprocessing waits for them, and nobody else would end them.

    `threading._shutdown` lets them finish what they were given. Who does not wait for that ends them as
    `multiprocessing.Pool` ends its own at the end of the program.
    """
    threads = getattr(sys.modules.get("concurrent.futures.process"), "_threads_wakeups", ())
    for thread in tuple(threads):  # one an executor
        if thread.is_alive():  # else it is the parent's, and so are the processes
            for process in tuple((getattr(thread, "processes", None) or {}).values()):
                with suppress(OSError, ValueError):  # it has ended
                    process.terminate()


def background_threads() -> list[threading.Thread]:
    """Return the threads that may be waited for: executors' threads are daemons to nobody.

    Without the lock of `threading.enumerate`, which a library of greenlets has made its own: this is called from a thread
    that has none of its greenlets.
    """
    known = tuple(threading._active.values())  # type: ignore[attr-defined] # noqa: SLF001 - see above
    return [
        each
        for each in known
        if each is not threading.main_thread()
        and not each.daemon
        and not isinstance(each, threading._DummyThread)  # noqa: SLF001 - whoever is none of threading's
    ]


def finish_threads() -> None:
    """Do what `threading._shutdown` does, where threads are greenlets: it waits for locks of the operating system.

    Each wait lets the other greenlets run.
    """
    for finish in reversed(threading._threading_atexits):  # type: ignore[attr-defined] # noqa: SLF001 - executors' ends
        finish()
    me = threading.current_thread()  # in a forked child it need not be the main thread, to threading
    while waited_for := [each for each in background_threads() if each is not me]:
        for thread in waited_for:
            thread.join()


def _waited_for() -> str:
    return ", ".join(each.name for each in background_threads()) or "exit functions and hooks"
