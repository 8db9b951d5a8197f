"""The end of a draining worker's requests: which applications are told that it leaves, when, and when they are cancelled.

Run in the worker's event loop, at each look while it drains. The times are parts of `timeouts.graceful`, so that every
application has been told before it is cancelled, and every task has ended before the arbiter ends the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unicornd.workers.asgi.exchange import LEAVING, break_off, is_event_stream, protocol_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from unicornd.units import Seconds
    from unicornd.workers.asgi.exchange import Exchange, Room

LONGEST_MOMENT = 1.0
"""Seconds before the end of `timeouts.graceful` at which what still runs is cancelled."""
LONGEST_NOTICE = 3.0
"""Seconds before that at which applications of streams and WebSockets are told that their client is as good as gone."""


class Parting:
    """One worker's.

    Args:
        room: its requests.
        connections: those that are open.
        graceful: seconds that it has; 0 for no limit.
        now: when it began to drain.
    """

    def __init__(self, room: Room, connections: Collection[Any], *, graceful: Seconds, now: float) -> None:
        self._room = room
        self._connections = connections
        self._moment = moment = min(LONGEST_MOMENT, graceful / 4)
        end = now + graceful - moment
        steps = [
            (now + graceful / 2, self._end_event_streams),
            (end - min(LONGEST_NOTICE, graceful / 4), self._give_notice),
            (end, self._end_requests),
            (end + moment / 2, self._cancel_all),
        ]
        self._steps: list[tuple[float, Callable[[], None]]] = steps if graceful else []

    def look(self, now: float) -> None:
        """Do what is due."""
        for exchange in self._running():
            if is_event_stream(protocol_of(exchange)):
                _warn(exchange)
        while self._steps and now >= self._steps[0][0]:
            _, act = self._steps.pop(0)
            act()
            if not self._steps:  # some tasks ignore it
                self._steps.append((now + self._moment / 2, self._cancel_all))

    def _running(self) -> list[Exchange]:
        return list(self._room.ledger.running)

    def _end_event_streams(self) -> None:
        """Cancel those that have not listened: their clients connect again by themselves."""
        for exchange in self._running():
            if is_event_stream(protocol_of(exchange)):
                end(exchange, LEAVING)

    def _give_notice(self) -> None:
        """Close WebSockets with 1012, which their applications hear as a disconnect; tell those of other streams."""
        for connection in list(self._connections):
            if not hasattr(connection, "look"):  # a WebSocket
                connection.shutdown()
        for exchange in self._running():
            _warn(exchange)

    def _end_requests(self) -> None:
        for exchange in self._running():
            end(exchange, LEAVING)

    def _cancel_all(self) -> None:
        """Cancel what applications do after their responses, too."""
        tasks: Collection[asyncio.Task[None]] = self._room.tasks
        for task in list(tasks):
            task.cancel()


def _warn(exchange: Exchange) -> None:
    """Have `receive` say http.disconnect, if a response has begun; what the application sends still goes out."""
    server = protocol_of(exchange)
    if exchange.is_warned or exchange.is_answered or not getattr(server, "response_started", False):
        return
    exchange.is_warned = True
    server.keep_alive = False
    server.disconnected = True
    server.message_event.set()


def end(exchange: Exchange, verdict: int) -> None:
    """Cancel the application; its client is answered with the verdict, or sees its response break off.

    Args:
        exchange: the request.
        verdict: the status.
    """
    exchange.verdict = verdict
    if exchange.task is not None:
        exchange.task.cancel()
    elif exchange.status:
        break_off(exchange)
