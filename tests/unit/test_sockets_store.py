"""Listeners in the file descriptor store, told by the messages to systemd; and how a listener lets nobody in any more."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from unicornd.config.values import Address
from unicornd.sockets.inherit import Passed
from unicornd.sockets.listener import Listener, Ownership, close_listener, open_listener, refuse_newcomers
from unicornd.sockets.notify import Notifier
from unicornd.sockets.store import Store, split_passed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWNERSHIP = Ownership(mode=0o600)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        yield receiving


@pytest.fixture
def notifier(told: socket.socket) -> Iterator[Notifier]:
    made = Notifier(str(told.getsockname()))
    yield made
    made.close()


def listen(text: str) -> Listener:
    return open_listener(Address.parse(text), backlog=8, ownership=OWNERSHIP)


def message(told: socket.socket) -> tuple[dict[str, str], list[int]]:
    data, fds, _flags, _address = socket.recv_fds(told, 4096, 4)
    return dict(line.split("=", 1) for line in data.decode().splitlines()), fds


def stored(told: socket.socket) -> Passed:
    """What systemd would pass to the next start."""
    said, fds = message(told)
    assert (said["FDSTORE"], said["FDPOLL"]) == ("1", "0")
    assert ":" not in said["FDNAME"]
    return Passed(fd=fds[0], name=said["FDNAME"])


def silent(told: socket.socket) -> bool:
    try:
        message(told)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "[::1]:0", "unix:{folder}/a,%b w:é.sock", "unix:@{folder}"]
)
def test_a_stored_listener_comes_back_with_its_address_and_its_queue(
    tmp_path: Path, told: socket.socket, notifier: Notifier, address: str
) -> None:
    listener = listen(address.format(folder=tmp_path))
    Store(notifier, room=1).settle([listener])
    passed = stored(told)
    listener.sock.close()
    again = Store(notifier, room=1, passed=[passed])
    (returned,) = again.returned
    assert returned.address == listener.address
    assert again.settle([returned]) == (returned,)
    assert again.keeps(returned)
    assert silent(told), "it is stored already"
    with socket.socket(returned.sock.family) as client:
        client.connect(returned.sock.getsockname())
        returned.sock.accept()[0].close()
    close_listener(returned)


def test_what_comes_back_unwanted_is_closed_and_taken_out(
    tmp_path: Path, told: socket.socket, notifier: Notifier
) -> None:
    listener = listen(f"unix:{tmp_path}/web.sock")
    Store(notifier, room=1).settle([listener])
    passed = stored(told)
    listener.sock.close()
    again = Store(notifier, room=1, passed=[passed])
    assert again.settle([]) == ()
    assert message(told)[0] == {"FDSTOREREMOVE": "1", "FDNAME": passed.name}
    assert not (tmp_path / "web.sock").exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(passed.fd)


def test_a_unix_socket_whose_file_is_gone_or_another_leads_nowhere(
    tmp_path: Path, told: socket.socket, notifier: Notifier
) -> None:
    listener = listen(f"unix:{tmp_path}/web.sock")
    Store(notifier, room=1).settle([listener])
    passed = stored(told)
    (tmp_path / "web.sock").unlink()
    (tmp_path / "web.sock").touch()
    assert Store(notifier, room=1, passed=[passed]).returned == ()
    assert message(told)[0]["FDSTOREREMOVE"] == "1"
    listener.sock.close()


@pytest.mark.parametrize(
    "name", ["stored", "unicornd-", "unicornd-,0,0", "unicornd-127.0.0.1%3A99999,0,0", "unicornd-%ff,0,0"]
)
def test_what_is_none_of_ours_is_closed(told: socket.socket, notifier: Notifier, name: str) -> None:
    reader, writer = os.pipe()
    assert Store(notifier, room=1, passed=[Passed(fd=reader, name=name)]).returned == ()
    assert message(told)[0]["FDNAME"] == name
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


def test_a_pipe_with_the_name_of_a_listener_is_closed(notifier: Notifier) -> None:
    reader, writer = os.pipe()
    assert (
        Store(notifier, room=1, passed=[Passed(fd=reader, name="unicornd-127.0.0.1%3A80,0,0")]).returned == ()
    )
    os.close(writer)


def test_no_more_is_stored_than_there_is_room_and_nothing_of_a_socket_unit(
    told: socket.socket, notifier: Notifier
) -> None:
    listeners = [listen("127.0.0.1:0") for _ in range(3)]
    inherited = Listener(address=Address(kind="fd", name="3"), sock=listeners[0].sock, is_inherited=True)
    store = Store(notifier, room=1)
    store.settle([inherited, *listeners[1:]])
    os.close(stored(told).fd)
    assert silent(told)
    assert [store.keeps(each) for each in (inherited, *listeners[1:])] == [False, True, False]
    for listener in listeners:
        listener.sock.close()


def test_without_a_store_nothing_is_sent(told: socket.socket, notifier: Notifier) -> None:
    listener = listen("127.0.0.1:0")
    environ = {"FDSTORE": "many", "HOME": "/"}
    store = Store.from_environ(environ, notifier, passed=())
    store.settle([listener])
    assert silent(told)
    assert not store.keeps(listener)
    assert environ == {"HOME": "/"}
    listener.sock.close()


def test_a_store_that_cannot_be_told_keeps_nothing() -> None:
    listener = listen("127.0.0.1:0")
    store = Store(Notifier("/nowhere/notify"), room=4)
    store.settle([listener])
    assert not store.keeps(listener)
    listener.sock.close()


def test_descriptors_are_parted_by_their_names() -> None:
    names = ["web", "stored", "unicornd-127.0.0.1%3A80,0,0", "unicornd"]
    passed = [Passed(fd=index, name=name) for index, name in enumerate(names)]
    waiting, kept = split_passed(passed)
    assert [each.fd for each in waiting] == [0, 3]
    assert [each.fd for each in kept] == [1, 2]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::]:0"])
def test_a_listener_that_refuses_newcomers_keeps_who_is_queued(address: str) -> None:
    listener = listen(address)
    place = ("::1" if "::" in address else "127.0.0.1", listener.sock.getsockname()[1])
    with socket.create_connection(place, timeout=5) as early:
        early.sendall(b"request")
        refuse_newcomers(listener)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, timeout=5)
        served, _ = listener.sock.accept()
        assert served.recv(100) == b"request"
        served.sendall(b"answer")
        assert early.recv(100) == b"answer"
        served.close()
    close_listener(listener)


def test_a_status_sets_no_other_variable_and_can_always_be_said(
    notifier: Notifier, told: socket.socket
) -> None:
    notifier.ready("refused: no\nMAINPID=1\r\x1b[31m\x85\ud800")
    data = told.recv(4096).decode()
    assert data.split("\n") == ["READY=1", "STATUS=refused: no MAINPID=1\\x0d\\x1b[31m\\x85\\ud800"]
