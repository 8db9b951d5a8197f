"""What `ps` and `top` call a process: by setproctitle, if it is installed (`unicornd[setproctitle]`).

Run by arbiter, molds and workers, each once.
"""

from __future__ import annotations


def set_title(role: str, instance: str) -> None:
    """Call this process `unicornd: worker 3 [shop]`."""
    try:
        from setproctitle import setproctitle  # noqa: PLC0415 - optional
    except ImportError:
        return
    setproctitle(f"unicornd: {role} [{instance}]")
