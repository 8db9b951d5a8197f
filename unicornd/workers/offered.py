"""A client's socket as an application gets it, to take the connection over for a protocol of its own (a WebSocket).

Found in the environ as `unicornd.socket` and `gunicorn.socket`: the connection is the application's once that is used.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

SWITCHING = "101 Switching Protocols"
USES = ("recv", "recv_into", "send", "sendall", "makefile", "dup", "detach")
"""What an application does with a socket that it takes over; asking for its names or options is no use."""


class OfferedSocket(socket.socket):
    """The socket in the kind `threads`; without slots, so that `tell_use` can do its work.

    It is closed when nobody has it any more. A thread of the application may still read from it when the request ends,
    so it is not closed by us: the number would be another connection's a moment later.
    """

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Return a duplicate of a blocking socket."""
        return cls(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))

    def __del__(self) -> None:
        """Close it without a warning."""
        self.close()


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
