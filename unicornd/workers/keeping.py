"""What a worker relies on in its process, and an application may have changed: looked at, put right, and told.

After the application has been loaded, and once a second at the kind's regular look. What is the application's to change
is in docs/operations.md.
"""

from __future__ import annotations

import faulthandler
import signal
from typing import TYPE_CHECKING

from unicornd.inherited import closed_streams, fill_streams
from unicornd.observe import logs
from unicornd.workers.handlers import Handlers
from unicornd.workers.signals import do_nothing, write_stacks_to

if TYPE_CHECKING:
    import logging

    from unicornd.workers.context import Orders
    from unicornd.workers.possessions import Possessions

LOOK_EVERY = 1.0
"""Seconds between two looks."""


class Keeper:
    """Looks at one worker's process.

    Args:
        orders: the worker's, whose handlers are in place.
        log: is told what was put right.
        possessions: what it cannot serve without.
    """

    def __init__(self, orders: Orders, log: logging.Logger, *, possessions: Possessions) -> None:
        self._orders = orders
        self._log = log
        self._possessions = possessions
        self._handlers = Handlers(orders.handlers, log, nothing=do_nothing)
        self._next = 0.0
        self._told: set[str] = set()

    def look(self, now: float) -> None:
        """Look, if it is time."""
        if now >= self._next and not self._orders.is_in_child:
            self._next = now + LOOK_EVERY
            if lost := self._possessions.lost():
                what = (
                    "the application has closed the descriptors %s, which are unicornd's: the worker ends, as its"
                    " connections may be mixed up by now"
                )
                self._log.error(what, ", ".join(map(str, lost)))
                self._orders.fail()
            self.put_right()

    def put_right(self) -> None:
        """Put right what is not as it has to be."""
        if names := logs.enable_again():
            what = "the application's logging configuration had disabled %s (disable_existing_loggers): enabled again"
            self._tell(what, " and ".join(names))
        self._handlers.put_right()
        self._unblock()
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

    def _unblock(self) -> None:
        """Let the worker's signals come in this thread, which is the one that polls."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._orders.signals) & set(self._orders.signals)
        if blocked:
            names = ", ".join(sorted(signal.Signals(each).name for each in blocked if each < signal.SIGRTMIN))
            self._tell("the application has blocked signals (%s): they come again", names)

    def _tell(self, what: str, of_what: str) -> None:
        """Log it, the first time."""
        if what not in self._told:
            self._told.add(what)
            self._log.warning(what, of_what)
