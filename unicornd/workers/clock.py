"""The lines that every response has, made anew once a second.

Read by every thread that answers; two threads that make it at the same moment make the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from unicornd.http.response import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SERVER = "Server: unicornd\r\n"


class Clock:
    """The standing fields of responses.

    Args:
        wall: seconds since the epoch.
    """

    __slots__ = ("_since", "_standing", "_until", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._since = self._until = 0.0
        self._standing = Standing(SERVER, "")

    def standing(self) -> Standing:
        """Return Server and Date as of now (RFC 9110 sections 6.6.1 and 10.2.4)."""
        now = self._wall()
        if not self._since <= now < self._until:  # it may have been put back, too
            second = int(now)
            self._standing = Standing(SERVER, f"Date: {http_date(second)}\r\n")
            self._since, self._until = second, second + 1
        return self._standing


def http_date(second: int) -> str:
    """Return a time as IMF-fixdate, in English whatever the locale is (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, seconds, weekday, *_ = time.gmtime(second)
    return f"{DAYS[weekday]}, {day:02} {MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{seconds:02} GMT"
