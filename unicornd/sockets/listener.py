"""Listening sockets: opened by the arbiter before anything else, shared by its workers.

A Unix socket's file is replaced only if nobody answers on it, and never exists with more permissions than it is to
have. Closing takes the file away only if it is still the one that we made.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.accounts import acting_as
from unicornd.config.values import Address
from unicornd.dataclass import dataclass, replace
from unicornd.errors import ListenError
from unicornd.files import Folder, held
from unicornd.sockets.holder import holder_of
from unicornd.sockets.sharing import drop_newcomers, lead_back, share_port
from unicornd.walk import UnsafeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unicornd.accounts import Account

_ACCEPT_QUEUE = struct.Struct("24xII")
"""tcpi_unacked and tcpi_sacked of struct tcp_info (linux/tcp.h): of a listener, its queue and the queue's limit."""
TCP_INFO_BYTES = 104
ANY_IPV6 = "::"

SO_BINDTOIFINDEX = 62
"""asm-generic/socket.h; Python's socket module has no name for it."""
NO_INTERFACE = 2**31 - 1
"""No interface ever has this index; the kernel does not ask whether there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who may connect to a Unix socket: its mode, and its owner if workers run as another user.

    Attributes:
        writer: that user, in whose folders root is careful (`files`).
    """

    mode: int
    uid: int = -1
    gid: int = -1
    writer: Account | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An open listening socket.

    Attributes:
        address: as configured.
        sock: non-blocking.
        is_inherited: whether somebody else (systemd) opened it, who then also removes it.
        inode: device and inode of a Unix socket's file, so that only ours is removed.
    """

    address: Address
    sock: socket.socket
    is_inherited: bool = False
    inode: tuple[int, int] | None = None

    @property
    def bound(self) -> str:
        """The address as it is really bound, with the port that the kernel chose."""
        name = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            return f"unix:@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else f"unix:{name}"
        return str(Address(kind="tcp", host=name[0], port=name[1]))


def open_listener(
    address: Address, *, backlog: int, ownership: Ownership, is_dual: bool = False, is_shared: bool = False
) -> Listener:
    """Bind and listen.

    Args:
        address: `tcp`, `unix` or `abstract`; descriptors are taken over by `inherit`.
        backlog: how many connections the kernel queues.
        ownership: of a Unix socket.
        is_dual: whether `[::]` takes IPv4 connections too.
        is_shared: whether others may listen on the same TCP port.

    Raises:
        ListenError: it cannot be had; the message says why, the hint who has it.
    """
    try:
        match address.kind:
            case "tcp":
                return _open_tcp(address, backlog, is_dual=is_dual, is_shared=is_shared)
            case "unix":
                return _open_unix(address, backlog, ownership=ownership)
            case "abstract":
                sock = socket.socket(socket.AF_UNIX)
                return _listening(sock, address, backlog=backlog, name="\0" + address.path)
            case "fd":
                raise ListenError(
                    f"cannot listen on {address}: no such descriptor was passed on",
                    hint="fd:// takes sockets that systemd or a parent process has opened",
                )
    except socket.gaierror as error:
        raise ListenError(
            f"cannot listen on {address}: {error.strerror}", hint="check the host name in server.bind"
        ) from error
    except OSError as error:
        raise _explained(address, error, is_shared=is_shared) from error


def renew_listener(
    listener: Listener, *, backlog: int, ownership: Ownership, is_shared: bool = False
) -> None:
    """Apply what may have changed since an earlier run of this service opened it.

    Raises:
        ListenError: its file cannot be given that mode or owner.
    """
    try:
        listener.sock.listen(backlog)
        if listener.sock.family != socket.AF_UNIX:
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_shared)
        if listener.inode is not None:
            _renew_file(listener, ownership)
    except OSError as error:
        raise _explained(listener.address, error) from error


def close_listener(listener: Listener) -> None:
    """Close our copy, and remove the file of a Unix socket."""
    remove_file(listener)
    listener.sock.close()


def remove_file(listener: Listener) -> None:
    """Remove the file of a Unix socket if it is still the one that we made."""
    if listener.inode is not None:
        path = Path(listener.address.path)
        with suppress(OSError), Folder.open(path.parent) as folder:
            folder.remove(path.name, inode=listener.inode)


def refuse_newcomers(listener: Listener) -> None:
    """Let nobody in any more who has not connected yet; what is queued, and its requests, still come.

    The last close of a listening socket resets what is in its queue, so a connection that comes between a worker's last
    accept and that close would be lost. A listener that is bound to an interface that does not exist is not found by
    new SYNs: the client is refused, not reset. Inherited sockets go on being listened on by whoever opened them.
    """
    if listener.is_inherited:
        return
    remove_file(listener)
    if listener.sock.family == socket.AF_UNIX:
        return
    try:
        listener.sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
    except OSError:
        # A kernel before 5.7, where only root may bind to an interface; newer ones may allow filters to root only.
        with suppress(OSError):  # neither: the race stays
            drop_newcomers(listener.sock)


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


def inode_of(path: str | Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none that we can see."""
    with suppress(OSError):
        found = Path(path).lstat()
        return found.st_dev, found.st_ino
    return None


