"""`threads`: several requests at a time in one process, connections kept (gunicorn's `gthread`).

The reactor with `workers.threads` threads; see `dispatch` for who polls and who runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unicornd.workers.dispatch import Dispatch

if TYPE_CHECKING:
    from unicornd.workers.context import WorkerContext

INTERFACE: Literal["wsgi"] = "wsgi"
KEEPS_ALIVE = True
SPEAKS_TLS = True


def run(context: WorkerContext) -> None:
    """Serve until told to drain; return when nothing is in flight."""
    dispatch = Dispatch(context)
    context.ready()
    dispatch.run()
