"""A control socket that another user holds: nobody is fooled by it, nothing is stopped by it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import BIN, Ctl, fleet
from tests.support.squatter import NOBODY, squatter
from unicornd.config.instance import spare_names
from unicornd.control.answerer import OVERFLOW_UID, Answerer, holder_text, is_trusted
from unicornd.control.client import Client, StrangerError, may_answer
from unicornd.control.listening import open_control_socket
from unicornd.errors import AlreadyRunningError, CtlExit, ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

CONFIG = """
[app]
target = "site_under_test:application"
[server]
bind = "127.0.0.1:0"
[workers]
kind = "sync"
count = 1
[logging]
error = "error.log"
"""
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
IN_INITIAL_NAMESPACE = "         0          0 4294967295\n"
IN_CONTAINER = "         0     100000      65534\n"


@pytest.fixture
def name() -> str:
    return f"squatted-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    (tmp_path / "unicornd.toml").write_text(CONFIG)
    return Ctl(tmp_path / "unicornd.toml")


@pytest.mark.parametrize("command", ["is-running", "is-ready", "health", "status", "workers", "stop"])
def test_what_a_stranger_says_at_a_named_socket_is_not_believed(ctl: Ctl, name: str, command: str) -> None:
    with squatter(f"@{name}") as pid:
        done = ctl.run(command, "--socket", f"@{name}", expect=CtlExit.UNREACHABLE)
    assert f"not unicornd: @{name} is held by user nobody (pid {pid})" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user can enter; pytest's are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_stranger_in_a_folder_that_anybody_may_write_is_not_believed(ctl: Ctl, reachable: Path) -> None:
    reachable.chmod(0o1777)
    path = reachable / "c.sock"
    with squatter(str(path)) as pid:
        done = ctl.run("is-ready", "--socket", str(path), expect=CtlExit.UNREACHABLE)
    assert f"held by user nobody (pid {pid})" in done.stderr


def test_the_owner_of_the_sockets_folder_is_believed_unless_others_may_write_there(reachable: Path) -> None:
    os.chown(reachable, NOBODY, NOBODY)
    with squatter(str(reachable / "c.sock")):
        assert Client(address=str(reachable / "c.sock")).get("/readyz")["ok"]
        reachable.chmod(0o757)
        with pytest.raises(StrangerError):
            Client(address=str(reachable / "c.sock")).get("/readyz")


def test_a_path_that_a_stranger_answers_at_is_left_alone_and_told(reachable: Path) -> None:
    reachable.chmod(0o1777)
    path = reachable / "c.sock"
    with squatter(str(path)), pytest.raises(ListenError) as caught:
        open_control_socket((str(path),), mode=0o600)
    assert "is held by user nobody" in caught.value.detail
    assert path.exists()


def test_the_abstract_name_of_a_fleet_of_root_fools_nobody(ctl: Ctl, name: str) -> None:
    with squatter(f"@unicornd/0/{name}"):
        done = ctl.run("is-ready", "--instance", name, expect=CtlExit.NOT_RUNNING)
    assert "is not running" in done.stderr


def test_a_listing_shows_a_strangers_socket_as_foreign(ctl: Ctl, name: str) -> None:
    address = f"@unicornd/0/{name}"
    with squatter(address) as pid:
        fleets = json.loads(ctl.run("ls", "--json").stdout)["fleets"]
        shown = ctl.run("ls").stdout
    assert [(each["is_foreign"], each["status"]) for each in fleets if each["socket"] == address] == [
        (True, None)
    ]
    assert "foreign" in shown
    assert f"pid {pid}" in " ".join(shown.split())


def test_a_fleet_whose_abstract_name_is_taken_starts_at_another_one_and_is_found(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "site_under_test.py").write_text(APPLICATION)
    config = f'{CONFIG}[control]\nsocket = "@{name}"\n'
    with squatter(f"@{name}") as pid, fleet(tmp_path, config) as ctl:
        ctl.run("start")
        status = ctl.status()
        assert status["control"].startswith(f"@{name}~")
        assert ctl.run("is-ready").returncode == CtlExit.DONE
        told = (tmp_path / "error.log").read_text()
        assert f"@{name} is held by user nobody (pid {pid}); listening at {status['control']}" in told
        ctl.run("stop", "--now")


def test_who_runs_at_a_spare_name_is_found_by_the_next_start_of_the_same_user(name: str) -> None:
    with (
        squatter(f"@{name}"),
        open_control_socket((f"@{name}",), mode=0o600).sock,
        pytest.raises(AlreadyRunningError),
    ):
        open_control_socket((f"@{name}",), mode=0o600)


def test_an_abstract_name_that_lets_nobody_in_is_no_fleet(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
        full.bind(f"\0{name}")
        full.listen(0)
        waiting.connect(f"\0{name}")
        with pytest.raises(StrangerError):
            may_answer(f"@{name}")
        control = open_control_socket((f"@{name}",), mode=0o600)
        with control.sock:
            assert control.address in spare_names(f"@{name}")


@pytest.mark.parametrize(
    ("uid", "uid_map", "expected"),
    [
        (0, IN_INITIAL_NAMESPACE, True),
        (1000, IN_INITIAL_NAMESPACE, True),
        (1001, IN_INITIAL_NAMESPACE, False),
        (OVERFLOW_UID, IN_INITIAL_NAMESPACE, False),
        (OVERFLOW_UID, IN_CONTAINER, False),
        (0, IN_CONTAINER, True),
    ],
)
def test_root_and_oneself_are_believed_at_an_abstract_name(
    tmp_path: Path, uid: int, uid_map: str, *, expected: bool
) -> None:
    (tmp_path / "uid_map").write_text(uid_map)
    answerer = Answerer(pid=1, uid=uid)
    assert is_trusted(answerer, "@x", uid=1000, uid_map=tmp_path / "uid_map") is expected


def test_a_user_that_the_namespace_does_not_map_is_called_so_and_never_oneself(tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text(IN_CONTAINER)
    unknown = Answerer(pid=0, uid=OVERFLOW_UID)
    assert not is_trusted(unknown, "@x", uid=OVERFLOW_UID, uid_map=tmp_path / "uid_map")
    told = holder_text(unknown, uid_map=tmp_path / "uid_map")
    assert told == "a user outside this user namespace (a process of another pid namespace)"
    (tmp_path / "uid_map").write_text(IN_INITIAL_NAMESPACE)
    assert is_trusted(unknown, "@x", uid=OVERFLOW_UID, uid_map=tmp_path / "uid_map")
    assert "nobody" in holder_text(unknown, uid_map=tmp_path / "uid_map")


def test_from_a_user_namespace_without_that_user_the_truth_is_told(reachable: Path) -> None:
    path = reachable / "c.sock"
    asked = ["unshare", "--user", str(BIN / "unicornctl"), "is-ready", "--socket", str(path)]
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a user namespace cannot be had")
    os.chown(reachable, NOBODY, NOBODY)  # all users that are not mapped look like the folder's owner
    with squatter(str(path)) as pid:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == CtlExit.UNREACHABLE
    assert f"held by a user outside this user namespace (pid {pid})" in done.stderr
