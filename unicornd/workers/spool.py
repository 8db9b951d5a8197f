"""A request's body while it arrives: in memory first, in a temporary file when it grows.

Written by the poller, then read by the application as `wsgi.input`; never both at once.
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import IO, TYPE_CHECKING, ClassVar

from unicornd.http.body import decoder_for
from unicornd.http.errors import Refusal

if TYPE_CHECKING:
    from unicornd.workers.context import HttpPolicy


class Spool:
    """One body: fed with what is received, read as a file when it is complete.

    Args:
        length: `Head.length`.
        policy: how large it may be, how much stays in memory, and where the rest goes.

    Raises:
        http.errors.Refusal: 413, the declared length is over the limit.
    """

    __slots__ = ("_decoder", "_file", "_policy", "size")

    refusal: ClassVar[None] = None
    """Why it could not be read: never, it is complete before the application is called."""

    def __init__(self, length: int, policy: HttpPolicy) -> None:
        self._decoder = decoder_for(length, policy.limits)
        self._policy = policy
        self._file: IO[bytes] = BytesIO()
        self.size = 0

    @property
    def is_complete(self) -> bool:
        """Whether the body's end has been received."""
        return self._decoder.is_complete

    @property
    def leftover(self) -> bytes:
        """What was received behind the body's end."""
        return self._decoder.leftover

    def feed(self, received: bytes) -> None:
        """Take what was received.

        Raises:
            http.errors.Refusal: 400 for broken framing, 413 for too much, 507 if it cannot be stored.
        """
        data = self._decoder.feed(received)
        try:
            self._store(data)
        except OSError as error:
            what = f"the body cannot be stored: {error.strerror}"
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, what, section="RFC 4918 section 11.5") from error

    def _store(self, data: bytes) -> None:
        was_in_memory = self.size <= self._policy.body_memory
        self.size += len(data)
        if was_in_memory and self.size > self._policy.body_memory:
            memory = self._file
            import tempfile  # noqa: PLC0415 - it brings much, and most bodies are small

            self._file = tempfile.TemporaryFile(dir=self._policy.tmp_upload_dir, prefix="unicornd-body-")  # noqa: SIM115 - closed by `close`
            memory.seek(0)
            self._file.write(memory.read())
        self._file.write(data)

    def rewound(self) -> IO[bytes]:
        """Return the whole body as a file at its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Let go of memory and disk."""
        self._file.close()
