"""Files that are shipped with unicornd and are no Python: the schema, units of systemd, example configurations.

A wheel has them in `unicornd/share/`, a checkout where they are written. Standard library only.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the path of a shipped file, such as `systemd/unicornd.service`."""
    inside = PACKAGE / "share" / name
    return inside if inside.exists() else PACKAGE.parent / name
