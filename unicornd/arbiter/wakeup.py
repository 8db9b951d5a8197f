"""What wakes the loop, each thing after the other. Signals do as bytes on a socket: nothing is done inside a handler.

Used by the arbiter's loop. The interpreter writes the number of each signal to the wake-up socket; the handlers
themselves are empty.
"""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

from unicornd.forking import BOUNDARY

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

HEARD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCHLD,
)
MOST_AT_ONCE = 4096
COUNTED = frozenset({signal.SIGTTIN, signal.SIGTTOU})
"""Two of these mean twice."""


class Wakeup:
    """The arbiter's signals."""

    def __init__(self) -> None:
        self._reader, self._writer = (BOUNDARY.own(each) for each in socket.socketpair())
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable with a signal."""
        return self._reader.fileno()

    def install(self) -> None:
        """Take over all signals in `HEARD`; SIGPIPE is ignored.

        The first one is SIGCHLD: a child may have ended before, ours or that of whoever has become us by exec(2).
        """
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, _do_nothing)
            signal.siginterrupt(number, False)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.raise_signal(signal.SIGCHLD)

    def read(self) -> list[signal.Signals]:
        """Return the signals that have come, in their order; of those that do not count up each once."""
        try:
            numbers = self._reader.recv(MOST_AT_ONCE)
        except BlockingIOError:
            return []
        counted = [number for number in numbers if number in COUNTED]
        return [
            signal.Signals(number)
            for number in (*dict.fromkeys(n for n in numbers if n not in COUNTED), *counted)
        ]


def hear(
    selector: selectors.BaseSelector, timeout: float | None, *, after_each: Callable[[], None] = lambda: None
) -> None:
    """Wait for what is watched, and call what is registered for it; after each of these calls, `after_each`.

    What an earlier one of the same wait has ended is passed over: its descriptor is closed, or another one's by now.
    """
    for key, mask in selector.select(timeout):
        if selector.get_map().get(key.fd) is key:
            key.data(mask)
            after_each()


def _do_nothing(_number: int, _frame: object) -> None:
    """Let the interpreter write the number to the wake-up socket."""
