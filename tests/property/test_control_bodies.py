"""What is asked at the control socket: the parser takes exactly what the schema says."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unicornd.control.documents import BadRequestError, parse_body
from unicornd.control.exchange import Request
from unicornd.control.openapi import model_of
from unicornd.control.protocol import NoParameters, ScaleRequest, StopRequest, UpgradeRequest

ASKED = [ScaleRequest, StopRequest, UpgradeRequest, NoParameters]
NAMES = st.sampled_from(["count", "save", "mode", "executable", "Count", ""])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
    st.sampled_from(["graceful", "quick", "8", "+2", "-1", "+", "1\n", "٣", "1234567890", "/bin/python", "bin/python", "\n/"]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)  # fmt: skip


def request(body: bytes) -> Request:
    return Request(method="POST", path="/", query={}, body=body)


@pytest.mark.parametrize("asked", ASKED)
@given(table=st.dictionaries(NAMES, VALUES, max_size=3))
def test_it_takes_what_the_schema_takes(asked: Any, table: dict[str, Any]) -> None:
    body = json.dumps(table).encode()
    try:
        expected = model_of(asked).model_validate_json(body).model_dump()
    except ValidationError:
        with pytest.raises(BadRequestError):
            parse_body(asked, request(body))
    else:
        assert parse_body(asked, request(body)).table() == expected


@pytest.mark.parametrize("asked", ASKED)
@given(body=st.binary(max_size=40))
def test_bytes_are_a_document_or_a_bad_request(asked: Any, body: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        parse_body(asked, request(body))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "count: missing; expected a whole number"),
        (b'{"count": true}', "count: expected a whole number"),
        (b'{"count": 1, "save": 1}', "save: expected true or false"),
        (b'{"cuont": 1, "count": 1}', "cuont: there is no such field; there are count, save"),
        (b"[1]", "the body: expected a JSON object"),
        (b"{", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b'{"count": ' + b"9" * 5000 + b"}", "the body is no JSON"),
    ],
)
def test_what_is_wrong_is_told(body: bytes, said: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parse_body(ScaleRequest, request(body))
    assert caught.value.message.startswith(said)


def test_no_body_is_an_empty_one() -> None:
    assert parse_body(StopRequest, request(b"")).mode == "graceful"
