"""A connection with TLS as the socket that a handler of another server expects (gevent's pywsgi).

Used in the greenlet of the connection, which waits by its pause.
"""

from __future__ import annotations

import io
import time
from contextlib import suppress
from select import EPOLLOUT  # as it is before a kind patches the module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from unicornd.workers.strand import Strand
    from unicornd.workers.tlsconnection import TlsConnection


class TlsSocket(io.RawIOBase):
    """What comes, decrypted; what is sent is encrypted.

    Args:
        strand: the greenlet's.
        connection: its connection.
    """

    def __init__(self, strand: Strand, connection: TlsConnection) -> None:
        super().__init__()
        self._strand = strand
        self._connection = connection
        self._received = b""

    def shake_hands(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            http.errors.Refusal: it has failed, or this is not TLS.
            EOFError: the client has gone.
        """
        connection = self._connection
        while True:
            with suppress(BlockingIOError):
                self._received = connection.shake_hands(time.monotonic())
                return
            if connection.interest & EPOLLOUT:
                self._strand.pause.wait_writable()
            else:
                self._strand.pause.wait_readable()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there, wait for more if nothing is; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while not self._received:
            try:
                self._received = self._connection.receive_piece()
            except EOFError:
                return 0
            except BlockingIOError:
                self._strand.pause.wait_readable()
            else:
                if not self._received:
                    return 0
        count = min(len(self._received), len(view))
        view[:count] = self._received[:count]
        self._received = self._received[count:]
        return count

    def recv(self, size: int) -> bytes:
        """As socket.recv."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def makefile(self, _mode: str = "rb", _buffering: int = -1) -> io.BufferedReader:
        """As socket.makefile for reading."""
        return io.BufferedReader(self)

    def sendall(self, data: bytes) -> None:
        """As socket.sendall."""
        output = self._connection.output
        output.send(data)
        while not output.flush():
            self._strand.pause.wait_writable()

    def fileno(self) -> int:
        """Of the connection."""
        return self._connection.fd

    def getpeername(self) -> object:
        """As socket.getpeername."""
        return self._connection.sock.getpeername()

    def close(self) -> None:
        """Say that it is the end, and close."""
        if not self.closed:
            super().close()
            self._connection.close()
