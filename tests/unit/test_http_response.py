from __future__ import annotations

from http import HTTPStatus

import pytest

from unicornd.http.environ import build_environ, shared_environ, split_host
from unicornd.http.errors import Refusal
from unicornd.http.head import END_OF_HEAD, find_head_end, parse_head
from unicornd.http.limits import Limits
from unicornd.http.response import (
    Framing,
    ResponseError,
    ResponseHead,
    Standing,
    _known_lengths,
    _known_names,
    _known_statuses,
    encode_chunk,
    encode_head,
    plain_response,
    refusal_response,
)

STANDING = Standing("Server: unicornd\r\n", "Date: now\r\n")
SIZED = [("Content-Length", "5")]


def made(
    status: str = "200 OK", headers: list[tuple[str, str]] | None = None, **changes: object
) -> ResponseHead:
    given: dict[str, object] = {"is_http11": True, "is_head": False, "keep_alive": True, **changes}
    return encode_head(status, headers or [], standing=STANDING, **given)  # type: ignore[arg-type] # keywords of encode_head


def lines_of(head: ResponseHead) -> list[str]:
    assert head.data.endswith(END_OF_HEAD)
    return head.data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")


def test_a_head_has_status_standing_fields_and_the_applications_own() -> None:
    head = made(
        "404 Not Found",
        [("Content-Type", "text/plain"), ("Content-Length", "5"), ("Set-Cookie", "a\tb=\xe9")],
    )
    assert lines_of(head) == [
        "HTTP/1.1 404 Not Found", "Server: unicornd", "Date: now", "Content-Type: text/plain",
        "Set-Cookie: a\tb=\xe9", "Content-Length: 5",
    ]  # fmt: skip
    assert (head.framing, head.length, head.keep_alive) == (Framing.LENGTH, 5, True)


def test_what_is_remembered_of_responses_is_bounded_and_changes_nothing() -> None:
    for number in (*range(5000), 3, 10**15):
        head = made(
            f"{200 + number % 300} Number {number}", [("Content-Length", str(number)), (f"X-{number}", "a")]
        )
        assert head.length in {number, -1}
        assert f"X-{number}: a" in lines_of(head)
    long = "X-" + "a" * 100
    assert f"{long}: b" in lines_of(made(headers=[(long, "b")]))
    assert max(map(len, (_known_names, _known_statuses, _known_lengths))) <= 4096
    assert long not in _known_names


def test_the_applications_server_and_date_take_the_place_of_ours() -> None:
    lines = lines_of(made(headers=[("server", "mine"), ("DATE", "then"), *SIZED]))
    assert lines == ["HTTP/1.1 200 OK", "server: mine", "DATE: then", "Content-Length: 5"]


def test_hop_by_hop_fields_of_the_application_are_dropped_but_it_may_close() -> None:
    hop_by_hop = ("Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection")
    head = made(headers=[*((name, "x") for name in hop_by_hop), ("Connection", "Close"), *SIZED])
    assert lines_of(head)[3:] == ["Content-Length: 5", "Connection: close"]
    assert not head.keep_alive
    assert made(headers=[("Connection", "keep-alive"), *SIZED]).keep_alive


@pytest.mark.parametrize(
    ("changes", "framing", "adds", "keep_alive"),
    [
        ({}, Framing.CHUNKED, ["Transfer-Encoding: chunked"], True),
        ({"keep_alive": False}, Framing.CHUNKED, ["Transfer-Encoding: chunked", "Connection: close"], False),
        ({"is_http11": False}, Framing.CLOSE, ["Connection: close"], False),
        ({"is_head": True}, Framing.NONE, [], True),
        ({"status": "204 No Content"}, Framing.NONE, [], True),
        ({"status": "304 Not Modified"}, Framing.NONE, [], True),
        ({"status": "304 Not Modified", "headers": SIZED}, Framing.NONE, ["Content-Length: 5"], True),
        ({"status": "204 No Content", "headers": SIZED}, Framing.NONE, [], True),
        ({"headers": SIZED}, Framing.LENGTH, ["Content-Length: 5"], True),
        ({"headers": SIZED, "is_http11": False}, Framing.LENGTH, ["Content-Length: 5", "Connection: keep-alive"], True),
        ({"headers": SIZED, "is_http11": False, "keep_alive": False}, Framing.LENGTH, ["Content-Length: 5", "Connection: close"], False),
        ({"body_size": 3}, Framing.LENGTH, ["Content-Length: 3"], True),
        ({"body_size": 3, "headers": SIZED}, Framing.LENGTH, ["Content-Length: 5"], True),
        ({"body_size": 3, "is_head": True}, Framing.NONE, ["Content-Length: 3"], True),
        ({"body_size": 3, "status": "204 No Content"}, Framing.NONE, [], True),
    ],
)  # fmt: skip
def test_how_a_body_ends_follows_from_status_method_version_and_length(
    changes: dict[str, object], framing: Framing, adds: list[str], *, keep_alive: bool
) -> None:
    head = made(**changes)  # type: ignore[arg-type] # keywords of `made`
    assert head.framing is framing
    assert lines_of(head)[3:] == adds
    assert head.keep_alive is keep_alive


