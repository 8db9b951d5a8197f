"""A client's connection that speaks TLS: a `Connection` whose bytes are decrypted, and whose output is encrypted.

Owned as a `Connection` is. The acceptor makes one for what comes in at a TCP listener of a worker with certificates.
It cannot be handed over, since its keys are in the memory of this process: its worker ends it.
"""

from __future__ import annotations

import os
import select
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from unicornd.http.errors import Refusal
from unicornd.workers.connection import HEAD, IDLE, LINGER, RECEIVE_BYTES, Connection
from unicornd.workers.output import MOST_HELD, SEND_FLAGS, FilePiece, Output
from unicornd.workers.tlsstream import STRIDE_BYTES, HandshakeError, TlsStream

if TYPE_CHECKING:
    import ssl

    from unicornd.http.environ import Environ
    from unicornd.workers.context import HttpPolicy
    from unicornd.workers.overflow import Overflow

HANDSHAKE = 0x16
"""The first byte of every handshake: a record's type (RFC 8446 section 5.1)."""


class TlsOutput(Output):
    """The unsent rest of a response; files are read and encrypted in pieces."""

    __slots__ = ("_is_broken", "_stream")

    def __init__(self, sock: socket.socket, stream: TlsStream, *, overflow: Overflow | None = None) -> None:
        super().__init__(sock, overflow)
        self._stream = stream
        self._is_broken = False

    def send(self, data: bytes) -> None:
        """Send `data` as far as the socket takes it now, keep the rest; as `Output.send`."""
        self.has_begun = True
        if not self.is_pending and not self._is_broken and len(data) <= STRIDE_BYTES:
            self.is_pending = not self._stream.send(data)  # the usual case
            return
        if self._file is not None:
            self._add(data)
            return
        self._pending.append(memoryview(data))
        self.size += len(data)
        self.is_pending = True
        self._flush()

    def send_whole(self, data: bytes) -> None:
        """Send a response that is complete with this, or hold it; as `Output.send_whole`."""
        if self.may_hold and len(data) <= MOST_HELD:
            self.has_begun = True
            self.held = data
            return
        self.send(data)
        if self.is_pending:
            self._store_whole()

    def release(self) -> None:
        """Send the response that was held; as `Output.release`."""
        data, self.held = self.held, b""
        self.send(data)

    def _flush(self) -> bool:
        while not self._is_broken:
            if not self._stream.push():
                return False
            if not self._pending:
                self.is_pending = False
                return True
            piece = self._pending[0]
            if isinstance(piece, FilePiece):
                self._encrypt_file(piece)
            else:
                self._encrypt_bytes(piece)
        raise BrokenPipeError("the response was broken off")

    def break_off(self) -> None:
        """Whatever is sent from now on meets a broken connection; the stream itself is not touched."""
        self._is_broken = True
        super().break_off()

    def close(self) -> None:
        """Forget what is unsent."""
        if self.is_pending or self.held:
            self._stream.is_cut = True
        super().close()

    def _encrypt_bytes(self, piece: memoryview) -> None:
        part = piece[:STRIDE_BYTES]
        self._stream.send(part)
        self.size -= len(part)
        if len(part) == len(piece):
            self._pending.popleft()
        else:
            self._pending[0] = piece[STRIDE_BYTES:]

    def _encrypt_file(self, piece: FilePiece) -> None:
        if not piece.remaining:
            self._drop_file(piece)
            return
        data = os.pread(piece.fd, min(piece.remaining, STRIDE_BYTES), piece.offset)
        if not data:
            raise BrokenPipeError("a file has become shorter while it was sent")
        self._stream.send(data)
        piece.offset += len(data)
        piece.remaining -= len(data)
        if not piece.remaining:
            self._drop_file(piece)


class TlsConnection(Connection):
    """A client's connection over TLS.

    While the handshake goes on its stage is HEAD, under `timeouts.head`.

    Args:
        context: of the server.
        sock, remote, base, policy: as of `Connection`.
    """

    __slots__ = ("_is_plain", "_stream")

    may_move: ClassVar[bool] = False

    def __init__(
        self,
        sock: socket.socket,
        remote: tuple[str, str],
        *,
        base: Environ,
        policy: HttpPolicy,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(sock, remote, base=base, policy=policy)
        self._stream = TlsStream(sock, context)
        self._is_plain = False
        self.output = TlsOutput(sock, self._stream, overflow=policy.overflow)

    @property
    def interest(self) -> int:
        """What the poller waits for: room too, while a part of the handshake is not sent."""
        if self._stream.is_unsent and self.stage is not LINGER:
            return select.EPOLLIN | select.EPOLLOUT
        return select.EPOLLIN

    @property
    def has_leftover(self) -> bool:
        """Whether the client has sent more than its request, or is about to."""
        return self._stream.is_partial or super().has_leftover

    def receive(self, now: float) -> bool:
        """Read once; True when a request is complete; as `Connection.receive`."""
        data = self._received() if self._stream.is_open else self.shake_hands(now)
        if not data:
            raise BlockingIOError
        return self._take(data, now)

    def shake_hands(self, now: float) -> bytes:
        """Read once; when the handshake is over, return what has come behind it.

        Raises:
            BlockingIOError: it is not over.
            EOFError: the client has gone.
            http.errors.Refusal: it has failed, or this is not TLS.
        """
        if self._stream.is_unsent:
            self._stream.push()
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        self._shake_hands(data, now)
        return self._stream.decrypt(b"")  # it is in the stream already

    def _received(self) -> bytes:
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError  # with or without close_notify
        return self._stream.decrypt(data)

    def has_hung_up(self) -> bool:
        """Return whether the client has closed its side; what it has sent else is kept for the next request."""
        if self._buffer:
            return False
        try:
            data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            if not data:
                return True
            self._buffer = self._stream.decrypt(data)
        except BlockingIOError:
            return False
        except (EOFError, OSError):
            return True
        return False

    def receive_piece(self) -> bytes:
        """Return some bytes of a body; as `Connection.receive_piece`."""
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        if not data:
            return b""
        piece = self._stream.decrypt(data)
        if not piece:
            raise BlockingIOError
        return piece

    def tell(self, data: bytes) -> None:
        """Send something short at once; nothing to a client whose handshake has failed, but for the alert."""
        if self._is_plain:
            self.sock.send(data, SEND_FLAGS)
        elif self._stream.is_open:
            self._stream.send(data)
        elif not self._stream.is_cut:
            raise ConnectionAbortedError("the handshake is not over")

    def shut(self) -> None:
        """End our side."""
        self._stream.end()
        super().shut()

    def reset_on_close(self) -> None:
        """Have the client see a reset, and no orderly end before it."""
        self._stream.is_cut = True
        super().reset_on_close()

    def close(self) -> None:
        """Say that it is the end, if the response is whole, and close."""
        self.output.close()
        self._stream.end()
        super().close()

    def _shake_hands(self, data: bytes, now: float) -> None:
        """Go on with the handshake.

        Raises:
            BlockingIOError: it is not over.
            http.errors.Refusal: it has failed, or this is not TLS.
        """
        if self.stage is IDLE:
            if data[0] != HANDSHAKE:
                self._is_plain = True
                raise Refusal(HTTPStatus.BAD_REQUEST, "this port speaks HTTPS")
            self.stage = HEAD
            self.deadline = now + self.policy.head if self.policy.head else 0.0
        try:
            if not self._stream.shake_hands(data):
                raise BlockingIOError
        except HandshakeError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the TLS handshake has failed: {error}") from error
        self.stage = IDLE
        if peer := self._stream.peer():
            self.base = self.base | peer
