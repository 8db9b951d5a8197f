"""What a worker relies on in its process, and an application may have changed: looked at, put right, and told.

After the application has been loaded, and once a second at the kind's regular look. What is the application's to change
is in docs/operations.md.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import MappingProxyType
from typing import TYPE_CHECKING

from unicornd.inherited import closed_streams, fill_streams
from unicornd.observe import logs
from unicornd.workers.handlers import Handlers
from unicornd.workers.signals import do_nothing, write_stacks_to

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from _typeshed import HasFileno

    from unicornd.workers.context import Orders

LOOK_EVERY = 1.0
"""Seconds between two looks."""


class Keeper:
    """Looks at one worker's process.

    Args:
        orders: the worker's, whose handlers are in place.
        log: is told what was put right.
        relied_on: what the worker cannot do without, unless it closes it itself: name → object with `fileno`.
    """

    def __init__(
        self,
        orders: Orders,
        log: logging.Logger,
        *,
        relied_on: Mapping[str, HasFileno] = MappingProxyType({}),
    ) -> None:
        self._orders = orders
        self._relied_on = {what: (each, _file_at(each.fileno())) for what, each in relied_on.items()}
        self._log = log
        self._handlers = Handlers(orders.handlers, log, nothing=do_nothing)
        self._next = 0.0
        self._told: set[str] = set()

    def look(self, now: float) -> None:
        """Look, if it is time."""
        if now >= self._next and not self._orders.is_in_child:
            self._next = now + LOOK_EVERY
            self.put_right()
            if not self._orders.is_draining:
                self._check_descriptors()

    def put_right(self) -> None:
        """Put right what is not as it has to be."""
        if names := logs.enable_again():
            what = "the application's logging configuration had disabled %s (disable_existing_loggers): enabled again"
            self._tell(what, " and ".join(names))
        self._handlers.put_right()
        # Where greenlets or coroutines run in the main thread, the application's mask is that of whoever hears signals.
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._orders.signals)
        if blocked := [each for each in before if each in self._orders.signals]:
            names = sorted(each.name for each in blocked if isinstance(each, signal.Signals))
            what = "the application has blocked signals of the arbiter's (%s): they are heard again"
            self._tell(what, ", ".join(names) or "real-time signals")
        if closed := closed_streams():
            fill_streams()
            what = (
                "the application has closed the descriptors %s of standard streams: they lead to /dev/null now,"
                " lest the next connection has their number and gets what is printed"
            )
            self._tell(what, ", ".join(map(str, closed)))
        if not faulthandler.is_enabled():
            write_stacks_to(self._orders.stacks_fd)
            what = "the application has switched faulthandler off: %s again, for the stacks of a worker that hangs"
            self._tell(what, "on")

    def _check_descriptors(self) -> None:
        """End a worker whose descriptors are gone (os.closerange): it would neither serve nor be missed."""
        gone = [
            what
            for what, (each, file) in self._relied_on.items()
            if (fd := each.fileno()) >= 0 and _file_at(fd) != file
        ]
        if gone:
            self._log.critical(
                "the application has closed descriptors of the server's (%s): the worker ends",
                ", ".join(gone),
            )
            os._exit(1)

    def _tell(self, what: str, of_what: str) -> None:
        """Log it, the first time."""
        if what not in self._told:
            self._told.add(what)
            self._log.warning(what, of_what)


def _file_at(fd: int) -> tuple[int, int] | None:
    """Return which open file has a number: device and inode; None if none has."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino
