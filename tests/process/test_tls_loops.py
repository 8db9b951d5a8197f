"""TLS at the kinds with an event loop: whoever speaks it is served, whoever does not costs a socket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect as connect_websocket

from tests.support.certificates import authority_in, client_context
from tests.support.kinds import LARGE, application
from tests.support.waiting import eventually
from tests.support.worker import CLIENT_TIMEOUT, POLICY, Gate, Setup, Worker, request, worker
from unicornd.config.sections.tls import TlsSettings
from unicornd.dataclass import dataclass, replace
from unicornd.units import Seconds
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.tls import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MUCH = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A kind with its loop, and who trusts whom."""

    kind: str
    asgi: AsgiPolicy
    tls: ssl.SSLContext
    trusting: ssl.SSLContext
    demanding: ssl.SSLContext
    known: ssl.SSLContext
    """Of a client with a certificate."""
    certificate: str
    """That one, as PEM."""

    def setup(self, **policy: Any) -> Setup:
        return Setup(kind=self.kind, policy=replace(POLICY, **policy), asgi=self.asgi, tls=self.tls, cells=4)

    def app(self, gate: Gate | None = None) -> Callable[..., Any]:
        return application(self.kind, gate)


@pytest.fixture(
    scope="module", params=[("asgi", "asyncio"), ("asgi", "uvloop"), ("tornado", "")], ids="-".join
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    kind, loop = request.param
    authority = authority_in(tmp_path_factory.mktemp("certificates"))
    server = authority.sign("server")
    own = authority.sign("client", "/C=DE/O=Müller, Söhne/CN=shop")
    tls = TlsSettings(certfile=server.certificate, keyfile=server.key)
    return World(
        kind=kind,
        asgi=AsgiPolicy(lifespan="off", loop=loop or "auto", request=Seconds(30.0), graceful=Seconds(30.0)),
        tls=make_context(tls),
        trusting=client_context(authority),
        demanding=make_context(
            tls.model_copy(update={"ca_certs": authority.pair.certificate, "cert_reqs": "required"})
        ),
        known=client_context(authority, own),
        certificate=own.certificate.read_text(),
    )


@contextlib.contextmanager
def raw(running: Worker) -> Iterator[socket.socket]:
    with socket.create_connection(running.address, timeout=CLIENT_TIMEOUT) as sock:
        yield sock


def still_serves(running: Worker, world: World) -> None:
    with running.connect(world.trusting) as client:
        assert client.get("/still").code == 200


def is_logged(running: Worker, text: str) -> None:
    eventually(lambda: text in running.log(), f"the log says {text!r}")


def test_a_connection_is_kept_and_speaks_http_1(world: World, tmp_path: Path) -> None:
    with worker(world.app(), tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            assert client.get("/").body == b"ok"


def test_the_application_knows_that_it_is_https(world: World, tmp_path: Path) -> None:
    with worker(world.app(), tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        assert client.get("/scheme").body == b"https"


def test_much_goes_up_and_comes_down_whole(world: World, tmp_path: Path) -> None:
    body = hashlib.sha256(b"x").digest() * (MUCH // 32)
    with worker(world.app(), tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        assert client.send(request("/echo", method="POST", body=body)).read().body == body
        assert len(client.get("/large").body) == LARGE


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"G"])
def test_plain_http_is_told_that_the_port_speaks_https(world: World, tmp_path: Path, said: bytes) -> None:
    with worker(world.app(), tmp_path, world.setup()) as running:
        with raw(running) as sock:
            sock.sendall(said)
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 400 Bad Request")
            assert b"this port speaks HTTPS" in answer
        still_serves(running, world)


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x00\x05hello", b"\x16" * 500, b"\x16\xff\xff\xff\xff\xff"])
def test_what_only_begins_like_tls_costs_its_connection_alone(
    world: World, tmp_path: Path, said: bytes
) -> None:
    with worker(world.app(), tmp_path, world.setup()) as running:
        with raw(running) as sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(said)
            while sock.recv(4096):
                pass
        still_serves(running, world)
        assert "Traceback" not in running.log()


def test_others_are_served_while_handshakes_stall_and_these_end_after_their_time(
    world: World, tmp_path: Path
) -> None:
    with (
        worker(world.app(), tmp_path, world.setup(head=Seconds(0.5))) as running,
        raw(running) as silent,
        raw(running) as slow,
    ):
        slow.sendall(b"\x16\x03\x01")
        still_serves(running, world)
        for sock in (silent, slow):
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        assert "Traceback" not in running.log()


def test_a_client_without_the_certificate_that_is_required_is_not_served(
    world: World, tmp_path: Path
) -> None:
    with worker(world.app(), tmp_path, replace(world.setup(), tls=world.demanding)) as running:
        with (
            pytest.raises((ssl.SSLError, EOFError, ConnectionResetError, BrokenPipeError)),
            running.connect(world.trusting) as client,
        ):
            client.get("/")
        assert "Traceback" not in running.log()


async def tls_teller(scope: dict[str, Any], receive: Any, send: Any) -> None:
    told = json.dumps(scope.get("extensions", {}).get("tls")).encode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": told.decode()})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told})


def environ_teller(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [json.dumps({key: value for key, value in environ.items() if "SSL" in key}).encode()]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_application_is_told_of_the_clients_certificate(
    world: World, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    app: Any = tls_teller if world.kind == "asgi" else environ_teller
    world.known.maximum_version = version
    with (
        worker(app, tmp_path, replace(world.setup(), tls=world.demanding)) as running,
        running.connect(world.known) as client,
    ):
        assert isinstance(client.sock, ssl.SSLSocket)
        suite = client.sock.cipher()
        for _ in range(2):
            told = json.loads(client.get().body)
            if world.kind == "tornado":
                assert told["SSL_CLIENT_VERIFY"] == "SUCCESS"
                assert told["SSL_CLIENT_S_DN"].encode("latin-1").decode() == r"CN=shop,O=Müller\, Söhne,C=DE"
                assert told["SSL_CLIENT_CERT"].strip() == world.certificate.strip()
                continue
            [certificate] = told.pop("client_cert_chain")
            assert certificate.strip() == world.certificate.strip()
            ids = {each["name"]: each["id"] & 0xFFFF for each in world.known.get_ciphers()}
            assert suite is not None
            assert told == {
                "server_cert": None,
                "client_cert_name": r"CN=shop,O=Müller\, Söhne,C=DE",
                "client_cert_error": None,
                "tls_version": {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}[suite[1]],
                "cipher_suite": ids[suite[0]],
            }


def test_a_client_without_a_certificate_is_told_of_as_such(world: World, tmp_path: Path) -> None:
    app: Any = tls_teller if world.kind == "asgi" else environ_teller
    with worker(app, tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        told = json.loads(client.get().body)
    if world.kind == "tornado":
        assert told == {"SSL_CLIENT_VERIFY": "NONE"}
    else:
        assert (told["client_cert_chain"], told["client_cert_name"]) == ([], None)
        assert told["tls_version"] == 0x0304
    with (
        worker(app, tmp_path, replace(world.setup(), family=socket.AF_UNIX)) as running,
        running.connect() as client,
    ):
        assert not json.loads(client.get().body), "a Unix socket stays plain"


def test_the_end_of_a_connection_is_told(world: World, tmp_path: Path) -> None:
    """A close_notify: whoever takes a body to its end without a length knows that nobody has cut it (RFC 8446 6.1)."""
    with worker(world.app(), tmp_path, world.setup(keepalive=Seconds(0.3))) as running:
        for fields in ("Connection: close\r\n", ""):
            with running.connect(world.trusting) as client:
                assert client.get(fields=fields).code == 200
                assert client.is_at_end()
        with running.connect(world.trusting) as client:
            assert client.send(b"nonsense\r\n\r\n").read().code == 400
            assert client.is_at_end()


@pytest.mark.parametrize("world", [("asgi", "asyncio"), ("asgi", "uvloop")], indirect=True, ids="-".join)
def test_a_websocket_is_told_of_the_clients_certificate(world: World, tmp_path: Path) -> None:
    with worker(tls_teller, tmp_path, replace(world.setup(), tls=world.demanding)) as running:
        sock = socket.create_connection(running.address, timeout=CLIENT_TIMEOUT)
        address = f"wss://localhost:{running.address[1]}/"
        with connect_websocket(address, sock=sock, ssl=world.known, server_hostname="localhost") as client:
            told = json.loads(client.recv())
            assert told["client_cert_name"].startswith("CN=shop,")
            assert len(told["client_cert_chain"]) == 1


@pytest.mark.parametrize("is_orderly", [True, False])
def test_a_client_that_ends_is_forgotten(world: World, tmp_path: Path, is_orderly: bool) -> None:  # noqa: FBT001 - a parameter of the test
    with worker(world.app(), tmp_path, world.setup()) as running:
        client = running.connect(world.trusting)
        assert client.get("/").code == 200
        assert running.has_clients()
        assert isinstance(client.sock, ssl.SSLSocket)
        if is_orderly:
            client.sock.unwrap().close()
        client.close()
        eventually(lambda: not running.has_clients(), "the worker has closed the connection")
        assert "ERROR" not in running.log()


def test_a_worker_that_leaves_answers_and_waits_for_nobody_else(world: World, tmp_path: Path) -> None:
    gate = Gate()
    with (
        worker(world.app(gate), tmp_path, world.setup()) as running,
        running.connect(world.trusting) as client,
        raw(running) as stalled,
    ):
        stalled.sendall(b"\x16\x03\x01")
        client.send(request("/wait"))
        gate.wait_for(1)
        running.drain()
        gate.open()
        assert client.read().body == b"ok"
        assert running.wait() == 0


def test_a_unix_socket_stays_plain(world: World, tmp_path: Path) -> None:
    setup = replace(world.setup(), family=socket.AF_UNIX)
    with worker(world.app(), tmp_path, setup) as running, running.connect() as client:
        assert client.get("/scheme").body == b"http"


@pytest.mark.parametrize("world", [("asgi", "asyncio"), ("asgi", "uvloop")], indirect=True, ids="-".join)
def test_a_websocket_goes_over_it(world: World, tmp_path: Path) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": f"{scope['scheme']} {message['text']}"})
        await send({"type": "websocket.close"})

    with worker(app, tmp_path, world.setup()) as running:
        address = f"wss://localhost:{running.address[1]}/"
        sock = socket.create_connection(running.address, timeout=CLIENT_TIMEOUT)
        with connect_websocket(address, sock=sock, ssl=world.trusting, server_hostname="localhost") as client:
            client.send("hello")
            assert client.recv() == "wss hello"
