"""What an application raises outside of its requests: its signal handlers, in whatever the main thread does then.

A handler for SIGALRM that raises, and comes when its request is over, interrupts the poller. The worker tells it and polls on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

SERVING = frozenset({"unicornd", "asyncio", "selectors", "threading", "uvloop"})
"""Packages in which an exception is a defect, or a failure of the operating system: to go on would be to fail for ever."""


def survive(error: BaseException, log: logging.Logger) -> None:
    """Log what a handler of the application has raised; raise it again if it is somebody else's."""
    place = error.__traceback__
    if place is None:
        raise error
    while place.tb_next is not None:
        place = place.tb_next
    if str(place.tb_frame.f_globals.get("__name__")).partition(".")[0] in SERVING:
        raise error
    log.error("the application raised outside of its requests (a signal handler?)", exc_info=error)
