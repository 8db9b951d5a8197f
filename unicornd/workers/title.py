"""What `ps` and `top` call a process.

`ps -e` and `pgrep` see the short name, which needs nothing; the long one (`ps -f`) comes by setproctitle, if that is
installed (`unicornd[setproctitle]`). Run by arbiter, molds and workers, each once.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from unicornd.escaping import one_line

try:
    from setproctitle import setproctitle
except ImportError:

    def setproctitle(title: str) -> None:
        """Leave it as it is."""


def set_title(role: str, instance: str) -> None:
    """Call this process `unicornd: worker 3 [shop]`, in short `unicornd-w3`.

    The kernel keeps 15 bytes of the short one (proc_pid_comm(5)). The arbiter is `unicornd`: whoever sends signals by that
    name (killall) means it.
    """
    setproctitle(one_line(f"unicornd: {role} [{instance}]"))
    name, _, slot = role.partition(" ")
    short = {"arbiter": "unicornd", "worker": f"unicornd-w{slot}"}.get(name, f"unicornd-{name}")
    with suppress(OSError):  # no /proc, or one that cannot be written
        Path("/proc/self/comm").write_text(short, encoding="ascii")
