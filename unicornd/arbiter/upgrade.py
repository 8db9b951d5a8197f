"""Putting a new unicornd in the place of this one: execute it beside, wait until it serves, then leave.

Run by the loop of the old arbiter. The new one gets the listeners, the control socket and the workers' handover, so
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

from unicornd.config.instance import working_folder
from unicornd.dataclass import dataclass
from unicornd.observe.logs import ERROR_LOG
from unicornd.sockets.credentials import receive, want_credentials
from unicornd.sockets.legacy import VARIABLE, Legacy
from unicornd.units import Monotonic, Pid, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.arbiter.kernel import Death, Kernel
    from unicornd.arbiter.succession import Bequest

MAX_VERDICT_BYTES = 256 * 1024
KILL_AFTER = 10.0
"""Seconds that a new unicornd may take to end when it was given up."""
LATE = "it was not ready in time"
UNCLEAR = "what it says is not understood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How this unicornd was started, so that it can be started again.

    Attributes:
        program: what is executed: unicornd itself, or an interpreter and what it is to run.
        arguments: of unicornd.
        folder: the working directory, by the name under which it was entered.
        environ: environment variables.
    """

    program: tuple[str, ...]
    arguments: tuple[str, ...]
    folder: str
    environ: Mapping[str, str]

    @classmethod
    def of(
        cls, orig_argv: list[str], executable: str, *, arguments: list[str], environ: Mapping[str, str]
    ) -> Origin:
        """Return how this process was started.

        A script is executed itself, not by the interpreter that runs it now: a new release may have another one.

        Args:
            orig_argv: `sys.orig_argv`.
            executable: `sys.executable`.
            arguments: `sys.argv` without its first: the end of `orig_argv`.
            environ: at the start.
        """
        folder = str(working_folder())  # a symbolic link may lead to the next release by now
        words = orig_argv[1 : len(orig_argv) - len(arguments)]
        script = words[0] if words else ""
        program: tuple[str, ...] = (executable, *words)
        if script and not script.startswith("-") and os.access(script, os.X_OK):
            program = (os.path.join(folder, script), *words[1:])  # noqa: PTH118 - as `folder`
        return cls(program=program, arguments=tuple(arguments), folder=folder, environ=environ)

    @property
    def command(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return (*self.program, *self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What becomes of an upgrade.

    Attributes:
        ready: the new unicornd serves.
        failed: it does not; with the reason.
    """

    ready: Callable[[Pid], None]
    failed: Callable[[str], None]


class Upgrade:
    """One attempt.

    Args:
        kernel: forks.
        selector: watches the baton.
        ends: told how it ends.
    """

    def __init__(self, kernel: Kernel, selector: selectors.BaseSelector, *, ends: Ends) -> None:
        self._kernel = kernel
        self._selector = selector
        self._ends = ends
        self._baton: socket.socket | None = None
        self._said = b""
        self._until: Monotonic | None = None
        self.pid: Pid | None = None
        self.is_ready = False
        self._is_over = False

    def start(
        self,
        origin: Origin,
        leave: Callable[[Legacy], None],
        *,
        legacy: Callable[[int], Legacy],
        seconds: float,
    ) -> Pid:
        """Execute the new unicornd.

        Args:
            origin: how.
            leave: called in the new process with what is left to it, before it is executed (the hook pre_exec).
            legacy: returns what is left to it, given its end of the baton.
            seconds: how long it may take; 0 for ever.

        Raises:
            OSError: no process can be made.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        want_credentials(ours)
        left = legacy(theirs.fileno())
        try:
            self.pid = self._kernel.fork(lambda: _execute(origin, left, leave=leave))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._baton, self._said = ours, b""
        self._until = Monotonic(self._kernel.now() + seconds) if seconds else None
        self._selector.register(ours, selectors.EVENT_READ, lambda _mask: self._read())
        return self.pid

    def tell(self, bequest: Bequest) -> None:
        """Say something to the new one; the first promotion has it take over control socket and pidfile."""
        if self._baton is not None:
            with suppress(OSError):  # it is gone, which its death will say
                self._baton.send(bequest.line())

    def give_up(self, reason: str) -> None:
        """End the new one; this one goes on.

        The baton stays until it is dead: its end would tell the new one that it is alone.
        """
        self._is_over = True
        self._until = Monotonic(self._kernel.now() + KILL_AFTER)
        if self.pid is not None:
            self._kernel.kill(self.pid, signal.SIGTERM)
        self._ends.failed(reason)

    def take_death(self, death: Death) -> bool:
        """Return whether it was the new unicornd that died."""
        if death.pid != self.pid:
            return False
        how = f"signal {death.signal}" if death.signal is not None else f"exit code {death.code}"
        self._read()  # what it said before it died
        if not (self._is_over or self.is_ready):
            self._ends.failed(f"the new unicornd died ({how})")
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

    def leave_behind(self) -> None:
        """Close the baton, in a forked child."""
        if self._baton is not None:
            self._baton.close()

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
                self._ends.ready(pid)
            case {"code": int(), "text": str(text)}:
                self._is_over = True
                self._ends.failed(text)
            case _:
                self.give_up(UNCLEAR)

    def _close_baton(self) -> None:
        if self._baton is not None:
            self._selector.unregister(self._baton)
            self._baton.close()
            self._baton = None


def _execute(origin: Origin, legacy: Legacy, *, leave: Callable[[Legacy], None]) -> int:
    """In the new process: become the new unicornd."""
    for number in (signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for fd in legacy.descriptors():
        os.set_inheritable(fd, True)
    leave(legacy)
    os.chdir(origin.folder)
    environ = {**origin.environ, VARIABLE: legacy.text()}
    environ.pop("WATCHDOG_PID", None)  # the watchdog is meant for it from now on
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(origin.command[0], origin.command, environ)  # noqa: S606 - the command that this process was started by
    except OSError as error:
        text = f"{origin.command[0]}, or the interpreter that it names, cannot be executed: {error.strerror}"
        os.write(legacy.baton, json.dumps({"code": 1, "text": text}).encode())
        return 1
