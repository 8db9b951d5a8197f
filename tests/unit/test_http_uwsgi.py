"""Packets of the uwsgi protocol."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prefaces import uwsgi_packet
from unicornd.http.environ import build_environ
from unicornd.http.errors import Refusal
from unicornd.http.limits import Limits
from unicornd.http.uwsgi import MAX_VARIABLES, forbidden, packet_size, read_uwsgi, without_connection

LIMITS = Limits()
REQUEST = {
    "REQUEST_METHOD": "POST", "REQUEST_URI": "/shop/caf%C3%A9?a=1", "QUERY_STRING": "a=1", "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "4", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "1.2.3.4", "REMOTE_PORT": "99",
    "PATH_INFO": "/shop/caf\u00c3\u00a9", "SERVER_NAME": "shop.example", "SERVER_PORT": "443", "HTTPS": "on", "HTTP_HOST": "shop.example", "HTTP_X_A": "b",
    "SCRIPT_NAME": "/shop", "HTTP_TRANSFER_ENCODING": "chunked", "DOCUMENT_ROOT": "/srv",
}  # fmt: skip


def packet(variables: dict[str, str], *, modifier: int = 0) -> bytes:
    return bytes([modifier]) + uwsgi_packet(**variables)[1:]


def changed(**changes: str) -> bytes:
    return packet({**REQUEST, **changes})


def test_a_packet_becomes_a_head_and_an_environ() -> None:
    head = read_uwsgi(packet(REQUEST), LIMITS)
    assert (head.method, head.path, head.query, head.length) == ("POST", "/shop/caf%C3%A9", "a=1", 4)
    assert not head.keep_alive
    assert not head.is_http11, "the answer is not chunked"
    environ = build_environ({"SCRIPT_NAME": ""}, head)
    assert environ["PATH_INFO"] == "/caf\u00c3\u00a9"
    expected = {
        "SCRIPT_NAME": "/shop", "wsgi.url_scheme": "https", "HTTPS": "on", "SERVER_PORT": "443",
        "HTTP_HOST": "shop.example", "CONTENT_LENGTH": "4", "CONTENT_TYPE": "text/plain", "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    assert {key: environ[key] for key in expected} == expected
    assert head.forwarded is not None
    assert head.forwarded.client == ("1.2.3.4", "99")
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert "DOCUMENT_ROOT" not in environ


def place(uri: str, script: str, info: str | None, *, mount: str = "") -> tuple[str, str]:
    """What becomes SCRIPT_NAME and PATH_INFO."""
    said = {"REQUEST_METHOD": "GET", "REQUEST_URI": uri, "SCRIPT_NAME": script}
    head = read_uwsgi(packet(said if info is None else {**said, "PATH_INFO": info}), LIMITS, mount=mount)
    environ = build_environ({"SCRIPT_NAME": "", "wsgi.url_scheme": "http"}, head)
    return environ["SCRIPT_NAME"], environ["PATH_INFO"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # nginx: include uwsgi_params, and a rewrite … break
        (("/a%20b?x", "", "/a b"), ("", "/a b")), (("/old/x", "", "/new/x"), ("", "/new/x")), (("/a%0Ab", "", "/a\nb"), ("", "/a\nb")),
        # with uwsgi_param SCRIPT_NAME: left in the path, rewritten, taken off by a proxy further in front
        (("/mnt/a", "/mnt", "/mnt/a"), ("/mnt", "/a")), (("/mnt", "/mnt", "/mnt"), ("/mnt", "")), (("/mnt/", "/mnt/", "/mnt/"), ("/mnt", "/")),
        (("/mnt/a", "/mnt", "/a"), ("/mnt", "/a")), (("/mnt", "/mnt", "/"), ("/mnt", "/")), (("/a", "/mnt", "/a"), ("/mnt", "/a")),
        (("/mnt/mnt/a", "/mnt", "/mnt/a"), ("/mnt", "/mnt/a")), (("/mntx", "/mnt", "/mntx"), ("/mnt", "/mntx")),
        # Apache: ProxyPass /mnt uwsgi://…/mnt, /cut uwsgi://…/, /put uwsgi://…/deep/er
        (("/mnt/a/b", "", "/mnt/a/b"), ("", "/mnt/a/b")), (("/cut/a/b", "/cut", "/a/b"), ("/cut", "/a/b")),
        (("/put/a%20b", "/put/a b", "/deep/er/a b"), ("", "/deep/er/a b")),
        # lighttpd: what it has split itself, and where nothing is left
        (("/mnt/a/b", "/mnt", "/a/b"), ("/mnt", "/a/b")), (("/mnt", "/mnt", None), ("/mnt", "")), (("/", "/", None), ("", "/")),
    ],
)  # fmt: skip
def test_the_path_is_what_the_server_in_front_has_made_of_it(
    said: tuple[str, str, str | None], expected: tuple[str, str]
) -> None:
    assert place(*said) == expected


def test_a_standing_mount_counts_where_the_packet_names_none() -> None:
    assert place("/shop/a", "", "/shop/a", mount="/shop") == ("/shop", "/a")
    assert place("/a", "", "/a", mount="/shop") == ("/shop", "/a")
    assert place("/mnt/a", "/mnt", "/mnt/a", mount="/shop") == ("/mnt", "/a")


def test_repeated_fields_are_joined_and_of_other_variables_the_last_counts() -> None:
    more = [("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2"), ("HTTP_ACCEPT", "x"), ("HTTP_ACCEPT", "y")]
    more += [("SERVER_NAME", "other"), ("HTTP_HOST", "shop.example"), ("CONTENT_LENGTH", "4")]
    head = read_uwsgi(uwsgi_packet(*more, **REQUEST), LIMITS)
    assert (head.fields["HTTP_COOKIE"], head.fields["HTTP_ACCEPT"]) == ("a=1; b=2", "x, y")
    assert (head.fields["HTTP_HOST"], head.length) == ("shop.example", 4)
    assert build_environ({}, head)["SERVER_NAME"] == "other"


@pytest.mark.parametrize(("host", "port", "client"), [("", "99", None), ("1.2.3.4", "", ("1.2.3.4", "0"))])
def test_a_client_that_is_named_by_half_is_known_by_half(
    host: str, port: str, client: tuple[str, str] | None
) -> None:
    head = read_uwsgi(changed(REMOTE_ADDR=host, REMOTE_PORT=port), LIMITS)
    assert head.forwarded is not None
    assert head.forwarded.client == client


def test_the_end_of_the_connection_is_not_told_to_the_client_of_the_server_in_front() -> None:
    head = b"HTTP/1.1 200 OK\r\nDate: x"
    assert without_connection(head + b"\r\nConnection: close\r\n\r\nbody") == head + b"\r\n\r\nbody"
    body = b"\r\n\r\nit says\r\nConnection: close\r\n\r\n"
    assert without_connection(head + body) == head + body
    assert without_connection(b"no head") == b"no head"


def test_a_bare_packet_has_defaults() -> None:
    head = read_uwsgi(packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/a"}), LIMITS)
    assert (head.path, head.query, head.length, head.protocol) == ("/a", "", 0, "HTTP/1.0")
    assert build_environ({"wsgi.url_scheme": "http"}, head)["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("name", "value", "scheme"),
    [
        ("REQUEST_SCHEME", "https", "https"), ("UWSGI_SCHEME", "https", "https"), ("wsgi.url_scheme", "https", "https"), ("HTTPS", "1", "https"),
        ("REQUEST_SCHEME", "http", "http"), ("HTTPS", "off", "http"), ("HTTP_X_FORWARDED_PROTO", "https", "http"),
    ],
)  # fmt: skip
def test_the_server_in_front_says_the_scheme_and_its_client_does_not(
    name: str, value: str, scheme: str
) -> None:
    head = read_uwsgi(packet({"REQUEST_METHOD": "GET", "REQUEST_URI": "/", name: value}), LIMITS)
    assert build_environ({"wsgi.url_scheme": "http"}, head)["wsgi.url_scheme"] == scheme


def test_the_size_is_known_when_its_beginning_has_come() -> None:
    whole = packet(REQUEST)
    assert [packet_size(whole[:size]) for size in range(5)] == [0, 0, 0, 0, len(whole)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (changed(REQUEST_METHOD="G T"), 400), (changed(REQUEST_URI="/a b"), 400), (changed(REQUEST_URI="", PATH_INFO=""), 400),
        (changed(CONTENT_LENGTH="-1"), 400), (changed(HTTP_X="a\nb"), 400), (changed(**{"HTTP X": "a"}), 400),
        (changed(REQUEST_URI="/" + "x" * 9000), 414), (changed(**{f"HTTP_{n}": "x" for n in range(200)}), 431),
        (packet({**REQUEST, **{f"V{n}": "" for n in range(MAX_VARIABLES)}}), 431),
        (uwsgi_packet(("HTTP_HOST", "b"), **REQUEST), 400), (uwsgi_packet(("CONTENT_LENGTH", "5"), **REQUEST), 400),
        (packet(REQUEST)[:-3], 400), (packet(REQUEST) + b"\x01", 400), (packet(REQUEST) + b"\x01\x00a", 400),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_is_never_our_fault(raw: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        read_uwsgi(raw, LIMITS)
    assert refused.value.status == status


def test_other_modifiers_are_refused() -> None:
    with pytest.raises(Refusal):
        packet_size(packet(REQUEST, modifier=5))
    assert forbidden().status == 403


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        read_uwsgi(b"\x00\x00\x00\x00" + body, LIMITS)
