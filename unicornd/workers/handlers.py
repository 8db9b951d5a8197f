"""Signal handlers of the application's own, beside those that a worker relies on.

What a handler raises is meant for the application that it interrupts: a limit for a call, mostly. If it comes when no
application runs, it would end the poller, or whatever else of ours it interrupts; so it is told there and goes no further.
A handler for one of our signals is called, and then ours is, too; what it raises would cost the request that it interrupts, and
the worker is about to finish that.
"""

from __future__ import annotations

import os
import signal
import sysconfig
from _thread import get_native_id  # of threads, whatever a library of greenlets makes of it
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

SERVERS = frozenset(
    {"unicornd", "uvicorn", "uvloop", "websockets", "tornado", "gevent", "greenlet", "eventlet"}
)
"""Packages whose code is not the application's, beside the standard library."""
ENTRIES = frozenset({"run", "run_loop", "run_mold", "run_worker"})
"""Functions of ours below which there is nothing but the way into the process."""
_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_PACKAGES = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)


class Guarded:
    """A handler of the application's, within bounds.

    Args:
        theirs: it.
        log: is told what it raises.
        ours: called after it; None for a signal that is the application's alone.
    """

    def __init__(self, theirs: Handler, log: logging.Logger, *, ours: Handler | None = None) -> None:
        self.theirs = theirs
        self.pid = os.getpid()
        self._ours = ours
        self._log = log

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; in a child that the application has forked, it is the application's alone."""
        if os.getpid() != self.pid:
            self.theirs(number, frame)
            return
        try:
            self.theirs(number, frame)
        except BaseException as error:
            if self._ours is None and runs_application(frame):
                raise
            if self._ours is None or not isinstance(error, SystemExit):  # else we see to the end
                what = "the application's handler of %s raised where no request can take it"
                self._log.error(what, _name_of(number), exc_info=error)
        finally:
            if self._ours is not None:
                self._ours(number, frame)


def runs_application(frame: FrameType | None) -> bool:
    """Return whether an application is being called where a signal has come."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        root = name.partition(".")[0]
        if root == "unicornd" and frame.f_code.co_name in ENTRIES:
            return False
        if root not in SERVERS and not _is_of_library(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _is_of_library(path: str) -> bool:
    return path.startswith("<frozen") or (path.startswith(_LIBRARY) and not path.startswith(_PACKAGES))


class Handlers:
    """The handlers that a worker relies on.

    Args:
        ours: signal → handler.
        log: is told.
        nothing: ours of signals that do nothing here; children of the application have to find it as it is.
    """

    def __init__(self, ours: Mapping[int, Any], log: logging.Logger, *, nothing: Handler) -> None:
        self._ours = ours
        self._nothing = nothing
        self._log = log
        self._told: set[int] = set()

    def put_right(self) -> None:
        """Have ours called again where they are not, and bounds around the application's; in the main thread only."""
        if get_native_id() != os.getpid():
            return
        self._catch_again()
        for number in signal.valid_signals():
            now = signal.getsignal(number)
            ours = self._ours.get(number)
            if isinstance(now, Guarded):
                if now.pid == os.getpid():
                    continue
                now = now.theirs  # of the mold
            if now is ours or now is self._nothing:
                continue
            if callable(now) and now is not signal.default_int_handler:
                signal.signal(number, Guarded(now, self._log, ours=ours))
                what = "the application handles %s%s: unicornd's handler is called after its own"
            elif ours is not None:
                signal.signal(number, ours)
                what = "the application has set %s%s to its default or ignored it: unicornd handles it again"
            else:
                continue
            if ours is not None and number not in self._told:
                self._told.add(number)
                self._log.warning(what, _name_of(number), _place_of(now))

    def _catch_again(self) -> None:
        """Have the kernel call Python for our signals: code in C (sigaction(2)) may have ignored them, unseen by Python."""
        caught = _caught()
        for number in self._ours:
            if caught >> (number - 1) & 1:
                continue
            now = signal.getsignal(number)
            if callable(now) and now is not signal.default_int_handler:
                signal.signal(number, now)
                if number not in self._told:
                    self._told.add(number)
                    what = "code in C ignores %s, or has set it to its default: it is handled again"
                    self._log.warning(what, _name_of(number))


def _caught() -> int:
    """Return the mask of the signals that this process catches (SigCgt, proc(5)); all, if that is not told."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/status", "rb") as file:  # noqa: PTH123 - once a second
        return int(file.read().partition(b"\nSigCgt:")[2].split(None, 1)[0], 16)
    return -1


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # between SIGRTMIN and SIGRTMAX
        return f"signal {number}"


def _place_of(handler: object) -> str:
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
