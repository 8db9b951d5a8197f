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
            answer = pickle.loads(told) if told is not None else None  # noqa: S301 - our own child has written it
            code = self._reap() if is_reaped or answer is None else 0
        finally:
            os.close(self._reader)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        if answer is None:
            raise ApartError(f"the process that was to tell it died ({_how(code)})")
        is_good, found = answer
        if not is_good:
            raise found
        return cast("T", found)

    def _read(self, patience: float | None) -> bytes | None:
        """Return what it tells; None if it ends before it has. Others may have its end of the pipe: it is framed."""
        poller = poll()
        poller.register(self._reader, select.POLLIN)
        told = b""
        while True:
            if not poller.poll(None if patience is None else patience * 1000):
                os.kill(self._pid, signal.SIGKILL)
                self._reap()
                raise LateError(f"not done after {patience:g} s")
            part = os.read(self._reader, PART_BYTES)
            if not part:
                return None
            told += part
            if len(told) >= _SIZE.size and len(told) - _SIZE.size == _SIZE.unpack_from(told)[0]:
                return told[_SIZE.size :]

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
        told = _told(work)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(_SIZE.pack(len(told)) + told)
    finally:
        os._exit(0)


def _told(work: Callable[[], T]) -> bytes:
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
