"""Continuous load whose every response is checked: clients in threads of the test process.

A client asks, checks status and body, and asks again, over one kept connection (as long as the server keeps it) or over
a new one for each request. What went wrong is kept as text, so that a failing test shows it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CLIENT_TIMEOUT = 20.0
PAUSE = 0.02
"""Seconds: enough requests for anything to be noticed, and the processors are not all taken by clients and answers."""


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    answered: int = 0
    bodies: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that the slowest answer took."""
    connections: int = 0
    """How many the clients opened."""


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CLIENT_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CLIENT_TIMEOUT)
        self.sock.connect(self._path)


class Traffic:
    """Load on one server, from `__enter__` to `__exit__`.

    Args:
        connect: makes a connection to the server, not yet opened.
        path: what is asked for.
        clients: how many ask at a time.
        is_keepalive: whether a client keeps its connection as long as the server does.
        pause: seconds of a client between an answer and its next request; 0: it asks as fast as it can.
        check: returns what is wrong with an answer (status, body), or an empty string.
    """

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        path: str = "/",
        *,
        clients: int = 4,
        is_keepalive: bool = False,
        pause: float = PAUSE,
        check: Callable[[int, bytes], str] | None = None,
    ) -> None:
        self._connect = connect
        self._path = path
        self._is_keepalive = is_keepalive
        self._pause = pause
        self._check = check or _must_be_200
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_again_and_again, daemon=True) for _ in range(clients)
        ]
        self.tally = Tally()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(CLIENT_TIMEOUT * 2)

    def answered_more(self, count: int) -> Callable[[], bool]:
        """Return a condition that holds once `count` more answers have come than by now."""
        target = self.tally.answered + count
        return lambda: self.tally.answered >= target

    def saw(self, body: str) -> Callable[[], bool]:
        """Return a condition that holds once an answer with `body` comes after now."""
        before = self.tally.bodies[body]
        return lambda: self.tally.bodies[body] > before

    def _ask_again_and_again(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if connection is None:
                connection = self._connect()
                self._note_connection()
            started = time.monotonic()
            try:
                headers = {} if self._is_keepalive else {"Connection": "close"}
                connection.request("GET", self._path, headers=headers)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._note_failure(f"{type(error).__name__}: {error}")
                _close(connection)
                connection = None
                self._stop.wait(PAUSE)  # whatever the pause between answers: failures are no load
                continue
            self._note_answer(response.status, body, seconds=time.monotonic() - started)
            if not self._is_keepalive or response.will_close:
                _close(connection)
                connection = None
            if self._pause:
                self._stop.wait(self._pause)
        _close(connection)

    def _note_answer(self, status: int, body: bytes, *, seconds: float) -> None:
        wrong = self._check(status, body)
        with self._lock:
            self.tally.answered += 1
            self.tally.bodies[body.decode(errors="replace")] += 1
            self.tally.longest = max(self.tally.longest, seconds)
            if wrong:
                self.tally.failures.append(wrong)

    def _note_connection(self) -> None:
        with self._lock:
            self.tally.connections += 1

    def _note_failure(self, failure: str) -> None:
        with self._lock:
            self.tally.failures.append(failure)


def _must_be_200(status: int, body: bytes) -> str:
    return "" if status == http.client.OK else f"{status}: {body[:200]!r}"


def _close(connection: http.client.HTTPConnection | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()
