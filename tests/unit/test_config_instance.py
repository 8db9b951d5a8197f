from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from unicornd.config.instance import (
    as_said,
    control_socket_candidates,
    instance_of_config,
    instance_of_path,
    instance_of_target,
    running_sockets,
    socket_of_config,
    sockets_of_others,
    spare_name,
    spare_names,
    state_log,
    working_folder,
)
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.control.address import ControlAddress


def test_an_instance_is_named_after_its_folder_and_told_apart_by_its_path(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "shop" / "unicornd.toml", tmp_path / "b" / "shop" / "unicornd.toml"
    assert instance_of_path(one).startswith("shop-")
    assert instance_of_path(one) != instance_of_path(two)
    assert instance_of_path(Path("/unicornd.toml")).startswith("app-")
    assert instance_of_path(tmp_path / "my app!" / "unicornd.toml").startswith("my-app-")


def test_a_name_in_the_file_or_its_drop_ins_wins(tmp_path: Path) -> None:
    file = tmp_path / "unicornd.toml"
    file.write_text("[process]\n")
    assert instance_of_config(file) == instance_of_path(file)
    file.write_text('[process]\nname = "one"\n')
    assert instance_of_config(file) == "one"
    (tmp_path / "unicornd.d").mkdir()
    (tmp_path / "unicornd.d" / "a.toml").write_text('[process]\nname = "two"\n')
    (tmp_path / "unicornd.d" / "b.toml").write_text("not toml")
    (tmp_path / "unicornd.d" / "c.toml").write_text("process = 3")
    (tmp_path / "unicornd.d" / "d.toml").write_text("[process]\nname = 3\n")
    assert instance_of_config(file) == "two"


def test_without_a_file_the_target_and_the_folder_name_it(tmp_path: Path) -> None:
    name = instance_of_target("./src/site.py:app", tmp_path)
    assert name.startswith("site-")
    assert name != instance_of_target("./src/site.py:app", tmp_path.parent)


def test_sockets_are_looked_for_where_a_service_a_user_and_the_system_have_them() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/unicornd/shop:/run/other", "XDG_RUNTIME_DIR": "/run/user/5"}
    assert control_socket_candidates(environ, uid=5, instance="shop") == (
        "/run/unicornd/shop/shop.sock",
        "/run/user/5/unicornd/shop.sock",
        "/run/unicornd/shop.sock",
        "@unicornd/5/shop",
    )
    assert control_socket_candidates({}, uid=5, instance="shop") == (
        "/run/unicornd/shop.sock",
        "@unicornd/5/shop",
    )


def test_root_has_no_abstract_name_where_the_systems_folder_can_be_had(tmp_path: Path) -> None:
    def candidates(folder: Path) -> tuple[str, ...]:
        return control_socket_candidates({}, uid=0, instance="shop", system_folder=str(folder))

    assert candidates(tmp_path) == (f"{tmp_path}/shop.sock",)
    assert candidates(tmp_path / "to be made") == (f"{tmp_path}/to be made/shop.sock",)
    assert candidates(tmp_path / "no" / "such")[1] == "@unicornd/0/shop"


def test_a_spare_name_is_found_by_the_name_it_stands_for() -> None:
    wanted = f"@unicornd/{os.geteuid()}/spare-{os.getpid()}"
    spare = spare_name(wanted)
    assert spare != spare_name(wanted)
    assert not spare_names(wanted)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{spare[1:]}")
        listener.listen()
        assert spare_names(wanted) == [spare]


def test_a_socket_in_the_file_is_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "unicornd.toml"
    assert socket_of_config(file) is None
    file.write_text('[control]\nsocket = "run/c.sock"\n')
    assert socket_of_config(file) == str(tmp_path / "run" / "c.sock")
    file.write_text('[control]\nsocket = "@shop"\n')
    assert socket_of_config(file) == "@shop"


def test_running_instances_are_found_by_their_listening_sockets(tmp_path: Path) -> None:
    uid = os.geteuid()
    own = tmp_path / "unicornd"
    (own / "nested").mkdir(parents=True)
    paths = [str(own / "a.sock"), str(own / "nested" / "b.sock"), f"\0unicornd/{uid}/pytest-{os.getpid()}"]
    sockets = []
    for path in (*paths, str(own / "other.socket"), str(tmp_path / "c.sock")):
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(path)
        sockets[-1].listen()
    idle = socket.socket(socket.AF_UNIX)
    idle.bind(str(own / "idle.sock"))
    try:
        found = running_sockets({"XDG_RUNTIME_DIR": str(tmp_path), "RUNTIME_DIRECTORY": str(own / "x")}, uid)
        ours = [name for name in found if str(tmp_path) in name or "pytest" in name]
        assert ours == sorted(path.replace("\0", "@") for path in paths)
    finally:
        for each in (*sockets, idle):
            each.close()


def test_where_the_kernel_does_not_tell_nothing_is_found(tmp_path: Path) -> None:
    assert not running_sockets({}, 0, table=tmp_path / "no such table")


def test_a_python_file_names_the_instance_and_the_socket_where_it_says_so_plainly(tmp_path: Path) -> None:
    file = tmp_path / "gunicorn.conf.py"
    file.write_text("import os\n")
    assert instance_of_config(file) == instance_of_path(file)
    assert socket_of_config(file) is None
    file.write_text(
        'import os\nx, y = 1, 2\nproc_name = "my shop"\nproc_name = os.sep\ncontrol_socket = "run/x.sock"\n'
    )
    assert instance_of_config(file) == "my-shop"
    assert socket_of_config(file) == str(tmp_path / "run" / "x.sock")
    file.write_text('proc_name = "-"\ncontrol_socket = "@x"\n')
    assert instance_of_config(file) == instance_of_path(file)
    assert socket_of_config(file) == "@x"
    file.write_text("not python (")
    assert instance_of_config(file) == instance_of_path(file)
    (tmp_path / "gunicorn.conf.d").mkdir()
    (tmp_path / "gunicorn.conf.d" / "a.toml").write_text('[process]\nname = "two"\n')
    assert instance_of_config(file) == "two"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_root_uses_no_runtime_directory_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "theirs"), "RUNTIME_DIRECTORY": str(tmp_path / "own")}
    found = control_socket_candidates(environ, uid=0, instance="shop")
    assert found[:2] == (f"{tmp_path}/own/shop.sock", "/run/unicornd/shop.sock")
    assert f"{tmp_path}/theirs/unicornd/shop.sock" in control_socket_candidates(
        environ, uid=5, instance="shop"
    )
    with socket.socket(socket.AF_UNIX) as planted:
        (tmp_path / "theirs" / "unicornd").mkdir()
        planted.bind(f"{tmp_path}/theirs/unicornd/shop.sock")
        planted.listen()
        assert f"{tmp_path}/theirs/unicornd/shop.sock" not in running_sockets(environ, 0)
        assert f"{tmp_path}/theirs/unicornd/shop.sock" in running_sockets(environ, 12345)


