"""The new arbiter's side of an upgrade: it serves beside its predecessor until it is promoted, or left alone.

Run by the loop of the new arbiter. It tells how its start went over the baton, as a daemon tells its terminal; it takes
over control socket and pidfile when the predecessor says so, or is gone.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.arbiter.upgrade.handoff import MAX_TRANSFER_BYTES, StateTransfer
from unicornd.dataclass import dataclass
from unicornd.forking import BOUNDARY
from unicornd.observe.logs import ERROR_LOG
from unicornd.sockets.credentials import receive, want_credentials
from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.daemonize import Verdict
    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.upgrade.handoff import Handoff
    from unicornd.arbiter.upgrade.launch import LaunchCommand
    from unicornd.errors import DaemonExit
    from unicornd.sockets.notify import Notifier
    from unicornd.units import Pid

LOOK_SECONDS = 0.01
MANAGER_SECONDS = Seconds(60)
"""How long the service manager may take to read what it is told."""


def _understood(line: bytes) -> StateTransfer | None:
    """Return what the predecessor says; None for what another release says in another way: its end says enough."""
    try:
        return StateTransfer.of(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        text = "what the old unicornd has counted is not understood: %s"
        logging.getLogger(ERROR_LOG).warning(text, error)
        return None


class Baton:
    """The new arbiter's end of the baton; has what `daemonize.Verdict` has.

    Args:
        handoff: what the predecessor has left.
    """

    def __init__(self, handoff: Handoff) -> None:
        self._sock = BOUNDARY.own(socket.socket(fileno=handoff.baton))
        self._sock.setblocking(False)
        want_credentials(self._sock)
        self._has_spoken = False
        self._heard = b""
        self.predecessor = handoff.pid
        self.is_promoted = False

    def fill_streams(self, fd: int) -> None:
        """Standard output and error are the predecessor's already."""

    def give(self, code: DaemonExit, text: str = "") -> None:
        """Say how the start ended; only the first time counts."""
        if not self._has_spoken:
            self._has_spoken = True
            with suppress(OSError):  # the predecessor is gone
                self._sock.send(json.dumps({"code": int(code), "text": text}).encode())

    def watch(
        self,
        selector: selectors.BaseSelector,
        promoted: Callable[[], None],
        *,
        heard: Callable[[StateTransfer], None],
        gone: Callable[[], None],
    ) -> None:
        """Listen to the predecessor, until it is gone.

        Args:
            selector: hears it.
            promoted: called, once, when this is the only arbiter.
            heard: called with whatever the predecessor says, before.
            gone: called when the predecessor has gone, after all else.
        """

        def read(_mask: int) -> None:
            try:
                said = self._hear()
            except BlockingIOError:
                return
            *lines, self._heard = (self._heard + said).split(b"\n")
            self._heard = self._heard[:MAX_TRANSFER_BYTES]  # what goes on without an end is not understood
            transfers = [transfer for line in lines if (transfer := _understood(line)) is not None]
            for transfer in transfers:
                heard(transfer)
            if not said:
                selector.unregister(self._sock)
                self._sock.close()
            is_over = not said or any(transfer.is_promotion for transfer in transfers)
            if is_over and not self.is_promoted:
                self.is_promoted = True
                promoted()
            if not said:
                gone()

        selector.register(self._sock, selectors.EVENT_READ, read)

    def _hear(self) -> bytes:
        """Return what the predecessor says; empty when it is gone.

        Raises:
            BlockingIOError: nothing, or somebody else says something.
        """
        try:
            message = receive(self._sock, MAX_TRANSFER_BYTES)
        except BlockingIOError:
            raise
        except OSError:  # it has left without reading what we have said
            return b""
        if message is None:
            return b""
        if (message.sender, message.uid) != (self.predecessor, os.getuid()):
            text = "process %s speaks for the old unicornd, which is %s: ignored"
            logging.getLogger(ERROR_LOG).warning(text, message.sender, self.predecessor)
            raise BlockingIOError
        return message.text

    def close(self) -> None:
        """Let go of it, in a forked child."""
        with suppress(OSError):
            self._sock.close()

    @property
    def is_alone(self) -> bool:
        """Whether there is no predecessor any more that listens, too."""
        return self.is_promoted or os.getppid() != self.predecessor


def confirm_main(notifier: Notifier, kernel: Kernel, *, predecessor: int | None) -> None:
    """Have the service manager know that we are its child now.

    When it was told that we are the main process, we were the predecessor's child; so systemd takes us for one whose end
    it cannot wait for, and at a stop kills the whole service at once (service_set_main_pid, main_pid_alien). It looks
    again only when the main process changes: a process that stands in for us becomes it for a moment, and names us.

    Args:
        notifier: leads to the manager.
        kernel: forks.
        predecessor: whose child we were.
    """
    if not notifier.has_manager:
        return
    me = os.getpid()
    reader, writer = os.pipe()

    def stand_in() -> int:
        os.close(writer)
        os.read(reader, 1)  # until the manager was told
        until = time.monotonic() + MANAGER_SECONDS
        while (parent := _parent_of(me)) == predecessor or (parent and not notifier.main(me)):
            if time.monotonic() >= until:  # it does not read what it is told
                return 1
            time.sleep(LOOK_SECONDS)
        notifier.await_hearing(MANAGER_SECONDS)
        return 0

    try:
        notifier.main(kernel.fork(stand_in))
    except OSError:
        logging.getLogger(ERROR_LOG).warning("no process can be made to tell the service manager who it is")
    finally:
        os.close(writer)
        os.close(reader)


def _parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if that has gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line
            return int(file.read().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContext:
    """Where this process comes from.

    Attributes:
        command: how it was started.
        verdict: tells whoever started it how that went, or None.
        handoff: what the predecessor in an upgrade has left, or None; baton: leads to it.
    """

    command: LaunchCommand
    verdict: Verdict | Baton | None
    handoff: Handoff | None
    baton: Baton | None

    @property
    def predecessor(self) -> Pid | None:
        """The old arbiter, or None."""
        return self.handoff.pid if self.handoff is not None else None

    def size(self, in_file: int) -> int:
        """Return how many workers are wanted: what the predecessor had, unless the configuration has changed that.

        Args:
            in_file: what the configuration says.
        """
        left = self.handoff
        return left.size if left is not None and left.size and left.file_size == in_file else in_file

    @property
    def is_alone(self) -> bool:
        """Whether no predecessor has what we have."""
        return self.baton is None or self.baton.is_alone
