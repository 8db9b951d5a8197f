"""Ports that several fleets listen on (SO_REUSEPORT): joining such a group of listeners, and leaving it without a loss.

Run by the arbiter, in its only thread. The kernel spreads newcomers over the group by a hash of their address, and goes
on doing so until a listener is closed; that close resets what waits in its queue. So who wants to leave has the group
choose another one first. A listener that is bound to no interface is no way out: it is chosen all the same.

The group is led by a classic BPF program that returns the place of the listener to choose (SO_ATTACH_REUSEPORT_CBPF,
socket(7)). A listener does not know its own place; so a connection of ours, which our own listener alone would drop,
shows whether a place is somebody else's. Nobody else's connection is touched by that. The invariant: a listener lets
newcomers in, or drops their first packet, which the client repeats after a second; it never takes one that is reset.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from contextlib import suppress

SO_ATTACH_FILTER = 26
SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
SO_DETACH_FILTER = 27
"""asm-generic/socket.h; Python's socket module has no names for them."""

_STEP = struct.Struct("=HBBI")
_LOAD_BYTE, _LOAD_HALF, _AND, _IS_EQUAL, _RETURN = 0x30, 0x28, 0x54, 0x15, 0x06
"""Operations of classic BPF (linux/filter.h), with a constant operand."""
_SOURCE_PORT, _FLAGS = 0, 13
"""Where they are in a TCP header (RFC 9293, section 3.1)."""
_SYN, _SYN_OR_ACK = 0x02, 0x12
_DROP, _PASS = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)
_DROP_NEW = (
    (_LOAD_BYTE, 0, 0, _FLAGS),
    (_AND, 0, 0, _SYN_OR_ACK),
    (_IS_EQUAL, 0, 1, _SYN),  # a SYN alone asks for a new connection
    _DROP,
    _PASS,
)
_PLACES = (1, 0)
"""One of the first two places is somebody else's if there is anybody else; the oldest listener, which is mostly the one
that leaves, has place 0."""
PROBE_MILLISECONDS = 50
"""The kernel answers a connection within the machine before connect(2) returns, unless it is very busy."""


def share_port(sock: socket.socket) -> None:
    """Let others listen on the same port, who say the same and run as the same user; to be called before bind(2)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def is_port_shared(sock: socket.socket) -> bool:
    """Whether others may listen on the port of this TCP listener."""
    return sock.family != socket.AF_UNIX and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def lead_elsewhere(sock: socket.socket) -> bool:
    """Have newcomers go to another listener of the group; return False, with nothing changed, if there is none.

    The caller keeps the listener open until nobody needs it, and calls `lead_back` before its last close.
    """
    try:
        for place in _PLACES:
            with _probe(sock) as probe:
                _attach(sock, SO_ATTACH_FILTER, program=_dropping_from(probe.getsockname()[1]))
                _attach(sock, SO_ATTACH_REUSEPORT_CBPF, program=((_RETURN, 0, 0, place),))
                if _gets_through(probe, sock.getsockname()):
                    drop_newcomers(sock)  # those that had been led to us already ask again, and are led there
                    return True
    except OSError:  # a kernel or a sandbox that has no such programs
        pass
    lead_back(sock)
    _let_everybody_in(sock)
    return False


def lead_back(sock: socket.socket) -> None:
    """Let the kernel spread newcomers over the whole group again."""
    with suppress(OSError):  # there is no program
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)


def drop_newcomers(sock: socket.socket) -> None:
    """Drop the packets that ask for a new connection; the client sends another one after a second.

    Raises:
        OSError: the kernel takes no filter from us.
    """
    _attach(sock, SO_ATTACH_FILTER, program=_DROP_NEW)


def _let_everybody_in(sock: socket.socket) -> None:
    with suppress(OSError):  # there is no filter
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _probe(sock: socket.socket) -> socket.socket:
    """Return a socket with a port of its own that can connect to where `sock` listens."""
    probe = socket.socket(sock.family, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.bind((_own(sock.getsockname()[0]), 0))
    except OSError:
        probe.close()
        raise
    return probe


def _own(host: str) -> str:
    """Return the address by which this machine reaches a listener: a wildcard is no address to connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _gets_through(probe: socket.socket, name: tuple[str, int]) -> bool:
    """Whether somebody takes the connection; what is dropped gets no answer."""
    if probe.connect_ex((_own(name[0]), name[1])) not in {0, errno.EINPROGRESS}:
        return False
    poll = select.poll()
    poll.register(probe, select.POLLOUT)
    return bool(poll.poll(PROBE_MILLISECONDS)) and probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _dropping_from(port: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return a filter for new connections from a port; accepted ones inherit it, and are to go on."""
    return ((_LOAD_HALF, 0, 0, _SOURCE_PORT), (_IS_EQUAL, 0, 4, port), *_DROP_NEW)


def _attach(sock: socket.socket, option: int, *, program: tuple[tuple[int, int, int, int], ...]) -> None:
    """Give the kernel a program: struct sock_fprog, which points to the steps.

    Raises:
        OSError: it does not take it.
    """
    import ctypes  # noqa: PLC0415 - only for the address of a buffer, once, at the end

    steps = ctypes.create_string_buffer(b"".join(_STEP.pack(*step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", len(program), ctypes.addressof(steps)))
