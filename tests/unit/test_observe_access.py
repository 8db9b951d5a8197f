"""The access log's line and its fields."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from unicornd.errors import ConfigError
from unicornd.observe.access import Atoms, Request, compile_format, fields_of, shows_query

ENVIRON = {
    "REMOTE_ADDR": "10.0.0.7", "REQUEST_METHOD": "GET", "RAW_URI": "/p%20q?a=1", "PATH_INFO": "/p q", "QUERY_STRING": "a=1",
    "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_REFERER": "/from?b=2", "HTTP_USER_AGENT": "tester", "CONTENT_TYPE": "text/x",
    "HTTP_AUTHORIZATION": "Basic am9lOnNlY3JldA==", "HTTP_X_REQUEST_ID": "r-7", "wsgi.url_scheme": "http",
}  # fmt: skip


def request(**environ: object) -> Request:
    return Request(
        environ={**ENVIRON, **environ}, status="200 OK", headers={"x-shop": "yes"}, size=12, seconds=90061.25
    )


EXPECTED = [
    ("h", "10.0.0.7"), ("l", "-"), ("u", "joe"), ("r", "GET /p%20q?a=1 HTTP/1.1"), ("m", "GET"), ("U", "/p q"),
    ("q", "a=1"), ("H", "HTTP/1.1"), ("s", "200"), ("B", "12"), ("b", "12"), ("f", "/from?b=2"), ("a", "tester"),
    ("T", "90061"), ("M", "90061250"), ("D", "90061250000"), ("L", "90061.250000"), ("p", "<pid>"),
    ("{referer}i", "/from?b=2"), ("{Content-Type}i", "text/x"), ("{X-Shop}o", "yes"), ("{wsgi.url_scheme}e", "http"),
    ("{x-none}i", "-"), ("{x-none}o", "-"), ("{NONE}e", "-"),
]  # fmt: skip


@pytest.mark.parametrize(("atom", "expected"), EXPECTED, ids=[atom for atom, _ in EXPECTED])
def test_an_atom_says(atom: str, expected: str) -> None:
    expected = expected.replace("<pid>", f"<{os.getpid()}>")
    assert compile_format(f"<%({atom})s>")(request()) == f"<{expected}>"
    assert str(Atoms(request())[atom]) == expected


def test_the_time_has_the_common_log_formats_form() -> None:
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", compile_format("%(t)s")(request()))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('a"b', '\\"'), ("a\nb", "\\u000a"), ("a\\b", "\\\\"), ("a\x7fb", "\\u007f"), ("a\x85b", "\\u0085"),
        ("a\x00b", "\\u0000"), ("a\u2028b", "\\u2028"), ("a\u202eb", "\\u202e"), ("a\udc9bb", "\\udc9b"),
    ],
)  # fmt: skip
def test_nothing_that_a_client_sends_can_end_a_line_or_a_quoted_text(value: str, shown: str) -> None:
    names = {"HTTP_USER_AGENT": value, "PATH_INFO": value, "QUERY_STRING": value, "HTTP_X": value}
    line = compile_format("%(a)s %(U)s %(q)s %({x}i)s")(request(**names))
    assert line == " ".join([f"a{shown}b"] * 4)
    as_json = compile_format('{"agent": "%(a)s", "path": "%(U)s"}')(request(**names))
    assert json.loads(as_json) == {"agent": value, "path": value}


@pytest.mark.parametrize("authorization", ["", "Bearer abc", "Basic !", "Basic /w=="])
def test_who_is_not_known_is_a_dash(authorization: str) -> None:
    assert compile_format("%(u)s")(request(HTTP_AUTHORIZATION=authorization)) == "-"


@pytest.mark.parametrize("text", ["%(x)s", "%(h)", "100%", "%h"])
def test_a_format_that_says_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"logging\.access\.format"):
        compile_format(text)


def test_a_percent_sign_is_written_twice() -> None:
    assert compile_format("100%%")(request()) == "100%"


def test_numbers_are_numbers_for_who_asks_for_them() -> None:
    line = "%(D)d %(T)05d"
    assert line % Atoms(request()) == "90061250000 90061"
    assert compile_format("%(B)d")(request()) == "12"
    assert len(Atoms(request())) == len(list(Atoms(request()))) == 19
    assert Atoms(request())["unknown"] == "-"


def test_fields_are_named_and_those_that_are_not_there_are_left_out() -> None:
    assert fields_of(request(), slot=3, has_query=True) == {
        "method": "GET", "path": "/p q", "protocol": "HTTP/1.1", "status": 200, "bytes": 12, "seconds": 90061.25,
        "slot": 3, "query": "a=1", "remote": "10.0.0.7", "user": "joe", "referer": "/from?b=2", "user_agent": "tester",
        "request_id": "r-7",
    }  # fmt: skip
    bare: dict[str, Any] = dict.fromkeys(("QUERY_STRING", "HTTP_REFERER", "HTTP_X_REQUEST_ID"), "")
    assert not {"query", "referer", "request_id"} & set(fields_of(request(**bare), slot=1, has_query=True))


def test_fields_have_no_queries_if_the_format_has_none() -> None:
    assert not shows_query("%(m)s %(U)s")
    assert shows_query("%(r)s")
    assert shows_query("%(q)s")
    fields = fields_of(request(), slot=1, has_query=False)
    assert "query" not in fields
    assert fields["referer"] == "/from"


def test_a_status_that_is_none_ends_no_line() -> None:
    asked = Request(environ=ENVIRON, status="2\n0", headers={}, size=0, seconds=0.0)
    assert compile_format("%(s)s")(asked) == "2\\u000a0"
