"""TLS over one socket without waiting: what has come is decrypted whole, what is encrypted is kept until it is sent.

Used by whoever owns the connection: the poller, or the thread that runs its request. The poller may end a connection
while that thread sends on it, so a lock guards the state of OpenSSL. Nothing that is complete ever stays undecrypted:
epoll knows what the kernel holds, and nothing else.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from unicornd.workers.output import SEND_FLAGS
from unicornd.workers.peerfacts import facts_of

if TYPE_CHECKING:
    import socket

    from unicornd.http.environ import Environ
    from unicornd.workers.peerfacts import Certificate

RECORD_BYTES = 16 * 1024
"""The most that one record holds (RFC 8446 section 5.1)."""
STRIDE_BYTES = 8 * RECORD_BYTES
"""Encrypted at a time; what is in memory beyond the response itself."""


class HandshakeError(Exception):
    """The client and we cannot agree, or it has no right certificate; an alert says so to it."""


class TlsStream:
    """One connection's TLS.

    Args:
        sock: of the client.
        context: of the server.

    Attributes:
        is_open: whether the handshake is over.
        is_partial: whether a record has begun to come and is not complete.
        is_cut: whether the client must not take the end of the connection for that of the response.
    """

    __slots__ = (
        "_incoming", "_lock", "_object", "_outgoing", "_sock", "_unsent", "is_cut", "is_open", "is_partial",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self.is_open = False
        self.is_partial = False
        self.is_cut = False

    @property
    def is_unsent(self) -> bool:
        """Whether something is encrypted that the kernel has not taken yet."""
        return bool(self._unsent) or self._outgoing.pending > 0

    def shake_hands(self, received: bytes) -> bool:
        """Go on with the handshake; return whether it is over.

        Raises:
            HandshakeError: it has failed; the alert is on its way.
            OSError: the connection is broken.
        """
        with self._lock:
            self._incoming.write(received)
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                return False
            except ssl.SSLError as error:
                self.is_cut = True
                with suppress(OSError):
                    self._push()
                raise HandshakeError((error.reason or str(error)).replace("_", " ").lower()) from error
            self.is_open = True
            self._push()
            return True

    def decrypt(self, received: bytes) -> bytes:
        """Return everything that is complete with what was received; may be empty.

        Raises:
            EOFError: the client has ended its side, and nothing is left.
            OSError: what came is not what the client has encrypted, or the connection is broken.
        """
        parts = []
        is_ended = False
        with self._lock:
            self._incoming.write(received)
            self.is_partial = False
            try:
                while self._incoming.pending and not is_ended:
                    part = self._object.read(RECORD_BYTES)
                    parts.append(part)
                    is_ended = not part  # close_notify
            except ssl.SSLWantReadError:
                self.is_partial = True
            except ssl.SSLError as error:
                self._give_up()
                raise ConnectionAbortedError(str(error)) from error
            if self._outgoing.pending:  # an answer of the protocol's own, such as to KeyUpdate
                self._push()
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if is_ended and not data:
            raise EOFError
        return data

    def send(self, data: bytes | memoryview) -> bool:
        """Encrypt `data` and send it; what the kernel does not take is kept. Return whether nothing is left.

        Raises:
            OSError: the connection is broken.
        """
        with self._lock:
            done = 0
            try:
                while done < len(data):  # one record at a time, whatever is given
                    done += self._object.write(data[done : done + RECORD_BYTES])
            except ssl.SSLError as error:
                raise ConnectionAbortedError(str(error)) from error
            return self._push()

    def push(self) -> bool:
        """Send what is encrypted; return whether nothing is left.

        Raises:
            OSError: the connection is broken.
        """
        with self._lock:
            return self._push()

    def end(self) -> None:
        """Tell the client that nothing more comes (RFC 8446 section 6.1), if everything before that is on its way."""
        with self._lock, suppress(OSError):
            if self.is_open and not self.is_cut and self._push():
                self.is_cut = True  # once is enough
                with suppress(ssl.SSLError):  # "want read": the client's own is not waited for
                    self._object.unwrap()
                self._push()

    def peer(self) -> Environ:
        """Return what is known of the client's certificate; empty without one that has been checked."""
        certificate = self._object.getpeercert()
        if not certificate:
            return {}
        return facts_of(cast("Certificate", certificate), self._object.getpeercert(binary_form=True) or b"")

    def _give_up(self) -> None:
        self.is_cut = True
        with suppress(OSError):
            self._push()

    def _push(self) -> bool:
        while True:
            unsent = self._unsent
            if not unsent:
                if not self._outgoing.pending:
                    return True
                unsent = memoryview(self._outgoing.read())
            try:
                sent = self._sock.send(unsent, SEND_FLAGS)
            except BlockingIOError:
                self._unsent = unsent
                return False
            self._unsent = unsent[sent:]
