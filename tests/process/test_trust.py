"""One rule of what a trusted proxy says, in every kind; and what it says in vain is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.test_wire import talk
from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import ASGI, EVERY_KIND
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = {
    "wsgi": """\
def application(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.url_scheme"].encode()]
""",
    "asgi": """\
async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})
""",
}
HTTPS = [
    b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: HTTPS", b"X-Forwarded-Proto: wss", b"X-Forwarded-Proto: https, https",
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https", b"X-Forwarded-Ssl: ON", b"X-Forwarded-Protocol: ssl",
    b"X-Forwarded-Proto: Https\r\nX-Forwarded-Ssl: on",
]  # fmt: skip
HTTP = [
    b"A: b",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Proto: ws, http",
    b"X-Forwarded-Ssl: off",
    b"X-Forwarded-Proto:",
]
CONTRADICTING = {
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http": "X-Forwarded-Proto: https",
    b"X-Forwarded-Proto: https,http": "X-Forwarded-Proto: https,http",
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Protocol: https": "X-Forwarded-Protocol: https",
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        yield fleet


def asked(fleet: Fleet, fields: bytes) -> tuple[int, bytes]:
    return talk(fleet, b"GET / HTTP/1.0\r\nHost: x\r\n" + fields + b"\r\n\r\n")


def logged(fleet: Fleet, text: str, *, behind: str = "") -> str:
    """Wait for the one new line of the log with a text, and return it."""

    def lines() -> list[str]:
        return [line for line in fleet.log.removeprefix(behind).splitlines() if text in line]

    eventually(lambda: bool(lines()), f"the log says {text!r}")
    [line] = lines()
    return line


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_reads_the_scheme_by_one_rule_and_logs_what_it_refuses(fleet: Fleet, kind: str) -> None:
    fleet.write("site_app.py", APP["asgi" if kind in ASGI else "wsgi"])
    fleet.start("-w", "1", "-k", kind)
    assert {fields: asked(fleet, fields) for fields in HTTPS} == dict.fromkeys(HTTPS, (200, b"https"))
    assert {fields: asked(fleet, fields) for fields in HTTP} == dict.fromkeys(HTTP, (200, b"http"))
    for fields, told in CONTRADICTING.items():
        before = fleet.log
        status, body = asked(fleet, fields)
        assert status == 400
        assert b"127.0.0.1" not in body
        line = logged(fleet, "request refused", behind=before)
        why = "400 headers about the scheme contradict each other (RFC 9110 section 4.2.2)"
        assert all(part in line for part in (why, told, "127.0.0.1", "proxy.secure_scheme_headers")), line
    for _ in range(2):
        assert asked(fleet, b"X_Real_IP: 1.2.3.4\r\nX-Plain: a_b")[0] == 200
    line = logged(fleet, "underscore")
    assert "x_real_ip" in line.lower(), line  # tornado writes names in a way of its own
    assert "127.0.0.1" in line
    for version in (b"1.2", b"1.9"):  # nobody has published them
        status, _ = talk(fleet, b"GET / HTTP/" + version + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status == (400 if kind in ASGI else 505)


def test_what_a_stranger_says_is_neither_believed_nor_told(fleet: Fleet) -> None:
    fleet.write(
        "unicornd.toml",
        (fleet.folder / "unicornd.toml").read_text() + '[proxy]\nforwarded_allow_ips = ["10.0.0.0/8"]\n',
    )
    fleet.write("site_app.py", APP["wsgi"])
    fleet.start("-w", "1")
    assert asked(fleet, b"X-Forwarded-Proto: https, http\r\nX_Real_IP: 1.2.3.4") == (200, b"http")
    assert "underscore" not in fleet.log
