"""What has lasted too long: a look at every connection and every request, a few times a second at most.

Run in the worker's event loop. No timer per connection or request: the hot path stores nothing for this but the time at
which bytes of a body came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from unicornd.observe import scoreboard
from unicornd.units import Monotonic
from unicornd.workers.asgi.exchange import protocol_of
from unicornd.workers.asgi.parting import end

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from unicornd.workers.asgi.exchange import Exchange, Room
    from unicornd.workers.context import WorkerContext

LONGEST_TICK = 1.0
SHORTEST_TICK = 0.05
LOOKS_A_LIMIT = 20
"""How often `timeouts.request` is looked at while it runs."""
GRACE = 3.0
"""Seconds after `timeouts.request` in which we end a request ourselves, before the arbiter ends the worker."""
PRESS_AFTER = 1.0
"""Seconds that a cancelled application has to end, before its client is answered in its place."""
LINGER_SECONDS = 1.0
"""How long a draining worker keeps a connection on which nothing happens: a request may be on its way."""
OVERDUE = 504


class Connection(Protocol):
    """What the watch asks of a server protocol."""

    def look(self, now: float) -> None:
        """End what has lasted too long."""

    def shutdown(self) -> None:
        """End the connection if it is idle, else after its response."""


class Watch:
    """The worker's regular look.

    Args:
        context: the worker's.
        room: its requests.
        connections: those that are open.
    """

    def __init__(self, context: WorkerContext, room: Room, *, connections: Collection[Any]) -> None:
        self._context = context
        self._room = room
        self._connections = connections
        self._loop_task: asyncio.Task[None] | None = None
        self._idle_since: dict[int, float] = {}
        context.seat.row.set_grace(GRACE)
        policy, asgi = context.http, context.asgi
        limits = [policy.head, policy.body, policy.write, policy.keepalive]
        limits += [asgi.disconnect_grace, asgi.heartbeat]
        ticks = [LONGEST_TICK, *(limit / 4 for limit in limits if limit)]
        if asgi.request:
            ticks.append(asgi.request / LOOKS_A_LIMIT)
        self.tick = max(SHORTEST_TICK, min(ticks))

    def look(self, now: float) -> None:
        """Give a sign of life, and end what has lasted too long."""
        row = self._context.seat.row
        row.beat(Monotonic(now))
        self._context.orders.look(now)
        self._room.ledger.look(now, tick=self.tick, limit=self._context.asgi.request)
        row.set_connections(len(self._connections))
        for connection in list(self._connections):
            look = getattr(connection, "look", None)
            if look is not None:
                look(now)
        for exchange in list(self._room.ledger.running):
            self._look_at(exchange, now)

    def look_for_idle(self, now: float) -> None:
        """While draining: close connections on which nothing has happened for a moment."""
        seen: dict[int, float] = {}
        for connection in list(self._connections):
            if not getattr(connection, "is_idle", False):
                continue
            since = self._idle_since.get(id(connection), now)
            if now - since >= LINGER_SECONDS:
                connection.shutdown()
            else:
                seen[id(connection)] = since
        self._idle_since = seen

    def _look_at(self, exchange: Exchange, now: float) -> None:
        asgi = self._context.asgi
        if exchange.left_at:
            if now - exchange.left_at >= asgi.disconnect_grace and exchange.task is not None:
                exchange.task.cancel()
            return
        server = protocol_of(exchange)
        if asgi.disconnect_grace and not exchange.is_warned and _has_left(server):
            exchange.left_at = now
        if exchange.is_stream or not asgi.request:
            return
        if exchange.verdict:
            self._press(exchange, now)
        elif _awaits_body(server):  # the client's time, not the application's
            self._room.ledger.postpone(exchange, now)
        elif now - exchange.since >= asgi.request:
            method, path = exchange.facts
            facts = {"method": method, "path": path, "seconds": round(now - exchange.began, 3)}
            self._context.log.error("a request ran into timeouts.request and is cancelled", extra=facts)
            exchange.outcome = scoreboard.OVERDUE
            end(exchange, OVERDUE)

    def _press(self, exchange: Exchange, now: float) -> None:
        """It has been cancelled and goes on: answer its client in its place, before the arbiter ends the worker."""
        if now - exchange.since >= self._context.asgi.request + PRESS_AFTER and not exchange.status:
            self._room.refuse_for(exchange)


def _has_left(server: Any) -> bool:  # noqa: ANN401 - see protocol_of
    transport = getattr(server, "transport", None)
    is_over = getattr(server, "disconnected", False)
    return bool(is_over or (transport is not None and transport.is_closing()))


def _awaits_body(server: Any) -> bool:  # noqa: ANN401 - see protocol_of
    """Return whether the client has not sent the whole body yet, and is not kept from it by the application."""
    flow = getattr(server, "flow", None)
    return bool(getattr(server, "more_body", False)) and not (flow is not None and flow.read_paused)
