"""What one worker or mold reports, read as if it were hostile: from itself alone, and within bounds.

Used by the arbiter's loop (`processes`). The application runs in the worker, as the worker's user; whoever has taken it over
can write anything into the channel, and has children that inherit it. That costs this worker, and nobody else:

- The kernel says which process has sent a report. One of a child of the worker is not the worker's: it is told once and
  ignored, since applications fork, and counts against the worker all the same, whose child it is.
- A turn of the loop reads a few reports, a worker's life has room for some dozens, whoever has sent them and whether
  they can be read or not. A real worker makes four at most.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from unicornd.sockets.credentials import receive
from unicornd.workers.channel import MAX_REPORT_BYTES, BornReport, ReadyReport, decode_report

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from unicornd.units import Pid
    from unicornd.workers.channel import Report

MOST_AT_ONCE = 8
"""Reports of one channel that are read in one turn of the loop."""
MOST_IN_A_LIFE = 64
"""Reports of one channel that are read at all."""


class UntrueError(Exception):
    """Somebody says what ours never say; the message goes on after a name: `worker 1: …`."""


class Reports:
    """The arbiter's end of one channel.

    Args:
        channel: non-blocking; it wants credentials.
        speaker: whose it is.

    Attributes:
        left: how many more are read.
        is_over: nothing more is read.
    """

    def __init__(self, channel: socket.socket, *, speaker: Pid) -> None:
        self._channel = channel
        self._speaker = speaker
        self._has_been_ready = False
        self._has_warned = False
        self.left = MOST_IN_A_LIFE
        self.is_over = False

    def read(self, most: int) -> Iterator[Report]:
        """Yield reports that are there, `most` at most; ends the reading when the other end is closed.

        Raises:
            UntrueError: there have been too many.
        """
        for _ in range(most):
            if self.is_over:
                return
            try:
                message = receive(self._channel, MAX_REPORT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:  # the worker has closed its end: it is dying, which SIGCHLD will say
                self.is_over = True
                return
            self.left -= 1
            if self.left < 0:
                raise UntrueError(f"it has made more than {MOST_IN_A_LIFE} reports")
            if message.sender != self._speaker:
                self._warn(f"process {message.sender} speaks on the channel of {self._speaker}")
                continue
            try:
                if message.is_cut:
                    raise ValueError("not a report: too large")  # noqa: TRY301 - as what the decoder says
                report = decode_report(message.text)
            except ValueError as error:
                self._warn(str(error))
                continue
            if isinstance(report, ReadyReport):
                if self._has_been_ready:
                    continue
                self._has_been_ready = True
            yield report

    def _warn(self, what: str) -> None:
        """Say once in a worker's life that a report was ignored."""
        if not self._has_warned:
            self._has_warned = True
            log = logging.getLogger("unicornd")
            log.warning("a report was ignored: %s", what, extra={"pid": self._speaker})


def read_birth(channel: socket.socket) -> Pid | None:
    """Return which process says, first of all, that it is the worker of this channel; None if nobody will.

    Raises:
        BlockingIOError: nobody has said anything yet.
        UntrueError: that is not what is said.
    """
    try:
        message = receive(channel, MAX_REPORT_BYTES)
    except BlockingIOError:
        raise
    except OSError:
        message = None
    if message is None:
        return None
    try:
        report = decode_report(message.text)
    except ValueError:
        report = None
    if not isinstance(report, BornReport) or message.is_cut:
        raise UntrueError(f"process {message.sender} says something else than that it is there")
    return message.sender
