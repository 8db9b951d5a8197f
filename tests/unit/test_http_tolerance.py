"""What the operator may permit, and what stays forbidden all the same."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.requests import CASES
from unicornd.http.errors import Refusal
from unicornd.http.head import parse_head
from unicornd.http.limits import Limits
from unicornd.http.tolerance import NONE, Tolerance, parser_for

LIMITS = Limits()
ALL = Tolerance(header_map="dangerous", folding=True, spaces=True, methods=True, versions=True, casefold=True)


def parse(block: bytes, **permitted: Any) -> Any:
    return parser_for(Tolerance(**permitted))(block, LIMITS)


def request(line: bytes = b"GET / HTTP/1.1", fields: bytes = b"") -> bytes:
    return line + b"\r\nHost: a\r\n" + fields + b"\r\n"


def test_without_permission_the_strict_parser_itself_is_used() -> None:
    assert parser_for(NONE) is parse_head


@pytest.mark.parametrize(
    ("permitted", "line", "expected"),
    [
        ({"methods": True}, b"get / HTTP/1.1", ("get", "HTTP/1.1")),
        ({"methods": True}, b"GE#T / HTTP/1.1", ("GE#T", "HTTP/1.1")),
        ({"methods": True}, b"POST / HTTP/1.1", ("POST", "HTTP/1.1")),
        ({"methods": True}, b"OPTIONS * HTTP/1.1", ("OPTIONS", "HTTP/1.1")),
        ({"casefold": True}, b"get / HTTP/1.1", ("GET", "HTTP/1.1")),
        ({"versions": True}, b"GET / HTTP/2.0", ("GET", "HTTP/1.1")),
        ({"versions": True}, b"GET / HTTP/0.9", ("GET", "HTTP/1.0")),
        ({"versions": True}, b"GET / HTTP/1.2", ("GET", "HTTP/1.1")),
        ({"versions": True}, b"GET / HTTP/1.0", ("GET", "HTTP/1.0")),
    ],
)
def test_a_request_line_that_is_permitted_is_read(
    permitted: dict[str, Any], line: bytes, expected: tuple[str, str]
) -> None:
    head = parse(request(line), **permitted)
    assert (head.method, head.protocol) == expected


@pytest.mark.parametrize(
    "line", [b"g(t / HTTP/1.1", b"GET / HTTP/x", b"GET  / HTTP/1.1", b"get * HTTP/1.1", b"GET", b""]
)
def test_what_no_permission_is_for_stays_refused(line: bytes) -> None:
    with pytest.raises(Refusal):
        parser_for(ALL)(request(line), LIMITS)


def test_a_folded_field_is_unfolded() -> None:
    head = parse(request(fields=b"X-A: one\r\n \t two\r\n\tthree\r\n"), folding=True)
    assert head.fields["HTTP_X_A"] == "one two three"


@pytest.mark.parametrize(
    "block", [b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n"]
)
def test_what_continues_nothing_is_refused(block: bytes) -> None:
    with pytest.raises(Refusal):
        parse(block, folding=True)


def test_blanks_before_the_colon_are_taken_away() -> None:
    head = parse(request(fields=b"X-A \t: one\r\n"), spaces=True)
    assert head.fields["HTTP_X_A"] == "one"
    with pytest.raises(Refusal):
        parse(request(fields=b"X-A b : one\r\n"), spaces=True)


def test_underscores_are_dropped_refused_or_passed_on() -> None:
    block = request(fields=b"X_Real_IP: 1.2.3.4\r\nX-B: a_b\r\n")
    assert "HTTP_X_REAL_IP" not in parse(block, spaces=True).fields
    assert parse(block, header_map="dangerous").fields["HTTP_X_REAL_IP"] == "1.2.3.4"
    assert parse(block, header_map="dangerous").fields["HTTP_X_B"] == "a_b"
    with pytest.raises(Refusal, match="underscore"):
        parse(block, header_map="refuse")
    assert parse(request(fields=b"X-B: a_b\r\n"), header_map="refuse").fields["HTTP_X_B"] == "a_b"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_right_is_read_as_without_permissions(case: Any) -> None:
    """A tolerant parser reads every head that the strict one reads, and to the same effect."""
    block = case.raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        strict = parse_head(block, LIMITS)
    except Refusal:
        return
    tolerant = parser_for(Tolerance(folding=True, spaces=True, methods=True, versions=True))(block, LIMITS)
    assert (tolerant.method, tolerant.target, tolerant.fields) == (
        strict.method,
        strict.target,
        strict.fields,
    )
    assert (tolerant.length, tolerant.keep_alive) == (strict.length, strict.keep_alive)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_a_refusal(block: bytes) -> None:
    with contextlib.suppress(Refusal):
        parser_for(ALL)(block + b"\r\n\r\n", LIMITS)
