"""The kinds of workers: name → the module that serves, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from unicornd.workers.context import WorkerContext

KINDS = {
    "sync": "unicornd.workers.kinds.sync",
    "threads": "unicornd.workers.kinds.threads",
}


class Kind(Protocol):
    """What a module of `kinds` has."""

    KEEPS_ALIVE: bool
    """Whether connections are kept for further requests."""

    def run(self, context: WorkerContext) -> None:
        """Serve until told to drain; return when nothing is in flight."""


def load_kind(name: str) -> Kind:
    """Return the module of a kind."""
    return cast("Kind", import_module(KINDS[name]))
