"""What an arbiter leaves to the one that takes its place in an upgrade: open descriptors, and what they are.

Written by the old arbiter before it executes the new one, read by that at its start. The descriptors keep their numbers
over execve(2); one environment variable says which is which.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

from unicornd.config.values import Address
from unicornd.dataclass import dataclass
from unicornd.sockets.inherit import Passed
from unicornd.sockets.listener import Listener

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from unicornd.units import Pid

VARIABLE = "UNICORND_UPGRADE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """What is left.

    Attributes:
        pid: of the old arbiter.
        baton: socket between both: how the start went one way, the promotion the other; EOF when one is gone.
        control: the listening control socket, or None; `control_address`: where it is.
        admin: the listener of [admin], or None.
        handover: both ends of the old workers' handover, or empty.
        listeners: that the old arbiter has opened.
        passed: descriptors that were passed on to it by systemd.
        generation: the last number that it has given to one.
        size: how many workers it wanted; file_size: how many its configuration said. 0: it does not say.
    """

    pid: Pid
    baton: int
    control: int | None
    control_address: str
    admin: Listener | None
    handover: tuple[int, ...]
    listeners: tuple[Listener, ...]
    passed: tuple[Passed, ...]
    generation: int = 0
    size: int = 0
    file_size: int = 0

    def descriptors(self) -> tuple[int, ...]:
        """Return everything that must survive execve(2)."""
        control = () if self.control is None else (self.control,)
        admin = () if self.admin is None else (self.admin,)
        opened = (listener.sock.fileno() for listener in (*self.listeners, *admin))
        return (self.baton, *control, *self.handover, *opened, *(each.fd for each in self.passed))

    def text(self) -> str:
        """Return what the variable says."""
        said = {
            "pid": self.pid,
            "baton": self.baton,
            "control": self.control,
            "control_address": self.control_address,
            "admin": None if self.admin is None else _said(self.admin),
            "handover": self.handover,
            "listeners": [_said(each) for each in self.listeners],
            "passed": [[each.fd, each.name] for each in self.passed],
            "generation": self.generation,
            "size": self.size,
            "file_size": self.file_size,
        }
        return json.dumps(said)


def take_legacy(environ: MutableMapping[str, str]) -> Legacy | None:
    """Return what the predecessor has left, and take the variable away; None for a start that is no upgrade."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    said = json.loads(text)
    legacy = Legacy(
        pid=said["pid"],
        baton=said["baton"],
        control=said["control"],
        control_address=said["control_address"],
        admin=None if said["admin"] is None else _listener(said["admin"]),
        handover=tuple(said["handover"]),
        listeners=tuple(_listener(each) for each in said["listeners"]),
        passed=tuple(Passed(fd=fd, name=name) for fd, name in said["passed"]),
        **{
            name: said.get(name, 0) for name in ("generation", "size", "file_size")
        },  # another release may not say them
    )
    for fd in legacy.descriptors():
        os.set_inheritable(fd, False)
    return legacy


def _said(listener: Listener) -> list[object]:
    return [str(listener.address), listener.sock.fileno(), list(listener.inode or ())]


def _listener(said: tuple[str, int, list[int]]) -> Listener:
    address, fd, inode = said
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return Listener(
        address=Address.parse(address), sock=sock, inode=(inode[0], inode[1]) if len(inode) > 1 else None
    )
