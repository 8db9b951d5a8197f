"""Idle connections, from a worker that leaves to one that stays.

A pair of sockets that all workers of a fleet share. One that retires sends its idle connections into it, with the bytes
that it has read; whoever of the others is free takes them out and goes on. So neither a reload nor a recycle closes a
connection on which a client is about to send. When the fleet stops, the arbiter shuts the pair: nobody will be there.

What comes out has been put in by a sibling, which runs the application and may be anybody's by now. What is not an idle
connection with its facts is closed, and the next one taken. The datagrams are JSON, and bounded; during an upgrade they
come from another release.
"""

from __future__ import annotations

import json
import os
import re
import socket
from array import array
from contextlib import suppress
from select import POLLRDHUP  # as it is before a kind patches the module
from select import poll as make_poll
from socket import socket as make_socket  # likewise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

MAX_RECEIVED = 16 * 1024
"""Bytes of an unfinished request that go along; who has sent more is served where it is."""
MAX_FACTS = 1022
"""Bytes of what is said of a connection."""
MAX_MESSAGE = 2 + MAX_FACTS + MAX_RECEIVED
MOST_FACTS = 8
MAX_FACT = 256
"""How many facts a preface may have told, and characters of each."""
NOTHING_TOLD: Mapping[str, str] = MappingProxyType({})
"""The facts of a connection without a preface."""
LARGEST_ROUND = 64
"""Connections taken at a time: others are served in between."""
QUEUE_BYTES = 4 * 2**20
"""Asked of the kernel for what is on its way; it grants twice net.core.wmem_max at most."""


class Handed(NamedTuple):
    """A connection on its way.

    Attributes:
        sock: of the client.
        listener: the address at which it came in, as configured.
        remote: the client's host and port, as a PROXY header has named them if there was one; empty for a Unix socket.
        received: what had been read of its next request, or of its preface.
        preface: what has to come first and is not complete: `proxy`, `uwsgi`, or empty for nothing.
        facts: what a PROXY header has told, as the environ has it.
        peer: whom the kernel names at the other end, host and port; empty for a Unix socket. Filled in by `take`.
    """

    sock: socket.socket
    listener: str
    remote: tuple[str, str]
    received: bytes
    preface: str = ""
    facts: Mapping[str, str] = NOTHING_TOLD
    peer: tuple[str, str] = ("", "")


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
        told: list[Any] = [handed.listener, *handed.remote]
        if handed.preface or handed.facts:
            told += [handed.preface, dict(handed.facts)]
        facts = json.dumps(told, ensure_ascii=False).encode(errors="surrogatepass")
        if len(facts) > MAX_FACTS:
            return False
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
                message, ancillary, flags, _ = self.taking.recvmsg(MAX_MESSAGE, _ROOM, _FLAGS)
            except OSError:
                return
            descriptors = _descriptors_in(ancillary)
            if not message and not self.is_open:
                return
            is_whole = len(descriptors) == 1 and not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
            facts = _facts_in(message) if is_whole else None
            connected = _connection_of(descriptors.pop()) if facts is not None else None
            for fd in descriptors:
                os.close(fd)
            if facts is not None and connected is not None:  # else its client sees it closed
                sock, peer = connected
                received = message[2 + int.from_bytes(message[:2]) :]
                listener, remote, preface, told = facts
                yield Handed(sock, listener, remote, received, preface, told, peer)

    def close(self) -> None:
        """Let go of both ends, in this process."""
        self.giving.close()
        self.taking.close()


_ROOM = socket.CMSG_LEN(array("i").itemsize)
"""For one descriptor: the kernel closes what is more."""
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
"""A sibling that has made the pair blocking holds nobody up."""


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return found.tolist()


_Facts = tuple[str, tuple[str, str], str, "Mapping[str, str]"]


def _facts_in(message: bytes) -> _Facts | None:
    """Return listener, host and port, preface and what it has told; or None for anything else.

    A connection without a preface has no more than the first three, as in releases that knew no other one.
    """
    size = int.from_bytes(message[:2])
    if size > MAX_FACTS or len(message) < 2 + size:
        return None
    try:
        match json.loads(message[2 : 2 + size]):
            case [str(listener), str(host), str(port), *rest] if f"{listener}{host}{port}".isprintable():
                match rest:
                    case []:
                        return listener, (host, port), "", NOTHING_TOLD
                    case ["" | "proxy" | "uwsgi" as preface, dict(told)] if _are_facts(told):
                        return listener, (host, port), preface, told
    except (ValueError, RecursionError):
        pass
    return None


_FACT_NAME = re.compile(r"[A-Z][A-Z_]{0,31}")
_FACT = re.compile(rf"[\x20-\x7e\x80-\xff]{{0,{MAX_FACT}}}")
"""What a string of an environ may have (PEP 3333), but for control characters."""


def _are_facts(told: dict[Any, Any]) -> bool:
    return len(told) <= MOST_FACTS and all(
        _FACT_NAME.fullmatch(name) and type(value) is str and _FACT.fullmatch(value)
        for name, value in told.items()
    )


def _connection_of(fd: int) -> tuple[socket.socket, tuple[str, str]] | None:
    """Return the socket, if it is one on which a client may send, and who that is; else close it."""
    try:
        sock = make_socket(fileno=fd)
    except OSError:  # it is none
        os.close(fd)
        return None
    try:
        is_stream = sock.type == socket.SOCK_STREAM and sock.family in _FAMILIES
        sock.settimeout(None)  # whatever socket.setdefaulttimeout says
        if is_stream and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            name = sock.getpeername()  # it has to be connected
            return sock, (name[0], str(name[1])) if isinstance(name, tuple) else ("", "")
    except OSError:
        pass
    sock.close()
    return None


_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
