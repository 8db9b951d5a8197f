from __future__ import annotations

from http import HTTPStatus

import pytest

from unicornd.http.errors import Refusal
from unicornd.http.head import parse_head
from unicornd.http.limits import Limits
from unicornd.http.lines import KnownFields, KnownRequestLines, read_field, read_request_line

MORE_THAN_KEPT = 2000


def test_a_field_line_is_remembered_as_it_was_read() -> None:
    known = KnownFields()
    for line in ("Accept: */*", "X-Real-IP:1.1.1.1 ", "X_Real_IP: 6.6.6.6"):
        assert known[line] == read_field(line)
        assert known[line] is dict(known)[line]


def test_a_request_line_is_remembered_as_it_was_read() -> None:
    known = KnownRequestLines()
    for line in ("GET /a HTTP/1.1", "GET http://b/c HTTP/1.0", "OPTIONS * HTTP/1.1"):
        assert known[line] == read_request_line(line)
        assert known[line] is dict(known)[line]


@pytest.mark.parametrize(
    "line",
    ["Cookie: id=secret", "authorization: Basic c2VjcmV0", "Proxy-Authorization: x", "X: " + "y" * 300],
)
def test_secrets_and_long_fields_are_not_remembered(line: str) -> None:
    known = KnownFields()
    assert known[line] == read_field(line)
    assert not known


@pytest.mark.parametrize("line", ["GET /reset?token=secret HTTP/1.1", f"GET /{'a' * 300} HTTP/1.1"])
def test_query_strings_and_long_request_lines_are_not_remembered(line: str) -> None:
    known = KnownRequestLines()
    assert known[line] == read_request_line(line)
    assert not known


def test_what_is_refused_is_not_remembered() -> None:
    fields, request_lines = KnownFields(), KnownRequestLines()
    for _ in range(2):
        with pytest.raises(Refusal):
            fields["Host: a b"]
        with pytest.raises(Refusal):
            request_lines["GET a HTTP/1.1"]
    assert not fields
    assert not request_lines


def test_ever_new_lines_do_not_fill_the_memory() -> None:
    fields, request_lines = KnownFields(), KnownRequestLines()
    sizes = set()
    for number in range(MORE_THAN_KEPT):
        assert fields[f"X: {number}"] == ("HTTP_X", str(number))
        assert request_lines[f"GET /{number} HTTP/1.1"][2] == f"/{number}"
        sizes |= {len(fields), len(request_lines)}
    assert max(sizes) < MORE_THAN_KEPT / 2


def test_each_limit_holds_when_the_others_are_larger() -> None:
    long = b"a" * 300
    for limits, block, status in (
        (Limits(request_line=200), b"GET /" + long + b" HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.REQUEST_URI_TOO_LONG),
        (Limits(header_size=200), b"GET / HTTP/1.1\r\nHost: a\r\nX: " + long + b"\r\n\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (Limits(header_count=1), b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    ):  # fmt: skip
        assert parse_head(block, Limits()).method == "GET"
        with pytest.raises(Refusal) as refused:
            parse_head(block, limits)
        assert refused.value.status is status


def test_many_fields_may_be_longer_together_than_one_may_be() -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 150) for number in range(5))
    assert (
        len(parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n", Limits(header_size=200)).fields)
        == 6
    )
