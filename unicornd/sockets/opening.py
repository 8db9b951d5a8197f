"""From the listening sockets that there are to those that are wanted, without a moment in which one is missing.

Called by the arbiter at start and for a reload. Either everything that is wanted is open in the end, or nothing has
changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass
from unicornd.sockets.changes import changes, is_dual
from unicornd.sockets.inherit import adopt
from unicornd.sockets.listener import close_listener, open_listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.config.values import Address
    from unicornd.sockets.listener import Listener, Ownership


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How sockets are opened."""

    backlog: int
    ownership: Ownership
    is_shared: bool = False


def open_wanted(
    addresses: tuple[Address, ...], there: Iterable[Listener], *, manner: Manner
) -> tuple[Listener, ...]:
    """Return a listener for each address: one of those that are there already, or a new one.

    Raises:
        ListenError: one cannot be had; those that were opened for this are closed again.
    """
    known = {listener.address: listener for listener in there}
    opened: dict[Address, Listener] = {}
    wanted = changes(known, addresses)
    try:
        for address in wanted.bind:
            opened[address] = _open(address, among=addresses, manner=manner)
    except BaseException:
        for listener in opened.values():
            close_listener(listener)
        raise
    everything = known | opened
    return tuple(everything[address] for address in dict.fromkeys(addresses))


def _open(address: Address, *, among: tuple[Address, ...], manner: Manner) -> Listener:
    if address.kind == "fd":
        return adopt(address, backlog=manner.backlog)
    return open_listener(
        address,
        backlog=manner.backlog,
        ownership=manner.ownership,
        is_dual=is_dual(address, among),
        is_shared=manner.is_shared,
    )
