"""Lines to daemons that are there, away, or somewhere else by now."""

from __future__ import annotations

import logging
import os
import select
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.controls import HOSTILE, controls_in
from tests.support.receiver import Receiver
from tests.support.waiting import eventually
from unicornd.config.sections.metrics import MetricsSettings
from unicornd.config.values import Statsd as StatsdAddress
from unicornd.errors import ConfigError
from unicornd.observe.formats import ConsoleFormat
from unicornd.observe.outlet import lost_lines
from unicornd.observe.statsd import MAX_PACKET_BYTES, Statsd, StatsdSink
from unicornd.observe.syslog import MAX_KEPT_BYTES, MAX_LINE_BYTES, Syslog, SyslogAddress, parse_address

if TYPE_CHECKING:
    from pathlib import Path


def sink_of(text: str, *, facility: str = "user") -> Syslog:
    return Syslog(parse_address(text), facility=facility, program="unicornd.shop.error")


def say(sink: logging.Handler, message: str, *, level: int = logging.INFO, **facts: object) -> None:
    sink.handle(logging.makeLogRecord({"msg": message, "levelno": level, **facts}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://localhost", SyslogAddress(kind="dgram", host="localhost", port=514)),
        ("tcp://[::1]:1514", SyslogAddress(kind="stream", host="::1", port=1514)),
        ("unix:///dev/log", SyslogAddress(kind="auto", path="/dev/log")),
        ("unix:///dev/log#stream", SyslogAddress(kind="stream", path="/dev/log")),
        ("unix:/dev/log#dgram", SyslogAddress(kind="dgram", path="/dev/log")),
    ],
)
def test_an_address_is_read(text: str, expected: SyslogAddress) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "localhost", "udp://", "udp://a:99999", "tcp://a:0", "unix://", "http://a", "unix:///a#b"]
)
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"logging\.syslog\.address"):
        parse_address(text)


def test_a_level_is_a_severity_and_a_facility_counts_by_eights() -> None:
    with (
        Receiver.net() as daemon,
        closing(sink_of(f"udp://127.0.0.1:{daemon.port}", facility="daemon")) as sink,
    ):
        for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
            say(sink, "x", level=level)
        eventually(lambda: len(daemon.messages()) == 5, "all have come")
        assert [line.partition(">")[0] for line in daemon.messages()] == ["<26", "<27", "<28", "<30", "<31"]


