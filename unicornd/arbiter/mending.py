"""Mends listeners that a worker has shut down, which ends them for the whole fleet, or whose file is gone; run by the arbiter's loop.

A TCP listener listens again at once. A Unix socket is opened anew at its path, and all workers, which have the dead one,
are replaced. What was opened by somebody else, or has an abstract name that the dead one holds, stays as it is: told, and
shown as `degraded`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.events import ListenersLooked, ReplacementAsked
from unicornd.arbiter.state import Halt, Phase
from unicornd.errors import UnicorndError
from unicornd.sockets.shut import listen_again, shut_among, without_file

if TYPE_CHECKING:
    import logging

    from unicornd.arbiter.core import Core
    from unicornd.arbiter.reload import Deployments
    from unicornd.sockets.listener import Listener
    from unicornd.units import Monotonic, Pid

LOOK_SECONDS = 1.0
REOPEN_SECONDS = 10.0
"""The shortest time between two new sockets: each costs all workers."""
WHY = "its listener was opened anew"


class Mending:
    """A ticker of the loop, which wakes nobody: it looks when the rows are read.

    Args:
        core: has the state and takes the events.
        deployments: have the listeners.
        log: gets what cannot be mended.
    """

    def __init__(self, core: Core, deployments: Deployments, *, log: logging.Logger) -> None:
        self._core = core
        self._log = log
        self._deployments = deployments
        self._next_look = 0.0
        self._next_reopening = 0.0
        self._stale: frozenset[Pid] = frozenset()
        self._told: set[str] = set()
        """What could not be mended, and why: said once."""

    def tick(self, now: Monotonic) -> None:
        """Look, if it is time."""
        state = self._core.state
        if now < self._next_look or state.halt is not Halt.NO or state.has_left_listeners:
            return
        self._next_look = now + LOOK_SECONDS
        listeners = self._deployments.present.listeners
        shut = list(dict.fromkeys([*shut_among(listeners), *without_file(listeners)]))
        names = tuple(listener.bound for listener in shut)
        for listener in shut:
            self._mend(listener, now)
        # One that listens again counts as shut until the next look finds it open: perhaps it is shut again and again.
        if names != state.shut_listeners:
            self._core.take(ListenersLooked(at=now, shut=names))
        if self._stale:
            self._replace_workers(now)

    def _mend(self, listener: Listener, now: Monotonic) -> None:
        backlog = self._deployments.present.settings.server.backlog
        try:
            if listen_again(listener, backlog=backlog):
                return
            if now < self._next_reopening:
                return
            self._next_reopening = now + REOPEN_SECONDS
            self._deployments.reopen(listener)
        except UnicorndError as error:
            self._tell(f"{error.message} ({error.hint})" if error.hint else error.message)
        except OSError as error:
            self._tell(f"{listener.bound} cannot be listened on again: {error.strerror}")
        else:
            self._stale = frozenset(self._core.state.children)

    def _replace_workers(self, now: Monotonic) -> None:
        """Those that were there when a socket was opened anew accept from the dead one."""
        if self._core.state.rollouts:
            return
        children = self._core.state.children
        self._stale = self._stale.intersection(children)
        for pid in sorted(self._stale):
            if children[pid].phase is Phase.READY and not children[pid].is_retiring:
                self._core.take(ReplacementAsked(at=now, pid=pid, why=WHY))
            if children[pid].phase is not Phase.BOOTING:
                self._stale -= {pid}

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._log.error("%s", text)
