"""Who hears of a request that has been answered: the access log and the post_request hook.

Run by the thread or greenlet that has run the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.workers.context import Served

if TYPE_CHECKING:
    from unicornd.workers.context import WorkerContext
    from unicornd.workers.wsgi import Exchange


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


def tell(exchange: Exchange, context: WorkerContext, *, seconds: float) -> None:
    """Tell the access log and the hooks of a request that has been answered; what they raise is logged."""
    if context.on_served is not None:
        try:
            context.on_served(served_of(exchange, seconds))
        except Exception:
            context.log.exception("the access log or a hook failed")
