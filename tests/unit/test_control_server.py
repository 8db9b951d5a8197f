from __future__ import annotations

import errno
import selectors
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from unicornd.control.connection import IDLE, MESSAGE
from unicornd.control.exchange import LongPoll, Reply
from unicornd.control.server import ACCEPT_PAUSE, MAX_CONNECTIONS, ControlServer
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from unicornd.control.exchange import Answer, Request

REQUEST = b"GET /x HTTP/1.1\r\nHost: c\r\n\r\n"


class FullListener(socket.socket):
    """A listener in a process that has no file descriptor left, until it has."""

    is_full = True

    def accept(self) -> tuple[socket.socket, object]:
        if self.is_full:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def echo(request: Request) -> Answer:
    return Reply(status=HTTPStatus.OK, body=request.path.encode())


class Loop:
    """The arbiter's loop, turn by turn, with a clock that the test moves."""

    def __init__(self, listener: socket.socket, *, route: Callable[[Request], Answer] = echo) -> None:
        self.now = Monotonic(0.0)
        self.selector = selectors.DefaultSelector()
        self.path = listener.getsockname()
        self.clients: list[socket.socket] = []
        self.server = ControlServer(
            self.selector, listener, route=route, authorize=lambda _sock: None, clock=lambda: self.now
        )

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(self.path)
        client.sendall(data)
        self.clients.append(client)
        return client

    def turn(self, *, at: float | None = None) -> Monotonic | None:
        self.now = self.now if at is None else Monotonic(at)
        while ready := self.selector.select(0):
            for key, mask in ready:
                key.data(mask)
        return self.server.tick(self.now)

    def close(self) -> None:
        if self.selector.get_map():
            self.server.close()
        self.selector.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def make_loop(tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    loops: list[Loop] = []

    def make(
        listener_type: type[socket.socket] = socket.socket, *, route: Callable[[Request], Answer] = echo
    ) -> Loop:
        listener = listener_type(socket.AF_UNIX)
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(200)
        listener.setblocking(False)
        loops.append(Loop(listener, route=route))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


def test_the_loop_is_told_when_the_next_deadline_is(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop()
    assert loop.turn() is None
    loop.connect()
    assert loop.turn(at=1.0) == 1.0 + IDLE
    loop.connect(b"GET /ha")
    assert loop.turn(at=2.0) == 2.0 + MESSAGE


def test_a_half_sent_request_gets_408_and_is_gone(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop()
    client = loop.connect(b"GET /ha")
    loop.turn()
    loop.turn(at=MESSAGE)
    loop.turn()
    assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    loop.turn(at=MESSAGE + 10)
    assert loop.server.tick(loop.now) is None
    assert len(loop.server.sockets) == 1


def test_many_clients_are_answered_in_one_go(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop()
    clients = [loop.connect(REQUEST) for _ in range(50)]
    loop.turn()
    assert all(client.recv(1000).endswith(b"/x") for client in clients)


def test_when_all_places_are_taken_the_longest_idle_one_makes_room_and_not_who_is_served(
    make_loop: Callable[..., Loop],
) -> None:
    late = Reply(status=HTTPStatus.OK, body=b"late")
    loop = make_loop(
        route=lambda _request: LongPoll(poll=lambda: None, until=Monotonic(50.0), expire=lambda: late)
    )
    served = loop.connect(REQUEST)
    loop.turn()
    idle = [loop.connect() for _ in range(MAX_CONNECTIONS - 1)]
    loop.turn()
    loop.connect()
    loop.turn()
    assert len(loop.server.sockets) == MAX_CONNECTIONS + 1
    assert idle[0].recv(1) == b"", "the oldest idle one"
    loop.turn(at=50.0)
    loop.turn()
    assert served.recv(1000).endswith(b"late")


def test_without_descriptors_accepting_pauses_and_recovers(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(FullListener)
    client = loop.connect(REQUEST)
    assert loop.turn(at=1.0) == 1.0 + ACCEPT_PAUSE
    assert not loop.selector.select(0), "the loop does not spin"
    listener = loop.server.sockets[0]
    assert isinstance(listener, FullListener)
    listener.is_full = False
    loop.turn(at=1.0 + ACCEPT_PAUSE)
    loop.turn()
    assert client.recv(1000).endswith(b"/x")


def test_nothing_is_left_in_the_selector_after_the_end(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop()
    client = loop.connect(b"GET /ha")
    loop.turn()
    loop.server.close()
    assert not loop.selector.get_map()
    assert client.recv(10) == b""
