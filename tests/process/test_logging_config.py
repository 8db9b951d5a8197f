"""The operator's own logging: configurations of Python's, and logger classes."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT_ONLY = {
    "version": 1,
    "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log", "formatter": "generic"}},
    "root": {"handlers": ["own"], "level": "INFO"},
}
GUNICORNS = {
    "version": 1,
    "formatters": {"short": {"format": "SHORT %(levelname)s %(message)s"}},
    "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log", "formatter": "short"}},
    "loggers": {
        "gunicorn.error": {"handlers": ["own"], "level": "INFO", "propagate": False},
        "gunicorn.access": {"handlers": ["own"], "level": "INFO", "propagate": True},
    },
}
INI = """\
[loggers]
keys = root, errors, access
[handlers]
keys = own
[formatters]
keys = short
[logger_root]
handlers =
[logger_errors]
qualname = gunicorn.error
handlers = own
propagate = 0
[logger_access]
qualname = gunicorn.access
handlers = own
propagate = 0
[handler_own]
class = FileHandler
args = ("%(here)s/own.log",)
formatter = short
[formatter_short]
format = SHORT %(levelname)s %(message)s
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


def say(fleet: Fleet, text: str) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(text)


def read(fleet: Fleet, name: str) -> str:
    path = fleet.folder / name
    return path.read_text() if path.exists() else ""


def await_text(fleet: Fleet, name: str, text: str) -> None:
    eventually(lambda: text in read(fleet, name), f"{name} says {text!r}: {read(fleet, name)}")


def test_a_configuration_of_the_root_neither_loses_our_lines_nor_doubles_them(fleet: Fleet) -> None:
    fleet.write("log.json", json.dumps(ROOT_ONLY))
    fleet.write("site_app.py", "import logging\nlogging.getLogger('shop').info('the shop opens')\n" + APP)
    say(fleet, "[logging]\nconfig_json = 'log.json'\n[logging.access]\nfile = 'access.log'\n")
    fleet.start("-w", "1")
    fleet.get("/asked")
    await_text(fleet, "access.log", "/asked")
    await_text(fleet, "own.log", "the shop opens")
    assert fleet.log.count("the fleet is ready") == 1
    assert read(fleet, "access.log").count("/asked") == 1
    assert "the fleet is ready" not in read(fleet, "own.log")
    assert "/asked" not in read(fleet, "own.log") + fleet.log


APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("form", ["json", "ini", "toml"])
def test_a_configuration_written_for_gunicorn_gets_both_logs(fleet: Fleet, form: str) -> None:
    text = json.dumps(GUNICORNS).replace(
        "false", "true"
    )  # both let their lines through, to a root without handlers
    fleet.write("log.json", text)
    fleet.write("log.ini", INI)
    match form:
        case "json":
            say(fleet, "[logging]\nconfig_json = 'log.json'\nconfig_file = 'none.ini'\n")
        case "ini":
            say(fleet, "[logging]\nconfig_file = 'log.ini'\n")
        case _:
            say(fleet, f"[logging]\nconfig_json = 'none.json'\nconfig = {as_toml(GUNICORNS)}\n")
    fleet.start("-w", "1")
    fleet.get("/asked")
    await_text(fleet, "own.log", "the fleet is ready")
    await_text(fleet, "own.log", "/asked")
    assert read(fleet, "own.log").count("SHORT INFO the fleet is ready") == 1
    assert read(fleet, "own.log").count("/asked") == 1
    assert "the fleet is ready" not in fleet.log


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {as_toml(item)}' for key, item in value.items()) + "}"
    return json.dumps(value)


def test_a_configuration_that_lets_our_lines_through_to_the_root_has_them_there_once(fleet: Fleet) -> None:
    config = {**ROOT_ONLY, "loggers": {"unicornd": {"level": "INFO", "propagate": True}}}
    fleet.write("log.json", json.dumps(config))
    say(fleet, "[logging]\nconfig_json = 'log.json'\n")
    fleet.start("-w", "1")
    await_text(fleet, "own.log", "the fleet is ready")
    assert "the fleet is ready" not in fleet.log


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("config_json = 'none.json'", "cannot read"),
        ("config_file = 'none.ini'", "cannot read"),
        ("config = {version = 1, handlers = {own = {class = 'no.such.Class'}}}", "logging.config"),
        ("config_object = './logger.py:Absent'", "logging.config_object: ./logger.py:Absent"),
        ("config_object = './logger.py:Empty'", "logging.config_object: ./logger.py:Empty is no dict"),
        ("logger_class = './logger.py:Absent'", "logging.logger_class"),
        ("logger_class = './logger.py:Raising'", "no logger today"),
        ("logger_class = './logger.py:Empty'", "has no log and no access"),
    ],
)
def test_what_does_not_work_refuses_the_start_and_a_reload(fleet: Fleet, setting: str, said: str) -> None:
    fleet.write(
        "logger.py",
        "class Raising:\n    def __init__(self, cfg):\n        raise OSError('no logger today')\n"
        "class Empty:\n    def __init__(self, cfg):\n        pass\n",
    )
    fleet.start("-w", "1")
    say(fleet, f"[logging]\n{setting}\n")
    refused = fleet.run("-b", "127.0.0.1:0", UNICORND_CONTROL__SOCKET=str(fleet.folder / "other.sock"))
    assert refused.returncode == 78
    assert said in refused.stderr
    fleet.send(signal.SIGHUP)
    fleet.await_log("SIGHUP refused: ")
    fleet.await_log(said)
    assert fleet.get("/").startswith("v1")


