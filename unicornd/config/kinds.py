"""The names of kinds of workers, and which of them serves if none is asked for.

In every process of a fleet: as little as can be. Pure, but for a look at what installed packages offer (entry points
of the group `unicornd.workers`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from unicornd.config.sections.workers import WorkersSettings

Interface = Literal["auto", "wsgi", "asgi"]

SYNC, THREADS = "sync", "threads"
GEVENT, GEVENT_PYWSGI, EVENTLET, TORNADO, ASGI = "gevent", "gevent_pywsgi", "eventlet", "tornado", "asgi"

NAMES = (SYNC, THREADS, GEVENT, GEVENT_PYWSGI, EVENTLET, TORNADO, ASGI)
"""The kinds that have a name of their own."""
GREEN = frozenset({GEVENT, EVENTLET, GEVENT_PYWSGI})
"""Kinds with a greenlet a connection."""
GROUP = "unicornd.workers"
"""The group of entry points under which a package offers kinds: name → module or class."""


def is_custom(name: str) -> bool:
    """Return whether a kind is named by where it is: `pkg.mod:Class`, `pkg.mod.Class`, `./file.py:Class`."""
    return ":" in name or "." in name


def entry_point_of(name: str) -> EntryPoint | None:
    """Return what an installed package offers under that name, or None."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - it brings much, and few kinds are offered so

    return next(iter(entry_points(group=GROUP, name=name)), None)


def kind_for(kind: str | None, interface: Interface, *, threads: int) -> str:
    """Return the kind that serves: the one that is set, else one that suits the application.

    Args:
        kind: `workers.kind`.
        interface: how the application is called; `auto` if that is not known yet.
        threads: `workers.threads`.
    """
    if kind is not None:
        return kind
    match interface:
        case "asgi":
            return ASGI
        case "wsgi" | "auto":
            return THREADS if threads > 1 else SYNC
        case _:
            assert_never(interface)


def kind_of(workers: WorkersSettings, interface: Interface = "auto") -> str:
    """Return the kind that serves with these settings."""
    return kind_for(workers.kind, interface, threads=workers.threads)
