"""Log files that the arbiter has opened anew, on their way to its workers: one datagram with descriptors (SCM_RIGHTS, unix(7)).

Sent over a worker's channel, followed by USR1; sent to a mold, which reads its channel anyway, without. So a worker goes
on writing after logrotate although it has no right to the folder.
"""

from __future__ import annotations

import _socket  # not patched by greenlet libraries: a signal handler must not wait in their loop
import array
import json
import os
import socket
from typing import TYPE_CHECKING

from unicornd.observe import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.observe.logfile import OpenLog

MAX_BYTES = 64 * 1024
MAX_DESCRIPTORS = 250
"""SCM_MAX_FD of the kernel is 253."""
KEY = "logs"


def send_logs(channel: socket.socket, given: Mapping[str, int]) -> None:
    """Send log files to a worker or a mold.

    Args:
        channel: the arbiter's end, non-blocking.
        given: path → descriptor; the kernel copies them.

    Raises:
        OSError: it is gone, or has not read many of these.
    """
    socket.send_fds(channel, [json.dumps({KEY: list(given)}).encode()], list(given.values()))


class LogReceiver:
    """Takes log files that the arbiter sends; in a worker, called for USR1.

    Args:
        channel: the worker's end.
        files: what it has inherited, by path.
    """

    def __init__(self, channel: socket.socket, files: Mapping[str, OpenLog]) -> None:
        self._channel = channel
        self._files = files
        self._is_busy = self._is_wanted = False

    def __call__(self) -> None:
        """Take what has come, and open anew what the application's own loggers write to."""
        self._is_wanted = True
        if self._is_busy:  # another USR1 in the middle of this one: whoever is at it goes round once more
            return
        self._is_busy = True
        try:
            while self._is_wanted:
                self._is_wanted = False
                self._apply(self._received())
        finally:
            self._is_busy = False

    def catch_up(self) -> None:
        """Take what has come before this worker could hear signals."""
        given = self._received()
        if given:
            self._apply(given)

    def _apply(self, given: dict[str, int]) -> None:
        renew(given, self._files)

    def _received(self) -> dict[str, int]:
        """Return the newest descriptor of each path."""
        given: dict[str, int] = {}
        channel = _socket.socket(fileno=os.dup(self._channel.fileno()))
        try:
            channel.settimeout(None)  # whatever socket.setdefaulttimeout says
            while True:
                data, sent, _, _ = channel.recvmsg(
                    MAX_BYTES,
                    _socket.CMSG_LEN(MAX_DESCRIPTORS * 4),
                    _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC,
                )
                if not data:
                    break
                newer = dict(zip(json.loads(data)[KEY], _descriptors(sent), strict=False))
                for path, fd in newer.items():
                    if path in given:
                        os.close(given[path])
                    given[path] = fd
        except (
            OSError,
            ValueError,
            KeyError,
        ):  # nothing more has come, or the arbiter is gone; what is cut is not read
            pass
        finally:
            channel.close()
        return given


def renew(given: Mapping[str, int], files: Mapping[str, OpenLog]) -> None:
    """Let all logs of this process lead to files that were opened anew; the descriptors are closed."""
    try:
        logs.reopen(given, files=files.values())
    finally:
        for fd in given.values():
            os.close(fd)


def _descriptors(sent: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in sent:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
