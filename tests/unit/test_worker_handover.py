"""Idle connections from one worker to another: those that are whole are taken, whatever else a sibling puts in."""

from __future__ import annotations

import json
import os
import resource
import socket
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.http.proxy import FACTS as FACT_NAMES
from unicornd.http.proxy import MAX_NAME
from unicornd.workers.handover import MAX_FACTS, MAX_MESSAGE, MAX_RECEIVED, Handed, Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTENER = "127.0.0.1:8000"
FACTS = [LISTENER, "192.0.2.1", "4711"]


@pytest.fixture
def pair() -> Iterator[Handover]:
    with closing(Handover.open()) as pair:
        yield pair


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A connection's other end; `give` puts ours in."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield ours


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def message(facts: object = FACTS, received: bytes = b"") -> bytes:
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    return len(text).to_bytes(2) + text + received


def taken(pair: Handover) -> list[Handed]:
    found = list(pair.take())
    for handed in found:
        handed.sock.close()
    return found


@pytest.mark.parametrize("received", [b"", b"GET / HT", b"x" * MAX_RECEIVED])
def test_a_connection_comes_out_as_it_was_put_in(
    pair: Handover, client: socket.socket, received: bytes
) -> None:
    assert pair.give(Handed(client, LISTENER, ("192.0.2.1", "4711"), received))
    [handed] = taken(pair)
    assert handed[1:4] == (LISTENER, ("192.0.2.1", "4711"), received)
    assert (handed.preface, dict(handed.facts)) == ("", {})


@pytest.mark.parametrize("preface", ["proxy", "uwsgi", ""])
def test_what_a_preface_is_and_has_told_goes_along(
    pair: Handover, client: socket.socket, preface: str
) -> None:
    facts = {"PROXY_ADDR": "192.0.2.9", "SSL_CLIENT_S_DN_CN": 'caf\u00c3\u00a9 "joe"'}
    assert pair.give(Handed(client, LISTENER, ("192.0.2.1", "4711"), b"PRO", preface, facts))
    [handed] = taken(pair)
    assert handed[1:6] == (LISTENER, ("192.0.2.1", "4711"), b"PRO", preface, facts)


def test_the_longest_facts_of_a_header_fit(pair: Handover, client: socket.socket) -> None:
    """Else a connection would be kept that cannot be handed over."""
    host = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    values = ["TCP6", host, "65535", "on", "FAILED:4294967295", "\u00ff" * MAX_NAME]
    facts = dict(zip(FACT_NAMES, values, strict=True))
    assert pair.give(Handed(client, "unix:" + "p" * 108, (host, "65535"), b"", "", facts))
    assert [handed.facts for handed in taken(pair)] == [facts]


def test_who_is_connected_is_asked_of_the_kernel(pair: Handover) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        ours, name = listener.accept()
        with ours:
            assert pair.give(Handed(ours, LISTENER, ("192.0.2.1", "4711"), b"", "proxy"))
            assert [handed.peer for handed in taken(pair)] == [(name[0], str(client.getsockname()[1]))]


def test_a_release_that_knows_no_prefaces_understands_connections_without(
    pair: Handover, client: socket.socket
) -> None:
    assert pair.give(Handed(client, LISTENER, ("192.0.2.1", "4711"), b"GET"))
    sent, descriptors, _, _ = socket.recv_fds(pair.taking, MAX_MESSAGE, 1)
    os.close(descriptors[0])
    assert sent == message(FACTS, b"GET")


def test_it_is_not_left_to_programs_that_the_worker_executes(pair: Handover, client: socket.socket) -> None:
    assert pair.give(Handed(client, LISTENER, ("", ""), b""))
    [handed] = pair.take()
    with handed.sock:
        assert not handed.sock.get_inheritable()


def test_what_does_not_fit_is_not_put_in(pair: Handover, client: socket.socket) -> None:
    assert not pair.give(Handed(client, LISTENER, ("", ""), b"x" * (MAX_RECEIVED + 1)))
    assert not pair.give(Handed(client, "unix:" + "p" * MAX_FACTS, ("", ""), b""))
    assert taken(pair) == []


