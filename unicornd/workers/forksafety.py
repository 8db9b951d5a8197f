"""What an application opens while it is imported, and must not share between the processes that are forked later.

Used by the mold, before it forks for the first time. A thread does not survive a fork, whoever waits for it then waits
for ever; a connection that two processes read from gives each of them half of the other's answers.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

INNER = frozenset({threading.__file__, socket.__file__, __file__})
"""Files whose lines are not worth naming."""
LIBRARY_MARKS = ("/site-packages/", "/dist-packages/", sys.prefix + "/lib/", sys.base_prefix + "/lib/")


class ImportWatch:
    """Notes which line starts a thread or opens a connection, while it is entered.

    For that long `Thread.start` and `socket.connect` are ours; there is no other way to know the line.
    """

    def __init__(self) -> None:
        self._started: list[tuple[threading.Thread, str]] = []
        self._connected: list[tuple[socket.socket, str]] = []

    def __enter__(self) -> Self:
        start = self._start = threading.Thread.start
        watched = self._watched = socket.socket  # a kind may put a class of its own there meanwhile
        started, connected = self._started, self._connected

        def noted_start(thread: threading.Thread) -> None:
            started.append((thread, _place()))
            start(thread)

        def noted_connect(sock: socket.socket, address: Any, /) -> None:  # noqa: ANN401 - any family's
            connected.append((sock, _place()))
            super(watched, sock).connect(address)

        threading.Thread.start = noted_start  # type: ignore[method-assign,assignment] # see the class
        watched.connect = noted_connect  # type: ignore[method-assign,assignment] # see the class
        return self

    def __exit__(self, *_exception: object) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign] # as it was
        del self._watched.connect

    def findings(self) -> list[str]:
        """Return a line for each thread that runs, and each connection that is open."""
        lines = [
            f"a thread ({thread.name}), started at {place}; it does not run in the workers"
            for thread, place in self._started
            if thread.is_alive()
        ]
        for sock, place in self._connected:
            with suppress(OSError):
                lines.append(f"a connection to {_peer(sock)}, opened at {place}; all workers would share it")
        return lines


def _peer(sock: socket.socket) -> str:
    name = sock.getpeername()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "a Unix socket")


def _place() -> str:
    """Return file and line of the innermost code that is the application's own, else of whoever called."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - traceback would read every source file
    first = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in INNER and not file.startswith("<"):
            place = f"{file}:{frame.f_lineno}"
            first = first or place
            if not any(mark in file for mark in LIBRARY_MARKS):
                return place
        frame = frame.f_back
    return first