def bound_addresses(listeners: Iterable[Listener]) -> str:
    """Return all addresses in words, for a log line."""
    return ", ".join(listener.bound for listener in listeners)


def _open_tcp(address: Address, backlog: int, *, is_dual: bool, is_shared: bool) -> Listener:
    # As bytes where it is ASCII: for a text, Python imports the tables of international names.
    host = address.host.encode() if address.host.isascii() else address.host
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name with several addresses, such as localhost: IPv4 first, as gunicorn has it.
    family, kind, protocol, _, name = min(found, key=lambda each: each[0] == socket.AF_INET6)
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6:
        # Said, whatever net.ipv6.bindv6only is.
        is_alone = not (is_dual and name[0] == ANY_IPV6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, is_alone)
    if not is_shared:
        return _listening(sock, address, backlog=backlog, name=name)
    share_port(sock)
    listener = _listening(sock, address, backlog=backlog, name=name)
    lead_back(sock)  # from wherever one that was killed while it left has led the newcomers
    return listener


def _open_unix(address: Address, backlog: int, *, ownership: Ownership) -> Listener:
    path = Path(address.path)
    with Folder.open(path.parent, writer=ownership.writer) as folder:
        _clear(address, folder, name=path.name)
        for actor in folder.actors or (None,):
            try:
                # In a folder of others it is made in the name of one of them: then the kernel sees to it that it is his.
                with _umask(0o777 & ~ownership.mode), acting_as(actor):
                    sock = socket.socket(socket.AF_UNIX)
                    listener = _listening(sock, address, backlog=backlog, name=str(path))
                break
            except PermissionError:
                if actor is None or actor is folder.actors[-1]:
                    raise
        listener = replace(listener, inode=folder.inode(path.name))
        try:
            _give_away(listener, ownership, folder=folder)
        except OSError:
            close_listener(listener)
            raise
    return listener


def _renew_file(listener: Listener, ownership: Ownership) -> None:
    with Folder.open(Path(listener.address.path).parent, writer=ownership.writer) as folder:
        _give_away(listener, ownership, folder=folder, mode=ownership.mode)


def _give_away(listener: Listener, ownership: Ownership, *, folder: Folder, mode: int | None = None) -> None:
    """Change owner and mode; not even asked for where nothing is to change: a system call filter may refuse it.

    Raises:
        OSError: it cannot be changed, or somebody has put something else in the socket's place.
    """
    has_owner = (ownership.uid, ownership.gid) != (-1, -1)
    if not has_owner and mode is None:
        return
    with held(folder, Path(listener.address.path).name) as (inode, found):
        is_whose = folder.is_ours or found.st_uid in {each.uid for each in folder.actors}
        if not (stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == listener.inode and is_whose):
            raise PermissionError(errno.EPERM, "somebody has put something else in the place of the socket")
        if mode is not None:
            os.chmod(inode, mode)  # noqa: PTH101 - a link to the inode that is held
        if has_owner and (found.st_uid, found.st_gid) != (ownership.uid, ownership.gid):
            os.chown(inode, ownership.uid, ownership.gid)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The file mode creation mask is the process's; the arbiter has one thread."""
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)


def _clear(address: Address, folder: Folder, *, name: str) -> None:
    """Take a socket away on which nobody answers.

    Raises:
        ListenError: something else is there.
        OSError: somebody answers.
    """
    found = folder.status(name)
    if found is None:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            f"cannot listen on {address}: there is a file that is no socket", hint="move it away"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(folder.under(name))
        except ConnectionRefusedError:
            folder.remove(name)
            return
        except BlockingIOError:  # its queue is full, so there is somebody
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _listening(sock: socket.socket, address: Address, *, backlog: int, name: object) -> Listener:
    try:
        sock.bind(name)  # type: ignore[arg-type] # a tuple or a path, as the family wants it
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return Listener(address=address, sock=sock)


def _explained(address: Address, error: OSError, *, is_shared: bool = False) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            holder = holder_of(address)
            who = (
                f"it is held by {holder}; stop that, or change server.bind"
                if holder
                else "change server.bind"
            )
            if holder.startswith("unicornd"):
                who = f"{who}; `unicornctl ls` shows the fleets that run"
            if address.kind == "tcp":
                who += (
                    "; server.reuse_port is set here, and must be there, too, and both must run as the same user"
                    if is_shared
                    else "; fleets of the same user can share it if each of them sets server.reuse_port"
                )
            return ListenError(f"cannot listen on {address}: the address is in use", hint=who)
        case errno.EPERM if isinstance(error, UnsafeError):
            return ListenError(
                f"cannot listen on {address}: {error.strerror}", hint="see operations.md, Files and users"
            )
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
