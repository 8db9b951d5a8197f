"""The descriptors that a worker works with: which they are, and whether it still has them.

`os.closerange` of a helper that means to be a daemon, or a number that is closed a second time when it is another one's by
then, take them away. A poller then spins, or never hears of anything again, while its worker looks alive.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unicornd.workers.context import Orders, Seat


def inherited_by(seat: Seat, orders: Orders) -> list[int]:
    """Return what a worker has of its arbiter and siblings, and its own way to hear signals."""
    own = [orders.wake.fileno(), orders.wake_fd, seat.channel.fileno(), seat.lifeline]
    if seat.handover is not None:
        own += [seat.handover.giving.fileno(), seat.handover.taking.fileno()]
    return own


class Possessions:
    """Looks at the descriptors of one worker.

    Args:
        seat: the worker's.
        orders: likewise.
    """

    def __init__(self, seat: Seat, orders: Orders) -> None:
        self._seat = seat
        self._orders = orders
        self._known: dict[int, tuple[int, int] | None] = {}

    def lost(self) -> list[int]:
        """Return those that are closed, or are another file than at the last look."""
        found = {
            number: _identity(number) for number in self._in_use() if number >= 0
        }  # else we have closed it
        known, self._known = self._known, found
        return [each for each, now in found.items() if now is None or known.get(each, now) != now]

    def _in_use(self) -> Iterator[int]:
        yield from inherited_by(self._seat, self._orders)
        yield from self._orders.pollers
        yield from (listener.sock.fileno() for listener in self._seat.listeners)


def _identity(number: int) -> tuple[int, int] | None:
    with suppress(OSError):
        status = os.fstat(number)
        return status.st_dev, status.st_ino
    return None