@pytest.mark.parametrize("status", ["200", "200 ", "299 Strange", "599 \xe9"])
def test_a_status_is_three_digits_and_maybe_a_reason(status: str) -> None:
    assert lines_of(made(status))[0] == f"HTTP/1.1 {status}"


@pytest.mark.parametrize(
    "status",
    [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "100 Continue",
        "199 x",
        "600 x",
        "200 O\nK",
        "200  \x00",
        "200OK",
        "\uff12\uff10\uff10 OK",
    ],
)
def test_another_status_is_refused(status: str) -> None:
    with pytest.raises(ResponseError):
        made(status)


@pytest.mark.parametrize(
    "header",
    [
        ("", "x"), ("A B", "x"), ("A:", "x"), ("A\r\nB", "x"), ("Ä", "x"), ("X", "a\r\nSet-Cookie: b"), ("X", "a\nb"),
        ("X", "a\rb"), ("X", "a\x00b"), ("X", "\x7f"), ("X", "☃"), ("X", "\u2028"), ("Content-Length", "-1"),
        ("Content-Length", "1, 1"), ("Content-Length", ""), ("Content-Length", "²"), ("Content-Length", "1.0"),
        ("Content-Length", "9" * 5000),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ResponseError):
        made(headers=[("A", "b"), header])


@pytest.mark.parametrize("header", [(b"X", "y"), ("X", b"y"), ("X", 5), (5, "x"), ("X", None)])
def test_names_and_values_that_are_no_text_are_type_errors(header: tuple[object, object]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        made(headers=[header])  # type: ignore[list-item] # that is the point


def test_one_length_may_be_said_twice_two_may_not() -> None:
    head = made(headers=[*SIZED, *SIZED])
    assert head.length == 5
    assert lines_of(head)[3:] == ["Content-Length: 5"]
    assert lines_of(made(headers=[("content-length", "007")]))[3:] == ["Content-Length: 7"]
    with pytest.raises(ResponseError, match="twice"):
        made(headers=[*SIZED, ("content-length", "6")])


def test_a_chunk_has_its_size_in_hexadecimal() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_a_refusal_is_answered_whole_and_closes() -> None:
    refusal = Refusal(HTTPStatus.BAD_REQUEST, "<Host> is missing", section="RFC 9112 section 3.2")
    answer = refusal_response(refusal, standing=STANDING)
    head, _, body = answer.partition(END_OF_HEAD)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"&lt;Host&gt; is missing (RFC 9112 section 3.2)" in body
    without = refusal_response(Refusal(HTTPStatus.BAD_REQUEST, "x"), standing=STANDING, is_head=True)
    assert without.endswith(END_OF_HEAD)
    assert b"Content-Length" in without


def test_a_plain_response_to_head_has_no_body() -> None:
    assert plain_response(HTTPStatus.NOT_FOUND, "x", standing=STANDING, is_head=True).endswith(END_OF_HEAD)


def test_the_end_of_a_head_is_found_from_where_the_last_search_ended() -> None:
    buffer = b"GET / HTTP/1.1\r\n\r\nrest"
    assert find_head_end(buffer) == 18
    assert find_head_end(buffer, 14) == 18
    assert find_head_end(buffer, 15) == -1
    assert find_head_end(b"GET / HTTP/1.1\r\n") == -1


def test_a_block_without_its_end_is_no_head() -> None:
    with pytest.raises(Refusal, match="not one"):
        parse_head(b"GET / HTTP/1.1\r\nHost: a", Limits())


def test_the_largest_head_is_bounded_by_its_parts() -> None:
    assert Limits(request_line=10, header_count=2, header_size=5).head_size == 10 + 2 + 2 * 7 + 2


def test_an_environ_is_the_base_and_what_the_request_says() -> None:
    base = shared_environ(
        server_name="a", server_port="80", scheme="http", wsgi_multithread=True, script_name="/x"
    )
    raw = b"GET /caf%C3%A9?q=%41 HTTP/1.1\r\nHost: a\r\nContent-Type: t/x\r\nX-Y: z\r\n\r\n"
    environ = build_environ(base, parse_head(raw, Limits()))
    assert environ == base | {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/caf\xc3\xa9", "QUERY_STRING": "q=%41", "RAW_URI": "/caf%C3%A9?q=%41",
        "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "a", "CONTENT_TYPE": "t/x", "HTTP_X_Y": "z",
    }  # fmt: skip
    assert base["SCRIPT_NAME"] == "/x"
    assert base["wsgi.multithread"] is True
    assert "PATH_INFO" not in base, "the base is not touched"


@pytest.mark.parametrize(
    ("host", "parts"),
    [("a", ("a", "80")), ("a:1", ("a", "1")), ("", ("localhost", "80")), ("[::1]", ("[::1]", "80")), ("[::1]:2", ("[::1]", "2")), ("a:", ("a", "80"))],
)  # fmt: skip
def test_a_host_is_split_into_name_and_port(host: str, parts: tuple[str, str]) -> None:
    assert split_host(host) == parts
