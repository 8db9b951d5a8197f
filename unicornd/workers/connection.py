"""One client's connection: received bytes become a complete request, one after the other.

Owned by the poller, except while a request of it runs (`is_busy`): then by the thread that runs the application. It
knows the socket, but no poller and no application.
"""

from __future__ import annotations

import fcntl
import math
import select
import socket
import struct
import termios
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, cast

from unicornd.http.head import END_OF_HEAD, check_beginning, refuse_long_head, skip_empty_line
from unicornd.http.response import CONTINUE
from unicornd.workers.handover import NOTHING_TOLD
from unicornd.workers.output import SEND_FLAGS, Output, Taken
from unicornd.workers.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.http.environ import Environ
    from unicornd.http.messages import Head
    from unicornd.units import Seconds
    from unicornd.workers.context import HttpPolicy

RECEIVE_BYTES = 64 * 1024
RECEIVE_FLAGS = int(socket.MSG_DONTWAIT)
HEAD_END_SIZE = len(END_OF_HEAD)
CR = 0x0D
NOTHING = bytes(4)
"""FIONREAD's answer, an int, for nothing to read."""
LINGER_SECONDS = 30.0
"""How long a client may go on sending after our last byte (nginx's lingering_time)."""
LINGER_PAUSE = 5.0
"""How long it may send nothing meanwhile (nginx's lingering_timeout)."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time (socket(7))."""


class Stage(IntEnum):
    """What the connection waits for."""

    IDLE = 0
    """The first byte of a request."""
    HEAD = 1
    BODY = 2
    RESPONSE = 3
    """The application, or the client to take its answer."""
    LINGER = 4
    """The client to close, after our last byte (RFC 9112 section 9.6)."""
    CLOSED = 5


IDLE, HEAD, BODY, RESPONSE, LINGER, CLOSED = Stage
# An enum's member costs a look-up in its class each time; these are asked for several times a request.


