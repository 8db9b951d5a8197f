"""An upgrade as the old arbiter sees it: what is left to the new one, and what follows from how that goes.

Run by the arbiter's loop. See `upgrade` for the process itself.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.arbiter.candidate import examine, moved, running
from unicornd.arbiter.events import HaltAsked, ListenersLeft
from unicornd.arbiter.operations import Outcome
from unicornd.arbiter.requests import only_pool
from unicornd.arbiter.state import Halt
from unicornd.arbiter.succession import MOST_ENTRIES, Bequest
from unicornd.arbiter.upgrade import Ends, Upgrade
from unicornd.dataclass import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.candidate import Candidate
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.loop import Loop, Means
    from unicornd.arbiter.upgrade import Origin
    from unicornd.control.listening import ControlSocket
    from unicornd.sockets.legacy import Legacy
    from unicornd.sockets.listener import Listener
    from unicornd.units import Pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What the arbiter has beside its deployment.

    Attributes:
        origin: how it was started.
        control: its control socket, or None; admin: the listener of [admin], or None.
        let_go: stops listening there; who is connected is still answered.
        leave: called in the new process before it is executed (the hook pre_exec, and what must not be kept).
    """

    origin: Origin
    control: ControlSocket | None
    admin: Listener | None
    let_go: Callable[[], None]
    leave: Callable[[Legacy], None]


class Changeover:
    """From this unicornd to a new one.

    Args:
        loop: the old one's.
        means: what it works with.
        estate: what is left to the new one.
        journal: what has happened, which the new one will be asked about.
    """

    def __init__(self, loop: Loop, means: Means, *, estate: Estate, journal: Journal) -> None:
        self._journal = journal
        self._loop = loop
        self._means = means
        self._estate = estate
        self._is_final = True
        self._found = self.present
        self._upgrade = Upgrade(means.kernel, means.selector, ends=Ends(ready=self._ready, failed=self._fail))
        loop.claims_death.append(self._upgrade.take_death)
        loop.has_successor = lambda: self._upgrade.is_ready
        loop.tickers.append(self._upgrade.tick)
        loop.on_late.append(self._upgrade.postpone)

    @property
    def successor(self) -> Pid | None:
        """The new unicornd, while there is one."""
        return self._upgrade.pid

    def examining(self, executable: str | None) -> Callable[[], Candidate]:
        """Return what asks the program that is to be executed for its version, in a process of its own.

        Args:
            executable: that somebody has named (an interpreter, or the program unicornd); None: as this one was started.
        """
        origin = self._estate.origin
        program = origin.program if executable is None else (executable,)
        is_named = executable is not None
        return partial(examine, program, is_named=is_named, folder=origin.folder, environ=origin.environ)

    @property
    def present(self) -> Candidate:
        """What this process is."""
        return running(self._estate.origin.program)

    def start(self, found: Candidate, *, is_final: bool) -> None:
        """Execute unicornd anew.

        Args:
            found: what is executed.
            is_final: leave to it as soon as it serves; else it stays beside this one.

        Raises:
            OSError: no process can be made.
        """
        self._is_final, self._found = is_final, found
        deployments = self._means.deployments
        origin = _origin_of(found, self._estate.origin)
        size = only_pool(self._loop.state).size
        pid = self._upgrade.start(
            origin,
            self._estate.leave,
            legacy=lambda baton: deployments.legacy(
                baton, size=size, control=self._estate.control, admin=self._estate.admin
            ),
            seconds=deployments.present.settings.timeouts.boot,
        )
        text = f"{found} is executed: {' '.join(origin.command)}"
        self._means.narrator.say("upgrade.started", text, facts={"pid": pid})

    def say_farewell(self) -> None:
        """All our workers have left: tell a new unicornd what they had counted, and the manager that it is the service."""
        is_known = self._loop.is_replaced  # the journal was told with the promotion
        journal = () if is_known else self._journal.tail(MOST_ENTRIES)
        self._upgrade.tell(Bequest(counted=self._loop.seats.counted(), journal=journal))
        if self._upgrade.pid is not None and self._upgrade.is_ready and not self._loop.is_replaced:
            self._means.notifier.main(self._upgrade.pid)

    def leave_behind(self) -> None:
        """Close what is the arbiter's, in a forked child."""
        self._upgrade.leave_behind()

    def _ready(self, pid: Pid) -> None:
        now = self._means.kernel.now()
        if not self._is_final:
            text = f"the new unicornd (pid {pid}) serves beside this one; QUIT ends either"
            self._means.narrator.say("upgrade.ready", text, facts={"pid": pid})
            self._means.operations.end(Outcome.DONE, result=text, now=now)
            return
        text = f"the new unicornd (pid {pid}) has taken over: {self._found}"
        self._means.narrator.say("upgrade.finished", text, facts={"pid": pid})
        self._means.notifier.main(pid)
        self._loop.is_replaced = True
        self._estate.let_go()
        running = self._means.operations.running
        self._means.operations.end(Outcome.DONE, result=text, now=now)
        upgrade = self._means.operations.find(running.id) if running is not None else None
        bequest = Bequest(counted=self._loop.seats.counted(), upgrade=upgrade, is_promotion=True)
        self._upgrade.tell(replace(bequest, journal=self._journal.tail(MOST_ENTRIES)))
        self._means.deployments.close_listeners()
        self._loop.take(HaltAsked(at=now, halt=Halt.GRACEFUL))
        self._loop.take(ListenersLeft(at=now))

    def _fail(self, reason: str) -> None:
        first, _, detail = reason.partition("\n")
        first = first.removeprefix("unicornd: ")
        text = f"the upgrade has failed, this unicornd goes on serving: {first}"
        self._means.narrator.say("upgrade.rolled_back", text, level=logging.ERROR, detail=detail)
        self._means.operations.end(
            Outcome.ROLLED_BACK,
            result=f"rolled back, the old unicornd goes on serving: {first}",
            now=self._means.kernel.now(),
            detail=detail,
        )


def _origin_of(found: Candidate, origin: Origin) -> Origin:
    """Return how the new one is started: as this one was, but for the program and where it is at home."""
    is_virtual = Path(found.prefix, "pyvenv.cfg").is_file()
    environ = moved(origin.environ, old=sys.prefix, new=found.prefix, is_virtual=is_virtual)
    return replace(origin, program=found.program, environ=environ)
