"""A connection and the greenlet that serves it.

Run in that greenlet, but for `interrupt`, which the loop calls while the greenlet waits.
"""

from __future__ import annotations

import time
from contextlib import suppress
from select import EPOLLOUT  # as it is before a kind patches the module
from typing import TYPE_CHECKING, Any, Protocol, cast

from unicornd.http.response import CONTINUE
from unicornd.workers.ledger import Entry
from unicornd.workers.output import Taken
from unicornd.workers.stream import too_slow

if TYPE_CHECKING:
    from unicornd.http.environ import Environ
    from unicornd.units import Seconds
    from unicornd.workers.connection import Connection
    from unicornd.workers.output import Output
    from unicornd.workers.stream import Stream
    from unicornd.workers.wsgi import Exchange


class OverdueError(Exception):
    """What a greenlet waits for has not come in time."""


class Pause(Protocol):
    """How one greenlet waits for one socket; others run meanwhile."""

    def wait_readable(self) -> None:
        """Wait until there is something to read."""

    def wait_writable(self) -> None:
        """Wait until something can be written."""

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the greenlet, which waits, for this socket or for something else; called by the loop."""

    def close(self) -> None:
        """Watch the socket no more."""


class Request(Entry):
    """A request in flight.

    Attributes:
        exchange: it and its response.
        is_ended: whether its application has been told to end.
    """

    __slots__ = ("exchange", "is_ended")

    def __init__(self, began: float, exchange: Exchange) -> None:
        request = exchange.request
        super().__init__(began, f"{request.method} {request.path}".encode("latin-1"))
        self.exchange = exchange
        self.is_ended = False


class Strand:
    """A connection and its greenlet (`line.Line`).

    Args:
        connection: as it was accepted.

    Attributes:
        pause: how the greenlet waits; there once it runs.
        request: what it is serving, or None.
        spool: the body of that, or None.
        is_waiting: whether the greenlet waits for this connection.
        is_taken: whether the application has taken the connection over.
        is_ready: whether a further request is complete already.
        received: what another worker had read of its next request, of a connection that was handed over.
    """

    __slots__ = (
        "base", "connection", "is_ready", "is_taken", "is_waiting", "output", "pause", "received", "remote", "request", "spool",
    )  # fmt: skip

    pause: Pause

    def __init__(self, connection: Connection, received: bytes = b"") -> None:
        self.connection = connection
        self.received = received
        self.base: Environ = connection.base
        self.remote = connection.remote
        self.output: Output = connection.output
        self.request: Request | None = None
        self.spool: Stream | None = None
        self.is_waiting = False
        self.is_taken = False
        self.is_ready = False

    @property
    def may_move(self) -> bool:
        """Whether another worker could go on with the connection."""
        return self.connection.may_move

    def wait_readable(self) -> None:
        """Wait for the client to send.

        Raises:
            OverdueError: `connection.deadline` has passed.
        """
        self.is_waiting = True
        try:
            self.pause.wait_readable()
        finally:
            self.is_waiting = False

    def wait_ready(self) -> None:
        """Wait for the client to send; or to take the part of a handshake that is not sent.

        Raises:
            OverdueError: `connection.deadline` has passed.
        """
        if not self.connection.interest & EPOLLOUT:
            self.wait_readable()
            return
        self.is_waiting = True
        try:
            self.pause.wait_writable()
        finally:
            self.is_waiting = False

    def wait_writable(self, patience: Seconds) -> bool:
        """Wait until the client takes more of its response; False if it has not within `patience` (0: for ever)."""
        connection = self.connection
        connection.deadline = time.monotonic() + patience if patience else 0.0
        self.is_waiting = True
        try:
            self.pause.wait_writable()
        except OverdueError:
            return False
        finally:
            self.is_waiting = False
            connection.deadline = 0.0
        return True

    def store_output(self) -> bool:
        """Have the greenlet wait: that costs no thread, and a disk would keep all others waiting."""
        return False

    def flush(self, patience: Seconds) -> None:
        """Send on what the client had not taken when the application was done.

        Raises:
            OverdueError: the client does not read.
            OSError: the connection is broken.
        """
        while not self.output.flush():
            if not self.wait_writable(patience):
                raise OverdueError

    def receive_body(self) -> bytes:
        """See `stream.Source`."""
        connection = self.connection
        patience = connection.policy.body
        while True:
            connection.deadline = time.monotonic() + patience if patience else 0.0
            try:
                self.wait_readable()
                data = connection.receive_piece()
            except OverdueError:
                raise too_slow("body") from None
            except BlockingIOError:
                continue
            finally:
                connection.deadline = 0.0
            if not data:
                raise EOFError
            return data

    def send_continue(self) -> None:
        """See `stream.Source`."""
        with suppress(BlockingIOError):
            self.connection.tell(CONTINUE)

    def take(self) -> None:
        """The connection is the application's from now on."""
        self.is_taken = True
        self.connection.deadline = 0.0
        self.output = cast("Any", Taken())

    def reset_on_close(self) -> None:
        """See `line.Line`."""
        self.connection.reset_on_close()

    def close(self) -> None:
        """Close the socket."""
        self.pause.close()
        self.connection.close()