class Connection:
    """A client's connection.

    Args:
        sock: the accepted socket.
        remote: host and port of the client; empty for a Unix socket.
        base: the environ that every request of its listener begins with.
        policy: limits and times.

    Attributes:
        deadline: when its stage has lasted too long (monotonic); 0 for never.
        request: the head of the request that is complete or running.
        spool: its body, or None.
        is_busy: whether a request of it waits for the application or runs.
        given_up: what is counted of its request that has run too long and is answered in the application's place, of
            `scoreboard`'s `FAILED` and `OVERDUE`; else 0.
        is_taken: whether the application has taken it over, for a protocol of its own.
        keeps_alive: whether it is read on after the response.
        ready_at: when its request was complete; while it runs, since when.
        is_trusted: whether the peer's word about origin and scheme is taken.
        lingers_until: when LINGER ends, whatever still comes.
        block: the head of the complete request as received.
        on_stored: called when a running response goes on in a temporary file: it is to be sent meanwhile.
        watched: the epoll mask that it is registered with; 0 when it is not.
        has_no_end: whether closing it is not its end for the client: another worker has it, or it is to be reset.
    """

    __slots__ = (
        "_buffer", "_has_skipped", "base", "block", "deadline", "fd", "given_up", "has_no_end", "is_busy",
        "is_taken", "is_trusted", "keeps_alive", "lingers_until", "on_stored", "output", "policy", "ready_at", "remote", "request", "sock",
        "spool", "stage", "watched",
    )  # fmt: skip

    may_move: ClassVar[bool] = True
    """Whether another worker could go on with it."""

    def __init__(
        self, sock: socket.socket, remote: tuple[str, str], *, base: Environ, policy: HttpPolicy
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.remote = remote
        self.base = base
        self.policy = policy
        self.output = Output(sock, policy.overflow)
        self.stage = IDLE
        self.deadline = 0.0
        self.ready_at = 0.0
        self.on_stored: Callable[[Connection], None] | None = None
        self.lingers_until = 0.0
        self.block = b""
        self.is_trusted = policy.forwarding is not None and policy.forwarding.trust.has(remote[0])
        self.request: Head | None = None
        self.spool: Spool | None = None
        self.is_busy = False
        self.given_up = 0
        self.is_taken = False
        self.keeps_alive = False
        self.has_no_end = False
        self.watched = 0
        self._buffer: bytes | bytearray = b""
        self._has_skipped = False

    @property
    def interest(self) -> int:
        """What the poller waits for while it reads: an epoll mask."""
        return select.EPOLLIN

    @property
    def has_leftover(self) -> bool:
        """Whether the client has sent more than its request: closing now would reset what it has not read yet."""
        if self._buffer:
            return True
        waiting = fcntl.ioctl(self.fd, termios.FIONREAD, NOTHING)
        return waiting != NOTHING

    @property
    def origin(self) -> Environ:
        """The environ of its listener; `base` has beside it what is known of this connection alone."""
        return self.base

    @property
    def peer(self) -> str:
        """The host that is connected with us; empty for a Unix socket. The client may be another one (`remote`)."""
        return self.remote[0]

    @property
    def preface(self) -> str:
        """What has to come before a request and is not complete (`handover.Handed`)."""
        return ""

    @property
    def facts(self) -> Mapping[str, str]:
        """What a preface has told, as the environ has it."""
        return NOTHING_TOLD

    @property
    def leftover(self) -> bytes:
        """What has been received of the next request, or of one that is not complete."""
        return bytes(self._buffer)

    def take_leftover(self) -> bytes:
        """Return what has been received behind the head: who reads the body goes on with it (`policy.is_streaming`)."""
        received, self._buffer = bytes(self._buffer), b""
        return received

    def put_back(self, received: bytes) -> None:
        """Give back what was received behind the body: of a further request."""
        self._buffer = received

    def receive(self, now: float) -> bool:
        """Read once; True when a request is complete.

        Raises:
            http.errors.Refusal: the request cannot be served; nothing more may be read from the connection.
            BlockingIOError: nothing has come.
            OSError: the connection is broken.
            EOFError: the client has closed.
        """
        data = self.sock.recv(RECEIVE_BYTES, RECEIVE_FLAGS)
        if self.stage is IDLE and data.find(END_OF_HEAD) == len(data) - HEAD_END_SIZE > 0 and data[0] != CR:
            return self._take_head(data, now)  # the usual case: one whole head, nothing else
        if not data:
            raise EOFError
        return self._take(data, now)

    def resume(self, received: bytes, now: float) -> bool:
        """Go on with what another worker has read of the next request; True when it is complete.

        Raises:
            http.errors.Refusal: as `receive`.
        """
        return bool(received) and self._take(received, now)

    def next_request(self, now: float) -> bool:
        """Go on with what was received behind the last request; True when a further request is complete.

        Raises:
            http.errors.Refusal: as `receive`.
        """
        self.request = None
        self.stage = IDLE
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        buffer = self._buffer
        if not buffer:
            return False
        self._buffer = b""
        return self._take(bytes(buffer), now)

    def rest(self) -> bool:
        """After a request: be idle if everything is sent and nothing more was received; return whether that is so."""
        if self._buffer or self.spool is not None or self.output.is_pending:
            return False
        self.request = None
        self.stage = IDLE
        return True

    def has_hung_up(self) -> bool:
        """Return whether the client has closed its side and left nothing to read (one recv(2) with MSG_PEEK)."""
        try:
            return not self._buffer and self.sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def linger(self, now: float) -> None:
        """End our side; what the client still sends is to be discarded, lest a reset destroys our answer.

        Raises:
            OSError: the connection is broken.
        """
        self.shut()
        self.stage = LINGER
        self.deadline = now + LINGER_PAUSE
        self.lingers_until = now + LINGER_SECONDS

    def discard(self, now: float) -> None:
        """Read and forget; a client that still sends may go on (RFC 9112 section 9.6).

        Raises:
            BlockingIOError: nothing has come.
            OSError: the connection is broken.
            EOFError: the client has closed.
        """
        if not self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT):
            raise EOFError
        self.deadline = min(now + LINGER_PAUSE, self.lingers_until)

    def wait_writable(self, patience: Seconds) -> bool:
        """Wait until the client takes more of its response; False if it has not within `patience` (0: for ever)."""
        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        return bool(poller.poll(patience * 1000 if patience else None))

    def store_output(self) -> bool:
        """Put the rest of a response into a temporary file, and have the poller send it; see `Output.store`."""
        is_stored = self.output.store(is_shared=True)
        if is_stored and self.on_stored is not None:
            self.on_stored(self)
        return is_stored

    def receive_piece(self) -> bytes:
        """Return some bytes of a body that is read as it comes; none at the client's end.

        Raises:
            BlockingIOError: there are none yet.
        """
        return self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)

    def tell(self, data: bytes) -> None:
        """Send something short at once, past the output.

        Raises:
            OSError: the connection is broken, or takes nothing now.
        """
        self.sock.send(data, SEND_FLAGS)

    def shut(self) -> None:
        """End our side.

        Raises:
            OSError: the connection is broken.
        """
        self.sock.shutdown(socket.SHUT_WR)

    def take(self) -> None:
        """Leave it to the application from now on, which has a socket of its own; no time is limited any more."""
        self.is_taken = True
        self.ready_at = math.inf
        self.output = cast("Any", Taken())

    def reset_on_close(self) -> None:
        """Have the client see a reset: for a response whose end would be the connection's, and that is not whole."""
        self.has_no_end = True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    def close(self) -> None:
        """Close the socket and drop everything that belongs to the connection; may be called twice."""
        self.stage = CLOSED
        self.output.close()
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        if not self.has_no_end:
            # A process that the application has forked meanwhile may hold the socket, too: close(2) alone would end the
            # connection when that process ends.
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _take(self, data: bytes, now: float) -> bool:
        if self.stage is BODY and self.spool is not None:
            return self._take_body(self.spool, data, now=now)
        buffer = self._buffer
        searched = 0
        if buffer:
            searched = max(0, len(buffer) - len(END_OF_HEAD) + 1)
            buffer += data
        else:
            buffer = data
        if searched == 0 and not self._has_skipped and (ignored := skip_empty_line(buffer)):
            self._has_skipped = True  # one empty line, not one in each piece
            buffer = buffer[ignored:]
        end = buffer.find(END_OF_HEAD, searched)
        if end < 0:
            self._wait_for_head(buffer, now, searched=searched)
            return False
        end += len(END_OF_HEAD)
        if end == len(buffer):
            self._buffer = b""
            return self._take_head(bytes(buffer), now)
        self._buffer = bytes(buffer[end:])
        return self._take_head(bytes(buffer[:end]), now)

    def _wait_for_head(self, buffer: bytes | bytearray, now: float, *, searched: int) -> None:
        limits = self.policy.limits
        if buffer:
            check_beginning(buffer, limits, start=searched)
        # Plus one: the CR of the longest line may be here without its LF.
        if len(buffer) > limits.request_line + 1 and (
            len(buffer) > limits.head_size or buffer.find(b"\r\n", 0, limits.request_line + 2) < 0
        ):
            refuse_long_head(buffer, limits)
        self._buffer = bytearray(buffer)
        if self.stage is IDLE and buffer:
            self.stage = HEAD
            self.deadline = now + self.policy.head if self.policy.head else 0.0

    def _take_head(self, block: bytes, now: float) -> bool:
        policy = self.policy
        request = policy.parse(block, policy.limits)
        forwarding = policy.forwarding
        if forwarding is not None:
            # As `read` asks first, without the call: most say nothing.
            is_silent = not request.has_underscores and forwarding.names.isdisjoint(request.fields)
            is_heard = self.is_trusted and not is_silent
            request.forwarded = (
                forwarding.read(request, block, peer=self.peer) if is_heard else forwarding.standing
            )
        self.block = block
        self._has_skipped = False
        if request.length == 0 or policy.is_streaming:
            self.request = request
            self.stage = RESPONSE
            return True
        received = bytes(self._buffer)
        self._buffer = b""
        return self._begin(request, received, now=now)

    def _begin(self, request: Head, received: bytes, *, now: float) -> bool:
        """A head has come: read on for its body, of which `received` is the beginning; True if there is none."""
        self.request = request
        if request.length == 0 or self.policy.is_streaming:
            self.stage = RESPONSE
            self._buffer = received
            return True
        self.spool = spool = Spool(request.length, self.policy)
        self.stage = BODY
        if received:
            return self._take_body(spool, received, now=now)
        if request.expects_continue:
            with suppress(OSError):  # full or broken: the next recv finds out
                self.tell(CONTINUE)
        self.deadline = now + self.policy.body if self.policy.body else 0.0
        return False

    def _take_body(self, spool: Spool, data: bytes, *, now: float) -> bool:
        spool.feed(data)
        self.deadline = now + self.policy.body if self.policy.body else 0.0
        if not spool.is_complete:
            return False
        self._buffer = spool.leftover
        self.stage = RESPONSE
        return True
