"""Sockets that somebody else has opened for us: systemd's socket activation, or a parent process.

Used by the arbiter at start, before it forks. sd_listen_fds(3): descriptors from 3 on, as many as LISTEN_FDS says,
named by LISTEN_FDNAMES, meant for the process LISTEN_PID only. They stay open as long as the arbiter lives: what a
reload leaves out may come back with the next one.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from unicornd.config.values import Address
from unicornd.dataclass import dataclass
from unicornd.errors import ListenError
from unicornd.sockets.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A descriptor that was passed on; `name` is its FileDescriptorName."""

    fd: int
    name: str


def take_passed(environ: MutableMapping[str, str], pid: int) -> tuple[Passed, ...]:
    """Return the descriptors that were passed on to us, and take the variables away: children are not meant.

    Raises:
        ListenError: fewer are open than the variables say.
    """
    given = {name: environ.pop(name, "") for name in VARIABLES}
    if given["LISTEN_PID"] != str(pid) or not given["LISTEN_FDS"].isdecimal():
        return ()
    count = int(given["LISTEN_FDS"])
    names = given["LISTEN_FDNAMES"].split(":") if given["LISTEN_FDNAMES"] else []
    names += ["unknown"] * (count - len(names))
    found = tuple(Passed(fd=FIRST_FD + index, name=names[index]) for index in range(count))
    for passed in found:
        try:
            os.set_inheritable(passed.fd, False)
        except OSError as error:
            raise ListenError(
                f"LISTEN_FDS says that {count} descriptors were passed on, but {passed.fd} is not open",
                hint="who starts unicornd passes on sockets from 3 on, or does not set LISTEN_FDS",
            ) from error
    return found


def expand(
    addresses: Iterable[Address], passed: tuple[Passed, ...], *, is_default: bool
) -> tuple[Address, ...]:
    """Return `addresses` with each `fd://` and `fd://NAME` replaced by the numbers that it means.

    Args:
        addresses: as configured.
        passed: descriptors that were passed on.
        is_default: whether nobody said where to listen: then what was passed on is meant.

    Raises:
        ListenError: an address means none of them.
    """
    if is_default and passed:
        return tuple(_address(each) for each in passed)
    found: list[Address] = []
    for address in addresses:
        found += [address] if address.kind != "fd" or address.name.isdecimal() else _named(address, passed)
    return tuple(found)


def adopt(address: Address, *, backlog: int) -> Listener:
    """Take over the descriptor that `fd://N` names.

    Raises:
        ListenError: it is not open, or no stream socket that could be listened on.
    """
    fd = int(address.name)
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {address}: {error.strerror}",
            hint="the descriptor must be a socket that was passed on to unicornd",
        ) from error
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
    except OSError as error:
        sock.detach()
        raise ListenError(
            f"cannot listen on {address}: it is no socket that connections can be accepted on",
            hint="a systemd socket unit needs ListenStream= and Accept=no",
        ) from error
    sock.setblocking(False)
    sock.set_inheritable(False)
    return Listener(address=address, sock=sock, is_inherited=True)


def _named(address: Address, passed: tuple[Passed, ...]) -> list[Address]:
    meant = [_address(each) for each in passed if address.name in {"", each.name}]
    if not meant:
        names = ", ".join(each.name for each in passed)
        raise ListenError(
            f"cannot listen on {address}: no such socket was passed on",
            hint=f"passed on: {names}" if names else "systemd passes sockets of a .socket unit, see systemd/",
        )
    return meant


def _address(passed: Passed) -> Address:
    return Address(kind="fd", name=str(passed.fd))
