"""The new unicornd, executed beside this one: a child that says whether it serves.

Run by the loop of the old arbiter. It gets the listeners, the control socket and the workers' handover, so
nobody is refused and no kept connection ends. If it does not become ready in time, or says why it cannot, it is ended
and nothing has changed. After a bare USR2 both stay, and the operator ends one of them (as gunicorn's users know it).
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.arbiter.upgrade.handoff import VARIABLE
from unicornd.forking import BOUNDARY
from unicornd.observe.logs import ERROR_LOG
from unicornd.sockets.credentials import receive, want_credentials
from unicornd.units import Monotonic, Pid, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.kernel import Death, Kernel
    from unicornd.arbiter.upgrade.handoff import Handoff, StateTransfer
    from unicornd.arbiter.upgrade.launch import LaunchCommand

MAX_VERDICT_BYTES = 256 * 1024
KILL_AFTER = 10.0
"""Seconds that a new unicornd may take to end when it was given up."""
LATE = "it was not ready in time"
UNCLEAR = "what it says is not understood"


class Successor:
    """The new unicornd as its parent sees it: executed, waited for, spoken to, given up.

    Args:
        kernel: forks.
        selector: watches the baton.

    Attributes:
        pid: its pid, while there is one.
        is_ready: whether it serves.
    """

    def __init__(self, kernel: Kernel, selector: selectors.BaseSelector) -> None:
        self._kernel = kernel
        self._selector = selector
        self._on_ready: Callable[[Pid], None] = _ignore
        self._on_failure: Callable[[str], None] = _ignore
        self._baton: socket.socket | None = None
        self._said = b""
        self._until: Monotonic | None = None
        self.pid: Pid | None = None
        self.is_ready = False
        self._is_over = False

    def start(
        self,
        command: LaunchCommand,
        leave: Callable[[Handoff], None],
        *,
        handoff: Callable[[int], Handoff],
        seconds: float,
        on_ready: Callable[[Pid], None],
        on_failure: Callable[[str], None],
    ) -> Pid:
        """Execute the new unicornd.

        Args:
            command: how.
            leave: called in the new process with what is left to it, before it is executed (the hook pre_exec).
            handoff: returns what is left to it, given its end of the baton.
            seconds: how long it may take; 0 for ever.
            on_ready: called with its pid when it serves.
            on_failure: called with the reason when it does not.

        Raises:
            OSError: no process can be made.
        """
        self._on_ready, self._on_failure = on_ready, on_failure
        ours, theirs = socket.socketpair()
        BOUNDARY.own(ours)
        ours.setblocking(False)
        want_credentials(ours)
        left = handoff(theirs.fileno())
        try:
            self.pid = self._kernel.fork(lambda: _execute(command, left, leave=leave), kept=None)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._baton, self._said = ours, b""
        self._until = Monotonic(self._kernel.now() + seconds) if seconds else None
        self._selector.register(ours, selectors.EVENT_READ, lambda _mask: self._read())
        return self.pid

    def tell(self, transfer: StateTransfer) -> None:
        """Say something to the new one; the first promotion has it take over control socket and pidfile."""
        if self._baton is not None:
            with suppress(OSError):  # it is gone, which its death will say
                self._baton.send(transfer.line())

    def give_up(self, reason: str) -> None:
        """End the new one; this one goes on.

        The baton stays until it is dead: its end would tell the new one that it is alone.
        """
        self._is_over = True
        self._until = Monotonic(self._kernel.now() + KILL_AFTER)
        if self.pid is not None:
            self._kernel.kill(self.pid, signal.SIGTERM)
        self._on_failure(reason)

    def take_death(self, death: Death) -> bool:
        """Return whether it was the new unicornd that died."""
        if death.pid != self.pid:
            return False
        how = f"signal {death.signal}" if death.signal is not None else f"exit code {death.code}"
        self._read()  # what it said before it died
        if not (self._is_over or self.is_ready):
            self._on_failure(f"the new unicornd died ({how})")
        self._close_baton()
        self.pid, self.is_ready, self._is_over = None, False, False
        return True

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Give up if it takes too long; return when to look again."""
        if self.pid is None or self.is_ready or self._until is None:
            return None
        if now >= self._until and self._is_over:
            self._kernel.kill(self.pid, signal.SIGKILL)
            self._until = None
        elif now >= self._until:
            self.give_up(LATE)
        return self._until

    def postpone(self, late: Seconds) -> None:
        """The arbiter was late itself: the new one may take so much longer."""
        if self._until is not None:
            self._until = Monotonic(self._until + late)

    def _read(self) -> None:
        if self._baton is None:
            return
        try:
            message = receive(self._baton, MAX_VERDICT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = None
        if message is None:  # it has gone, which its death will say
            self._close_baton()
            return
        if self._is_over or self.is_ready or self.pid is None:
            return
        if (message.sender, message.uid) != (self.pid, os.getuid()):
            logging.getLogger(ERROR_LOG).warning(
                "process %s speaks for the new unicornd, which is %s: ignored", message.sender, self.pid
            )
            return
        self._said = (self._said + message.text)[: MAX_VERDICT_BYTES + 1]
        self._judge(self.pid)

    def _judge(self, pid: Pid) -> None:
        """Do what follows from what the new unicornd has said, as soon as that is whole."""
        try:
            verdict = json.loads(self._said)
        except (ValueError, RecursionError):
            if len(self._said) > MAX_VERDICT_BYTES or not self._said.startswith(b"{"):
                self.give_up(UNCLEAR)
            return  # else the rest is on its way, or the time is over some day
        match verdict:
            case {"code": 0}:
                self.is_ready = True
                self._on_ready(pid)
            case {"code": int(), "text": str(text)}:
                self._is_over = True
                self._on_failure(text)
            case _:
                self.give_up(UNCLEAR)

    def _close_baton(self) -> None:
        if self._baton is not None:
            self._selector.unregister(self._baton)
            self._baton.close()
            self._baton = None


def _ignore(_what: object) -> None:
    """Before the first attempt, nobody is told."""


def _execute(command: LaunchCommand, handoff: Handoff, *, leave: Callable[[Handoff], None]) -> int:
    """In the new process: become the new unicornd."""
    for number in (signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for fd in handoff.descriptors():
        os.set_inheritable(fd, True)
    leave(handoff)
    os.chdir(command.folder)
    environ = {**command.environ, VARIABLE: handoff.text()}
    environ.pop("WATCHDOG_PID", None)  # the watchdog is meant for it from now on
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(command.words[0], command.words, environ)  # noqa: S606 - the command that this process was started by
    except OSError as error:
        text = f"{command.words[0]}, or the interpreter that it names, cannot be executed: {error.strerror}"
        os.write(handoff.baton, json.dumps({"code": 1, "text": text}).encode())
        return 1
