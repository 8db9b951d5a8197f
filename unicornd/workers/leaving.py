"""The end of a forked process, as Python's own end is: `os._exit` follows, which does none of it.

In the order of Py_FinalizeEx: threads that are no daemons are waited for, and executors finish what they were given
(`threading._shutdown`); then what was registered with atexit is called, the last one first, which includes finalizers,
`logging.shutdown` and multiprocessing's own end; then what was printed is written. The other way round, a process pool's
children would be waited for before anybody had told them to end.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from _thread import start_new_thread  # before a library of greenlets patches it
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from unicornd.units import Monotonic

if TYPE_CHECKING:
    from unicornd.observe.scoreboard import Row

BEAT_SECONDS = 0.25
TELL_AFTER = 2.0
"""Seconds after which the log says what is waited for."""


def wind_up(row: Row | None = None, *, log: logging.Logger | None = None) -> None:
    """Do what the interpreter would do at its end, in the main thread.

    Takes as long as the application's threads take; the arbiter ends the process when timeouts.graceful is over.

    Args:
        row: shows signs of life meanwhile: whoever ends in good order is not stuck, and timeouts.heartbeat is not for it.
        log: is told what is waited for, if it takes long.
    """
    if row is not None:
        start_new_thread(_attend, (row, log))
    try:
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - it has no public name, and os._exit skips it
    except BaseException:  # noqa: BLE001 - a signal handler of the application's, or an executor's end; Python goes on, too
        (log or logging.getLogger()).exception("the wait for threads of the application was cut short")
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


def _attend(row: Row, log: logging.Logger | None) -> None:
    """Run in a thread of the operating system, also where the library's threads are greenlets."""
    began, is_told = monotonic(), False
    while True:
        now = monotonic()
        row.beat(Monotonic(now))
        if log is not None and not is_told and now - began >= TELL_AFTER:
            is_told = True
            # In yet another thread: the log's lock may be a greenlet's, which only another greenlet can give back.
            start_new_thread(_report_wait, (log,))
        sleep(BEAT_SECONDS)


def _report_wait(log: logging.Logger) -> None:
    names = ", ".join(each.name for each in background_threads()) or "functions registered with atexit"
    log.warning("the worker waits for %s before it ends; timeouts.graceful bounds that", names)
