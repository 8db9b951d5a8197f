"""What `workers.kind` may say → the name of a kind, or where a kind of the operator's own is.

Pure, but for a look at what installed packages offer (entry points of the group `unicornd.workers`). Names of gunicorn's
and uvicorn's worker classes mean the kind that does the same here.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, assert_never

from unicornd.config.conversions import KINDS, known_kind
from unicornd.config.problems import suggestion
from unicornd.config.values import ImportString, quoted

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Interface = Literal["auto", "wsgi", "asgi"]

NAMES = KINDS
GROUP = "unicornd.workers"
"""The group of entry points under which a package offers kinds: name → module or class."""


def parse_kind(value: object) -> object:
    """Return the name of a kind of ours, of an entry point, or the text that says where a kind is.

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(value, str):
        return value
    name = known_kind(value)
    if name in KINDS:
        return name
    if value.startswith(("egg:", "gunicorn.")):
        raise ValueError(f"{quoted(value)} is a worker class of gunicorn; kinds are {_listed()}")
    if is_custom(name):
        _check_import(name)
    elif entry_point_of(name) is None:
        raise ValueError(f"{quoted(name)} is no kind{suggestion(name, KINDS)}; kinds are {_listed()}")
    return name


def is_custom(name: str) -> bool:
    """Return whether a kind is named by where it is: `pkg.mod:Class`, `pkg.mod.Class`, `./file.py:Class`."""
    return ":" in name or "." in name


def entry_point_of(name: str) -> EntryPoint | None:
    """Return what an installed package offers under that name, or None."""
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
            return "asgi"
        case "wsgi" | "auto":
            return "threads" if threads > 1 else "sync"
        case _:
            assert_never(interface)


def _check_import(name: str) -> None:
    try:
        ImportString.parse(name)
    except ValueError:
        what = f'expected a kind ({_listed()}) or "module:Class", got {quoted(name)}'
        raise ValueError(what) from None


def _listed() -> str:
    return ", ".join(KINDS)
