"""The kinds of workers: where each is, what it needs, and what it has to do.

A *kind* is a module, an object, or a class that can be called without arguments. It has:

    KEEPS_ALIVE   bool: whether it keeps connections for further requests
    INTERFACE     "wsgi" or "asgi": how it calls the application
    SPEAKS_TLS    optional: True if it speaks TLS at the TCP listeners when there is a `context.tls`
    prepare()     optional; called in the worker before hooks and application are imported (monkey patching)
    run(context)  serve until `context.orders.is_draining` or the end of the lifeline; drain; return

What `run` owes the arbiter and the operator (`workers.context` describes the values, `workers.ledger` does the counting):

- It calls `context.ready()` once, when it can serve. Until then a `UnicorndError` that it raises is a failed boot.
- It accepts from `context.seat.listeners`. When it drains, it accepts and answers what the kernel has queued, then
  closes its copies; requests in flight are finished, idle connections stay open for a moment and are then closed.
- It looks at `context.orders` whenever `context.orders.wake` is readable, and drains when `context.seat.lifeline` is.
- It calls `row.beat` at least once a second, and `begin` and `finish` around each request; while a request is in a
  cell, `timeouts.request` is counted from its beginning, else `timeouts.heartbeat` from the last beat.
- Around each request it calls `context.pre_request` before and `context.on_served` after it, if they are there.
- It calls `context.recycling.count()` after each request, if it is there, and reports `RetiringReport` once when that
  says True. It serves on: the arbiter sends TERM when a replacement is ready.
- It leaves the signals alone, and answers with `Server: unicornd`.

The table is read by the arbiter too; the kinds themselves are imported in the worker (those of ours also by the arbiter
before it forks, to share their memory). Where a kind of the operator's is, is said by `workers.kind`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

from unicornd.config.kinds import NAMES, entry_point_of, is_custom
from unicornd.config.values import ImportString
from unicornd.dataclass import dataclass
from unicornd.errors import AppError, BootError, ConfigError
from unicornd.workers.apploader import load_object

if TYPE_CHECKING:
    from unicornd.config.kinds import Interface
    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.workers.context import WorkerContext

CONCURRENT_CELLS = 64
"""Cells of a worker whose requests are not bounded by threads: so many requests in flight can be seen at a time (the
oldest ones, `workers.ledger`); all are counted. The arbiter reads every cell four times a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A kind of ours.

    Attributes:
        module: where it is.
        packages: what it needs; `at_least` the oldest version of the first one that will do.
        extra: of unicornd, which installs that.
    """

    module: str
    packages: tuple[str, ...] = ()
    at_least: tuple[int, ...] = ()
    extra: str = ""


KINDS = {
    "sync": Offer(module="unicornd.workers.kinds.sync"),
    "threads": Offer(module="unicornd.workers.kinds.threads"),
    "asgi": Offer(
        module="unicornd.workers.kinds.asgi",
        packages=("uvicorn", "httptools"),
        at_least=(0, 35),
        extra="asgi",
    ),
    "gevent": Offer(
        module="unicornd.workers.kinds.gevent", packages=("gevent",), at_least=(24, 10), extra="gevent"
    ),
    "gevent_pywsgi": Offer(
        module="unicornd.workers.kinds.gevent_pywsgi", packages=("gevent",), at_least=(24, 10), extra="gevent"
    ),
    "eventlet": Offer(
        module="unicornd.workers.kinds.eventlet",
        packages=("eventlet",),
        at_least=(0, 36, 1),
        extra="eventlet",
    ),
    "tornado": Offer(
        module="unicornd.workers.kinds.tornado", packages=("tornado",), at_least=(6, 5), extra="tornado"
    ),
}


@runtime_checkable
class Kind(Protocol):
    """What a kind has; see above."""

    KEEPS_ALIVE: bool
    INTERFACE: Literal["wsgi", "asgi"]

    def run(self, context: WorkerContext) -> None:
        """Serve until told to drain; return when nothing is in flight."""


def check_kind(name: str) -> None:
    """Look whether a kind can be had, without importing it; a kind of the operator's is found out in the worker.

    Raises:
        ConfigError: it is not there, or what it needs is not installed or too old.
    """
    offer = KINDS.get(name)
    if offer is None:
        if name in NAMES:
            known = ", ".join(f'"{each}"' for each in KINDS)
            raise ConfigError(
                f'workers.kind: "{name}" is not available in this version', hint=f"there are {known}"
            )
        return
    install = f"pip install 'unicornd[{offer.extra}]'"
    for package in offer.packages:
        if find_spec(package) is None:
            raise ConfigError(f'workers.kind: "{name}" needs {package}, which is not installed', hint=install)
    found = _version_of(offer.packages[0]) if offer.packages else None
    if found is not None and _numbers(found) < offer.at_least:
        wanted = ".".join(str(number) for number in offer.at_least)
        raise ConfigError(
            f'workers.kind: "{name}" needs {offer.packages[0]} {wanted} or newer, {found} is installed',
            hint=install,
        )


def load_kind(name: str) -> Kind:
    """Return a kind by its name, by that of an entry point, or by where it is.

    Raises:
        ConfigError: see `check_kind`.
        AppError: a kind of the operator's is not there, or is no kind.
        BootError: it raised while it was imported.
    """
    check_kind(name)
    if name in KINDS:
        return cast("Kind", import_module(KINDS[name].module))
    try:
        found = load_object(_place_of(name))
        if isinstance(found, type) and not _faults_of(found):
            found = found()
    except (AppError, BootError) as error:
        message = error.message.removeprefix("app.target: ")
        raise type(error)(f"workers.kind: {message}", hint=error.hint, detail=error.detail) from error
    if faults := _faults_of(found):
        raise AppError(
            f"workers.kind: {name} is no kind: it has no {', '.join(faults)}", hint=_hint_for(found)
        )
    return cast("Kind", found)


def share_kind(name: str) -> None:
    """Import a kind of ours before the fork, so that its workers share the memory; others are the worker's affair."""
    if name in KINDS and not KINDS[name].packages:
        load_kind(name)


