"""What runs as root and can be changed by others: who is told, and who is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from unicornd.config.exposed import exposed
from unicornd.config.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

WE = os.geteuid()


@pytest.fixture(autouse=True)
def narrow(tmp_path: Path) -> None:
    (tmp_path / "deploy.py").touch()
    (tmp_path / "deploy.py").chmod(0o644)
    package = tmp_path / "shop"
    package.mkdir(mode=0o755)
    (package / "__init__.py").touch(mode=0o644)
    (package / "hooks.py").touch(mode=0o644)
    (tmp_path / "spaces").mkdir(mode=0o755)  # a package without a file of its own
    (tmp_path / "spaces" / "hooks.py").touch(mode=0o644)


def told(
    folder: Path, *, target: str = "deploy:f", user: str | None = "no-one", uid: int = WE, **more: Any
) -> list[str]:
    given = {
        "app": {"chdir": folder},
        "process": {} if user is None else {"user": user},
        "hooks": {"when_ready": target},
        **more,
    }
    return exposed(Settings.model_validate(given), uid=uid, trusted=WE)


def test_what_only_the_owner_can_write_is_not_told(tmp_path: Path) -> None:
    for target in ("deploy:f", "./deploy.py:f", "shop.hooks:f", "shop:f"):
        assert told(tmp_path, target=target) == []


@pytest.mark.parametrize("target", ["deploy:f", "./deploy.py:f"])
def test_a_file_that_everybody_can_write_is_told_with_its_key(tmp_path: Path, target: str) -> None:
    (tmp_path / "deploy.py").chmod(0o646)
    (line,) = told(tmp_path, target=target)
    assert line.startswith(f"hooks.when_ready: {target} runs as root, from {tmp_path}")
    assert line.endswith(f"{tmp_path}/deploy.py can be changed by others than root")


def test_a_folder_above_it_counts_unless_it_is_sticky(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.chmod(0o757)
    (line,) = told(tmp_path, target="shop.hooks:f")
    assert f"; {folder} can be changed" in line
    folder.chmod(0o1757)
    assert told(tmp_path, target="shop.hooks:f") == []


def test_a_file_in_a_package_without_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "spaces" / "hooks.py").chmod(0o646)
    assert len(told(tmp_path, target="spaces.hooks:f")) == 1


def test_a_group_that_can_write_is_told_unless_it_is_roots(tmp_path: Path) -> None:
    file = tmp_path / "deploy.py"
    file.chmod(0o664)
    if WE == 0:
        assert told(tmp_path) == []
        os.chown(file, -1, 4000001)
    assert len(told(tmp_path)) == (file.stat().st_gid != 0)


@pytest.mark.skipif(WE != 0, reason="only root can give a file away")
def test_a_file_of_somebody_elses_is_told(tmp_path: Path) -> None:
    os.chown(tmp_path / "deploy.py", 4000001, -1)
    assert len(told(tmp_path)) == 1


def test_logging_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "deploy.py").chmod(0o646)
    lines = told(tmp_path, logging={"logger_class": "deploy:Own", "config_object": "deploy:TABLE"})
    assert [line.partition(":")[0] for line in lines] == [
        "hooks.when_ready", "logging.logger_class", "logging.config_object",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "target", ["nothing_of_that_name:f", "shop.nothing:f", "sys:exit", "spaces:f", "./nothing.py:f"]
)
def test_what_is_not_found_or_has_no_file_is_told_elsewhere(tmp_path: Path, target: str) -> None:
    assert told(tmp_path, target=target) == []


def test_nothing_is_told_where_nothing_is_at_stake(tmp_path: Path) -> None:
    (tmp_path / "deploy.py").chmod(0o646)
    assert told(tmp_path, user=None) == []
    assert told(tmp_path, user="root") == []
    assert told(tmp_path, uid=WE + 1) == []


def test_the_working_directory_counts_where_no_folder_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.py").chmod(0o646)
    assert len(told(tmp_path, app={})) == 1


def test_a_user_of_the_workers_who_may_use_the_control_socket_is_told(tmp_path: Path) -> None:
    both = {"allow_users": ("no-one", "deploy"), "view_users": ("no-one",)}
    change, view = told(tmp_path, control=both)
    assert change.startswith("control.allow_users: no-one is the user of the workers")
    assert view.startswith("control.view_users: no-one is the user of the workers")
    assert told(tmp_path, control={"allow_users": ("deploy",)}) == []
    assert told(tmp_path, control={**both, "enabled": False}) == []