def test_a_path_is_kept_as_it_was_said_and_names_the_instance_through_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    link = tmp_path / "current"
    link.symlink_to("one")
    file = link / "unicornd.toml"
    assert as_said(file) == file
    assert as_said(link / ".." / "unicornd.toml") == tmp_path / "unicornd.toml"
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    assert as_said(Path("unicornd.toml")) == file
    assert instance_of_path(Path("unicornd.toml")) == instance_of_path(file)
    monkeypatch.setenv("PWD", "/elsewhere")
    assert as_said(Path("unicornd.toml")) == tmp_path / "one" / "unicornd.toml"


def test_a_working_directory_that_was_removed_still_has_the_name_under_which_it_was_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PWD", str(gone))
    gone.rmdir()
    assert working_folder() == gone
    monkeypatch.delenv("PWD")
    assert working_folder() == Path("/")


def test_the_fleets_of_other_users_that_have_the_same_name_are_found(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    listens = "0: 00000002 00000000 00010000 0001 01 1"
    names = ("@unicornd/1000/shop", "@unicornd/33/shop~0badcafe", "@unicornd/0/shop", "@unicornd/1000/shops",
             "/run/user/1000/unicornd/shop.sock", "/tmp/unicornd/shop.sock", "@unicornd/x/shop")  # fmt: skip
    table.write_text("Num …\n" + "".join(f"{listens} {name}\n" for name in names))
    assert sockets_of_others("shop", 0, table=table) == {
        "/run/user/1000/unicornd/shop.sock": 1000,
        "@unicornd/1000/shop": 1000,
        "@unicornd/33/shop~0badcafe": 33,
    }


def test_a_daemon_without_any_other_place_logs_in_its_users_state_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert state_log({"XDG_STATE_HOME": "/home/me/state"}, "shop") == "/home/me/state/unicornd/shop.log"
    monkeypatch.setenv("HOME", "/home/me")
    assert state_log({}, "shop") == "/home/me/.local/state/unicornd/shop.log"
    assert state_log({"XDG_STATE_HOME": "not/absolute"}, "shop") == ""


def test_the_log_of_a_daemon_whose_control_socket_is_no_file_is_told_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "unicornd.toml"
    file.write_text('[process]\nname = "shop"\n[control]\nsocket = "@unicornd-test"\n')
    sources = Sources(config_file=file)
    assert ControlAddress(load(sources), sources).fallback_log == f"{tmp_path}/state/unicornd/shop.log"
    monkeypatch.setenv("XDG_STATE_HOME", "nowhere")
    assert ControlAddress(load(sources), sources).fallback_log == os.devnull
