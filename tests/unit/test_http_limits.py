"""Limits of 0: none but what fits into memory."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from unicornd.http.errors import Refusal
from unicornd.http.head import parse_head, refuse_long_head
from unicornd.http.limits import MAX_FIELDS, MAX_HEAD, Limits, limits_of


def said(*, line: int = 4094, count: int = 100, size: int = 8190) -> Limits:
    return limits_of(request_line=line, header_count=count, header_size=size, body_size=7)


def test_limits_that_are_said_are_taken_as_they_are() -> None:
    assert said() == Limits(request_line=4094, body_size=7)
    assert said(line=100, count=2, size=100).head_size == 100 + 2 + 2 * 102 + 2


@pytest.mark.parametrize("none", ["line", "count", "size"])
def test_a_head_without_a_limit_is_bounded_as_a_whole(none: str) -> None:
    assert said(**{none: 0}).head_size <= MAX_HEAD
    assert said(line=0, count=0, size=0).head_size == MAX_HEAD


def test_a_small_head_stays_small_where_only_the_number_of_fields_has_no_limit() -> None:
    assert said(line=100, count=0, size=10).head_size == 100 + 2 + MAX_FIELDS * 12 + 2


def test_long_requests_pass_where_there_is_no_limit() -> None:
    limits = said(line=0, count=0, size=0)
    fields = "".join(f"X-{number}: {'y' * 20_000}\r\n" for number in range(20))
    head = parse_head(f"GET /{'a' * 60_000} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode(), limits)
    assert len(head.target) == 60_001
    assert len(head.fields) == 21
    many = "".join(f"X-{number}: y\r\n" for number in range(5000))
    assert len(parse_head(f"GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n".encode(), limits).fields) == 5001


@pytest.mark.parametrize(
    ("part", "limits", "status", "says"),
    [
        (b"GET /" + b"a" * 300, Limits(request_line=100), HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300 + b"\r", Limits(header_size=100), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "a header field is too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300, said(size=0), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long"),
    ],
    ids=["line", "field", "whole"],
)  # fmt: skip
def test_a_head_that_never_ends_is_refused_with_the_limit_that_it_passes(
    part: bytes, limits: Limits, status: HTTPStatus, says: str
) -> None:
    with pytest.raises(Refusal) as caught:
        refuse_long_head(part, limits)
    assert caught.value.status == status
    assert says in str(caught.value)
