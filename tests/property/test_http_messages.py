from __future__ import annotations

import contextlib
import ipaddress

import hypothesis.strategies as st
from hypothesis import example, given

from tests.corpus.requests import CASES
from unicornd.http.body import ChunkedDecoder, LengthDecoder
from unicornd.http.errors import Refusal
from unicornd.http.grammar import HOST
from unicornd.http.head import parse_head
from unicornd.http.limits import Limits
from unicornd.http.response import LAST_CHUNK, ResponseError, Standing, encode_chunk, encode_head

LIMITS = Limits(request_line=200, header_count=10, header_size=200, body_size=0)
TOKENS = st.text(alphabet="!#$%&'*+-.^`|~0123456789abcXYZ", min_size=1, max_size=8)
VALUES = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
WILD = st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=20) | st.sampled_from(
    ["\r\n", "a\r\nX: y", "\n", "\0"]
)
HEAD_BYTES = st.lists(
    st.sampled_from(
        [b"GET ", b"/ ", b"HTTP/1.1", b"\r\n", b"Host: a\r\n", b"X: y\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\xff", b"Transfer-Encoding: ",
         b"Content-Length: ", b"chunked", b"5", b"*", b"http://", b"[", b"%", b"_", b"CONNECT ", b"Expect: 100-continue\r\n", b"#"]
    ) | st.binary(max_size=4),
    max_size=14,
).map(b"".join)  # fmt: skip

REQUESTS = [case.raw for case in CASES]


def outcome_of(block: bytes) -> object:
    try:
        head = parse_head(block, LIMITS)
    except Refusal as refusal:
        return str(refusal)
    return [getattr(head, name) for name in head.__slots__ if name != "view"]


@given(HEAD_BYTES)
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_any_bytes_are_a_head_or_a_refusal(block: bytes) -> None:
    with contextlib.suppress(Refusal):
        head = parse_head(block, LIMITS)
        assert head.method
        assert head.length >= -1
        assert all("_" not in key.removeprefix("HTTP_").lower() or "-" not in key for key in head.fields)


@given(st.lists(st.tuples(TOKENS, VALUES), max_size=8))
def test_what_is_sent_as_fields_is_read_as_fields(fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"X-{name}: {value}\r\n" for name, value in fields)
    head = parse_head(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1"), LIMITS)
    expected: dict[str, str] = {"HTTP_HOST": "a"}
    for name, value in fields:
        key = f"HTTP_X_{name.upper().replace('-', '_')}"
        stripped = value.strip(" \t")
        expected[key] = f"{expected[key]},{stripped}" if key in expected else stripped
    assert head.fields == expected


@given(body=st.binary(max_size=300), data=st.data())
def test_a_chunked_body_comes_back_however_it_was_cut(body: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=5).map(sorted))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    sent = b"".join(encode_chunk(piece) for piece in pieces if piece) + LAST_CHUNK + b"next"
    splits = data.draw(st.lists(st.integers(0, len(sent)), max_size=8).map(sorted))
    decoder = ChunkedDecoder(LIMITS)
    received = b"".join(
        decoder.feed(sent[start:end]) for start, end in zip([0, *splits], [*splits, len(sent)], strict=True)
    )
    assert received == body
    assert decoder.is_complete
    assert decoder.leftover == b"next"


@given(
    st.lists(
        st.sampled_from([b"0", b"5", b"\r\n", b"\n", b"\r", b"hello", b";a=b", b'"', b"X: y", b"g"])
        | st.binary(max_size=3),
        max_size=12,
    )
)
def test_any_bytes_are_a_chunked_body_or_a_refusal(pieces: list[bytes]) -> None:
    decoder = ChunkedDecoder(LIMITS)
    with contextlib.suppress(Refusal):
        for piece in pieces:
            decoder.feed(piece)


@given(body=st.binary(max_size=50), more=st.binary(max_size=20), at=st.integers(0, 70))
def test_a_sized_body_ends_where_it_says(body: bytes, more: bytes, at: int) -> None:
    decoder = LengthDecoder(len(body), LIMITS)
    sent = body + more
    assert decoder.feed(sent[:at]) + decoder.feed(sent[at:]) == body
    assert decoder.is_complete
    assert decoder.leftover == more


@given(
    status=st.sampled_from(["200 OK", "404"]) | WILD,
    headers=st.lists(st.tuples(TOKENS | WILD, VALUES | WILD), max_size=4),
)
def test_no_status_and_no_header_can_begin_another_line(status: str, headers: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ResponseError):
        head = encode_head(
            status,
            headers,
            standing=Standing("", ""),
            is_http11=True,
            is_head=False,
            keep_alive=True,
            body_size=0,
        )
        lines = head.data.split(b"\r\n")
        assert b"\n" not in head.data.replace(b"\r\n", b"")
        assert b"\r" not in head.data.replace(b"\r\n", b"")
        assert len(lines) <= len(headers) + 5
        assert lines[-2:] == [b"", b""]


@given(st.ip_addresses(v=6).map(str) | st.text(alphabet="0123456789abF:.", max_size=40))
@example("1:2:3:4:5:6:7::")
@example("::1.2.3.256")
def test_what_is_in_brackets_is_an_ipv6_address_or_no_host(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        is_address = False
    else:
        is_address = True
    assert (HOST.fullmatch(f"[{text}]") is not None) == is_address


@given(st.lists(st.sampled_from(REQUESTS) | HEAD_BYTES, max_size=6))
def test_what_was_parsed_before_changes_nothing(blocks: list[bytes]) -> None:
    first = [outcome_of(block) for block in blocks]
    assert [outcome_of(block) for block in reversed(blocks)] == first[::-1]
