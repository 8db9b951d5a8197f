"""An upgrade as the old arbiter sees it: what is left to the new one, and what follows from how that goes.

Run by the arbiter's loop. See `successor` for the process itself.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.arbiter.events import HaltAsked, ListenersLeft
from unicornd.arbiter.operations import ROLLED_BACK, Outcome
from unicornd.arbiter.requests import only_pool
from unicornd.arbiter.state import Halt
from unicornd.arbiter.upgrade.candidate import examine, moved, running
from unicornd.arbiter.upgrade.handoff import MOST_ENTRIES, StateTransfer
from unicornd.dataclass import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.context import ArbiterContext
    from unicornd.arbiter.reception import Reception
    from unicornd.arbiter.upgrade.candidate import Candidate
    from unicornd.arbiter.upgrade.launch import LaunchCommand
    from unicornd.arbiter.upgrade.successor import Successor
    from unicornd.control.listening import ControlSocket
    from unicornd.sockets.notify import Notifier
    from unicornd.units import Pid


class OutgoingUpgrade:
    """From this unicornd to a new one.

    Args:
        context: this one's parts.
        successor: the new one, as a process.
        command: how this one was started.
        notifier: leads to the service manager.
        control: our control socket, or None.
        reception: answers there, and has the listener of [admin].
        before_exec: called in the new process before it is executed (the hook pre_exec).
    """

    def __init__(
        self,
        context: ArbiterContext,
        successor: Successor,
        *,
        command: LaunchCommand,
        notifier: Notifier,
        control: ControlSocket | None,
        reception: Reception,
        before_exec: Callable[[], None],
    ) -> None:
        self._context = context
        self._successor = successor
        self._command = command
        self._notifier = notifier
        self._control = control
        self._reception = reception
        self._before_exec = before_exec
        self._is_final = True
        self._is_replaced = False
        self._found = self.present

    @property
    def successor(self) -> Pid | None:
        """The new unicornd, while there is one."""
        return self._successor.pid

    def examining(self, executable: str | None) -> Callable[[], Candidate]:
        """Return what asks the program that is to be executed for its version, in a process of its own.

        Args:
            executable: that somebody has named (an interpreter, or the program unicornd); None: as this one was started.
        """
        command = self._command
        program = command.program if executable is None else (executable,)
        is_named = executable is not None
        return partial(examine, program, is_named=is_named, folder=command.folder, environ=command.environ)

    @property
    def present(self) -> Candidate:
        """What this process is."""
        return running(self._command.program)

    def start(self, found: Candidate, *, is_final: bool) -> None:
        """Execute unicornd anew.

        Args:
            found: what is executed.
            is_final: leave to it as soon as it serves; else it stays beside this one.

        Raises:
            OSError: no process can be made.
        """
        self._is_final, self._found = is_final, found
        deployments = self._context.deployments
        command = _command_for(found, self._command)
        size = only_pool(self._context.core.state).size
        pid = self._successor.start(
            command,
            lambda _handoff: self._before_exec(),
            handoff=lambda baton: deployments.handoff(
                baton, size=size, control=self._control, admin=self._reception.admin
            ),
            seconds=deployments.present.settings.timeouts.boot,
            on_ready=self._ready,
            on_failure=self._fail,
        )
        text = f"{found} is executed: {' '.join(command.words)}"
        self._context.eventlog.record("upgrade.started", text, facts={"pid": pid})

    def say_farewell(self) -> None:
        """All our workers have left: tell a new unicornd what they had counted, and the manager that it is the service."""
        is_known = self._is_replaced  # the journal was told with the promotion
        journal = () if is_known else self._context.journal.tail(MOST_ENTRIES)
        self._successor.tell(StateTransfer(counted=self._context.processes.counted(), journal=journal))
        if self._successor.pid is not None and self._successor.is_ready and not self._is_replaced:
            self._notifier.main(self._successor.pid)

    def _ready(self, pid: Pid) -> None:
        now = self._context.kernel.now()
        if not self._is_final:
            text = f"the new unicornd (pid {pid}) serves beside this one; QUIT ends either"
            self._context.eventlog.record("upgrade.ready", text, facts={"pid": pid})
            self._context.operations.end(Outcome.DONE, result=text, now=now)
            return
        text = f"the new unicornd (pid {pid}) has taken over: {self._found}"
        self._context.eventlog.record("upgrade.finished", text, facts={"pid": pid})
        self._notifier.main(pid)
        self._is_replaced = True
        self._reception.stop_listening()
        running = self._context.operations.running
        self._context.operations.end(Outcome.DONE, result=text, now=now)
        upgrade = self._context.operations.find(running.id) if running is not None else None
        transfer = StateTransfer(
            counted=self._context.processes.counted(), upgrade=upgrade, is_promotion=True
        )
        self._successor.tell(replace(transfer, journal=self._context.journal.tail(MOST_ENTRIES)))
        self._context.deployments.close_listeners()
        self._context.core.take(ListenersLeft(at=now))  # first: no worker has to send its clients elsewhere
        self._context.core.take(HaltAsked(at=now, halt=Halt.GRACEFUL))

    def _fail(self, reason: str) -> None:
        first, _, detail = reason.partition("\n")
        first = first.removeprefix("unicornd: ")
        text = f"the upgrade has failed, this unicornd goes on serving: {first}"
        self._context.eventlog.record("upgrade.rolled_back", text, level=logging.ERROR, detail=detail)
        self._context.operations.end(
            Outcome.ROLLED_BACK,
            result=f"{ROLLED_BACK}with the old unicornd: {first}",
            now=self._context.kernel.now(),
            detail=detail,
        )


def _command_for(found: Candidate, command: LaunchCommand) -> LaunchCommand:
    """Return how the new one is started: as this one was, but for the program and where it is at home."""
    is_virtual = Path(found.prefix, "pyvenv.cfg").is_file()
    environ = moved(command.environ, old=sys.prefix, new=found.prefix, is_virtual=is_virtual)
    return replace(command, program=found.program, environ=environ)
