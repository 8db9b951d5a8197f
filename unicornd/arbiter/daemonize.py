"""Into the background, and the truth to the terminal that started it.

Two forks and a session of its own, so that no terminal can be acquired any more (daemon(7)). The starting process stays
until the fleet is ready or has failed: it prints what the daemon says and ends with the daemon's exit code.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.observe.logfile import line_by_line
from unicornd.units import Fd

if TYPE_CHECKING:
    from unicornd.errors import DaemonExit

FAILED = 1
STDIN, STDOUT, STDERR = range(3)


class Verdict:
    """The daemon's end of the pipe to the process that started it.

    Args:
        fd: writes to it.
        kept: standard streams that the daemon has kept.
    """

    def __init__(self, fd: Fd, kept: frozenset[int]) -> None:
        self._fd: Fd | None = fd
        self._kept = kept

    def fill_streams(self, fd: int) -> None:
        """Let standard output and error, unless they were kept, lead to a log; Python writes line by line there."""
        for stream in {STDOUT, STDERR} - self._kept - {fd}:
            os.dup2(fd, stream)
        line_by_line()

    def give(self, code: DaemonExit, text: str = "") -> None:
        """Say how the start ended; only the first time counts."""
        if self._fd is None:
            return
        with suppress(OSError):  # whoever started us has gone
            os.write(self._fd, json.dumps({"code": int(code), "text": text}).encode())
        self.close()

    def close(self) -> None:
        """Let go of the pipe: in a forked child, or when the verdict is given."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def kept_streams(*, is_asked_for: bool) -> frozenset[int]:
    """Return the standard streams that a daemon keeps (`process.inherit_stdio`): never a terminal."""
    streams = (STDOUT, STDERR) if is_asked_for else ()
    return frozenset(stream for stream in streams if not os.isatty(stream))


def daemonize(kept: frozenset[int] = frozenset()) -> Verdict:
    """Go to the background; returns in the daemon only.

    The calling process waits for the verdict, prints its text to standard error, and exits with its code.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() != 0:
        os.close(writer)
        _await_verdict(reader)
    os.close(reader)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in {STDIN, STDOUT, STDERR} - kept:
        os.dup2(null, stream)
    os.close(null)
    return Verdict(Fd(writer), kept)


def _await_verdict(reader: int) -> None:
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if not said:
        sys.stderr.write("unicornd: the daemon died before it was ready; its log may say why\n")
        sys.stderr.flush()
        os._exit(FAILED)
    verdict = json.loads(said)
    if verdict["text"]:
        sys.stderr.write(verdict["text"].rstrip("\n") + "\n")
        sys.stderr.flush()
    os._exit(verdict["code"])
