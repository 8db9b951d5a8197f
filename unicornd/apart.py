"""Doing something in a process of its own: what it imports, changes and breaks stays there.

Used at the start, and by the arbiter where somebody else's code is asked, or a library that the fleet is not to carry.
The child is a fork, so it works with what is there; its result comes back as a pickle. Standard library only.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import sys
from contextlib import suppress
from os import fork, waitpid  # as they are before a hook's file patches the modules, as gevent does
from select import poll
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from unicornd.errors import UnicorndError
from unicornd.forking import BOUNDARY

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PART_BYTES = 65536
_SIZE = struct.Struct("!Q")


class ApartError(UnicorndError):
    """The work has a defect, or its process died."""


class LateError(ApartError):
    """It has not ended in the time that it had; it was ended."""


class Apart(Generic[T]):
    """A child that has begun to work.

    Args:
        work: what it does; the result has to be of plain values, or of classes that both sides know.

    Raises:
        OSError: no process can be made.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._reader, writer = os.pipe()
        # The end of this child is for us: nobody else is to hear of it.
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            with BOUNDARY.ours():
                self._pid = fork()
        except OSError:
            os.close(self._reader)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
            raise
        finally:
            if getattr(self, "_pid", None) != 0:
                os.close(writer)
        if self._pid == 0:
            _work(work, writer)

    def result(self, *, patience: float | None = None, is_reaped: bool = True) -> T:
        """Wait until it has ended, and return what it has returned.

        Args:
            patience: seconds without a word until it is killed; None: for ever.
            is_reaped: False: do not wait until it has ended, if all is well; this process is to reap it with its others.

        Raises:
            UnicorndError: what it has raised.
            ApartError: it raised something else, or died.
            LateError: it took too long.
        """
        try:
            told = self._read(patience)
            code = self._reap() if is_reaped or not is_whole(told) else 0
        finally:
            os.close(self._reader)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        return cast("T", answer_in(told, how=_how(code)))

    def _read(self, patience: float | None) -> bytes:
        """Return what it tells; less than the whole if it ends before."""
        poller = poll()
        poller.register(self._reader, select.POLLIN)
        told = b""
        while True:
            if not poller.poll(None if patience is None else patience * 1000):
                os.kill(self._pid, signal.SIGKILL)
                self._reap()
                raise LateError(f"not done after {patience:g} s")
            part = os.read(self._reader, PART_BYTES)
            told += part
            if not part or is_whole(told):
                return told

    def _reap(self) -> int:
        try:
            return os.waitstatus_to_exitcode(waitpid(self._pid, 0)[1])
        except ChildProcessError:  # whoever has started us ignores SIGCHLD, and so do we
            return 0


def _work(work: Callable[[], T], writer: int) -> None:
    """The child: work, tell, end."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        tell(work, writer)
    finally:
        os._exit(0)


def tell(work: Callable[[], object], writer: int) -> None:
    """In a child: work, and write what came of it to a pipe, with its length: others may have that end, too."""
    told = _told(work)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(_SIZE.pack(len(told)) + told)


def is_whole(told: bytes) -> bool:
    """Whether everything has come that `tell` has written."""
    return len(told) >= _SIZE.size and len(told) - _SIZE.size == _SIZE.unpack_from(told)[0]


def answer_in(told: bytes, *, how: str) -> object:
    """Return what the work has returned.

    Args:
        told: what has come of what `tell` has written.
        how: its process has ended, for the case that it has not told everything.

    Raises:
        UnicorndError: what the work has raised; ApartError if that was something else, or its process died.
    """
    if not is_whole(told):
        raise ApartError(f"the process that was to tell it died ({how})")
    is_good, found = pickle.loads(told[_SIZE.size :])  # noqa: S301 - our own child has written it
    if not is_good:
        raise found
    return cast("object", found)


def _told(work: Callable[[], object]) -> bytes:
    try:
        return pickle.dumps((True, work()))
    except UnicorndError as error:
        return pickle.dumps((False, error))
    except BaseException as error:  # noqa: BLE001 - told, whatever it is
        import traceback  # noqa: PLC0415 - for a defect

        detail = "".join(traceback.format_exception(error))
        return pickle.dumps((False, ApartError(f"{type(error).__name__}: {error}", detail=detail)))


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
