"""Header fields that a trusted proxy has sent and nobody sees: told once, so that their loss can be found.

Run in the worker, by whatever thread reads a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.http.forwarded import name_of

if TYPE_CHECKING:
    import logging

MOST_TOLD = 100
"""Of a worker: a client that gets its fields through a proxy must not fill the log."""


class Dropped:
    """Tells of fields with an underscore in their names, each name of each peer once.

    Args:
        log: the error log.
        setting: what lets them pass; empty where nothing does.
    """

    def __init__(self, log: logging.Logger, *, setting: str) -> None:
        self._log = log
        self._setting = setting
        self._told: set[tuple[str, str]] = set()

    def __call__(self, peer: str, name: str) -> None:
        """Tell of a field."""
        key = (peer, name.lower())
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        facts = {"header": name, "peer": name_of(peer)}
        if self._setting:
            facts["setting"] = self._setting
        self._log.info("a header of a trusted proxy is dropped for the underscore in its name", extra=facts)