WITH_A_CLASS = """\
import logging
bind = "127.0.0.1:0"
wsgi_app = "./site_app.py:application"
class Own(logging.Formatter):
    def format(self, record):
        return "OWN " + record.getMessage()
logconfig_dict = {
    "version": 1,
    "formatters": {"own": {"()": Own}},
    "handlers": {"own": {"class": "logging.FileHandler", "filename": "own.log", "formatter": "own"}},
    "loggers": {name: {"handlers": ["own"], "level": "INFO"} for name in ("gunicorn.error", "gunicorn.access")},
}
"""


def test_a_python_file_may_configure_logging_with_its_own_classes(fleet: Fleet) -> None:
    fleet.write("gunicorn.conf.py", WITH_A_CLASS)
    fleet.start("-w", "1", "-c", "gunicorn.conf.py")
    fleet.get("/asked")
    await_text(fleet, "own.log", "OWN the fleet is ready")
    await_text(fleet, "own.log", '"GET /asked HTTP/1.1" 200')
    fleet.change("gunicorn.conf.py", '"OWN "', '"CHANGED "')
    fleet.send(signal.SIGHUP)
    await_text(fleet, "own.log", "CHANGED generation 2 serves")


def test_a_configuration_is_read_again_on_reload(fleet: Fleet) -> None:
    fleet.write("log.json", json.dumps(GUNICORNS))
    say(fleet, "[logging]\nconfig_json = 'log.json'\n")
    fleet.start("-w", "1")
    fleet.write("log.json", json.dumps(GUNICORNS).replace("SHORT", "CHANGED"))
    fleet.send(signal.SIGHUP)
    eventually(
        lambda: fleet.status()["generation"] == 2 and len(fleet.status()["workers"]) == 1,
        "generation 2 serves",
    )
    fleet.get("/asked")
    eventually(
        lambda: "CHANGED" in read(fleet, "own.log") and "/asked" in read(fleet, "own.log"),
        "the new form is used",
    )


LOGGER = """\
from unicornd.observe.logger import Logger

class Own(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.info("set up for %s workers, %s", cfg.workers, cfg.accesslog)

    def log(self, lvl, msg, *args, **kwargs):
        super().log(lvl, "OWN " + msg, *args, **kwargs)

    def access(self, resp, req, environ, request_time):
        if req.path == "/raise":
            raise RuntimeError("no line for this")
        self.info("asked for %s: %s in %s", req.path, resp.status, type(request_time).__name__)
        super().access(resp, req, environ, request_time)

    def reopen_files(self):
        self.info("reopened")
"""


def test_a_logger_class_writes_both_logs_and_its_exceptions_harm_no_request(fleet: Fleet) -> None:
    fleet.write("logger.py", LOGGER)
    say(fleet, "[logging]\nlogger_class = './logger.py:Own'\n[logging.access]\nfile = 'access.log'\n")
    fleet.start("-w", "1")
    assert fleet.get("/raise").startswith("v1")
    fleet.get("/asked")
    await_text(fleet, "access.log", '"GET /asked HTTP/1.1" 200')
    fleet.await_log("RuntimeError: no line for this")
    fleet.await_log("[INFO] OWN the fleet is ready")
    fleet.await_log("[INFO] asked for /asked: 200 OK in timedelta")
    fleet.await_log(f"set up for 1 workers, {fleet.folder}/access.log")
    fleet.send(signal.SIGUSR1)
    fleet.await_log("[INFO] reopened")


def test_a_logger_need_not_inherit_anything(fleet: Fleet) -> None:
    fleet.write(
        "logger.py",
        "import os\n"
        "class Duck:\n"
        "    def __init__(self, cfg):\n"
        "        self.file = open('duck.log', 'a', buffering=1)\n"
        "    def log(self, lvl, msg, *args, **kwargs):\n"
        "        self.file.write(f'{lvl} {msg % args}\\n')\n"
        "    def access(self, resp, req, environ, request_time):\n"
        "        self.file.write(f'access {environ[\"PATH_INFO\"]}\\n')\n",
    )
    say(fleet, "[logging]\nlogger_class = './logger.py:Duck'\n")
    fleet.start("-w", "1")
    fleet.get("/asked")
    await_text(fleet, "duck.log", "20 the fleet is ready")
    await_text(fleet, "duck.log", "access /asked")
    assert "the fleet is ready" not in fleet.log
