"""What `ps` and `top` call a process: by setproctitle, if it is installed (`unicornd[setproctitle]`).

Run by arbiter, molds and workers, each once.
"""

from __future__ import annotations

from unicornd.escaping import one_line

try:
    from setproctitle import setproctitle
except ImportError:

    def setproctitle(title: str) -> None:
        """Leave it as it is."""


def set_title(role: str, instance: str) -> None:
    """Call this process `unicornd: worker 3 [shop]`."""
    setproctitle(one_line(f"unicornd: {role} [{instance}]"))
