"""What is spoken on a connection beside plain HTTP, and whose word is taken: seen by an application."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.test_nginx import free_port
from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ECHO = """\
import json

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["body"] = len(body)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""
KINDS = [("-w", "1"), ("-w", "1", "-k", "threads", "--threads", "2"), ("-w", "1", "-k", "gevent")]
WSGI_KINDS = ["threads", "gevent", "gevent_pywsgi", "tornado"]
"""One of each that makes an environ in its own way: `sync` is as `threads` there, `eventlet` as `gevent`."""
PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(
    "!H4s4sHH", 12, b"\x08\x08\x08\x08", b"\x09\x09\x09\x09", 77, 80
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", ECHO)
        yield fleet


def configured(fleet: Fleet, text: str) -> None:
    fleet.write("unicornd.toml", (fleet.folder / "unicornd.toml").read_text() + text)


def talk(fleet: Fleet, sent: bytes) -> tuple[int, bytes]:
    """Send bytes, return status and body of what comes until the connection ends; status 0 for nothing."""
    host, port = fleet.addresses()[0].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(sent)
        if b"\r\n\r\n" not in sent:  # tornado takes a client for gone that sends nothing more
            client.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


def seen(fleet: Fleet, fields: bytes = b"", *, path: bytes = b"/a/b", before: bytes = b"") -> dict[str, Any]:
    head = b"GET " + path + b" HTTP/1.0\r\nHost: x\r\n" + fields + b"\r\n"
    status, body = talk(fleet, before + head)
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("kind", WSGI_KINDS)
def test_a_trusted_peer_says_the_scheme_but_not_the_mount(fleet: Fleet, kind: str) -> None:
    fleet.start("-w", "1", "-k", kind)  # its clients may say SCRIPT_NAME, too, where it passes underscores on
    found = seen(fleet, b"X-Forwarded-Proto: https\r\nSCRIPT_NAME: /a\r\n")
    assert (found["wsgi.url_scheme"], found["SCRIPT_NAME"], found["PATH_INFO"]) == ("https", "", "/a/b")
    assert "HTTP_SCRIPT_NAME" not in found


@pytest.mark.parametrize("kind", WSGI_KINDS)
def test_a_trusted_peer_says_the_mount_if_it_may(fleet: Fleet, kind: str) -> None:
    fleet.start("-w", "1", "-k", kind, "--forwarder-headers", "SCRIPT_NAME")
    assert seen(fleet, b"X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == "https"
    found = seen(fleet, b"SCRIPT_NAME: /a\r\nREMOTE_USER: joe\r\n")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/a", "/b")
    assert "HTTP_REMOTE_USER" not in found, "only names that are allowed"
    contradiction = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n\r\n"
    assert talk(fleet, contradiction)[0] == 400
    assert talk(fleet, b"GET /x HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /a\r\n\r\n")[0] == 400


@pytest.mark.parametrize("kind", WSGI_KINDS)
def test_a_stranger_is_not_believed(fleet: Fleet, kind: str) -> None:
    configured(fleet, '[proxy]\nforwarded_allow_ips = ["10.0.0.0/8"]\n')
    fleet.start("-w", "1", "-k", kind)
    found = seen(fleet, b"X-Forwarded-Proto: https\r\nSCRIPT_NAME: /a\r\n")
    assert (found["wsgi.url_scheme"], found["SCRIPT_NAME"]) == ("http", "")


def test_the_variables_and_flags_of_gunicorn_say_whom_to_trust(fleet: Fleet) -> None:
    fleet.start(
        "-w", "1", "--forwarder-headers", "SCRIPT_NAME,REMOTE_USER", FORWARDED_ALLOW_IPS="127.0.0.0/8"
    )
    assert seen(fleet, b"REMOTE_USER: joe\r\n")["HTTP_REMOTE_USER"] == "joe"


@pytest.mark.parametrize(
    ("how", "kind"), [*(("setting", kind) for kind in WSGI_KINDS), ("variable", "threads")]
)
def test_a_standing_mount(fleet: Fleet, how: str, kind: str) -> None:
    if how == "setting":
        fleet.start("-w", "1", "-k", kind, "--set", "app.root_path=/a")
    else:
        fleet.start("-w", "1", "-k", kind, SCRIPT_NAME="/a")
    found = seen(fleet)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/a", "/b")


@pytest.mark.parametrize("kind", KINDS, ids=["sync", "threads", "gevent"])
@pytest.mark.parametrize("header", [b"PROXY TCP4 8.8.8.8 9.9.9.9 77 80\r\n", PROXY_V2], ids=["v1", "v2"])
def test_the_client_of_a_proxy_is_known_by_its_header(
    fleet: Fleet, kind: tuple[str, ...], header: bytes
) -> None:
    fleet.start(*kind, "--proxy-protocol")
    found = seen(fleet, before=header)
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"], found["PROXY_ADDR"]) == ("8.8.8.8", "77", "9.9.9.9")
    assert seen(fleet)["REMOTE_ADDR"] == "127.0.0.1", "auto: it may be missing"
    assert talk(fleet, b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 400
    assert seen(fleet, before=b"PROXY UNKNOWN\r\n")["REMOTE_ADDR"] == "127.0.0.1"


def test_a_header_in_pieces_and_a_pipeline_behind_it(fleet: Fleet) -> None:
    fleet.start("-w", "1", "-k", "threads", "--proxy-protocol", "v1")
    host, port = fleet.addresses()[0].split(":")
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"PROXY TCP4 8.8.8.8 9.9.9.9 77 80\r\n" + request[:5]:
            client.send(bytes([byte]))
        client.sendall(request[5:] + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.count(b'"REMOTE_ADDR": "8.8.8.8"') == 2
    assert talk(fleet, request)[0] == 400, "v1: it must not be missing"


def test_a_peer_that_may_not_send_a_header_is_refused(fleet: Fleet) -> None:
    configured(fleet, '[proxy]\nprotocol = "auto"\nallow_ips = ["10.0.0.0/8"]\n')
    fleet.start("-w", "1")
    assert talk(fleet, b"PROXY TCP4 8.8.8.8 9.9.9.9 77 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 403
    assert seen(fleet)["REMOTE_ADDR"] == "127.0.0.1"


@contextlib.contextmanager
def nginx(folder: Path, location: str) -> Iterator[int]:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "nginx is not installed; `make test` installs it"
    port = free_port()
    places = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root; events {{}}\n"
        f"http {{ access_log off; {places} client_max_body_size 0;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ include /etc/nginx/uwsgi_params; {location} }} }} }}\n"
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])

    def is_listening() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        eventually(is_listening, "nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("kind", KINDS, ids=["sync", "threads", "gevent"])
def test_uwsgi_behind_a_real_nginx(fleet: Fleet, tmp_path: Path, kind: tuple[str, ...]) -> None:
    fleet.start(*kind, "--protocol", "uwsgi")
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx(folder, f"uwsgi_pass {fleet.addresses()[0]};") as port:
        found: dict[str, Any] = {}
        for size in (0, 10, 3 * 2**20):
            done = subprocess.run(
                ["curl", "-sS", "--data-binary", "@-", "-H", "X-A: b", f"http://127.0.0.1:{port}/caf%C3%A9?a=1"],
                input=b"x" * size, capture_output=True, timeout=60, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout)
            assert (found["body"], found["REQUEST_METHOD"], found["QUERY_STRING"]) == (size, "POST", "a=1")
        assert found["PATH_INFO"] == "/caf\u00c3\u00a9"
        assert (found["HTTP_X_A"], found["REMOTE_ADDR"], found["SERVER_PORT"]) == (
            "b",
            "127.0.0.1",
            str(port),
        )


def test_uwsgi_from_a_stranger_and_nonsense_are_refused(fleet: Fleet) -> None:
    configured(fleet, "")
    fleet.start("-w", "1", "--protocol", "uwsgi", "--uwsgi-allow-from", "10.0.0.0/8")
    assert talk(fleet, b"\x00\x01\x00\x00x")[0] == 403
    fleet.send(signal.SIGTERM)
    fleet.exit_code()
    fleet.start("-w", "1", "--protocol", "uwsgi")
    assert talk(fleet, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 400
    assert talk(fleet, b"\x00\x03\x00\x00\xff\xffx")[0] == 400


SWITCHES = [
    ("--permit-unconventional-http-method", b"get / HTTP/1.1", b"", 200),
    ("--permit-unconventional-http-version", b"GET / HTTP/2.0", b"", 200),
    ("--permit-obsolete-folding", b"GET / HTTP/1.1", b"A: b\r\n c\r\n", 200),
    ("--strip-header-spaces", b"GET / HTTP/1.1", b"A : b\r\n", 200),
    ("--header-map=refuse", b"GET / HTTP/1.1", b"A_B: c\r\n", 400),
    ("--casefold-http-method", b"get / HTTP/1.1", b"", 200),
]
"""Flag, request line, fields, and the status that the flag makes of it; the last one is an alternative to the first."""


@pytest.mark.parametrize("kind", ["sync", "gevent_pywsgi"])
def test_a_switch_changes_what_is_accepted(fleet: Fleet, kind: str) -> None:
    for switches, is_on in ((SWITCHES[:-1], True), (SWITCHES[-1:], True), (SWITCHES, False)):
        flags = [flag for flag, *_ in switches] if is_on else []
        process = fleet.start("-w", "1", "-k", kind, *flags)
        for flag, line, fields, status in switches:
            request = line + b"\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n"
            assert (talk(fleet, request)[0] == status) is is_on, flag
        process.terminate()
        fleet.exit_code()


@pytest.mark.parametrize("kind", ["asgi", "tornado", "gevent_pywsgi"])
@pytest.mark.parametrize(
    ("said", "setting"),
    [
        ('[proxy]\nprotocol = "auto"\n', "proxy.protocol"),
        ('[server]\nbind = "127.0.0.1:0"\nprotocol = "uwsgi"\n', "server.protocol"),
        ("[http]\npermit_obsolete_folding = true\n", "http.permit_obsolete_folding"),
        ('[http]\nheader_map = "dangerous"\n', "http.header_map"),
        ('[proxy]\nforwarder_headers = ["REMOTE_USER"]\n', "proxy.forwarder_headers"),
        ('[http]\nbody_memory = "1MiB"\n', "http.body_memory"),
    ],
    ids=lambda said: said if "." in said and "[" not in said else "",
)
def test_what_a_kind_does_not_read_is_refused_before_anything_is_forked(
    fleet: Fleet, kind: str, said: str, setting: str
) -> None:
    honoured = {
        "gevent_pywsgi": {"http.permit_obsolete_folding", "http.header_map", "proxy.forwarder_headers"}
    }
    honoured["tornado"] = {"proxy.forwarder_headers"}
    text = (fleet.folder / "unicornd.toml").read_text().replace('[server]\nbind = "127.0.0.1:0"\n', "")
    said = said if "[server]" in said else f'[server]\nbind = "127.0.0.1:0"\n{said}'
    fleet.write("unicornd.toml", text + said)
    if setting in honoured.get(kind, ()):
        fleet.start("-w", "1", "-k", kind)
        return
    done = fleet.run("-w", "1", "-k", kind)
    assert done.returncode == 78
    assert f"{setting} has no effect on" in done.stderr


def test_what_the_kind_of_an_asgi_application_does_not_read_is_refused_by_its_worker(fleet: Fleet) -> None:
    fleet.write("site_app.py", "async def application(scope, receive, send): ...\n")
    done = fleet.run("-w", "1", "--proxy-protocol")
    assert done.returncode == 3
    assert 'proxy.protocol has no effect on the kind "asgi"' in done.stderr
