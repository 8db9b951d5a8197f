"""Reloads that begin by themselves: a changed file of the application, another release behind a link."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def await_version(fleet: Fleet, version: str) -> None:
    eventually(lambda: fleet.get().startswith(f"{version} "), f"{version} answers", patience=30)


@pytest.mark.parametrize("engine", ["poll", "inotify", "auto"])
def test_a_changed_file_of_the_application_is_loaded(fleet: Fleet, engine: str) -> None:
    (fleet.folder / "shop").mkdir()
    fleet.write("shop/__init__.py", "")
    fleet.write("shop/version.py", "V = 'v1'\n")
    fleet.change(
        "site_app.py",
        'VERSION = "v1"',
        "import sys, pathlib; sys.path.insert(0, str(pathlib.Path(__file__).parent))\nfrom shop.version import V as VERSION",
    )
    fleet.start("--reload", "--reload-engine", engine)
    fleet.write("shop/version.py", "V = 'v2'\n")
    await_version(fleet, "v2")
    assert "shop/version.py has changed" in fleet.log


def test_a_syntax_error_keeps_the_old_code_and_its_correction_is_loaded(fleet: Fleet) -> None:
    fleet.start("--reload", "--reload-engine", "poll")
    fleet.change("site_app.py", 'VERSION = "v1"', "VERSION = (")
    fleet.await_log("generation 2 is given up")
    assert fleet.get().startswith("v1 ")
    fleet.change("site_app.py", "VERSION = (", 'VERSION = "v3"')
    await_version(fleet, "v3")


def test_extra_files_and_patterns_count(fleet: Fleet) -> None:
    fleet.write("texts.html", "a")
    fleet.start("--reload", "--reload-engine", "poll", "--reload-extra-file", "*.html")
    fleet.write("other.txt", "nobody cares")
    fleet.write("more.html", "b")
    fleet.await_log("more.html has changed")
    fleet.await_log("generation 2 serves")
    assert "other.txt" not in fleet.log


def test_a_link_that_leads_to_another_release_starts_a_reload(fleet: Fleet) -> None:
    releases = fleet.folder / "releases"
    for version in ("v1", "v2"):
        (releases / version).mkdir(parents=True)
        fleet.write(
            f"releases/{version}/shop_app.py",
            (fleet.folder / "site_app.py").read_text().replace('"v1"', f'"{version}"'),
        )
    current = fleet.folder / "current"
    current.symlink_to(releases / "v1")
    fleet.write("unicornd.toml", '[app]\ntarget = "shop_app:application"\nchdir = "current"\n[server]\nbind = "127.0.0.1:0"\n'
                '[reload]\nwatch = ["current"]\n')  # fmt: skip
    fleet.start()
    assert fleet.get().startswith("v1 ")
    aside = fleet.folder / "next"
    aside.symlink_to(releases / "v2")
    os.replace(aside, current)  # noqa: PTH105 - what a deployment does
    await_version(fleet, "v2")


def test_what_is_watched_can_be_changed_by_a_reload(fleet: Fleet) -> None:
    fleet.write("touch.me", "")
    fleet.start()
    before = len(fleet.processes())
    fleet.change("unicornd.toml", "[workers]", '[reload]\nwatch = ["touch.me"]\n[workers]')
    fleet.send(1)  # type: ignore[arg-type] # SIGHUP
    fleet.await_log("generation 2 serves")
    eventually(lambda: len(fleet.processes()) == before + 1, "somebody watches")
    fleet.write("touch.me", "now")  # perhaps before it has looked for the first time
    fleet.await_log("generation 3 serves")


def test_the_watching_process_leaves_with_a_killed_arbiter(fleet: Fleet) -> None:
    process = fleet.start("--reload", "--reload-engine", "poll")
    process.kill()
    process.wait()
    eventually(lambda: not fleet.processes(), "all have left")
