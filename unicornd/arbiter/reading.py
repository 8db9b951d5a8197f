"""Reading the configuration, and holding it against what is there: users, folders, files, certificates, logs.

Run in a process of its own, at the start and at each reload (`apart`): the models, pydantic and everything else that
only reading needs are in no process of the fleet, and a reader that hangs or dies leaves the arbiter as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.loaded import Loaded, Sources


def read(sources: Sources, *, path: Sequence[str] | None = None) -> Loaded:
    """Return the configuration as it is now.

    Args:
        sources: where it is.
        path: what sys.path is to be: that of the start, not the arbiter's, which has the application's modules.

    Raises:
        ConfigError: it is wrong.
    """
    if path is not None:
        sys.path[:] = path
    from unicornd.arbiter import preflight  # noqa: PLC0415 - not in the arbiter
    from unicornd.config.layers import load  # noqa: PLC0415 - likewise

    loaded = load(sources)
    preflight.check(loaded)
    return loaded
