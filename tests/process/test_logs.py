"""Where a fleet's lines go: files, standard streams, syslog; seen from outside."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PRINTING = """\
import sys

def application(environ, start_response):
    print("printed", environ["PATH_INFO"])
    print("complained", environ["PATH_INFO"], file=sys.stderr)
    start_response("200 OK", [("Content-Length", "2"), ("X-Shop", "yes")])
    return [b"ok"]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


def say(fleet: Fleet, text: str) -> None:
    """Add to the configuration."""
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(text)


def read(fleet: Fleet, name: str) -> str:
    path = fleet.folder / name
    return path.read_text() if path.exists() else ""


def await_text(fleet: Fleet, name: str, text: str) -> None:
    eventually(lambda: text in read(fleet, name), f"{name} says {text!r}: {read(fleet, name)}")


def reopen(fleet: Fleet, *names: str) -> None:
    """Rotate as logrotate does, and tell the fleet."""
    for name in names:
        (fleet.folder / name).rename(fleet.folder / f"{name}.1")
    fleet.send(signal.SIGUSR1)
    for name in names:
        eventually((fleet.folder / name).exists, f"{name} was made anew")


def test_the_access_log_has_a_line_with_every_atom(fleet: Fleet) -> None:
    line = "|".join(f"%({atom})s" for atom in "hlutrmUqHsbBfaTMDLp")
    extra = "%({x-one}i)s|%({x-shop}o)s|%({wsgi.url_scheme}e)s|100%%"
    say(fleet, f"[logging.access]\nfile = 'access.log'\nformat = '''{line}|{extra}'''\n")
    fleet.write("site_app.py", PRINTING)
    fleet.start("-w", "1")
    connection = fleet.connect()
    headers = {
        "X-One": 'a"\tb',
        "User-Agent": "tester",
        "Referer": "/from",
        "Authorization": "Basic am9lOnNlY3JldA==",
    }
    connection.request("GET", "/p%20q?a=1", headers=headers)
    assert connection.getresponse().read() == b"ok"
    connection.close()
    await_text(fleet, "access.log", "\n")
    fields = read(fleet, "access.log").rstrip("\n").split("|")
    assert fields[:3] == ["127.0.0.1", "-", "joe"]
    assert fields[4:14] == [
        "GET /p%20q?a=1 HTTP/1.1", "GET", "/p q", "a=1", "HTTP/1.1", "200", "2", "2", "/from", "tester",
    ]  # fmt: skip
    assert fields[18] == f"<{fleet.pids()[1]}>"
    assert fields[19:] == ['a\\"\\u0009b', "yes", "http", "100%"]
    assert "secret" not in read(fleet, "access.log")


def test_the_access_log_in_json_has_named_fields(fleet: Fleet) -> None:
    say(fleet, "[logging]\nformat = 'json'\n[logging.access]\nfile = 'access.log'\n")
    fleet.start("-w", "1")
    connection = fleet.connect()
    connection.request("GET", "/shop?key=1", headers={"X-Request-ID": "r-7", "User-Agent": "tester"})
    size = len(connection.getresponse().read())
    connection.close()
    await_text(fleet, "access.log", "\n")
    line = json.loads(read(fleet, "access.log"))
    assert line.pop("seconds") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "logger": "unicornd.access", "method": "GET", "path": "/shop", "query": "key=1", "protocol": "HTTP/1.1",
        "status": 200, "bytes": size, "slot": 1, "remote": "127.0.0.1", "user_agent": "tester", "request_id": "r-7",
    }  # fmt: skip


def test_json_shows_no_query_when_the_format_shows_none(fleet: Fleet) -> None:
    say(fleet, "[logging]\nformat = 'json'\n[logging.access]\nfile = 'access.log'\nformat = '%(m)s %(U)s'\n")
    fleet.start("-w", "1")
    fleet.get("/shop?token=secret")
    await_text(fleet, "access.log", "/shop")
    assert "secret" not in read(fleet, "access.log")


