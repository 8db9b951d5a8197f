"""Applications that a PasteDeploy file makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
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


LOGGING = """\
[loggers]
keys = root
[handlers]
keys = own
[formatters]
keys = short
[logger_root]
level = INFO
handlers = own
[handler_own]
class = FileHandler
args = ("%(here)s/own.log",)
formatter = short
[formatter_short]
format = SHORT %(name)s %(message)s
"""


def test_its_logging_configuration_counts_unless_there_is_another(fleet: Fleet) -> None:
    fleet.write("shop.ini", INI + LOGGING)
    fleet.write("paste_app.py", "import logging\nlogging.getLogger('shop').info('it opens')\n" + APP)
    fleet.start()
    eventually(
        lambda: "SHORT shop it opens" in (fleet.folder / "own.log").read_text(), "the application's line"
    )
    assert fleet.end() == 0
    (fleet.folder / "own.log").unlink()
    fleet.start("--set", "logging.config={version = 1}")
    assert fleet.get() == "hello "
    assert not (fleet.folder / "own.log").exists()


def test_a_file_that_is_not_there_and_one_that_is_wrong_are_told(fleet: Fleet) -> None:
    done = fleet.run("--paste", "none.ini")
    assert done.returncode == DaemonExit.CONFIG
    assert "app.paste: there is no file" in done.stderr
    fleet.write("shop.ini", "[app:main]\npaste.app_factory = paste_app:nothing\n")
    done = fleet.run()
    assert done.returncode == DaemonExit.BOOT
    assert "app.paste" in done.stderr
