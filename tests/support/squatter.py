"""A process of another user that holds a name of ours and says yes to whatever it is asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
YES = b'{"schema": 1, "ok": true, "reason": "squatted", "state": "ready", "pid": 1}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(YES), YES)


def become(uid: int) -> None:
    """Have the rights of a user, and none of root's; for a forked child."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


@contextlib.contextmanager
def squatter(address: str, *, uid: int = NOBODY) -> Iterator[int]:
    """Hold a path or an abstract `@name` as another user, and give the pid."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready)
            become(uid)
            _squat(address, told)
        finally:
            os._exit(1)
    os.close(told)
    try:
        assert os.read(ready, 1) == b".", "the squatter listens"
        yield child
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _squat(address: str, told: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        if not address.startswith("@"):
            os.chmod(address, 0o666)  # noqa: PTH101 - an address is a text
        listener.listen()
        os.write(told, b".")
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                if client.recv(65536):
                    client.sendall(ANSWER)
