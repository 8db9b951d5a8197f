"""A request's body while it arrives: `wsgi.input` that reads from the client, under deadlines and limits.

Run by the greenlet that runs the application (`serve`). A body that ends too early, is malformed, too large or too slow
raises in whoever reads it, then and ever after: it is never taken for complete.
"""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

from unicornd.http.body import decoder_for
from unicornd.http.errors import Refusal, bad_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from unicornd.http.limits import Limits
    from unicornd.http.messages import Head

BUFFER_BYTES = 64 * 1024


class UnreadableBodyError(OSError):
    """The body cannot be read; frameworks know an OSError as the client's fault."""


class Source(Protocol):
    """Where a body comes from."""

    def receive_body(self) -> bytes:
        """Wait for what the client sends next and return it.

        Raises:
            http.errors.Refusal: 408, nothing has come in time.
            EOFError: the client has closed.
            OSError: the connection is broken.
        """

    def send_continue(self) -> None:
        """Tell the client, which waits for that, to send its body (RFC 9110 section 10.1.1)."""


class Stream(io.RawIOBase):
    """One body.

    Args:
        source: the client.
        request: the head.
        received: what has been received behind the head.
        limits: how large it may be.

    Attributes:
        refusal: why it cannot be read, once that has been found out.
        awaits_continue: whether the client has not been told yet to send it.
        on_change: called when `refusal` or `awaits_continue` has changed.

    Raises:
        http.errors.Refusal: 413, the declared length is over the limit.
    """

    def __init__(self, source: Source, request: Head, *, received: bytes, limits: Limits) -> None:
        super().__init__()
        self._decoder = decoder_for(request.length, limits)
        self._source = source
        self._received = received
        self._content = memoryview(b"")
        self.refusal: Refusal | None = None
        self.awaits_continue = request.expects_continue and not received
        self.on_change: Callable[[], None] = lambda: None

    @property
    def is_complete(self) -> bool:
        """Whether the body's end has been received."""
        return self._decoder.is_complete

    @property
    def leftover(self) -> bytes:
        """What was received behind the body's end."""
        return self._decoder.leftover

    def rewound(self) -> IO[bytes]:
        """Return it as a file, of which nothing has been read yet."""
        return cast("IO[bytes]", io.BufferedReader(self, BUFFER_BYTES))

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # any buffer will do
        """Read what is there, wait for more if nothing is; 0 at the end.

        Raises:
            UnreadableBodyError: see `refusal`.
        """
        content = self._content or memoryview(self._next())
        count = min(len(content), len(buffer))
        buffer[:count] = content[:count]
        self._content = content[count:]
        return count

    def readall(self) -> bytes:
        """Read to the end.

        Raises:
            UnreadableBodyError: see `refusal`.
        """
        parts = [bytes(self._content)]
        self._content = memoryview(b"")
        while part := self._next():
            parts.append(part)
        return b"".join(parts)

    def discard(self, most: int) -> bool:
        """Read and forget what the application has left; False if that is more than `most` bytes, or cannot be read."""
        if self._decoder.is_complete:
            return True
        if self.awaits_continue:
            return False
        try:
            while most > 0 and (part := self._next()):
                most -= len(part)
        except UnreadableBodyError:
            return False
        return self._decoder.is_complete

    def _next(self) -> bytes:
        if self.refusal is None:
            try:
                return self._decoded()
            except Refusal as refusal:
                self.refusal = refusal
            except (EOFError, OSError):
                self.refusal = bad_request("the body was cut short", "RFC 9112 section 8")
            self.on_change()
        raise UnreadableBodyError(str(self.refusal))

    def _decoded(self) -> bytes:
        """Return the next part of the content; empty at the end."""
        decoder = self._decoder
        received, self._received = self._received, b""
        while True:
            if received and (content := decoder.feed(received)):
                return content
            if decoder.is_complete:
                return b""
            if self.awaits_continue:
                self.awaits_continue = False
                self._source.send_continue()
                self.on_change()
            received = self._source.receive_body()


def too_slow(what: str) -> Refusal:
    """Return the refusal of a request whose head or body did not arrive in time (RFC 9110 section 15.5.9)."""
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, f"the request's {what} did not arrive in time")
