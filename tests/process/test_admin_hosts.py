"""The Host names that the listener of [admin] answers to."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING

from tests.support.ctl import fleet

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[app]
target = "site_under_test:application"
[server]
bind = "127.0.0.1:0"
[workers]
kind = "sync"
count = 1
[logging]
error = "error.log"
[admin]
bind = "127.0.0.1:0"
{hosts}
"""
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def ask(port: int, host: str, path: str = "/metrics") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_name_that_is_not_declared_reads_nothing_and_is_told_the_setting(tmp_path: Path) -> None:
    (tmp_path / "site_under_test.py").write_text(APPLICATION)
    with fleet(tmp_path, CONFIG.format(hosts='hosts = ["metrics.internal"]')) as ctl:
        ctl.start()
        found = re.search(r"admin pages at \S*?:(\d+)$", (tmp_path / "error.log").read_text(), re.MULTILINE)
        assert found is not None
        port = int(found[1])
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            status, body = ask(port, f"rebound.example:{port}", path)
            assert status == 421
            assert b"admin.hosts" in body
        for host in ("metrics.internal", f"10.244.1.7:{port}", "[2001:db8::7]", f"localhost:{port}"):
            assert ask(port, host)[0] == 200
        ctl.stop()
