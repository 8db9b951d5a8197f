"""Listeners that nobody can connect to: shut down, or without their file.

shutdown(2) on a shared listening socket ends it in every process. A Unix socket whose file was removed (a cleaner of /tmp, the
end of a login session's /run/user) is open, and leads nowhere.

Asked by the arbiter, and by a worker when there was nothing to accept. Any worker can do that to all of them. Linux lets a
TCP socket listen again, with the same descriptors in all workers; of a Unix socket the state cannot be undone.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.sockets.listener import Listener

_new_poll = select.poll
"""Held on to: gevent and eventlet put one in its place that waits in their loop."""
_SHUT = select.POLLHUP | select.POLLRDHUP
"""What poll(2) says of one: a TCP socket hangs up (it is TCP_CLOSE), a Unix socket has no reading side. A connection that
waits to be accepted is neither."""


def shut_among(listeners: Iterable[Listener]) -> list[Listener]:
    """Return those that have been shut down: nobody can connect to them. One system call for all."""
    watched = {each.sock.fileno(): each for each in listeners if each.sock.fileno() >= 0}
    if not watched:
        return []
    poll = _new_poll()
    for fd in watched:
        poll.register(fd, select.POLLRDHUP)
    return [watched[fd] for fd, mask in poll.poll(0) if mask & _SHUT]


def without_file(listeners: Iterable[Listener]) -> list[Listener]:
    """Return the Unix sockets of ours whose file is gone; one that somebody has put in its place is somebody's wish."""
    return [each for each in listeners if each.inode is not None and not each.is_inherited and _is_gone(each)]


def _is_gone(listener: Listener) -> bool:
    try:
        os.lstat(listener.address.path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # who knows
        return False
    return False


def listen_again(listener: Listener, *, backlog: int) -> bool:
    """Have a TCP listener that was shut down listen again, at the same address; return whether that is possible.

    Raises:
        OSError: somebody else has taken the port meanwhile.
    """
    if listener.sock.family == socket.AF_UNIX:
        return False
    with suppress(OSError):  # EINVAL: it still has its port, unless the kernel had chosen that
        listener.sock.bind(listener.sock.getsockname())
    listener.sock.listen(backlog)
    return True
