"""Slow clients cost a buffer, not a worker."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from tests.support.ctl import fleet
from tests.support.projects import make_flask

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SLOW_CLIENTS = 200
ANSWER_TIMEOUT = 3.0
"""A peer whose workers are taken up by slow clients answers after 60 s or never; a loaded machine within a second."""

CONFIG = """\
[app]
target = "{target}"
chdir = "{folder}"
[server]
bind = "127.0.0.1:0"
[workers]
count = 2
kind = "sync"
[timeouts]
head = 60
"""


class Dripping:
    """Connections that send their request one byte a second, for as long as the block runs."""

    def __init__(self, address: tuple[str, int], *, count: int) -> None:
        self._stack = ExitStack()
        self._clients = [
            self._stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(count)
        ]
        self._stop = threading.Event()
        self._first_round = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._first_round.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._stack.close()

    def _drip(self) -> None:
        request = b"GET / HTTP/1.1\r\nHost: slow\r\nX-Padding: " + b"x" * 100
        for byte in request:
            for client in self._clients:
                client.sendall(bytes([byte]))
            self._first_round.set()
            if self._stop.wait(1.0):
                return


def test_200_dripping_connections_do_not_keep_a_normal_client_waiting(tmp_path: Path) -> None:
    project = make_flask(tmp_path / "project")
    with fleet(tmp_path, CONFIG.format(target=project.target, folder=project.folder)) as ctl:
        ctl.start()
        host, port = ctl.address()
        with Dripping((host, port), count=SLOW_CLIENTS):
            for _ in range(50):
                client = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT)
                client.request("GET", "/")
                assert client.getresponse().read() == b"v1"
                client.close()
        ctl.stop()
