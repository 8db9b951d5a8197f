"""Who is believed, and what follows from what they say."""

from __future__ import annotations

from typing import Any

import pytest

from unicornd.http.environ import build_environ
from unicornd.http.errors import Refusal
from unicornd.http.forwarded import Forwarded, Forwarding, Schemes, Trust, is_below, name_of
from unicornd.http.head import parse_head
from unicornd.http.limits import Limits

SECURE = {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


def forwarding(**changes: Any) -> Forwarding:
    given: dict[str, Any] = {"secure": SECURE, "allowed": ("SCRIPT_NAME", "REMOTE_USER"), **changes}
    return Forwarding(Trust(["127.0.0.1"]), **given)


def read(fields: bytes, *, path: bytes = b"/shop/cart", **changes: Any) -> dict[str, Any]:
    """The environ of a request from a trusted peer."""
    block = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    head = parse_head(block, Limits())
    head.forwarded = forwarding(**changes).read(head, block, peer="192.0.2.1")
    return build_environ({"wsgi.url_scheme": "http", "SCRIPT_NAME": ""}, head)


@pytest.mark.parametrize(
    ("trusted", "host", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", True), ("10.0.0.0/8", "11.0.0.1", False), ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True), ("fd00::/8", "fd12::1", True), ("fd00::/8", "10.0.0.1", False),
        ("*", "8.8.8.8", True), ("127.0.0.1", "", True), ("127.0.0.1", "no address", False),
    ],
)  # fmt: skip
def test_networks_are_matched_and_unix_peers_are_trusted(trusted: str, host: str, *, expected: bool) -> None:
    assert Trust([trusted]).has(host) is expected


def test_a_plain_request_says_nothing() -> None:
    environ = read(b"Cookie: a_b=c\r\n")
    assert (environ["wsgi.url_scheme"], environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (
        "http",
        "",
        "/shop/cart",
    )
    assert "HTTPS" not in environ


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        (b"X-Forwarded-Proto: https\r\n", "https"), (b"X-Forwarded-Proto: http\r\n", "http"),
        (b"X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: https\r\n", "https"), (b"X-Forwarded-Ssl: off\r\n", "http"),
        (b"X-Forwarded-Proto: HTTPS\r\n", "https"), (b"X-Forwarded-Ssl: On\r\n", "https"), (b"X-Forwarded-Proto: wss\r\n", "https"),
        (b"X-Forwarded-Proto: ws\r\n", "http"), (b"X-Forwarded-Ssl: wss\r\n", "http"), (b"X-Forwarded-Proto: \r\n", "http"),
        (b"X-Forwarded-Proto: https\r\nx-forwarded-proto: Https\r\n", "https"), (b"X-Forwarded-Proto: https, https\r\n", "https"),
        (b"X-Forwarded-Proto: https,\r\n", "https"), (b"X-Forwarded-Proto: http,http\r\n", "http"), (b"X-Forwarded-Proto: nonsense\r\n", "http"),
    ],
)  # fmt: skip
def test_the_scheme_is_taken_from_the_headers_that_mean_it(fields: bytes, scheme: str) -> None:
    environ = read(fields)
    assert environ["wsgi.url_scheme"] == scheme
    assert ("HTTPS" in environ) == (scheme == "https")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (b"X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: http\r\n", "X-Forwarded-Ssl: on; X-Forwarded-Proto: http"),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", "X-Forwarded-Proto: https,http"),
        (b"X-Forwarded-Proto: https, http\r\n", "X-Forwarded-Proto: https, http"),
        (b"X-Forwarded-Proto: http,https" + b"x" * 200 + b",https\r\n", "X-Forwarded-Proto: http,https" + "x" * 90),
    ],
)  # fmt: skip
def test_headers_that_contradict_each_other_are_refused_and_told(fields: bytes, told: str) -> None:
    with pytest.raises(Refusal, match="contradict") as refused:
        read(fields)
    assert refused.value.facts == {
        "status": 400,
        "why": "400 headers about the scheme contradict each other (RFC 9110 section 4.2.2)",
        "headers": told,
        "peer": "192.0.2.1",
        "setting": "proxy.secure_scheme_headers",
    }
    assert "192.0.2.1" not in refused.value.detail, "that is for the operator, not for the client"


def test_names_with_underscores_that_do_not_pass_are_told() -> None:
    told: list[tuple[str, str]] = []
    read(b"X_Other: no\r\nREMOTE_USER: joe\r\nX-Plain: a_b\r\n", on_dropped=lambda *what: told.append(what))
    assert told == [("192.0.2.1", "X_Other")]


def test_names_with_underscores_pass_if_they_are_allowed() -> None:
    environ = read(b"REMOTE_USER: joe \r\nX_Other: no\r\nRemote-Addr: a\r\n")
    assert environ["HTTP_REMOTE_USER"] == "joe"
    assert "HTTP_X_OTHER" not in environ
    assert "HTTP_X_OTHER" not in read(b"X_Other: no\r\n")
    assert read(b"X_Other: yes\r\n", allowed=["*"])["HTTP_X_OTHER"] == "yes"


def test_the_mount_is_taken_from_the_path() -> None:
    environ = read(b"SCRIPT_NAME: /shop\r\n")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/cart")


def test_a_hyphen_does_not_make_a_mount() -> None:
    assert read(b"Script-Name: /shop\r\n")["SCRIPT_NAME"] == ""


@pytest.mark.parametrize("mount", [b"/sho", b"/other", b"shop"])
def test_a_mount_that_is_no_prefix_is_refused(mount: bytes) -> None:
    with pytest.raises(Refusal, match="no prefix") as refused:
        read(b"SCRIPT_NAME: " + mount + b"\r\n")
    assert refused.value.extra["headers"] == f"SCRIPT_NAME: {mount.decode()}"
    assert refused.value.extra["setting"] == "proxy.forwarder_headers"


@pytest.mark.parametrize(
    ("path", "info"),
    [(b"/shop/cart", "/cart"), (b"/shop", ""), (b"/cart", "/cart"), (b"/shopping", "/shopping")],
)
def test_a_standing_mount_is_taken_off_where_the_proxy_has_left_it(path: bytes, info: str) -> None:
    environ = read(b"", path=path, mount="/shop")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", info)
    assert read(b"X-Forwarded-Proto: https\r\n", path=path, mount="/shop")["PATH_INFO"] == info


def test_strangers_get_the_standing_mount_only() -> None:
    assert forwarding(mount="/shop").standing == Forwarded(mount="/shop")
    assert forwarding().standing is None


def test_being_below_is_a_matter_of_whole_segments() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert not is_below("/ab", "/a")


def test_lines_that_were_not_joined_say_the_same_as_those_that_were() -> None:
    schemes = Schemes(SECURE)
    lines = [("HTTP_X_FORWARDED_PROTO", "https"), ("HTTP_X_FORWARDED_PROTO", "wss"), ("HTTP_HOST", "http")]
    assert schemes.of(lines, peer="") == "https"
    with pytest.raises(Refusal) as refused:
        schemes.of([*lines, ("HTTP_X_FORWARDED_SSL", "off")], peer="")
    assert refused.value.extra["peer"] == name_of("") == "a Unix socket"
    assert schemes.of([("HTTP_HOST", "http")], peer="") == ""
