from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import uuid
from typing import TYPE_CHECKING

import pytest

from unicornd.config.sections.control import ControlSettings
from unicornd.control.client import MAX_PATH, Client, ControlError, connect, may_answer
from unicornd.control.exchange import Request
from unicornd.control.listening import open_control_socket
from unicornd.control.peers import PeerRule, Role, gate_of, make_peer_rule, socket_mode
from unicornd.errors import AlreadyRunningError, ConfigError, CtlExit, ListenError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_path_has_its_mode_from_the_first_moment_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control = open_control_socket((str(path),), mode=0o640)
    with control.sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert may_answer(str(path))
        assert [entry.name for entry in tmp_path.iterdir()] == ["control.sock"]
        assert not control.sock.getblocking()
    control.remove()
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    control = open_control_socket((str(path),), mode=0o600)
    with control.sock:
        assert may_answer(str(path))
        assert [entry.name for entry in tmp_path.iterdir()] == ["control.sock"]


def test_a_socket_that_answers_is_never_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with open_control_socket((path,), mode=0o600).sock:
        with pytest.raises(AlreadyRunningError):
            open_control_socket((path,), mode=0o600)
        assert may_answer(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["control.sock"]


def test_a_socket_with_a_full_backlog_answers(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as full:
        full.bind(path)
        full.listen(0)
        with connect(path, timeout=1.0), pytest.raises(AlreadyRunningError):
            open_control_socket((path,), mode=0o600)


def test_a_lock_that_somebody_holds_is_waited_for_and_then_told(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    holder = os.open(tmp_path / ".control.sock.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(ListenError, match=f"has been locked for 0.1 s by process {os.getpid()}"):
        open_control_socket((str(path),), mode=0o600, patience=0.1)
    os.close(holder)
    open_control_socket((str(path),), mode=0o600, patience=0.1).sock.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ListenError) as caught:
        open_control_socket((str(path),), mode=0o600)
    assert "not a socket" in caught.value.detail
    assert path.read_text() == "precious"


def test_the_next_candidate_is_taken_and_directories_are_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    candidates = (str(tmp_path / "file" / "x.sock"), str(tmp_path / "run" / "unicornd" / "x.sock"))
    control = open_control_socket(candidates, mode=0o600)
    with control.sock:
        assert control.address == candidates[1]


def test_without_any_candidate_each_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError) as caught:
        open_control_socket((str(tmp_path / "file" / "a"), str(tmp_path / "file" / "b")), mode=0o600)
    assert len(caught.value.detail.splitlines()) == 2


def test_an_abstract_name_is_had_once() -> None:
    address = f"@unicornd-test-{uuid.uuid4().hex}"
    control = open_control_socket((address,), mode=0o600)
    with control.sock:
        assert may_answer(address)
        with pytest.raises(AlreadyRunningError):
            open_control_socket((address,), mode=0o600)
    control.remove()
    assert not may_answer(address)


def test_a_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 15) / ("longer" * 10)
    path = str(folder / "control.sock")
    assert len(path) > MAX_PATH
    with open_control_socket((path,), mode=0o600).sock as listener, connect(path, timeout=1.0):
        listener.settimeout(5)
        listener.accept()[0].close()


def test_another_socket_at_the_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = open_control_socket((str(path),), mode=0o600)
    first.sock.close()
    with open_control_socket((str(path),), mode=0o600).sock:
        first.remove()
        assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_lock_of_another_user_is_told(tmp_path: Path) -> None:
    (tmp_path / ".control.sock.lock").touch()
    os.chown(tmp_path / ".control.sock.lock", 12345, 12345)
    with pytest.raises(ListenError) as caught:
        open_control_socket((str(tmp_path / "control.sock"),), mode=0o600)
    assert "is another user's" in caught.value.detail


@pytest.mark.parametrize("address", ["@unicornd-nobody-listens-here", "/nonexistent/control.sock"])
def test_where_nobody_listens_nothing_is_running(address: str) -> None:
    with pytest.raises(ControlError) as caught:
        Client(address=address).get("/v1/status")
    assert caught.value.code is CtlExit.NOT_RUNNING


# Who may.


def test_root_and_our_own_user_are_always_let_in() -> None:
    assert make_peer_rule(ControlSettings()).uids == {0, os.geteuid()}


def test_users_and_groups_are_names_or_numbers() -> None:
    rule = make_peer_rule(
        ControlSettings(allow_users=("nobody", "4711"), allow_groups=("root", "815"), view_users=("4712",))
    )
    assert {4711, 0} < rule.uids
    assert rule.gids == {0, 815}
    assert rule.viewer_uids == {4712}


@pytest.mark.parametrize("key", ["allow_users", "allow_groups", "view_users", "view_groups"])
def test_an_unknown_name_is_an_error_of_the_configuration(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"control\.{key}.*nosuch"):
        make_peer_rule(ControlSettings.model_validate({key: ("nosuch",)}))


@pytest.mark.parametrize("key", ["allow_users", "allow_groups", "view_users", "view_groups"])
def test_the_mode_opens_the_door_to_those_who_are_named(key: str) -> None:
    rule = make_peer_rule(ControlSettings.model_validate({key: ("4711",)}))
    assert socket_mode(0o600, rule) == 0o666
    assert socket_mode(0o660, rule) == 0o660, "what was said is done"
    assert socket_mode(0o600, make_peer_rule(ControlSettings())) == 0o600


@pytest.mark.parametrize(
    ("uid", "groups", "role"),
    [
        (1, (), Role.CHANGE),
        (9, (9, 2), Role.CHANGE),
        (3, (), Role.LOOK),
        (9, (4,), Role.LOOK),
        (3, (2,), Role.CHANGE),
        (1, (4,), Role.CHANGE),
        (9, (9,), Role.NONE),
    ],
)
def test_who_is_named_for_both_may_do_both(uid: int, groups: tuple[int, ...], role: Role) -> None:
    rule = PeerRule(
        uids=frozenset({1}), gids=frozenset({2}), viewer_uids=frozenset({3}), viewer_gids=frozenset({4})
    )
    assert rule.role_of(uid, groups) is role


@pytest.mark.parametrize(
    ("path", "body", "is_refused"),
    [
        ("/v1/upgrade", b'{"executable": "/tmp/mine"}', True),
        ("/v1/upgrade", b'{"executable": "/tmp/mine"', True),
        ("/v1/upgrade", b'{"executable": null, "executable": "/tmp/mine"}', True),
        ("/v1/upgrade", b'["/tmp/mine"]', True),
        ("/v1/upgrade", b'{"executable": null}', False),
        ("/v1/upgrade", b"{}", False),
        ("/v1/upgrade", b"", False),
        ("/v1/scale", b'{"count": 3}', False),
    ],
)
def test_who_may_change_the_fleet_may_not_say_which_program_is_executed(
    path: str, body: bytes, *, is_refused: bool
) -> None:
    request = Request(method="POST", path=path, query={}, body=body)
    gate = gate_of(Role.CHANGE, 1000, owner=33)
    assert gate is not None
    refusal = gate(request)
    assert (refusal is not None and refusal.status == 403) == is_refused
    assert gate_of(Role.CHANGE, 33, owner=33) is gate_of(Role.CHANGE, 0, owner=33) is None


def test_the_kernel_says_who_asks() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        me = struct.unpack("iII", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        assert PeerRule(uids=frozenset({me[1]}), gids=frozenset()).authorize(ours) is None
        assert PeerRule(uids=frozenset({12345}), gids=frozenset({me[2]})).authorize(ours) is None
        gate = PeerRule(uids=frozenset({12345}), gids=frozenset({54321})).authorize(ours)
    assert gate is not None
    refusal = gate(Request(method="GET", path="/v1/status", query={}, body=b""))
    assert refusal is not None
    assert refusal.status == 403
    assert refusal.is_last
