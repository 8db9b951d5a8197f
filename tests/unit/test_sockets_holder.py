"""Who holds an address that is in use."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from unicornd.config.values import Address
from unicornd.sockets.holder import holder_of, oldest_holder


def test_of_processes_that_share_a_listener_the_one_that_began_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        try:
            wanted = {str(Path(f"/proc/self/fd/{listener.fileno()}").readlink())}
            assert oldest_holder(child, wanted) == os.getpid()
            address = Address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
            assert f"(pid {os.getpid()})" in holder_of(address)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_an_ancestor_that_does_not_hold_it_is_not_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wanted = {str(Path(f"/proc/self/fd/{listener.fileno()}").readlink())}
        assert oldest_holder(os.getpid(), wanted) == os.getpid()
