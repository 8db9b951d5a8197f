"""Who hears of a request that has been answered: the access log and the post_request hook.

Run by the thread or greenlet that has run the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.http.environ import build_environ
from unicornd.workers.context import Served

if TYPE_CHECKING:
    from unicornd.workers.connection import Connection
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.wsgi import Exchange


GIVEN_UP = "504 Gateway Timeout"


def served_of(exchange: Exchange, seconds: float) -> Served:
    """Return what the access log and the hooks get to see of a request that has been answered."""
    return Served(
        head=exchange.request,
        remote=str(exchange.environ.get("REMOTE_ADDR", "")),
        status=exchange.status,
        headers=list(exchange.headers),
        size=exchange.sent,
        seconds=seconds,
        environ=exchange.environ,
    )


def tell_given_up(connection: Connection, context: WorkerContext, *, seconds: float) -> None:
    """Tell the access log and the hooks of a request that was answered in its application's place."""
    head = connection.request
    if context.on_served is None or head is None:
        return
    host, port = connection.remote
    environ = build_environ(connection.base, head)
    environ.update(REMOTE_ADDR=host, REMOTE_PORT=port)
    served = Served(
        head=head, remote=host, status=GIVEN_UP, headers=[], size=0, seconds=seconds, environ=environ
    )
    try:
        context.on_served(served)
    except Exception:
        context.log.exception("the access log or a hook failed")


def tell(exchange: Exchange, context: WorkerContext, *, seconds: float) -> None:
    """Tell the access log and the hooks of a request that has been answered; what they raise is logged."""
    if context.on_served is not None:
        try:
            context.on_served(served_of(exchange, seconds))
        except Exception:
            context.log.exception("the access log or a hook failed")
