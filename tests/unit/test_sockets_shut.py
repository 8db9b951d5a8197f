"""Listening sockets that were shut down: found, and made to listen again."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from unicornd.config.values import Address
from unicornd.dataclass import replace
from unicornd.sockets.listener import Listener, inode_of
from unicornd.sockets.shut import listen_again, shut_among, without_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOWS = (socket.SHUT_RD, socket.SHUT_RDWR)


def tcp(family: socket.AddressFamily, *, chosen: bool) -> socket.socket:
    """Listen at a port that the kernel has chosen, or at one that was asked for, which it keeps otherwise."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family) as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind((host, 0))
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, 0 if chosen else first.getsockname()[1]))
        sock.listen(16)
    return sock


@pytest.fixture(params=[(socket.AF_INET, True), (socket.AF_INET, False), (socket.AF_INET6, True)], ids=str)
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    family, chosen = request.param
    with closing(tcp(family, chosen=chosen)) as sock:
        host, port = sock.getsockname()[:2]
        yield Listener(address=Address(kind="tcp", host=host, port=port), sock=sock)


@pytest.mark.parametrize("how", HOWS)
def test_a_tcp_listener_listens_again_at_its_address(listener: Listener, how: int) -> None:
    name = listener.sock.getsockname()
    with closing(socket.create_connection(name[:2])):
        assert shut_among([listener]) == [], "somebody waits, which is something else"
        listener.sock.shutdown(how)
        assert shut_among([listener]) == [listener]
        assert listen_again(listener, backlog=16)
        assert shut_among([listener]) == []
    assert listener.sock.getsockname() == name
    with closing(socket.create_connection(name[:2])) as client, listener.sock.accept()[0] as served:
        served.sendall(b"x")
        assert client.recv(1) == b"x"


@pytest.mark.parametrize("how", HOWS)
def test_a_unix_listener_cannot_listen_again(tmp_path: Path, how: int) -> None:
    path = tmp_path / "web.sock"
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(path))
        sock.listen()
        listener = Listener(address=Address(kind="unix", path=str(path)), sock=sock)
        assert shut_among([listener]) == []
        sock.shutdown(how)
        assert shut_among([listener]) == [listener]
        assert not listen_again(listener, backlog=16)
        assert shut_among([listener]) == [listener]


def test_a_unix_listener_has_a_file_or_is_told(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(path))
        listener = Listener(address=Address(kind="unix", path=str(path)), sock=sock, inode=inode_of(path))
        assert without_file([listener]) == []
        path.unlink()
        assert without_file([listener]) == [listener]
        assert without_file([replace(listener, is_inherited=True)]) == [], (
            "another mount namespace may have it"
        )
        assert without_file([replace(listener, inode=None)]) == [], "an abstract name"
        long = Address(kind="unix", path=str(tmp_path / ("x" * 300)))
        assert without_file([replace(listener, address=long)]) == [], "nobody knows"


def test_a_listener_that_is_closed_is_not_shut_down() -> None:
    sock = socket.socket()
    sock.close()
    assert shut_among([Listener(address=Address(kind="tcp", host="::", port=1), sock=sock)]) == []
