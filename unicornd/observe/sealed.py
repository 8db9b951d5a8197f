"""Memory that the arbiter shares with a worker that may be hostile: a memfd whose size nobody can change.

Made by the arbiter. A process that touches a mapping behind the end of its file is ended by SIGBUS (mmap(2)), and a
worker has the descriptor: without seals (fcntl(2)), one ftruncate(2) would end the arbiter.
"""

from __future__ import annotations

import fcntl
import os

from unicornd.units import Fd

MFD_NOEXEC_SEAL = 0x0008
"""linux/memfd.h, since Linux 6.3; nobody makes a program of it. Python has no name for it."""
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def sealed_memory(name: str, size: int) -> Fd:
    """Return a memfd of `size` bytes, all 0, that stays as large as it is. Pages that are not written take no memory.

    Raises:
        OSError: no memory or no file descriptor.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
    except OSError:  # EINVAL: an older kernel; whatever else it is will be said again
        fd = os.memfd_create(name, flags)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return Fd(fd)
