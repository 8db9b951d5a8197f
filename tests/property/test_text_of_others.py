"""Text of others, whatever it is: it forges no record, and nothing that a terminal obeys comes out."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sys
import unicodedata
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from hypothesis import example, given, settings
from rich.console import Console

from tests.support.controls import HOSTILE, OVERRIDES, controls_in, texts
from unicornd import escaping
from unicornd.arbiter.journal import MAX_CHARACTERS, Journal
from unicornd.cli.exits import report
from unicornd.cli.plain import printable
from unicornd.cli.render import events_table, fleets_table, status_screen, workers_table
from unicornd.control import protocol
from unicornd.control.client import ControlError
from unicornd.control.page import status_page
from unicornd.daemon import describe
from unicornd.errors import CtlExit, UnicorndError
from unicornd.observe.access import Request, compile_format, fields_of
from unicornd.observe.formats import ConsoleFormat, JsonFormat, MessageFormat, PatternFormat
from unicornd.observe.metrics import Fleet, Totals, exposition

NOW = datetime(2026, 11, 23, 13, 20, tzinfo=UTC)
ATOMS = "%(h)s %(l)s %(u)s %(r)s %(m)s %(U)s %(q)s %(H)s %(s)s %(f)s %(a)s %({x}i)s %({x}o)s %({x}e)s"


def record_of(text: str, *, raises: bool = False, **facts: object) -> logging.LogRecord:
    error = (ValueError, ValueError(text), None) if raises else None
    return logging.makeLogRecord(
        {"msg": "%s", "args": (text,), "levelname": "ERROR", "process": 7, "exc_info": error, **facts}
    )


def assert_is_one_record(text: str) -> None:
    first, *further = text.split("\n")
    assert not controls_in(text, but="\n\t")
    assert not first.startswith(escaping.INDENT)
    assert all(line.startswith(escaping.INDENT) for line in further)


@given(text=texts())
def test_a_line_has_no_control_characters_and_all_else_of_the_text(text: str) -> None:
    shown = escaping.one_line(text)
    assert not controls_in(shown)
    assert escaping.one_line(shown) == shown
    assert shown == "".join(map(escaping.one_line, text)), "a character at a time it is the same"


@given(text=texts())
def test_lines_keep_line_feeds_and_tabs_only(text: str) -> None:
    shown = escaping.lines(text)
    assert not controls_in(shown, but="\n\t")
    assert escaping.lines(shown) == shown
    assert shown.count("\n") == text.count("\n")


def test_each_control_character_is_escaped_and_nothing_else() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        is_control = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in OVERRIDES
        assert (escaping.one_line(character) != character) == is_control, hex(number)


@given(text=texts())
def test_json_stays_the_same_document(text: str) -> None:
    for indent in (None, 2):
        shown = escaping.json_text(json.dumps({text: [text]}, ensure_ascii=False, indent=indent))
        assert not controls_in(shown, but="\n" if indent else "")
        assert json.loads(shown) == {text: [text]}


@pytest.mark.parametrize("is_bare", [True, False])
@pytest.mark.parametrize("raises", [True, False])
@given(text=texts())
@example(text=HOSTILE)
def test_a_line_for_people_is_one_record(text: str, *, is_bare: bool, raises: bool) -> None:
    line = ConsoleFormat(is_bare=is_bare).format(
        record_of(f"x{text}", raises=raises, why=text, **{f"k{text}": 1})
    )
    assert_is_one_record(line)


@given(text=texts())
@example(text=HOSTILE)
def test_a_line_for_programs_is_one_line_that_says_it_all(text: str) -> None:
    line = JsonFormat().format(record_of(text, raises=True, why=text, **{f"k{text}": text}))
    assert not controls_in(line)
    found = json.loads(line)
    assert (found["message"], found["why"], found[f"k{text}"]) == (text, text, text)


@given(text=texts())
@example(text=HOSTILE)
def test_a_line_by_an_operators_pattern_is_one_record(text: str) -> None:
    assert_is_one_record(MessageFormat().format(record_of(f"x{text}")))
    assert_is_one_record(PatternFormat("%(levelname)s %(message)s").format(record_of(text, raises=True)))


def request_of(text: str) -> Request:
    names = (
        "REMOTE_ADDR", "REQUEST_METHOD", "RAW_URI", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "HTTP_REFERER",
        "HTTP_USER_AGENT", "HTTP_X", "HTTP_X_REQUEST_ID", "x",
    )  # fmt: skip
    user = base64.b64encode(f"{text}:secret".encode(errors="replace")).decode()
    environ: dict[str, object] = {**dict.fromkeys(names, text), "HTTP_AUTHORIZATION": f"Basic {user}"}
    return Request(environ=environ, status=text or "200 OK", headers={"x": text}, size=1, seconds=0.1)


@given(text=texts())
@example(text=HOSTILE)
def test_a_line_of_the_access_log_is_one_line_with_every_atom(text: str) -> None:
    assert not controls_in(compile_format(ATOMS)(request_of(text)))
    fields = fields_of(
        Request(environ=request_of(text).environ, status="200 OK", headers={}, size=1, seconds=0.1),
        slot=1, has_query=True,
    )  # fmt: skip
    assert not controls_in(escaping.json_text(json.dumps(fields, ensure_ascii=False)))


@given(text=texts())
@example(text=HOSTILE * 100)
def test_an_entry_of_the_journal_is_one_line_that_is_not_too_long(text: str) -> None:
    journal = Journal(lambda: 0.0)
    journal.append("worker.lost", text)
    (entry,) = journal.tail(1)
    assert not controls_in(entry.text)
    assert len(entry.text) <= MAX_CHARACTERS


@given(text=texts())
@example(text=HOSTILE)
def test_a_label_of_prometheus_ends_where_it_should(text: str) -> None:
    fleet = Fleet(workers={}, wanted=1, generation=1, connections=0, busy=0, queues={text: 7}, started=0.0)
    lines = exposition(fleet, Totals()).decode().split("\n")
    (line,) = [line for line in lines if line.startswith("unicornd_accept_queue{")]
    assert re.fullmatch(r'unicornd_accept_queue\{listener="(?:[^"\\\n]|\\["\\n])*"\} 7', line)
    assert not controls_in("".join(lines))


def status_of(text: str) -> dict[str, Any]:
    """Return a status document that has a text wherever one can be."""
    return {
        "schema": 1, "state": "ready", "reason": text, "since": 1.0, "instance": text, "target": text,
        "config_file": text, "control": text, "generation": 1,
        "arbiter": {"pid": 1, "version": text, "started_at": "2026-11-20T09:15:00.000Z", "uptime": 1.0, "memory": None},
        "wanted": {"count": 1, "file_count": 1, "kind": text, "threads": 1}, "rollout": None,
        "operation": {"id": text, "title": text, "steps": [{"text": text, "at": 1.0}]},
        "listeners": [{"address": text, "queue": None, "backlog": None}],
        "workers": [
            {"slot": 1, "pid": 2, "phase": "ready", "is_retiring": False, "generation": 1, "age": 1.0, "requests": 1,
             "busy": 1, "connections": 1, "threads": 1, "memory": None, "now": now, "failure": failure}
            for now, failure in (([{"request": text, "age": 1.0}], ""), ([], text))
        ],
        "totals": {"requests": 1, "errors": 0, "restarts": 0}, "latency": {"p50": None},
        "events": [{"seq": 1, "at": "2026-11-23T02:11:07.000Z", "kind": text, "text": text, "facts": {}}],
    }  # fmt: skip


def screen_of(drawn: Any, *, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, highlight=False, emoji=False, markup=False, width=2000, force_terminal=is_terminal
    )
    console.print(drawn)
    return out.getvalue()


@settings(max_examples=30)  # each draws five tables
@given(text=texts())
@example(text=HOSTILE)
def test_a_screen_shows_text_and_obeys_none(text: str) -> None:
    status = printable(status_of(f"x{text}"))
    plain = screen_of(status_screen(status, width=2000, now=NOW))
    assert not controls_in(plain, but="\n")
    fixed = screen_of(status_screen(printable(status_of("x")), width=2000, now=NOW))
    assert plain.count("\n") == fixed.count("\n"), "no text makes a line"
    fleet = dict.fromkeys(("instance", "state", "pid", "workers", "up", "listens"), f"x{text}")
    assert screen_of(fleets_table([printable(fleet)])).count("\n") == 2
    for part in (workers_table(status["workers"], width=2000), events_table(status["events"], now=NOW)):
        assert not controls_in(screen_of(part), but="\n")


def test_what_looks_like_markup_is_shown_as_it_is_written() -> None:
    text = "[bold red]x[/] [link=http://x.invalid]y[/link] :smile:"
    drawn = screen_of(status_screen(printable(status_of(text)), width=2000, now=NOW), is_terminal=True)
    seen = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    assert seen.count(text) >= 8
    assert "\x1b]8;" not in drawn, "no link"


@given(text=texts())
@example(text=HOSTILE)
def test_an_error_is_told_without_control_characters(text: str) -> None:
    told = io.StringIO()
    report(ControlError(text, code=CtlExit.FAILED, hint=text, detail=text), stream=told)
    assert not controls_in(told.getvalue(), but="\n\t")
    first, *further = told.getvalue().rstrip("\n").split("\n")
    assert first.startswith("unicornctl: ")
    assert all(not line or line.startswith("  ") for line in further)
    assert not controls_in(describe(UnicorndError(text, hint=text, detail=text)), but="\n\t")


def page_of(text: str) -> str:
    table = status_of(text)
    table["arbiter"] = protocol.ArbiterFacts(**{**table["arbiter"], "version": "0.1.0"})
    table["wanted"] = protocol.Wanted(**table["wanted"])
    table["operation"] = None
    table["listeners"] = [protocol.Listener(**each) for each in table["listeners"]]
    table["workers"] = [
        protocol.Worker(
            **{**each, "now": [protocol.InFlight(**one) for one in each["now"]]},
            phase_age=0.0, heartbeat_age=0.0, errors=0,
        )
        for each in table["workers"]
    ]  # fmt: skip
    table["totals"] = protocol.Totals(**table["totals"])
    table["latency"] = protocol.Latency(p50=None, p95=None, p99=None)
    table["events"] = [protocol.Event(**each) for each in table["events"]]
    table["mold"] = None
    del table["schema"]
    return status_page(protocol.Status(**table))


@given(text=texts())
@example(text=HOSTILE)
def test_the_page_has_the_text_and_no_element_of_it(text: str) -> None:
    page = page_of(f"<script>{text}")
    assert not controls_in(page, but="\n")
    assert "<script" not in page
    assert re.findall(r"<[a-z/!]+", page) == re.findall(r"<[a-z/!]+", page_of("x"))
    assert escaping.one_line(text) in unescape(page)
