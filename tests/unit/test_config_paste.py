"""A PasteDeploy file may configure logging, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.config.flags import read_command_line
from unicornd.config.layers import load
from unicornd.config.loaded import Loaded, Sources
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def loaded(folder: Path, text: str, *arguments: str) -> Loaded:
    (folder / "shop.ini").write_text(text, encoding="latin-1")
    return load(
        Sources(folder=folder, given=read_command_line(["--paste", "shop.ini#other", *arguments]).given)
    )


def test_the_file_is_the_logging_configuration_and_its_origin(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[app:main]\nuse = x\n[loggers]\nkeys = root\n[loggers]\nkeys = root\n")
    file = tmp_path / "shop.ini"
    assert found.settings.logging.config_file == file
    assert next(row.where for row in found.rows if row.key == "logging.config_file") == str(file)


@pytest.mark.parametrize(
    "flag",
    [
        "--log-config=x.ini",
        "--log-config-json=x.json",
        "--set=logging.config={version=1}",
        "--set=logging.config_object=a:b",
    ],
)
def test_another_one_that_is_said_stays(tmp_path: Path, flag: str) -> None:
    found = loaded(tmp_path, "[loggers]\nkeys = root\n", flag)
    assert found.settings.logging.config_file != tmp_path / "shop.ini"


@pytest.mark.parametrize("text", ["", "[app:main]\n", "no ini\n", "[x]\na = \xff\n"])
def test_a_file_without_it_says_nothing(tmp_path: Path, text: str) -> None:
    found = loaded(tmp_path, text, "--log-level", "debug")
    assert (found.settings.logging.config_file, found.settings.logging.level) == (None, "debug")


def test_a_file_that_is_not_there_is_for_others_to_tell(tmp_path: Path) -> None:
    given = read_command_line(["--paste", "shop.ini"]).given
    assert load(Sources(folder=tmp_path, given=given)).settings.logging.config_file is None


def test_a_table_that_is_none_is_an_error_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "unicornd.toml").write_text("app = 3\nlogging = 4\n")
    with pytest.raises(ConfigError, match="2 errors"):
        load(Sources(folder=tmp_path))