def prepare(kind: Kind) -> None:
    """Let a kind do what has to be done before hooks and application are imported."""
    preparation = getattr(kind, "prepare", None)
    if preparation is not None:
        preparation()


def cells_of(workers: WorkersSettings, interface: Interface) -> int:
    """Return how many cells the rows of these workers have."""
    match workers.kind, interface:
        case ("sync", _) | (None, "wsgi"):
            return workers.threads
        case ("threads", _):
            return workers.threads
        case _:
            return max(workers.threads, CONCURRENT_CELLS)


def _place_of(name: str) -> ImportString:
    """Return what `pkg.mod:Class`, `pkg.mod.Class`, `pkg.mod` or the name of an entry point means."""
    if not is_custom(name):
        point = entry_point_of(name)
        if point is None:
            raise AppError(
                f'no installed package offers the kind "{name}" any more',
                hint=f"there are {', '.join(KINDS)}",
            )
        name = point.value
    place = ImportString.parse(name)
    if place.attribute or place.is_file or _is_module(name):
        return place
    module, _, attribute = name.rpartition(".")
    return ImportString(module=module, attribute=attribute)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except Exception:  # noqa: BLE001 - whatever its package raises is told when it is imported for good
        return False


def _faults_of(found: object) -> list[str]:
    return [name for name in ("KEEPS_ALIVE", "INTERFACE", "run") if not hasattr(found, name)]


def _hint_for(found: object) -> str:
    from unicornd.config.ancestry import way_out  # noqa: PLC0415 - for a mistake

    for each in getattr(found if isinstance(found, type) else type(found), "__mro__", ()):
        out = way_out(f"{each.__module__}.{each.__qualname__}")
        if out is not None:
            return f"it is a worker class for gunicorn: {out}"
    file = getattr(sys.modules[__name__], "__file__", "")
    return f"what a kind has to be is said in {file}"


def _version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - brings much; asked where settings are read

    try:
        return version(package)
    except PackageNotFoundError:  # installed in some way of its own
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `24.10.1rc2` → (24, 10)."""
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
