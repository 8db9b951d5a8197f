"""What a connection takes for its event loop, which has a timer for each of them.

Run in the worker's event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from unicornd.workers.asgi.exchange import Room


class Timers:
    """What a connection takes for its event loop: its keep-alive timer is a number, which the regular look compares.

    uvicorn sets and cancels a timer with every request: 1 µs each, and 0.4 KB an idle connection.

    Args:
        loop: the real one.
        room: knows when the response was complete that makes a connection idle.
    """

    __slots__ = ("_room", "create_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, room: Room) -> None:
        self.create_task = loop.create_task
        self._room = room

    def call_later(self, _seconds: float, callback: Callable[[], None]) -> Timers:
        """Note that the connection whose timer this would be is idle from now on."""
        connection: Any = callback.__self__  # type: ignore[attr-defined] # a bound method: the only call there is
        connection.idle_since = self._room.finished_at
        return self

    def cancel(self) -> None:
        """There is no timer."""
