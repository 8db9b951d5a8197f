"""tornado's streams, and what tornado does without a word: a request that it refuses, and the end of TLS.

Run in the worker's event loop. tornado answers what is malformed with a bare status line and closes on a head that is too
large without any answer; here both are told, to the client and to the log, and the client's last bytes are awaited, so
that no reset destroys the answer (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError, UnsatisfiableReadError

from unicornd.http.body import too_large
from unicornd.http.errors import Refusal, bad_request
from unicornd.http.response import refusal_response
from unicornd.workers.asgi.firstbyte import tell_plainly
from unicornd.workers.asgi.lingering import Lingering, duplicate
from unicornd.workers.connection import RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.workers.clock import Clock

BARE = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""All that tornado says of a malformed request."""
TOO_LARGE = frozenset({"Content-Length too long", "chunked body too large"})
"""What tornado's error says of a body over the limit."""
_WORDS = re.compile(r"Unsupported Transfer-Encoding|[A-Za-z, /-]+(?= b?['\"]|:|$)")
"""The beginning of tornado's errors; what follows are bytes of the request, which are nobody's affair."""


class Refusals:
    """Answers requests that are not served.

    Args:
        clock: for the Date.
        note: writes that a request was refused.
        most: connections on which clients that were answered may go on sending, at a time.

    Attributes:
        running: answers whose clients may still be sending.
    """

    def __init__(self, clock: Clock, note: Callable[[Refusal], None], *, most: int) -> None:
        self._clock = clock
        self._note = note
        self._lingering = Lingering(most)
        self.running = self._lingering.running

    async def answer(self, stream: Any, refusal: Refusal) -> None:  # noqa: ANN401 - an IOStream of ours
        """Answer and close, when the client has ended or sends no more."""
        self._note(refusal)
        with suppress(StreamClosedError):
            await stream.write(refusal_response(refusal, standing=self._clock.standing()))
        stream.lingers = True
        stream.close()

    def answer_and_close(self, stream: Any, refusal: Refusal) -> None:  # noqa: ANN401 - as above
        """Answer a client of whose request tornado still waits for more, and take the connection from tornado."""
        if isinstance(stream, TlsStream):
            self._note(refusal)
            with suppress(StreamClosedError):
                stream.write(refusal_response(refusal, standing=self._clock.standing()))
            stream.lingers = True
        elif stream.socket is not None:
            self._note(refusal)
            task = asyncio.get_running_loop().create_task(
                tell_plainly(stream.socket.dup(), asyncio.get_running_loop(), refusal=refusal)
            )
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        stream.close()

    def linger(self, sock: socket.socket) -> None:
        """Have a client that still sends read its answer, before the connection ends."""
        self._lingering.begin(sock)


class Stream(IOStream):
    """A client's connection.

    Attributes:
        refusals: who answers what tornado refuses; set by whoever makes the stream.
        is_cut: whether the response ends before its end, and nobody is to take it for whole.
    """

    refusals: Refusals
    is_cut = False
    lingers = False
    """Whether the client still sends when it is closed."""
    told: Callable[[Refusal], None] = staticmethod(lambda _refusal: None)
    """Told of the refusal of a request that has begun."""

    def write(self, data: Any) -> Any:  # noqa: ANN401 - tornado's own type
        """As tornado's; a bare 400 becomes one that says why."""
        if data == BARE and not self.closed():  # else it has been answered already
            refusal = _refusal_of(sys.exception())
            self.told(refusal)
            return asyncio.ensure_future(self.refusals.answer(self, refusal))
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:  # noqa: ANN401, FBT002 - tornado's own
        """As tornado's; a head that is too large is answered."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            what = "the request's head is too large"
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.refusals.answer_and_close(self, Refusal(status, what, section="RFC 6585 section 5"))
            return
        rest = (
            duplicate(self.socket.fileno()) if self.lingers and not (self.is_cut or self.closed()) else None
        )
        super().close(exc_info)
        if rest is not None:
            self.refusals.linger(rest)

    def reset_on_close(self) -> None:
        """Have the client see a reset, so that it does not take what was sent for the whole response."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


class TlsStream(Stream, SSLIOStream):
    """A client's connection that speaks TLS."""

    def end_output(self) -> None:
        """Tell the client that nothing more comes (RFC 8446 section 6.1)."""
        with suppress(OSError, ValueError):  # "want read": the client's own is not waited for
            self.socket.unwrap()

    def close_fd(self) -> None:
        """As tornado's, after the end of TLS was told, unless what was sent is not the whole response."""
        if not self.is_cut and not self.writing() and self.error is None:
            self.end_output()
        super().close_fd()


def _refusal_of(error: BaseException | None) -> Refusal:
    """Return the answer to what tornado has found malformed."""
    why = str(error or "")
    if why in TOO_LARGE:
        return too_large()
    words = _WORDS.match(why)
    return bad_request(
        f"the request is malformed: {words[0]}" if words else "the request is malformed", "RFC 9112"
    )
