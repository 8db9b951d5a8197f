"""Behind a real nginx, with the configuration that ships in configs/nginx/."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import websockets.sync.client

from tests.process.test_story import is_version, reload_broken_code, reload_good_code
from tests.support.ctl import fleet
from tests.support.projects import make_django
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).parents[2] / "configs" / "nginx"


def free_port() -> int:
    """nginx cannot be asked which port it got, so it is told one that the kernel has just had free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, *, web_socket: Path) -> Iterator[int]:
    """Run nginx with the shipped configuration; only the port, the socket and the places of its files differ."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "nginx is not installed; `make test` installs it"
    port = free_port()
    shipped = (SHIPPED / "nginx.conf").read_text()
    text, changes = re.subn(r"unix:/run/unicornd/web\.sock", f"unix:{web_socket}", shipped)
    text, listens = re.subn(r"listen 80;", f"listen 127.0.0.1:{port};", text)
    assert (changes, listens) == (1, 1)
    places = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{ access_log off; {places}")
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;\n{text}")
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)])
    try:
        eventually(lambda: _answers(port), "nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_django_behind_nginx_is_reloaded_without_a_failed_request(tmp_path: Path) -> None:
    project = make_django(tmp_path / "project")
    shipped = (SHIPPED / "unicornd.toml").read_text()
    web_socket = tmp_path / "web.sock"
    config = shipped.replace("/run/unicornd/web.sock", str(web_socket)).replace('count = "auto"', "count = 2")
    config = config.replace("[app]", f'[app]\nchdir = "{project.folder}"')
    folder = tmp_path / "nginx"
    folder.mkdir()
    with fleet(tmp_path, config) as ctl:
        ctl.start()
        with nginx(folder, web_socket=web_socket) as port:

            def connect() -> http.client.HTTPConnection:
                return http.client.HTTPConnection("127.0.0.1", port, timeout=20)

            upload(connect(), size=5 * 1024 * 1024 // 2)
            with Traffic(connect, clients=4, is_keepalive=True, check=is_version) as traffic:
                eventually(traffic.answered_more(20), "requests are answered")
                ctl.run("scale", "4")
                reload_good_code(ctl, project, traffic)
                reload_broken_code(ctl, project, traffic)
            assert not traffic.tally.failures, traffic.tally.failures[:5]
        ctl.stop()


LIVE = """\
import asyncio, pathlib

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"].upper()})
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
    while not pathlib.Path("gate").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"data: last\\n\\n"})
"""


def test_websockets_and_server_sent_events_pass_nginx(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(LIVE)
    web_socket = tmp_path / "web.sock"
    config = f'[app]\ntarget = "site_app:application"\n[server]\nbind = "unix:{web_socket}"\n[workers]\nkind = "asgi"\n'
    folder = tmp_path / "nginx"
    folder.mkdir()
    with fleet(tmp_path, config) as ctl:
        ctl.start()
        with nginx(folder, web_socket=web_socket) as port:
            with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/") as talk:
                talk.send("over nginx")
                assert talk.recv(timeout=20) == "OVER NGINX"
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            client.request("GET", "/events")
            stream = client.getresponse()
            assert stream.readline() == b"data: first\n", "it has come although the stream goes on"
            (tmp_path / "gate").touch()
            assert stream.read().endswith(b"data: last\n\n")
            client.close()
        ctl.stop()


def upload(client: http.client.HTTPConnection, *, size: int) -> None:
    client.request("POST", "/upload", body=b"x" * size)
    assert client.getresponse().read() == str(size).encode()
    client.close()
