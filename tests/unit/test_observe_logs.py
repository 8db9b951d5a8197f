"""The error log: its forms, its files, its names."""

from __future__ import annotations

import json
import logging
import logging.config
import os
from typing import TYPE_CHECKING, Any

import pytest

from unicornd.config.sections.logging import LoggingSettings
from unicornd.errors import ConfigError
from unicornd.observe import logs
from unicornd.observe.formats import ConsoleFormat, JsonFormat
from unicornd.observe.logfile import LogFile, OpenLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The loggers are the process's: leave them as they were."""
    yield
    for name in (logs.ERROR_LOG, logs.ACCESS_LOG):
        logs.install(name, [], level="NOTSET")
        logging.getLogger(name).propagate = True
    logs.set_aliases(are_there=False)


def record(message: str, *arguments: object, **facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"msg": message, "args": arguments, "levelname": "INFO", "process": 7, **facts}
    )
    made.name = "unicornd"
    return made


def configured(path: Path, **more: object) -> logging.Logger:
    logs.configure(LoggingSettings.model_validate({"error": str(path), **more}))
    return logging.getLogger(logs.ERROR_LOG)


def test_a_line_for_people_has_the_facts_behind_it() -> None:
    line = ConsoleFormat().format(record("worker %s is ready", 1, slot=1, why='a "b"', empty=""))
    assert (
        line.endswith(' +0000 [7] [INFO] worker 1 is ready slot=1 why="a \\"b\\"" empty=""') or "[7]" in line
    )
    assert ConsoleFormat(is_bare=True).format(record("ready", slot=1)) == "[7] ready slot=1"


def broken(*_said: object, **_more: object) -> Any:
    raise RuntimeError("working outside of request context")


def test_what_an_application_does_to_logging_keeps_no_line_of_ours_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = configured(tmp_path / "error.log")
    usual = logging.getLogRecordFactory()
    log.addFilter(broken)
    log.handlers[0].addFilter(numbered := logging.Filter())
    numbered.filter = broken  # type: ignore[method-assign] # as an application may write it
    try:
        logging.disable()
        for number, factory in enumerate((broken, lambda *_said, **_more: None, usual)):
            logging.setLogRecordFactory(factory)
            log.error("failure %s", number, extra={"slot": number})
        log.handlers[0].removeFilter(numbered)
        log.error("the last one", extra={"slot": 7})
        logging.setLogRecordFactory(broken)
        log.error("and one more", extra={"slot": 8})
        log.handle(log.makeRecord(log.name, logging.INFO, "x.py", 1, "made", (), None, extra={"slot": 9}))
    finally:
        logging.setLogRecordFactory(usual)
        logging.disable(logging.NOTSET)
        log.filters.clear()
    text = (tmp_path / "error.log").read_text()
    assert text.count("slot=") == 3, text
    assert "the last one slot=7" in text
    assert capfd.readouterr().err.count("working outside of request context") >= 2, "who is to blame is told"


def test_the_facts_stand_in_the_first_line_of_a_message_that_has_several() -> None:
    line = ConsoleFormat(is_bare=True).format(record("cannot boot:\n  File x\nSyntaxError", slot=1))
    assert line == "[7] cannot boot: slot=1\n    File x\n  SyntaxError"


def test_a_line_for_programs_is_an_object_with_the_traceback_inside() -> None:
    with pytest.raises(ValueError, match="invalid") as raised:
        int("no\nway")
    made = record("failed", path="/x", exc_info=(raised.type, raised.value, raised.tb))
    said = json.loads(JsonFormat().format(made))
    assert (said["message"], said["path"], said["pid"], said["level"]) == ("failed", "/x", 7, "info")
    assert "ValueError: invalid literal" in said["traceback"]
    assert "\n" not in JsonFormat().format(made)
    assert "ValueError: invalid" in ConsoleFormat().format(made)


def test_the_old_file_stays_when_the_new_one_cannot_be_opened(tmp_path: Path) -> None:
    log = configured(tmp_path / "one.log")
    with pytest.raises(ConfigError, match=r"logging\.error: cannot open"):
        configured(tmp_path / "none" / "two.log")
    with pytest.raises(ConfigError, match=r"logging\.access\.file: cannot open"):
        configured(tmp_path / "two.log", access={"file": str(tmp_path / "none" / "access.log")})
    log.info("still here")
    assert "still here" in (tmp_path / "one.log").read_text()


def test_a_log_that_cannot_be_written_or_formatted_raises_nothing(tmp_path: Path) -> None:
    log = configured(tmp_path / "one.log")
    log.info("%d", "no number")
    sink = logs.log_files()[0]
    os.close(sink.fd)
    sink.fd = os.open("/dev/full", os.O_WRONLY)
    log.info("nobody hears")


def test_a_file_that_cannot_be_reopened_is_told_in_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    configured(folder / "one.log")
    folder.rename(tmp_path / "moved")
    logs.reopen()
    assert "cannot reopen a log" in (tmp_path / "moved" / "one.log").read_text()


def test_gunicorns_names_are_those_of_our_loggers(tmp_path: Path) -> None:
    configured(tmp_path / "one.log", level="debug")
    old = logging.getLogger("gunicorn.error")
    assert old is logging.getLogger(logs.ERROR_LOG)
    assert logging.getLogger("gunicorn.access") is logging.getLogger(logs.ACCESS_LOG)
    assert old.level == logging.DEBUG
    logs.set_aliases(are_there=False)
    assert logging.getLogger("gunicorn.error") is not old


def test_what_an_application_writes_to_wsgi_errors_is_logged_line_by_line(tmp_path: Path) -> None:
    stream = logs.ErrorStream(configured(tmp_path / "one.log"))
    assert stream.write("one\n\n two %s\n") == len("one\n\n two %s\n")
    assert stream.writable()
    lines = (tmp_path / "one.log").read_text().splitlines()
    assert [line.rpartition("] ")[2] for line in lines] == ["one", " two %s"]


def test_a_number_for_statsd_is_no_line(tmp_path: Path) -> None:
    log = configured(tmp_path / "one.log")
    log.info("", extra={"metric": "carts", "value": 1, "mtype": "gauge"})
    assert (tmp_path / "one.log").read_text() == ""


@pytest.mark.parametrize(
    ("path", "fd"),
    [("-", 2), ("/dev/stdout", 1), ("/dev/stderr", 2), ("/dev/fd/1", 1), ("/proc/self/fd/2", 2)],
)
def test_a_path_that_means_a_standard_stream_is_that_stream(path: str, fd: int) -> None:
    assert logs.open_files(LoggingSettings.model_validate({"error": path})) == {}
    configured(path)  # type: ignore[arg-type] # a text will do
    assert (logs.error_fd(), logs.log_files()[0].file) == (fd, None)


def test_other_paths_are_files(tmp_path: Path) -> None:
    assert logs.stream_of(str(tmp_path / "stdout")) is None
    assert logs.stream_of("/dev/stdin") is None
    assert logs.stream_of("/dev/fd/7") is None


def test_a_file_that_others_share_is_written_to_after_dictconfig_has_closed_all_handlers(
    tmp_path: Path,
) -> None:
    opened = OpenLog.open(str(tmp_path / "log"))
    sink = LogFile(opened.path, 2, file=opened)
    logs.install(logs.ERROR_LOG, [sink], level="INFO")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    logging.getLogger(logs.ERROR_LOG).info("still here")
    assert (tmp_path / "log").read_text().endswith("still here\n")
    opened.close()
