"""What uvicorn's protocols are told: their configuration, and where their log goes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import uvicorn

if TYPE_CHECKING:
    from unicornd.workers.asgi.exchange import Room
    from unicornd.workers.context import WorkerContext

NOISE = ("Exception in ASGI application", "Invalid HTTP request received", "ASGI callable returned without")
"""Lines of uvicorn's log that say again what we have said with method and path."""


def config_of(context: WorkerContext, room: Room) -> uvicorn.Config:
    """Return what uvicorn's protocols ask for."""
    asgi = context.asgi
    config = uvicorn.Config(
        cast("Any", room),
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        root_path=asgi.root_path,
        proxy_headers=False,
        ws_max_size=asgi.websocket_max_message or sys.maxsize,
    )
    config.load()
    return config


def take_over_logs(log: logging.Logger) -> None:
    """Have what uvicorn says written to the error log: warnings and worse, all of it with level debug."""
    logger = logging.getLogger("uvicorn.error")
    logger.handlers[:] = log.handlers
    logger.propagate = False
    logger.setLevel(logging.INFO if log.isEnabledFor(logging.DEBUG) else logging.WARNING)
    logger.addFilter(lambda record: not str(record.msg).startswith(NOISE))
    access = logging.getLogger("uvicorn.access")
    access.handlers[:] = []
    access.propagate = False