MALFORMED = [
    b"", b"\0", b"\0\0", b"\xff\xff[]", b"\0\x05[]", message(b"["), message(b"\xff"), message(b"[" * MAX_FACTS), message([]), message({}),
    message(None), message([LISTENER, "a"]), message([*FACTS, "x"]), message([LISTENER, 1, "2"]), message([LISTENER, None, "2"]),
    message([LISTENER, "a\nb", "2"]), message([LISTENER, "a", "2\0"]), message(b"9" * MAX_FACTS), message([LISTENER, "a", 10**900]),
    message([*FACTS, "proxy"]), message([*FACTS, "other", {}]), message([*FACTS, "proxy", []]), message([*FACTS, "", {"A": 1}]),
    message([*FACTS, "", {"a b": "c"}]), message([*FACTS, "", {"A": "b\n"}]), message([*FACTS, "", {"A": "\u20ac"}]),
    message([*FACTS, "", {"A": "x" * 257}]), message([*FACTS, "", {f"A{'B' * n}": "" for n in range(9)}]), message([*FACTS, "", {}, 1]),
    message(["x" * (MAX_FACTS + 10), "a", "b"]), message(FACTS, b"x" * (MAX_MESSAGE + 1)),
]  # fmt: skip


@pytest.mark.parametrize("sent", MALFORMED, ids=lambda sent: repr(sent[:24]))
def test_a_message_that_is_none_is_dropped_and_the_next_one_taken(
    pair: Handover, client: socket.socket, sent: bytes
) -> None:
    before = descriptors()
    socket.send_fds(pair.giving, [sent], [client.fileno()])
    pair.giving.send(sent)
    assert pair.give(Handed(client, LISTENER, ("", ""), b""))
    assert [handed.listener for handed in taken(pair)] == [LISTENER]
    assert descriptors() == before


@given(
    sent=st.binary(max_size=60)
    | st.builds(message, st.recursive(st.text() | st.integers(), st.lists, max_leaves=5))
)
def test_whatever_the_bytes_are_the_taker_goes_on(sent: bytes) -> None:
    theirs, ours = socket.socketpair()
    with closing(Handover.open()) as pair, theirs, ours:
        before = descriptors()
        socket.send_fds(pair.giving, [sent], [ours.fileno()])
        for handed in taken(pair):
            assert isinstance(handed.remote[0], str)
        assert descriptors() == before


def a_pipe(stack: ExitStack) -> int:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return reader


def a_file(stack: ExitStack) -> int:
    return stack.enter_context(tempfile.TemporaryFile()).fileno()


def a_listener(stack: ExitStack) -> int:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0))).fileno()


def not_connected(stack: ExitStack) -> int:
    return stack.enter_context(socket.socket()).fileno()


def of_datagrams(stack: ExitStack) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack.enter_context(theirs)
    return stack.enter_context(ours).fileno()


def of_packets(stack: ExitStack) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stack.enter_context(theirs)
    return stack.enter_context(ours).fileno()


def of_another_family(stack: ExitStack) -> int:
    return stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)).fileno()


@pytest.mark.parametrize(
    "make", [a_pipe, a_file, a_listener, not_connected, of_datagrams, of_packets, of_another_family]
)
def test_what_is_no_connection_is_closed(
    pair: Handover, client: socket.socket, make: Callable[[ExitStack], int]
) -> None:
    with ExitStack() as stack:
        fd = make(stack)
        before = descriptors()
        socket.send_fds(pair.giving, [message()], [fd])
        assert pair.give(Handed(client, LISTENER, ("", ""), b"it"))
        assert [handed.received for handed in taken(pair)] == [b"it"]
        assert descriptors() == before


@pytest.mark.parametrize("count", [2, 3, 253])
def test_more_than_one_descriptor_is_none(pair: Handover, client: socket.socket, count: int) -> None:
    before = descriptors()
    socket.send_fds(pair.giving, [message()], [client.fileno()] * count)
    assert pair.give(Handed(client, LISTENER, ("", ""), b"it"))
    assert [handed.received for handed in taken(pair)] == [b"it"]
    assert descriptors() == before


def test_a_worker_without_descriptors_goes_on(pair: Handover, client: socket.socket) -> None:
    assert pair.give(Handed(client, LISTENER, ("", ""), b"lost"))
    assert pair.give(Handed(client, LISTENER, ("", ""), b"lost"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert taken(pair) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert pair.give(Handed(client, LISTENER, ("", ""), b"it"))
    assert [handed.received for handed in taken(pair)] == [b"it"]


def test_a_sibling_that_makes_the_pair_blocking_holds_nobody_up(pair: Handover) -> None:
    os.set_blocking(pair.taking.fileno(), True)
    assert taken(pair) == []


def test_a_pair_that_is_shut_gives_what_was_in_it_and_takes_nothing(
    pair: Handover, client: socket.socket
) -> None:
    assert pair.give(Handed(client, LISTENER, ("", ""), b"it"))
    pair.shut()
    assert not pair.is_open
    assert not pair.give(Handed(client, LISTENER, ("", ""), b""))
    assert [handed.received for handed in taken(pair)] == [b"it"]
