"""Whether threads of this process run Python at the same time.

Run in the worker, when it is ready: a build without a global interpreter lock takes it again for good as soon as an
extension is imported that does not say that it can do without (PEP 703), so only who has imported everything knows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Gil = Literal["on", "off"]


def gil() -> Gil:
    """Return whether the global interpreter lock is there; before Python 3.13, it is."""
    is_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return "on" if is_enabled is None or is_enabled() else "off"
