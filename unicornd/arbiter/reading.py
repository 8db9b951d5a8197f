"""Reading the configuration, and holding it against what is there: users, folders, files, certificates, logs.

Run in a process of its own, at the start and at each reload (`apart`): the models, pydantic and everything else that
only reading needs are in no process of the fleet, and a reader that hangs or dies leaves the arbiter as it is.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from unicornd.postponed import postpone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.loaded import Loaded, Sources


_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


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
    postpone("secrets")
    postpone("importlib.metadata", "entry_points")
    # No plugin has a say in our models, and to look for some takes longer the more packages are installed.
    given = os.environ.get(_PLUGINS)
    os.environ[_PLUGINS] = "__all__"
    from unicornd.arbiter import preflight  # noqa: PLC0415 - not in the arbiter
    from unicornd.config.layers import load  # noqa: PLC0415 - likewise

    loaded = load(sources)
    os.environ.pop(_PLUGINS) if given is None else os.environ.update({_PLUGINS: given})
    preflight.check(loaded)
    settings = loaded.settings
    if settings.metrics.statsd is None and not settings.logging.syslog.enabled:
        return loaded
    from unicornd.arbiter.names import with_addresses  # noqa: PLC0415 - few send anything

    return with_addresses(loaded)
