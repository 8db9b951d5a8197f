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
from unicornd.workers.stream import too_slow

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.http.environ import Environ
    from unicornd.units import Fd, Seconds
    from unicornd.workers.connection import Connection
    from unicornd.workers.output import Output
    from unicornd.workers.stream import Stream
    from unicornd.workers.wsgi import Exchange


USES = ("recv", "recv_into", "send", "sendall", "makefile", "dup", "detach")
"""What an application does with a socket that it takes over; asking for its names or options is no use."""


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


class Taken:
    """The output of a connection that the application has taken over: nothing is written any more."""

    size = 0
    is_pending = False

    def send(self, data: bytes) -> None:
        """Drop it."""

    send_whole = send

    def send_file(self, fd: Fd, *, offset: int, count: int) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


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


def tell_use(sock: Any, on_use: Callable[[], None], *, received: Callable[[], bytes]) -> None:  # noqa: ANN401 - a socket of whatever library
    """Have `on_use` called whenever a socket is used.

    Args:
        sock: has attributes of its own.
        on_use: called before.
        received: returns what has been read from the connection already, once; `recv` begins with it.
    """

    def told(use: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            on_use()
            return use(*arguments, **named)

        return call

    rest = b""

    def recv(size: int, *arguments: Any, **named: Any) -> bytes:  # noqa: ANN401 - as socket.recv
        nonlocal rest
        rest = rest or received()
        if rest:
            data, rest = rest[:size], rest[size:]
            return data
        return cast("bytes", receive(size, *arguments, **named))

    def recv_into(buffer: Any, size: int = 0, *arguments: Any, **named: Any) -> int:  # noqa: ANN401 - as socket.recv_into
        nonlocal rest
        rest = rest or received()
        if rest:
            data = recv(size or len(buffer))
            buffer[: len(data)] = data
            return len(data)
        return cast("int", receive_into(buffer, size, *arguments, **named))

    receive, receive_into = sock.recv, sock.recv_into
    sock.recv, sock.recv_into = recv, recv_into
    for name in USES:
        setattr(sock, name, told(getattr(sock, name)))