def test_a_filter_that_the_application_adds_to_gunicorns_logger_filters(fleet: Fleet) -> None:
    say(fleet, "[logging.access]\nfile = 'access.log'\n")
    fleet.write(
        "site_app.py",
        "import logging\n"
        "class Quiet(logging.Filter):\n"
        "    def filter(self, record):\n"
        "        return record.args['U'] != '/healthz'\n"
        "logging.getLogger('gunicorn.access').addFilter(Quiet())\n"
        "logging.getLogger('gunicorn.error').warning('said by its old name')\n" + PRINTING,
    )
    fleet.start("-w", "1")
    fleet.get("/healthz")
    fleet.get("/shop")
    await_text(fleet, "access.log", "/shop")
    assert "/healthz" not in read(fleet, "access.log")
    assert "[WARNING] said by its old name" in fleet.log


def test_captured_output_goes_to_the_error_log_and_follows_it_when_it_is_reopened(fleet: Fleet) -> None:
    say(
        fleet,
        "[logging]\nerror = 'error.log'\ncapture_output = true\n[logging.access]\nfile = 'access.log'\n",
    )
    fleet.write("site_app.py", PRINTING)
    fleet.start("-w", "1")
    fleet.get("/one")
    await_text(fleet, "error.log", "printed /one")
    await_text(fleet, "error.log", "complained /one")
    assert "printed" not in fleet.log
    reopen(fleet, "error.log", "access.log")
    worker = fleet.pids()[1]
    target = fleet.folder / "error.log"
    links = [Path(f"/proc/{worker}/fd/{stream}") for stream in (1, 2)]
    eventually(lambda: [link.readlink() for link in links] == [target] * 2, "both lead to the new file")
    fleet.get("/two")
    await_text(fleet, "error.log", "printed /two")
    await_text(fleet, "error.log", "complained /two")
    await_text(fleet, "access.log", "/two")
    assert "/two" not in read(fleet, "error.log.1") + read(fleet, "access.log.1")


def test_what_a_daemon_prints_follows_its_log_when_it_is_reopened(fleet: Fleet) -> None:
    say(fleet, "[logging]\nerror = 'error.log'\n[process]\ndaemon = true\n")
    fleet.write("site_app.py", PRINTING)
    assert fleet.run("-w", "1").returncode == 0
    fleet.get("/one")
    await_text(fleet, "error.log", "printed /one")
    (fleet.folder / "error.log").rename(fleet.folder / "error.log.1")
    fleet.client.post("/v1/reopen", {})
    worker = fleet.pids()[1]
    target, link = fleet.folder / "error.log", Path(f"/proc/{worker}/fd/1")
    eventually(lambda: link.readlink() == target, "standard output leads to the new file")
    fleet.get("/two")
    await_text(fleet, "error.log", "printed /two")
    assert "/two" not in read(fleet, "error.log.1")
    fleet.client.post("/v1/stop", {})
    eventually(lambda: not fleet.processes(), "the daemon has ended")


def test_a_daemon_that_inherits_its_streams_writes_to_them(fleet: Fleet) -> None:
    say(fleet, "[process]\ndaemon = true\ninherit_stdio = true\n")
    fleet.write("site_app.py", PRINTING)
    process = fleet.spawn("-w", "1")
    assert process.wait(20) == 0
    fleet.process = None
    fleet.get("/one")
    fleet.await_log("printed /one")
    fleet.await_log("complained /one")
    fleet.await_log("the fleet is ready")
    fleet.client.post("/v1/stop", {})
    eventually(lambda: not fleet.processes(), "the daemon has ended")


def test_logs_that_cannot_be_reopened_are_a_failure_that_is_told(fleet: Fleet) -> None:
    folder = fleet.folder / "logs"
    folder.mkdir()
    fleet.start("--error-logfile", "logs/error.log")
    shutil.rmtree(folder)
    operation = fleet.client.post("/v1/reopen")
    assert operation["state"] == "failed"
    assert operation["exit_code"] == 1
    assert "error.log: No such file or directory" in operation["result"]
    events = fleet.client.ask("GET", "/v1/events?since=0&follow=0").body.splitlines()
    assert [b"error.log" in each for each in events if b"logs.not_reopened" in each] == [True]


