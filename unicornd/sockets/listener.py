"""Listening sockets: opened by the arbiter before anything else, shared by its workers.

A Unix socket's file is replaced only if nobody answers on it; it is created under a name of its own, given its mode
there, and renamed, so that it is never reachable with another mode.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.config.values import Address
from unicornd.errors import ListenError
from unicornd.sockets.holder import holder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCEPT_QUEUE = struct.Struct("24xI4xI")
"""tcpi_unacked and tcpi_sacked of struct tcp_info (linux/tcp.h): of a listener, its queue and the queue's limit."""
TCP_INFO_BYTES = 104


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who may connect to a Unix socket: its mode, and its owner if workers run as another user."""

    mode: int
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An open listening socket.

    Attributes:
        address: as configured.
        sock: non-blocking.
        is_inherited: whether somebody else (systemd) opened it, who then also removes it.
        inode: of a Unix socket's file, so that only ours is removed.
    """

    address: Address
    sock: socket.socket
    is_inherited: bool = False
    inode: int = 0

    @property
    def bound(self) -> str:
        """The address as it is really bound, with the port that the kernel chose."""
        name = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            return f"unix:@{name[1:].decode()}" if isinstance(name, bytes) else f"unix:{name}"
        return str(Address(kind="tcp", host=name[0], port=name[1]))


def open_listener(address: Address, *, backlog: int, ownership: Ownership) -> Listener:
    """Bind and listen.

    Raises:
        ListenError: it cannot be had; the message says why, the hint who has it.
    """
    try:
        match address.kind:
            case "tcp":
                return _open_tcp(address, backlog)
            case "unix":
                return _open_unix(address, backlog, ownership=ownership)
            case _:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                return _listening(sock, address, backlog, name="\0" + address.path)
    except socket.gaierror as error:
        raise ListenError(
            f"cannot listen on {address}: {error.strerror}", hint="check the host name in server.bind"
        ) from error
    except OSError as error:
        raise _explained(address, error) from error


def close_listener(listener: Listener) -> None:
    """Close our copy, and remove the file of a Unix socket if it is still the one that we made."""
    if listener.address.kind == "unix" and not listener.is_inherited:
        path = Path(listener.address.path)
        try:
            if path.stat().st_ino == listener.inode:
                path.unlink()
        except OSError:
            pass  # removed by somebody else, or not ours to remove any more
    listener.sock.close()


def queue_length(listener: Listener) -> tuple[int, int] | None:
    """Return how many connections wait to be accepted, and how many may; None where the kernel does not tell."""
    if listener.sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    try:
        info = listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return None
    queue, limit = _ACCEPT_QUEUE.unpack_from(info)
    return queue, limit


def bound_addresses(listeners: Sequence[Listener]) -> str:
    """Return all addresses in words, for a log line."""
    return ", ".join(listener.bound for listener in listeners)


def _open_tcp(address: Address, backlog: int) -> Listener:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, name = found[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6:
        # [::] serves IPv6 only; 0.0.0.0 can be bound beside it, whatever net.ipv6.bindv6only says.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return _listening(sock, address, backlog, name=name)


def _open_unix(address: Address, backlog: int, *, ownership: Ownership) -> Listener:
    path = Path(address.path)
    _refuse_if_in_the_way(address, path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    listener = _listening(socket.socket(socket.AF_UNIX), address, backlog, name=str(draft))
    try:
        draft.chmod(ownership.mode)
        os.chown(draft, ownership.uid, ownership.gid)
        draft.rename(path)
    except OSError:
        listener.sock.close()
        draft.unlink(missing_ok=True)
        raise
    return replace(listener, inode=path.stat().st_ino)


def _refuse_if_in_the_way(address: Address, path: Path) -> None:
    """Raise unless the path is free, or has a socket on which nobody answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"cannot listen on {address}: there is a file that is no socket", hint="move it away"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _listening(sock: socket.socket, address: Address, backlog: int, *, name: object) -> Listener:
    try:
        sock.bind(name)  # type: ignore[arg-type] # a tuple or a path, as the family wants it
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return Listener(address=address, sock=sock)


def _explained(address: Address, error: OSError) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            holder = holder_of(address)
            who = (
                f"it is held by {holder}; stop that, or change server.bind"
                if holder
                else "change server.bind"
            )
            return ListenError(f"cannot listen on {address}: the address is in use", hint=who)
        case errno.EACCES:
            hint = "a port below 1024 and other people's folders need privileges (or a systemd socket unit)"
            return ListenError(f"cannot listen on {address}: permission denied", hint=hint)
        case errno.EADDRNOTAVAIL:
            hint = "no interface of this machine has that address"
            return ListenError(f"cannot listen on {address}: the address is not available", hint=hint)
        case _:
            return ListenError(
                f"cannot listen on {address}: {error.strerror or error}", hint="check server.bind"
            )
