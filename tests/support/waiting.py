"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0
"""Seconds; long enough for a loaded machine, since only a failing test waits them out."""
PAUSES = (0.005, 0.05)
"""The first and the longest, in seconds. Asking a fleet for its status costs it 3 ms, so who waits longer asks less often."""


def eventually(condition: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
    """Poll `condition` until it is true.

    Raises:
        AssertionError: it has not become true in time.
    """
    began = time.monotonic()
    shortest, longest = PAUSES
    while not condition():
        waited = time.monotonic() - began
        assert waited < patience, f"after {patience:g} s it is still not so that {what}"
        time.sleep(min(max(shortest, waited / 10), longest))
