"""When a worker has served enough: `workers.max_requests`, spread by a jitter of its own.

Counted under the dispatch lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Recycling:
    """Counts requests.

    Args:
        max_requests: after so many a replacement is asked for.
        jitter: up to so many more.
        random: where the jitter comes from.
    """

    __slots__ = ("_left", "limit")

    def __init__(self, max_requests: int, *, jitter: int, random: Random) -> None:
        self.limit = max_requests + random.randint(0, jitter)
        self._left = self.limit

    def count(self) -> bool:
        """Count one request; True for the one that reaches the limit."""
        self._left -= 1
        return self._left == 0
