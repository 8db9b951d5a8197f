"""A daemon for syslog or statsd that a test listens with: UDP, TCP, or a Unix socket of either kind."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self


class Receiver:
    """Takes whatever is sent to it; `messages` are datagrams, or lines of streams."""

    def __init__(self, sock: socket.socket, *, is_stream: bool) -> None:
        self.sock = sock
        self._is_stream = is_stream
        self._clients: dict[socket.socket, bytes] = {}
        self._messages: list[str] = []
        self.peers: list[object] = []
        self.sock.setblocking(False)

    @classmethod
    def net(cls, *, is_stream: bool = False, port: int = 0) -> Self:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return cls._bound(sock, ("127.0.0.1", port), is_stream=is_stream)

    @classmethod
    def unix(cls, path: Path, *, is_stream: bool = False) -> Self:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM)
        return cls._bound(sock, str(path), is_stream=is_stream)

    @classmethod
    def _bound(cls, sock: socket.socket, name: object, *, is_stream: bool) -> Self:
        sock.bind(name)  # type: ignore[arg-type] # as its family wants it
        if is_stream:
            sock.listen()
        return cls(sock, is_stream=is_stream)

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def messages(self) -> list[str]:
        """Return all that has come so far."""
        if self._is_stream:
            self._take_streams()
        else:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._messages.append(self.sock.recv(65536).decode())
        return self._messages

    def await_message(self, is_wanted: Callable[[str], bool], what: str) -> str:
        eventually(lambda: any(map(is_wanted, self.messages())), f"{what} has come: {self._messages}")
        return next(filter(is_wanted, self._messages))

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _take_streams(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client, peer = self.sock.accept()
                self.peers.append(peer)
                client.setblocking(False)
                self._clients[client] = b""
        for client in select.select(list(self._clients), [], [], 0)[0] if self._clients else ():
            try:
                data = client.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                del self._clients[client]
                client.close()
                continue
            *lines, self._clients[client] = (self._clients[client] + data).split(b"\n")
            self._messages += [line.decode() for line in lines]
