"""Connections with a PROXY header or in the uwsgi protocol across a change of workers, cut at each point that matters."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.prefaces import PROXY_V1, PROXY_V2, SOURCE, proxy_v2, tls_tlv, uwsgi_packet
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ["sync", "threads", "gevent", "eventlet"]
KEEPING = ["threads", "gevent", "eventlet"]
APP = """\
import json, os, pathlib, time

VERSION = "v1"
GATE = pathlib.Path(__file__).parent / "gate"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        while not GATE.exists():
            time.sleep(0.01)
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen |= {"version": VERSION, "body": environ["wsgi.input"].read().decode("latin-1")}
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UWSGI = uwsgi_packet(REQUEST_METHOD="GET", REQUEST_URI="/", PATH_INFO="/", REMOTE_ADDR=SOURCE[0])
TLS_V2 = proxy_v2(tls_tlv(name=b"joe"))
PROXIES = {"v1": PROXY_V1, "v2": PROXY_V2, "tls": TLS_V2}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", APP)
        yield fleet


def started(fleet: Fleet, kind: str, *flags: str) -> None:
    fleet.start(
        "-k",
        kind,
        "-w",
        "1",
        "--keep-alive",
        "60",
        *(["--threads", "2"] if kind == "threads" else []),
        *flags,
    )


