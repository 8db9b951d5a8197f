"""The manual pages, as man(1) shows them, and what is shipped beside the code."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from unicornd.cli import inventory
from unicornd.cli.ctl import COMMANDS
from unicornd.config.explain import all_keys
from unicornd.shipped import shipped

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/man").iterdir())
WIDTH = 80


def shown(page: Path) -> str:
    environ = {**os.environ, "MANWIDTH": str(WIDTH), "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_right_and_fits_a_terminal(page: Path) -> None:
    text = shown(page)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "SEE ALSO" in text
    assert "`" not in text


def test_the_pages_have_every_command_flag_and_setting() -> None:
    ctl, daemon, settings = (
        shown(ROOT / "docs/man" / name) for name in ("unicornctl.1", "unicornd.1", "unicornd.toml.5")
    )
    lines = {line.strip().split(" ")[0] for line in ctl.splitlines()}
    assert {name for name in COMMANDS if name != "config"} <= lines
    assert "config explain NAME" in ctl
    for flag in inventory.flags():
        assert flag.names[-1] in daemon
    assert all(f"[{'.'.join(key[:-1])}]" in settings and f"{key[-1]} = " in settings for key in all_keys())


def test_what_the_wheel_has_beside_the_code_is_found() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert all((ROOT / name).exists() for name in (*wheel["force-include"], *wheel["shared-data"]))
    assert set(wheel["force-include"].values()) == {
        f"unicornd/share/{name}" for name in wheel["force-include"]
    }
    assert {f"docs/man/{page.name}" for page in PAGES} < set(wheel["shared-data"])
    for name in wheel["force-include"]:
        assert shipped(name).is_dir()
    assert shipped("systemd/unicornd.service").is_file()
