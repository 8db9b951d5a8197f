"""Leaving a group of listeners on one port: who takes the newcomers, told by who accepts them."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from unicornd.config.values import Address
from unicornd.sockets.listener import Listener, Ownership, open_listener
from unicornd.sockets.sharing import is_port_shared, lead_back, lead_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLIENTS = 40
"""So many that each of three listeners gets one, but for one chance in ten millions."""


@pytest.fixture
def listen() -> Iterator[Callable[[str], Listener]]:
    with ExitStack() as stack:

        def make(text: str, *, is_shared: bool = True) -> Listener:
            listener = open_listener(
                Address.parse(text), backlog=CLIENTS, ownership=Ownership(mode=0o600), is_shared=is_shared
            )
            stack.callback(listener.sock.close)
            return listener

        yield make


def shares(*group: Listener) -> list[int]:
    """Have many connect; return how many of them each listener got."""
    host, port = group[0].sock.getsockname()[:2]
    place = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection(place, timeout=20))
        return [_accepted(listener.sock) for listener in group]


def _accepted(sock: socket.socket) -> int:
    for count in range(CLIENTS + 1):
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"])
@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_newcomers_are_led_to_somebody_else_wherever_the_leaving_one_is_in_the_group(
    listen: Callable[[str], Listener], host: str, leaving: int
) -> None:
    group = [listen(f"{host}:0")]
    group += [listen(group[0].bound) for _ in range(2)]
    assert all(shares(*group))
    assert lead_elsewhere(group[leaving].sock)
    for listener in group:
        _accepted(listener.sock)  # the one that tried where they are led
    assert shares(*group)[leaving] == 0
    left = group.pop(leaving)
    lead_back(left.sock)
    left.sock.close()
    assert all(shares(*group)), "the others share them again"


def test_who_is_queued_already_is_not_lost(listen: Callable[[str], Listener]) -> None:
    older = listen("127.0.0.1:0")
    younger = listen(older.bound)
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection(older.sock.getsockname(), timeout=20))
        assert lead_elsewhere(older.sock)
        assert _accepted(older.sock) + _accepted(younger.sock) == CLIENTS + 1, "and the one that tried"


def test_who_is_alone_leads_nobody_anywhere_and_goes_on(listen: Callable[[str], Listener]) -> None:
    alone = listen("127.0.0.1:0")
    assert is_port_shared(alone.sock)
    assert not lead_elsewhere(alone.sock)
    assert shares(alone) == [CLIENTS]


def test_a_newcomer_undoes_what_one_that_was_killed_has_left(listen: Callable[[str], Listener]) -> None:
    group = [listen("127.0.0.1:0")]
    group += [listen(group[0].bound) for _ in range(3)]
    assert lead_elsewhere(group[0].sock)
    group.pop(0).sock.close()
    group.append(listen(group[0].bound))
    assert all(shares(*group))


def test_only_ports_that_are_said_to_be_shared_are(listen: Callable[..., Listener], tmp_path: Path) -> None:
    assert not is_port_shared(listen("127.0.0.1:0", is_shared=False).sock)
    assert not is_port_shared(listen(f"unix:{tmp_path}/web.sock").sock)