def test_a_datagram_keeps_its_lines_and_a_stream_has_one_a_message() -> None:
    with Receiver.net() as daemon, closing(sink_of(f"udp://127.0.0.1:{daemon.port}")) as sink:
        say(sink, "one\ntwo" + "x" * MAX_LINE_BYTES)
        line = daemon.await_message(bool, "the line")
        assert line.startswith("<14>unicornd.shop.error: one\ntwo")
        assert len(line) == MAX_LINE_BYTES
    with Receiver.net(is_stream=True) as daemon, closing(sink_of(f"tcp://127.0.0.1:{daemon.port}")) as sink:
        say(sink, "one\ntwo")
        assert daemon.await_message(bool, "the line") == "<14>unicornd.shop.error: one#012two"


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_a_daemon_that_comes_back_gets_lines_again_and_hears_of_the_lost_ones(scheme: str) -> None:
    is_stream = scheme == "tcp"
    with Receiver.net(is_stream=is_stream) as daemon:
        port = daemon.port
        sink = sink_of(f"{scheme}://127.0.0.1:{port}")
        say(sink, "first")
        daemon.await_message(lambda text: text.endswith(": first"), "the first line")
    with closing(sink):
        for _ in range(3):
            say(sink, "z" * (MAX_KEPT_BYTES // 4 if is_stream else 10))
        for _ in range(100):
            say(sink, "y" * 8000)
        assert sink.lost
        with Receiver.net(is_stream=is_stream, port=port) as daemon:

            def is_told() -> bool:
                say(sink, "again")
                lines = daemon.messages()
                return any("lost: nobody took them" in line for line in lines) and lines[-1].endswith(
                    ": again"
                )

            eventually(is_told, "the loss is told, and the next line comes")
            assert all(line.startswith("<") for line in daemon.messages())


def test_a_unix_daemon_whose_queue_was_full_gets_the_lines_when_it_accepts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX) as daemon, socket.socket(socket.AF_UNIX) as other:
        daemon.bind(str(path))
        daemon.listen(0)
        other.connect(str(path))
        sink = sink_of(f"unix:{path}#stream")
        say(sink, "one")
        daemon.accept()[0].close()

        def is_connected() -> bool:
            sink.push()
            return bool(select.select([daemon], [], [], 0)[0])

        eventually(is_connected, "it connects again")
        accepted, _ = daemon.accept()
        with accepted, closing(sink):
            assert accepted.recv(100).endswith(b": one\n")


def test_lines_that_syslog_loses_are_counted() -> None:
    before = lost_lines()["syslog"]
    with closing(sink_of("unix:/nobody/is/here#dgram")) as sink:
        say(sink, "one")
    assert lost_lines()["syslog"] == before + 1


def test_a_name_that_nobody_knows_costs_lines_only() -> None:
    with closing(sink_of("udp://nobody.invalid:514")) as sink:
        say(sink, "lost")
        assert sink.lost == 1


def test_a_line_that_cannot_be_formatted_costs_itself_only(tmp_path: Path) -> None:
    with closing(sink_of(f"unix://{tmp_path}/none")) as sink:
        say(sink, "%d", args=("no number",))
        assert sink.lost == 1


def test_a_forked_process_has_a_connection_of_its_own() -> None:
    with Receiver.net(is_stream=True) as daemon, closing(sink_of(f"tcp://127.0.0.1:{daemon.port}")) as sink:
        say(sink, "parent")
        pid = os.fork()
        if pid == 0:
            say(sink, "child")
            sink.close()
            os._exit(0)
        os.waitpid(pid, 0)
        say(sink, "parent again")
        eventually(lambda: len(daemon.messages()) == 3, "all have come")
        assert len(daemon.peers) == 2


def test_metrics_share_packets_up_to_their_size() -> None:
    with Receiver.net() as daemon:
        statsd = Statsd(MetricsSettings(statsd=StatsdAddress(host="127.0.0.1", port=daemon.port)))
        with closing(statsd):
            lines = [statsd.line(f"shop.number{number}", number, kind="gauge") for number in range(200)]
            statsd.send(*lines)
            eventually(
                lambda: sum(text.count("\n") + 1 for text in daemon.messages()) == 200, "all have come"
            )
            assert "\n".join(daemon.messages()).split("\n") == lines
            assert max(map(len, daemon.messages())) <= MAX_PACKET_BYTES


def test_metrics_for_a_name_that_nobody_knows_go_nowhere() -> None:
    with closing(Statsd(MetricsSettings(statsd=StatsdAddress(host="nobody.invalid", port=1)))) as statsd:
        assert not statsd.is_open
        statsd.tell_request("200 OK", 0.1)


def test_log_calls_are_counted_by_what_they_are() -> None:
    with Receiver.net() as daemon:
        where = StatsdAddress(host="127.0.0.1", port=daemon.port)
        sink = StatsdSink(Statsd(MetricsSettings(statsd=where, statsd_prefix="a.b.")))
        with closing(sink):
            say(sink, "x", level=logging.INFO)
            say(sink, "x", level=logging.CRITICAL)
            say(sink, "x", level=logging.ERROR)
            say(sink, "x", metric="n", value="1.5", mtype="histogram")
            say(sink, "x", metric="n", value=1, mtype="unknown")
            eventually(lambda: len(daemon.messages()) == 3, "all have come")
        assert daemon.messages() == [
            "a.b.gunicorn.log.critical:1|c|@1.0",
            "a.b.gunicorn.log.error:1|c|@1.0",
            "a.b.n:1.5|h",
        ]


@pytest.mark.parametrize("is_stream", [True, False])
def test_what_a_message_says_makes_no_message_of_its_own(tmp_path: Path, *, is_stream: bool) -> None:
    path = tmp_path / "log"
    with Receiver.unix(path, is_stream=is_stream) as daemon, closing(sink_of(f"unix://{path}")) as sink:
        sink.setFormatter(ConsoleFormat(is_bare=True))
        say(sink, f"begin {HOSTILE}\n<0>kernel: gone", process=7, why=HOSTILE)
        said = daemon.await_message(lambda text: "kernel: gone" in text, "it has come")
        assert daemon.messages() == [said], "one message"
    assert not controls_in(said, but="" if is_stream else "\n")
    further = said.split("#012" if is_stream else "\n")[1:]
    assert further
    assert all(line.startswith("  ") for line in further)


def test_what_an_application_measures_makes_no_metric_of_its_own() -> None:
    with Receiver.net() as daemon:
        where = StatsdAddress(host="127.0.0.1", port=daemon.port)
        with closing(StatsdSink(Statsd(MetricsSettings(statsd=where)))) as sink:
            say(sink, "x", metric="n:1|c\nforged:2|c|#tag:x@y\x1b", value="1|c\nforged:3", mtype="gauge")
            said = daemon.await_message(bool, "it has come")
    assert said == "n_1_c_forged_2_c__tag_x_y_:1_c_forged_3|g"


def test_a_status_that_is_none_makes_no_metric_of_its_own() -> None:
    with Receiver.net() as daemon:
        where = StatsdAddress(host="127.0.0.1", port=daemon.port)
        with closing(Statsd(MetricsSettings(statsd=where))) as statsd:
            statsd.tell_request("2\n: no", 0.1)
            said = daemon.await_message(bool, "it has come")
    assert said.split("\n")[-1] == "gunicorn.request.status.2__:1|c|@1.0"
