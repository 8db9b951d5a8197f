"""Applications that a PasteDeploy file makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INI = """\
[app:main]
paste.app_factory = paste_app:make
greeting = hello
[app:other]
use = main
greeting = good day
"""
APP = """\
def make(global_conf, greeting):
    def app(environ, start_response):
        body = f"{greeting} {global_conf.get('place', '')}".encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]
    return app
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("paste_app.py", APP)
        fleet.write("shop.ini", INI)
        fleet.write(
            "unicornd.toml", '[app]\nchdir = "."\npaste = "shop.ini"\n[server]\nbind = "127.0.0.1:0"\n'
        )
        yield fleet


def test_the_main_application_is_served(fleet: Fleet) -> None:
    fleet.start()
    assert fleet.get() == "hello "
    assert fleet.status()["target"].endswith("shop.ini")


def test_another_one_is_served_by_its_name_with_global_variables(fleet: Fleet) -> None:
    fleet.start("--paste", "shop.ini#other", "--paste-global", "place=world")
    assert fleet.get() == "good day world"


def test_a_file_that_is_not_there_and_one_that_is_wrong_are_told(fleet: Fleet) -> None:
    done = fleet.run("--paste", "none.ini")
    assert done.returncode == DaemonExit.CONFIG
    assert "app.paste: there is no file" in done.stderr
    fleet.write("shop.ini", "[app:main]\npaste.app_factory = paste_app:nothing\n")
    done = fleet.run()
    assert done.returncode == DaemonExit.BOOT
    assert "app.paste" in done.stderr
