"""Our listeners in systemd's file descriptor store: a restart of the service finds them open, queue and all.

Used by the arbiter. systemd keeps a copy of each (systemd.service(5), FileDescriptorStoreMax=) while the service
restarts, so what connects meanwhile waits instead of being refused, and passes them on to the next start under the names
that they were stored by. A name says the address; that of a Unix socket also says which file, since a path without its
file leads nowhere. Whatever comes back and is not wanted any more is closed and taken out of the store.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from unicornd.config.values import Address
from unicornd.sockets.listener import Listener, close_listener, inode_of

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from typing import Self

    from unicornd.sockets.inherit import Passed
    from unicornd.sockets.notify import Notifier

PREFIX = "unicornd-"
UNNAMED = "stored"
"""What systemd calls a descriptor that was stored without a name."""
LONGEST_NAME = 255
"""FDNAME_MAX of systemd; a name has no colon and no control characters (sd_pid_notify_with_fds(3))."""
VARIABLE = "FDSTORE"
"""How many descriptors the store takes: set by systemd 254 and newer; for older ones by our unit file."""


class Store:
    """What systemd keeps for us.

    Args:
        notifier: leads to systemd.
        room: how many descriptors it keeps; 0 where there is no store.
        passed: those that came back with this start.

    Attributes:
        returned: the listeners among them that still lead somewhere; they wait to be wanted.
    """

    def __init__(self, notifier: Notifier, *, room: int = 0, passed: Iterable[Passed] = ()) -> None:
        self._notifier = notifier
        self._room = room
        self._kept: dict[Listener, str] = {}
        self.returned: tuple[Listener, ...] = ()
        for each in passed:
            listener = _taken_back(each)
            if listener is not None:
                self.returned = (*self.returned, listener)
                self._kept[listener] = each.name
            else:
                notifier.remove_stored(each.name)

    @classmethod
    def from_environ(
        cls, environ: MutableMapping[str, str], notifier: Notifier, *, passed: Iterable[Passed]
    ) -> Self:
        """Read FDSTORE, and take it away: workers have no business there."""
        said = environ.pop(VARIABLE, "")
        return cls(notifier, room=int(said) if said.isdecimal() else 0, passed=passed)

    def settle(self, listeners: Iterable[Listener]) -> tuple[Listener, ...]:
        """Have `listeners` kept, as far as there is room, and nothing else; return those that came back.

        What came back at the start and is not among them is closed.
        """
        wanted = [each for each in listeners if not each.is_inherited]
        for listener in [each for each in self._kept if each not in wanted]:
            self._notifier.remove_stored(self._kept.pop(listener))
        returned, self.returned = self.returned, ()
        for listener in returned:
            if listener not in wanted:
                close_listener(listener)
        for listener in wanted:
            name = _name_of(listener)
            has_room = len(self._kept) < self._room and len(name) <= LONGEST_NAME
            if listener not in self._kept and has_room and self._notifier.store(listener.sock.fileno(), name):
                self._kept[listener] = name
        return tuple(listener for listener in returned if listener in wanted)

    def forget(self, listener: Listener) -> None:
        """Have a listener kept no longer."""
        if listener in self._kept:
            self._notifier.remove_stored(self._kept.pop(listener))

    def take_over(self, listeners: Iterable[Listener], *, former: Iterable[Listener]) -> None:
        """We are who systemd listens to: have `listeners` kept, and nothing else that the predecessor had kept."""
        wanted = tuple(listeners)
        for listener in former:
            if listener not in wanted:
                self._notifier.remove_stored(_name_of(listener))
        self.settle(wanted)

    def keeps(self, listener: Listener) -> bool:
        """Whether connections go on queueing when all of our copies are closed."""
        return listener in self._kept


def split_passed(passed: Iterable[Passed]) -> tuple[tuple[Passed, ...], tuple[Passed, ...]]:
    """Part what a socket unit has opened from what was stored by an earlier run of this service."""
    everything = tuple(passed)
    stored = tuple(each for each in everything if each.name.startswith(PREFIX) or each.name == UNNAMED)
    return tuple(each for each in everything if each not in stored), stored


def _name_of(listener: Listener) -> str:
    device, inode = listener.inode or (0, 0)
    return f"{PREFIX}{quote(str(listener.address), safe='/[]@')},{device},{inode}"


def _taken_back(passed: Passed) -> Listener | None:
    """Return a stored listener; None, and it is closed, if it is none of ours or leads nowhere."""
    address, _, file = passed.name.removeprefix(PREFIX).partition(",")
    try:
        found = Address.parse(unquote(address)) if passed.name.startswith(PREFIX) else None
        inode = inode_of(found.path) if found is not None and found.kind == "unix" else None
        is_there = file == "{},{}".format(*(inode or (0, 0)))
        if found is not None and is_there and _is_listening(passed.fd):
            sock = socket.socket(fileno=passed.fd)
            sock.setblocking(False)
            return Listener(address=found, sock=sock, inode=inode)
    except ValueError:  # a name that only looks like one of ours
        pass
    os.close(passed.fd)
    return None


def _is_listening(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
