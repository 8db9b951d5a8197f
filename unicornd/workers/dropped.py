"""Header fields of a trusted proxy that are dropped for an underscore in their names: logged once, so that it can be found out.

Run in the worker, by whatever thread reads a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.http.forwarded import name_of

if TYPE_CHECKING:
    import logging

MOST_TOLD = 100
"""In a worker: a client whose fields the proxy passes on must not fill the log."""


class Dropped:
    """Logs such fields, each name of each peer once.

    Args:
        log: the error log.
        setting: what lets them pass; empty where nothing does.
    """

    def __init__(self, log: logging.Logger, *, setting: str) -> None:
        self._log = log
        self._setting = setting
        self._told: set[tuple[str, str]] = set()

    def __call__(self, peer: str, name: str) -> None:
        """Log a field."""
        key = (peer, name.lower())
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        facts = {"header": name, "peer": name_of(peer)}
        if self._setting:
            facts["setting"] = self._setting
        if len(self._told) == MOST_TOLD:
            facts["note"] = f"{MOST_TOLD} names were logged, further ones are not"
        self._log.info("a header of a trusted proxy is dropped for the underscore in its name", extra=facts)
