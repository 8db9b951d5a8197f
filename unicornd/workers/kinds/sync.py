"""`sync`: one request at a time, a new connection for each (gunicorn's `sync`).

The reactor with one thread. Connections are not kept: one that is parked would wait behind a long request of a process
that has only one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unicornd.workers.dispatch import Dispatch

if TYPE_CHECKING:
    from unicornd.workers.context import WorkerContext

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = False
SPEAKS_TLS = True


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    dispatch = Dispatch(context)
    context.ready()
    dispatch.run()
