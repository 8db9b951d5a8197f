"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0
"""Seconds; long enough for a loaded machine, since only a failing test waits them out."""
PAUSE = 0.01


def eventually(condition: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
    """Poll `condition` until it is true.

    Raises:
        AssertionError: it has not become true in time.
    """
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"after {patience:g} s it is still not so that {what}"
        time.sleep(PAUSE)