def opened(fleet: Fleet) -> socket.socket:
    host, port = fleet.addresses()[0].split(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def await_connections(fleet: Fleet, count: int) -> None:
    eventually(lambda: fleet.status()["workers"][0]["connections"] == count, "the worker has them")


def connected(fleet: Fleet) -> socket.socket:
    """A connection that the worker has accepted."""
    client = opened(fleet)
    await_connections(fleet, 1)
    return client


def reload(fleet: Fleet) -> None:
    """Have new code served by a new worker, and wait until the old one has left."""
    fleet.change("site_app.py", '"v1"', '"v2"')
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    fleet.await_workers(1)


def answer(client: socket.socket) -> tuple[bytes, dict[str, Any]]:
    """Read one response that has a length; return its head and what the application has seen."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(65536)
        assert data, f"the connection has ended: {received!r}"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), received
    [size] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
    while len(body) < size:
        data = client.recv(65536)
        assert data, "the response is cut"
        body += data
    found: dict[str, Any] = json.loads(body)
    return head, found


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_is_handed_over_wherever_its_proxy_header_is(fleet: Fleet, kind: str) -> None:
    """Before it, within its signature, within its rest, behind it, and within the request that follows."""
    started(fleet, kind, "--proxy-protocol")
    with contextlib.ExitStack() as stack:
        cut: list[tuple[str, socket.socket, bytes]] = []
        for name, header in PROXIES.items():
            for place in (0, 5, len(header) - 3, len(header), len(header) + 9):
                client = stack.enter_context(opened(fleet))
                client.sendall((header + REQUEST)[:place])
                cut.append((name, client, (header + REQUEST)[place:]))
        await_connections(fleet, len(cut))
        reload(fleet)
        for name, client, rest in cut:
            client.sendall(rest)
            _, seen = answer(client)
            assert seen["version"] == "v2", "the worker that stays has answered"
            assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"], seen["PROXY_ADDR"]) == (*SOURCE, "9.9.9.9")
            assert seen["wsgi.url_scheme"] == ("https" if name == "tls" else "http")
            assert seen.get("SSL_CLIENT_S_DN_CN") == ("joe" if name == "tls" else None)


@pytest.mark.parametrize("kind", KEEPING)
def test_a_kept_connection_keeps_the_client_that_its_header_has_named(fleet: Fleet, kind: str) -> None:
    started(fleet, kind, "--proxy-protocol")
    with connected(fleet) as client:
        client.sendall(TLS_V2 + REQUEST)
        head, seen = answer(client)
        assert b"Connection: close" not in head
        for generation in (2, 3):
            fleet.change("site_app.py", f'"v{generation - 1}"', f'"v{generation}"')
            fleet.send(signal.SIGHUP)
            fleet.await_log(f"generation {generation} serves")
            fleet.await_workers(1)
            client.sendall(REQUEST)
            head, again = answer(client)
            assert b"Connection: close" not in head
            assert again == {**seen, "version": f"v{generation}"}


@pytest.mark.parametrize("kind", KEEPING)
def test_a_connection_whose_request_runs_is_handed_over_after_it(fleet: Fleet, kind: str) -> None:
    started(fleet, kind, "--proxy-protocol")
    with connected(fleet) as client:
        client.sendall(PROXY_V2 + REQUEST.replace(b"/ ", b"/wait ", 1))
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "it runs")
        fleet.change("site_app.py", '"v1"', '"v2"')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        fleet.open_gate()
        head, seen = answer(client)
        assert seen["version"] == "v1"
        assert b"Connection: close" not in head
        client.sendall(REQUEST)
        _, seen = answer(client)
    assert (seen["version"], seen["REMOTE_ADDR"]) == ("v2", SOURCE[0])


@pytest.mark.parametrize("kind", KEEPING)
def test_whom_a_header_names_is_not_whom_we_trust(fleet: Fleet, kind: str) -> None:
    """Trust in headers about the scheme is the peer's; a worker that goes on with the connection must see the same one."""
    fleet.write(
        "unicornd.toml",
        (fleet.folder / "unicornd.toml").read_text() + '[proxy]\nforwarded_allow_ips = ["8.8.8.8"]\n',
    )
    started(fleet, kind, "--proxy-protocol")
    said = REQUEST.replace(b"Host", b"X-Forwarded-Proto: https\r\nHost")
    with connected(fleet) as client:
        client.sendall(PROXY_V1 + said)
        assert answer(client)[1]["wsgi.url_scheme"] == "http"
        reload(fleet)
        client.sendall(said)
        assert answer(client)[1]["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize("kind", KINDS)
def test_a_uwsgi_connection_is_handed_over_before_and_within_its_packet(fleet: Fleet, kind: str) -> None:
    started(fleet, kind, "--protocol", "uwsgi")
    with contextlib.ExitStack() as stack:
        cut: list[tuple[socket.socket, bytes]] = []
        for place in (0, 2, 30, len(UWSGI) - 1):
            client = stack.enter_context(opened(fleet))
            client.sendall(UWSGI[:place])
            cut.append((client, UWSGI[place:]))
        await_connections(fleet, len(cut))
        reload(fleet)
        for client, rest in cut:
            client.sendall(rest)
            head, seen = answer(client)
            assert client.recv(1) == b"", "one request a connection"
            assert (seen["version"], seen["REMOTE_ADDR"]) == ("v2", SOURCE[0])
            assert b"\r\nConnection:" not in head, "that is for the client of the server in front"


@pytest.mark.parametrize("kind", KINDS)
def test_a_uwsgi_request_whose_body_is_coming_is_answered_where_it_is(fleet: Fleet, kind: str) -> None:
    started(fleet, kind, "--protocol", "uwsgi")
    packet = uwsgi_packet(REQUEST_METHOD="POST", REQUEST_URI="/", PATH_INFO="/", CONTENT_LENGTH="6")
    with connected(fleet) as client:
        client.sendall(packet + b"abc")
        eventually(lambda: fleet.status()["workers"][0]["connections"] == 1, "the worker has it")
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        client.sendall(b"def")
        assert answer(client)[1]["body"] == "abcdef"


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_scaling_down_and_recycling_keep_proxied_connections(fleet: Fleet, kind: str) -> None:
    started(fleet, kind, "--proxy-protocol", "-w", "3", "--max-requests", "10")
    host, port = fleet.addresses()[0].split(":")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(12)
        ]
        for client in clients[:9]:
            client.sendall(PROXY_V2)
        fleet.await_workers(3)
        fleet.send(signal.SIGTTOU)
        fleet.await_workers(2)
        for client in clients[9:]:
            client.sendall(PROXY_V2)
        before = set(fleet.pids().values())

        def is_recycled() -> bool:
            for client in clients:
                client.sendall(REQUEST)
                head, seen = answer(client)
                assert seen["REMOTE_ADDR"] == SOURCE[0]
                assert b"Connection: close" not in head
            return not before & set(fleet.pids().values())

        eventually(is_recycled, "all workers have been replaced")


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_send_a_preface_is_what_the_new_configuration_says(fleet: Fleet, kind: str) -> None:
    started(fleet, kind)
    fleet.write("unicornd.toml", (fleet.folder / "unicornd.toml").read_text() + '[proxy]\nprotocol = "v1"\n')
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    fleet.await_workers(1)
    with connected(fleet) as client:
        client.sendall(PROXY_V1[:9])
        fleet.change("unicornd.toml", 'protocol = "v1"', 'protocol = "v1"\nallow_ips = ["10.0.0.0/8"]')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 3 serves")
        fleet.await_workers(1)
        client.sendall(PROXY_V1[9:] + REQUEST)
        assert client.recv(4096).startswith(b"HTTP/1.1 403 ")


def test_a_header_of_64_kib_is_read_and_its_connection_handed_over(fleet: Fleet) -> None:
    started(fleet, "threads", "--proxy-protocol")
    header = proxy_v2(b"\xe0" + struct.pack("!H", 65535 - 12 - 3) + bytes(65535 - 12 - 3))
    with connected(fleet) as client:
        client.sendall(header + REQUEST)
        assert answer(client)[1]["REMOTE_ADDR"] == SOURCE[0]
        reload(fleet)
        client.sendall(REQUEST)
        assert answer(client)[1]["version"] == "v2"
