"""Connections with a PROXY header or in the uwsgi protocol across a change of workers, cut at each point that matters."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.prefaces import PROXY_V1, PROXY_V2, SOURCE, proxy_v2, tls_tlv, tlv, uwsgi_packet
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ["sync", "threads", "gevent", "eventlet"]
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
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n"
UWSGI = uwsgi_packet(REQUEST_METHOD="GET", REQUEST_URI="/", PATH_INFO="/", REMOTE_ADDR=SOURCE[0])
UWSGI_POST = uwsgi_packet(REQUEST_METHOD="POST", REQUEST_URI="/", PATH_INFO="/", CONTENT_LENGTH="6")
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


def begin_reload(fleet: Fleet, generation: int) -> None:
    """Have new code served by a new worker; the old one may still be there."""
    fleet.change("site_app.py", f'"v{generation - 1}"', f'"v{generation}"')
    fleet.send(signal.SIGHUP)
    fleet.await_log(f"generation {generation} serves")


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


class Cut:
    """A connection of which only a part of `sent` has been sent before its worker leaves."""

    def __init__(self, client: socket.socket, sent: bytes, *, place: int) -> None:
        self.client = client
        self._rest = sent[place:]
        client.sendall(sent[:place])

    def go_on(self) -> tuple[bytes, dict[str, Any]]:
        """Send the rest; return head and what the application has seen."""
        self.client.sendall(self._rest)
        return answer(self.client)


def configure(fleet: Fleet, text: str) -> None:
    path = fleet.folder / "unicornd.toml"
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_is_handed_over_wherever_its_proxy_header_is(fleet: Fleet, kind: str) -> None:
    """Before it, within its signature, within its rest, behind it, and within the request that follows.

    A worker that goes on with a connection trusts its peer, and not the client that the header has named.
    """
    configure(fleet, '[proxy]\nforwarded_allow_ips = ["8.8.8.8"]\n')
    started(fleet, kind, "--proxy-protocol")
    with contextlib.ExitStack() as stack:
        cut = [
            (name, Cut(stack.enter_context(opened(fleet)), header + REQUEST, place=place))
            for name, header in PROXIES.items()
            for place in (0, 5, len(header) - 3, len(header), len(header) + 9)
        ]
        await_connections(fleet, len(cut))
        begin_reload(fleet, 2)
        fleet.await_workers(1)
        for name, connection in cut:
            _, seen = connection.go_on()
            assert seen["version"] == "v2", "the worker that stays has answered"
            assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"], seen["PROXY_ADDR"]) == (*SOURCE, "9.9.9.9")
            assert seen["wsgi.url_scheme"] == ("https" if name == "tls" else "http")
            assert seen.get("SSL_CLIENT_S_DN_CN") == ("joe" if name == "tls" else None)


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_kept_connections_keep_what_their_header_has_told(fleet: Fleet, kind: str) -> None:
    """An idle one, with a header of 64 KiB, goes over twice; one whose request runs goes over after it."""
    configure(fleet, '[proxy]\nforwarded_allow_ips = ["8.8.8.8"]\n')
    started(fleet, kind, "--proxy-protocol")
    tlvs = tls_tlv(name=b"joe")
    header = proxy_v2(tlvs + tlv(0xE0, bytes(65535 - 12 - len(tlvs) - 3)))
    with opened(fleet) as idle, opened(fleet) as running:
        idle.sendall(header + REQUEST)
        head, seen = answer(idle)
        assert b"Connection: close" not in head
        assert (seen["REMOTE_ADDR"], seen["SSL_CLIENT_S_DN_CN"]) == (SOURCE[0], "joe")
        running.sendall(PROXY_V1 + REQUEST.replace(b"/ ", b"/wait ", 1))
        eventually(lambda: fleet.status()["workers"][0]["busy"] == 1, "it runs")
        begin_reload(fleet, 2)
        fleet.open_gate()
        head, _ = answer(running)
        assert b"Connection: close" not in head
        for generation in (2, 3):
            fleet.await_workers(1)
            for client, scheme in ((idle, "https"), (running, "http")):
                client.sendall(REQUEST)
                head, again = answer(client)
                assert b"Connection: close" not in head
                assert (again["version"], again["wsgi.url_scheme"]) == (f"v{generation}", scheme)
                assert again["REMOTE_ADDR"] == SOURCE[0]
                assert client is running or again == {**seen, "version": f"v{generation}"}
            if generation == 2:
                begin_reload(fleet, 3)


@pytest.mark.parametrize("kind", ["sync", "eventlet"])
def test_a_uwsgi_connection_is_handed_over_before_and_within_its_packet(fleet: Fleet, kind: str) -> None:
    """Behind it, while the body is coming, it is answered where it is."""
    started(fleet, kind, "--protocol", "uwsgi")
    with contextlib.ExitStack() as stack:
        cut = [
            Cut(stack.enter_context(opened(fleet)), UWSGI, place=place)
            for place in (0, 2, 30, len(UWSGI) - 1)
        ]
        in_body = Cut(stack.enter_context(opened(fleet)), UWSGI_POST + b"abcdef", place=len(UWSGI_POST) + 3)
        await_connections(fleet, len(cut) + 1)
        begin_reload(fleet, 2)
        _, seen = in_body.go_on()
        assert (seen["version"], seen["body"]) == ("v1", "abcdef")
        fleet.await_workers(1)
        for connection in cut:
            head, seen = connection.go_on()
            assert connection.client.recv(1) == b"", "one request a connection"
            assert (seen["version"], seen["REMOTE_ADDR"]) == ("v2", SOURCE[0])
            assert b"\r\nConnection:" not in head, "that is for the client of the server in front"


def test_scaling_down_and_recycling_keep_proxied_connections(fleet: Fleet) -> None:
    started(fleet, "threads", "--proxy-protocol", "-w", "3", "--max-requests", "10")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(opened(fleet)) for _ in range(12)]
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


def test_who_may_send_a_preface_is_what_the_new_configuration_says(fleet: Fleet) -> None:
    configure(fleet, '[proxy]\nprotocol = "v1"\n')
    started(fleet, "threads")
    with opened(fleet) as client:
        client.sendall(PROXY_V1[:9])
        await_connections(fleet, 1)
        configure(fleet, 'allow_ips = ["10.0.0.0/8"]\n')
        begin_reload(fleet, 2)
        fleet.await_workers(1)
        client.sendall(PROXY_V1[9:] + REQUEST)
        assert client.recv(4096).startswith(b"HTTP/1.1 403 ")
