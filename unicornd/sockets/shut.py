"""Listeners that somebody has shut down: shutdown(2) on a shared listening socket ends it in every process.

Asked by the arbiter, and by a worker when there was nothing to accept. Any worker can do that to all of them. Linux lets a
TCP socket listen again, with the same descriptors in all workers; of a Unix socket the state cannot be undone.
"""

from __future__ import annotations

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
