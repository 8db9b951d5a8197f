"""Idle connections, from a worker that leaves to one that stays.

A pair of sockets that all workers of a fleet share. One that retires sends its idle connections into it, with the bytes
that it has read; whoever of the others is free takes them out and goes on. So neither a reload nor a recycle closes a
connection on which a client is about to send. When the fleet stops, the arbiter shuts the pair: nobody will be there.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from select import POLLRDHUP  # as it is before a kind patches the module
from select import poll as make_poll
from typing import TYPE_CHECKING, NamedTuple

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

MAX_RECEIVED = 16 * 1024
"""Bytes of an unfinished request that go along; who has sent more is served where it is."""
MAX_MESSAGE = MAX_RECEIVED + 1024
LARGEST_ROUND = 64
"""Connections taken at a time: others are served in between."""
QUEUE_BYTES = 4 * 2**20
"""Asked of the kernel for what is on its way; it grants twice net.core.wmem_max at most."""


class Handed(NamedTuple):
    """A connection on its way.

    Attributes:
        sock: of the client.
        listener: the address at which it came in, as configured.
        remote: the client's host and port; empty for a Unix socket.
        received: what had been read of its next request.
    """

    sock: socket.socket
    listener: str
    remote: tuple[str, str]
    received: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Both ends; every process of the fleet has both.

    Attributes:
        giving: where connections are put in.
        taking: where they come out.
    """

    giving: socket.socket
    taking: socket.socket

    @classmethod
    def open(cls) -> Self:
        """Make a pair.

        Raises:
            OSError: no descriptors are left.
        """
        giving, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (giving, taking):
            sock.setblocking(False)
        giving.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        return cls(giving=giving, taking=taking)

    @classmethod
    def of(cls, giving: int, taking: int) -> Self:
        """Return the pair that a predecessor has left."""
        pair = cls(giving=socket.socket(fileno=giving), taking=socket.socket(fileno=taking))
        for sock in (pair.giving, pair.taking):
            sock.setblocking(False)
        return pair

    def shut(self) -> None:
        """Nobody will take anything out any more: what is put in is refused from now on, in all processes."""
        with suppress(OSError):
            self.giving.shutdown(socket.SHUT_WR)

    @property
    def is_open(self) -> bool:
        """Whether it has not been shut."""
        poll = make_poll()
        poll.register(self.taking, POLLRDHUP)
        return not poll.poll(0)

    def give(self, handed: Handed) -> bool:
        """Put a connection in; False if that is not possible now. The caller closes its own descriptor."""
        if len(handed.received) > MAX_RECEIVED:
            return False
        facts = json.dumps([handed.listener, *handed.remote]).encode()
        message = len(facts).to_bytes(2) + facts + handed.received
        try:
            socket.send_fds(self.giving, [message], [handed.sock.fileno()])
        except OSError:  # full, shut, or too many descriptors on their way (unix(7), ETOOMANYREFS)
            return False
        return True

    def take(self) -> Iterator[Handed]:
        """Take out what is there, as far as one round goes."""
        for _ in range(LARGEST_ROUND):
            try:
                message, descriptors, _, _ = socket.recv_fds(self.taking, MAX_MESSAGE, 1)
            except OSError:
                return
            if not message:
                return
            if not descriptors:  # this process has none left: the client sees its connection closed
                continue
            end = 2 + int.from_bytes(message[:2])
            listener, host, port = json.loads(message[2:end])
            yield Handed(socket.socket(fileno=descriptors[0]), listener, (host, port), message[end:])

    def close(self) -> None:
        """Let go of both ends, in this process."""
        self.giving.close()
        self.taking.close()
