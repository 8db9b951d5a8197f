"""Bytes of a body → its content, whatever the pieces in which they come.

A decoder is fed what was received and returns what is content; what belongs to the next request stays in `leftover`.
It never holds more than one line of framing back.
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.grammar import CHUNK_LINE, FIELD_LINE
from unicornd.http.messages import UNKNOWN_LENGTH

if TYPE_CHECKING:
    from unicornd.http.limits import Limits

MAX_CHUNK_LINE = 1024
"""Bytes of a chunk's size with its extensions: nobody uses these, and they must not be a way to send data for ever."""


MAX_EXTENSIONS = 16 * 1024
"""Bytes of all extensions of a body: a byte of content may not cost a kilobyte of reading."""


class Decoder(Protocol):
    """What the reactor feeds a body to."""

    is_complete: bool
    leftover: bytes

    def feed(self, data: bytes) -> bytes:
        """Take what was received and return the content in it.

        Raises:
            Refusal: 400 for broken framing, 413 for more than `Limits.body_size`.
        """


def decoder_for(length: int, limits: Limits) -> Decoder:
    """Return the decoder for a body of `Head.length`.

    Raises:
        Refusal: 413, the declared length is over the limit.
    """
    return ChunkedDecoder(limits) if length == UNKNOWN_LENGTH else LengthDecoder(length, limits)


def too_large() -> Refusal:
    """Return the refusal of a body that is over the limit."""
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", section="RFC 9110 section 15.5.14"
    )


class LengthDecoder:
    """A body of a declared length (RFC 9112 section 6.2)."""

    __slots__ = ("_remaining", "is_complete", "leftover")

    def __init__(self, length: int, limits: Limits) -> None:
        if limits.body_size and length > limits.body_size:
            raise too_large()
        self._remaining = length
        self.is_complete = length == 0
        self.leftover = b""

    def feed(self, data: bytes) -> bytes:
        """See `Decoder.feed`."""
        content = data[: self._remaining]
        self._remaining -= len(content)
        if self._remaining == 0:
            self.is_complete = True
            self.leftover += data[len(content) :]
        return content


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    END = auto()


class ChunkedDecoder:
    """A chunked body (RFC 9112 section 7.1); trailer fields are validated and dropped."""

    __slots__ = (
        "_chunk", "_extensions", "_limits", "_part", "_pending", "_total", "_trailers", "is_complete", "leftover",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._part = _Part.SIZE
        self._pending = b""
        self._chunk = 0
        self._total = 0
        self._extensions = 0
        self._trailers = 0
        self.is_complete = False
        self.leftover = b""

    def feed(self, data: bytes) -> bytes:
        """See `Decoder.feed`."""
        pending = self._pending + data
        content = []
        position = 0
        while self._part is not _Part.END:
            if self._part is _Part.DATA:
                piece = pending[position : position + self._chunk]
                content.append(piece)
                position += len(piece)
                self._chunk -= len(piece)
                if self._chunk:
                    break
                self._part = _Part.DATA_END
            end = pending.find(b"\r\n", position)
            if end < 0:
                self._check_unfinished(pending, position)
                break
            self._take_line(pending[position:end])
            position = end + 2
        if self._part is _Part.END:
            self.is_complete = True
            self.leftover += pending[position:]
            position = len(pending)
        self._pending = pending[position:]
        return b"".join(content)

    def _take_line(self, line: bytes) -> None:
        match self._part:
            case _Part.SIZE:
                self._begin_chunk(line)
            case _Part.DATA_END:
                if line:
                    raise bad_request("a chunk is longer than its size", "RFC 9112 section 7.1")
                self._part = _Part.SIZE
            case _:
                self._take_trailer(line)

    def _begin_chunk(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line) if len(line) <= MAX_CHUNK_LINE else None
        if match is None:
            raise bad_request("a chunk's size is malformed", "RFC 9112 section 7.1")
        self._extensions += len(line) - match.end(1)
        if self._extensions > MAX_EXTENSIONS:
            raise bad_request("there are too many chunk extensions", "RFC 9112 section 7.1.1")
        self._chunk = int(match[1], 16)
        self._total += self._chunk
        if self._limits.body_size and self._total > self._limits.body_size:
            raise too_large()
        self._part = _Part.DATA if self._chunk else _Part.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._part = _Part.END
            return
        self._trailers += 1
        if self._trailers > self._limits.header_count or len(line) > self._limits.header_size:
            raise _trailer_too_large()
        if FIELD_LINE.fullmatch(line.decode("latin-1")) is None:
            raise bad_request("a trailer field is malformed", "RFC 9112 section 7.1.2")

    def _check_unfinished(self, pending: bytes, position: int) -> None:
        """Refuse a line that cannot become right any more, or has become too long."""
        line = pending[position:]
        limit = {_Part.SIZE: MAX_CHUNK_LINE, _Part.DATA_END: 0}.get(self._part, self._limits.header_size)
        if b"\n" not in line and (len(line) <= limit or (len(line) == limit + 1 and line.endswith(b"\r"))):
            return
        if self._part is _Part.TRAILER and b"\n" not in line:
            raise _trailer_too_large()
        raise bad_request("a line of the chunked body is not ended", "RFC 9112 section 7.1")


def _trailer_too_large() -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the trailer is too large", section="RFC 6585 section 5"
    )
