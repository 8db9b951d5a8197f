"""What of unicornd a worker may import later: imported before it becomes its user, who may not be able to read it."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from unicornd.config.kinds import ASGI, THREADS, kind_of
from unicornd.errors import ConfigError
from unicornd.workers.closed import is_open_to
from unicornd.workers.registry import KINDS, load_kind

if TYPE_CHECKING:
    from unicornd.config.kinds import Interface
    from unicornd.config.sections.workers import WorkersSettings
    from unicornd.workers.identity import Identity

TLS = ("unicornd.workers.tls",)
TLS_OF_LOOPS = {ASGI: ("unicornd.workers.asgi.tlsfacts",), "tornado": ()}
"""Kinds that leave TLS to their event loop."""
TLS_OF_OURS = ("unicornd.workers.tlsconnection", "unicornd.workers.tlssocket")
RARE = (
    "unicornd.config.gunicorn_view",
    "unicornd.config.problems",
    "unicornd.workers.ledger",
    "unicornd.workers.paste",
)
"""Needed for some settings, kinds of the operator's, and messages: other workers need not have them in memory."""
RARE_OF_OTHERS = ("random", "tempfile", "traceback", "difflib")
"""Of the standard library, which lies beside us if we are in a closed folder with an interpreter of its own."""


def import_ahead(
    workers: WorkersSettings, interface: Interface, *, identity: Identity, speaks_tls: bool
) -> None:
    """Import what a worker may need of unicornd.

    Args:
        workers: say which kind it is.
        interface: `app.interface`; where it is open, and the kind is, the application may turn out to be ASGI.
        identity: what the worker becomes; one that can read our folder may import later what is rarely needed.
        speaks_tls: whether any listener may.

    Raises:
        ConfigError: the kind is not there, see `registry.check_kind`.
    """
    name = kind_of(workers, interface)
    wanted = list(TLS + TLS_OF_LOOPS.get(name, TLS_OF_OURS)) if speaks_tls else []
    if name in KINDS:
        load_kind(name)
    if not all(is_open_to(identity, file) for file in (__file__, os.__file__)):
        wanted += [*RARE, *RARE_OF_OTHERS]
        if name not in KINDS:
            load_kind(THREADS)
        if workers.kind is None and interface == "auto":
            with suppress(
                ConfigError
            ):  # it needs packages, which only those have who have such an application
                load_kind(ASGI)
                wanted += TLS_OF_LOOPS[ASGI] if speaks_tls else ()
    for module in wanted:
        import_module(module)