def test_usr1_reopens_the_files_of_the_applications_own_loggers(fleet: Fleet) -> None:
    fleet.write(
        "site_app.py",
        "import logging\n"
        "log = logging.getLogger('shop')\n"
        "log.addHandler(logging.FileHandler('shop.log'))\n"
        "def application(environ, start_response):\n"
        "    log.error('asked for %s', environ['PATH_INFO'])\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return []\n",
    )
    fleet.start("-w", "1")
    fleet.get("/one")
    await_text(fleet, "shop.log", "/one")
    reopen(fleet, "shop.log")
    fleet.get("/two")
    await_text(fleet, "shop.log", "/two")
    assert "/two" not in read(fleet, "shop.log.1")


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_both_logs_go_to_syslog_under_the_programs_names(fleet: Fleet, scheme: str) -> None:
    with Receiver.net(is_stream=scheme == "tcp") as daemon:
        say(
            fleet,
            f"[logging.syslog]\nenabled = true\naddress = '{scheme}://127.0.0.1:{daemon.port}'\n"
            "prefix = 'shop'\nfacility = 'local3'\n",
        )
        fleet.start("-w", "1")
        fleet.get("/asked?a=1")
        line = daemon.await_message(lambda text: ".access: " in text, "an access line")
        assert line.startswith("<158>unicornd.shop.access: 127.0.0.1 - - [")
        assert '"GET /asked?a=1 HTTP/1.1" 200' in line
        line = daemon.await_message(lambda text: "the fleet is ready" in text, "an error line")
        assert line.startswith("<158>unicornd.shop.error: [")
        assert fleet.end() == 0
        daemon.await_message(lambda text: "stopped" in text, "the last line")


@pytest.mark.parametrize(
    ("suffix", "is_stream"), [("", False), ("", True), ("#stream", True), ("#dgram", False)]
)
def test_a_unix_socket_of_either_kind_takes_the_lines(fleet: Fleet, suffix: str, is_stream: int) -> None:
    with Receiver.unix(fleet.folder / "syslog.sock", is_stream=bool(is_stream)) as daemon:
        address = f"unix://{fleet.folder}/syslog.sock{suffix}"
        say(fleet, f"[logging.syslog]\nenabled = true\naccess = false\naddress = '{address}'\n")
        fleet.start("-w", "1")
        fleet.get("/asked")
        daemon.await_message(lambda text: "the fleet is ready" in text, "an error line")
        assert not [text for text in daemon.messages() if "/asked" in text]


def test_requests_are_served_when_the_syslog_daemon_takes_nothing(fleet: Fleet) -> None:
    with Receiver.unix(fleet.folder / "syslog.sock", is_stream=True) as daemon:
        say(fleet, f"[logging.syslog]\nenabled = true\naddress = 'unix://{fleet.folder}/syslog.sock'\n")
        fleet.start("-w", "1")
        connection = fleet.connect()
        for _ in range(1500):  # more than socket and memory keep
            connection.request("GET", "/" + "x" * 1000)
            assert connection.getresponse().read().startswith(b"v1")
        daemon.messages()
        connection.request("GET", "/again")
        connection.getresponse().read()

        def is_told() -> bool:
            fleet.get("/once-more")
            return any("lost: nobody took them" in text for text in daemon.messages())

        eventually(is_told, "the loss is told")
        connection.close()


def test_a_syslog_daemon_that_comes_back_is_told_what_was_lost(fleet: Fleet) -> None:
    path = fleet.folder / "syslog.sock"
    say(fleet, f"[logging.syslog]\nenabled = true\naddress = 'unix://{path}#dgram'\n")
    fleet.start("-w", "1")
    for _ in range(3):
        fleet.get("/unheard")
    with Receiver.unix(path) as daemon:

        def is_told() -> bool:
            fleet.get("/heard")
            return any("lines were lost" in text and ".access" in text for text in daemon.messages())

        eventually(is_told, "the loss is told")
        assert not [text for text in daemon.messages() if "/unheard" in text]


def test_an_address_that_is_none_refuses_the_start(fleet: Fleet) -> None:
    say(fleet, "[logging.syslog]\nenabled = true\naddress = 'syslog.example'\n")
    done = fleet.run()
    assert done.returncode == 78
    assert "logging.syslog.address" in done.stderr
