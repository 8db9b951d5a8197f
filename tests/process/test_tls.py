"""TLS at one worker: handshakes of all speeds, bytes in both directions, clients' certificates, and every kind of end.

Clients take a connection that ends without close_notify for an error (`suppress_ragged_eofs` is off).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import Authority, Pair, authority_in, client_context
from tests.support.waiting import eventually
from tests.support.worker import CLIENT_TIMEOUT, POLICY, Client, Gate, Setup, Worker, request, worker
from unicornd.config.sections.tls import TlsSettings
from unicornd.dataclass import dataclass, replace
from unicornd.units import Seconds
from unicornd.workers.dispatch import HUNG_UP_AFTER
from unicornd.workers.tls import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KINDS = ["threads", "gevent", "gevent_pywsgi", "eventlet"]
"""Those that keep connections."""
every_kind = pytest.mark.parametrize("world", ["sync", *KINDS], indirect=True)
MUCH = 20_000_000
BLOCK = bytes(range(256)) * 4096
SMALL_WINDOW = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who trusts whom."""

    authority: Authority
    server: Pair
    trusting: ssl.SSLContext
    kind: str

    def setup(self, policy: Any = POLICY, *, threads: int = 1, **tls: Any) -> Setup:
        settings = TlsSettings(certfile=self.server.certificate, keyfile=self.server.key, **tls)
        return Setup(kind=self.kind, policy=policy, threads=threads, tls=make_context(settings))


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    authority = authority_in(tmp_path_factory.mktemp("certificates"))
    server = authority.sign("server")
    return World(authority=authority, server=server, trusting=client_context(authority), kind=request.param)


@pytest.fixture(scope="module")
def running(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests that only send it bytes; it has to end in order when it has seen all of this."""
    with worker(site, tmp_path_factory.mktemp(world.kind), world.setup()) as made:
        yield made


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer by path."""
    match environ["PATH_INFO"]:
        case "/much":
            start_response("200 OK", [("Content-Length", str(MUCH))])
            return (BLOCK[: min(len(BLOCK), MUCH - at)] for at in range(0, MUCH, len(BLOCK)))
        case "/whole":
            start_response("200 OK", [("Content-Length", str(MUCH))])
            return [much()]
        case "/environ":
            answer = json.dumps(
                {key: value for key, value in environ.items() if isinstance(value, str)}
            ).encode()
        case path:
            body = environ["wsgi.input"].read()
            answer = f"{environ['REQUEST_METHOD']} {path} {hashlib.sha256(body).hexdigest() if body else ''}".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


def much() -> bytes:
    return (BLOCK * (MUCH // len(BLOCK) + 1))[:MUCH]


def is_refused(running: Worker, context: ssl.SSLContext) -> str:
    """Return why a handshake, or the first request of TLS 1.3 behind it, is refused."""
    with pytest.raises((ssl.SSLError, EOFError)) as refused, running.connect(context) as client:
        client.get("/")
    return str(refused.value)


@contextlib.contextmanager
def raw(running: Worker) -> Iterator[socket.socket]:
    with socket.create_connection(running.address, timeout=CLIENT_TIMEOUT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def logs(running: Worker, text: str) -> None:
    eventually(lambda: text in running.log(), f"the log says {text!r}")


def still_serves(running: Worker, world: World) -> None:
    with running.connect(world.trusting) as client:
        assert client.get("/still").code == 200


@every_kind
def test_a_request_is_answered_and_the_application_knows_that_it_is_https(
    world: World, running: Worker
) -> None:
    with running.connect(world.trusting) as client:
        environ = json.loads(client.get("/environ").body)
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["HTTPS"] == "on"
        assert environ["SSL_CLIENT_VERIFY"] == "NONE"
        assert environ["SERVER_PORT"] == str(running.address[1])
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.sock.version() == "TLSv1.3"


def test_a_connection_is_kept_and_a_pipeline_is_answered_in_order(world: World, running: Worker) -> None:
    with running.connect(world.trusting) as client:
        assert client.get("/1").body == b"GET /1 "
        assert client.get("/2").body == b"GET /2 "
        client.send(b"".join(request(f"/{number}") for number in range(50)))
        assert [client.read().body for _ in range(50)] == [f"GET /{number} ".encode() for number in range(50)]


def test_a_pipeline_of_many_records_is_answered(world: World, running: Worker) -> None:
    """More than is read at a time, in records that end within requests."""
    body = os.urandom(70_000)
    digest = hashlib.sha256(body).hexdigest().encode()
    with running.connect(world.trusting) as client:
        client.send(b"".join(request(f"/{number}", method="POST", body=body) for number in range(20)))
        for number in range(20):
            assert client.read().body == f"POST /{number} ".encode() + digest


@every_kind
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_and_a_request_that_come_byte_by_byte_are_answered(
    world: World, running: Worker, version: ssl.TLSVersion
) -> None:
    context = client_context(world.authority)
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    with raw(running) as sock:

        def handshake() -> bool:
            client.do_handshake()
            return True

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    done = None
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                if done is not None:
                    return done
                incoming.write(sock.recv(65536))

        until_done(handshake)
        client.write(request("/slowly"))
        received = b""
        while not received.endswith(b"\r\n\r\nGET /slowly "):  # in one record, or head and body apart
            received += until_done(lambda: client.read(65536))


def shrink_buffers() -> None:
    """Have the kernel keep little of what is sent; accepted sockets have it from their listener."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_WINDOW)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_chain_that_is_larger_than_the_kernel_takes_at_once_is_sent(
    world: World, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text(
        world.server.certificate.read_text() + 150 * world.authority.pair.certificate.read_text()
    )
    settings = TlsSettings(certfile=chain, keyfile=world.server.key)
    setup = replace(world.setup(), tls=make_context(settings), before=shrink_buffers)
    context = client_context(world.authority)
    context.maximum_version = version
    with worker(site, tmp_path, setup) as running, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        sock.settimeout(CLIENT_TIMEOUT)
        sock.connect(running.address)
        with context.wrap_socket(sock, server_hostname="localhost") as client:
            for _ in range(2):
                client.sendall(request("/much", method="HEAD"))
                assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_others_are_served_while_a_handshake_stalls_and_it_ends_after_its_time(
    world: World, tmp_path: Path
) -> None:
    policy = replace(POLICY, head=Seconds(0.4))
    with (
        worker(site, tmp_path, world.setup(policy)) as running,
        raw(running) as silent,
        raw(running) as begun,
    ):
        begun.sendall(b"\x16\x03")
        still_serves(running, world)
        assert silent.recv(100) == b""
        assert begun.recv(100) == b""
        still_serves(running, world)


@pytest.mark.parametrize("path", ["/much", "/whole"])
def test_twenty_megabytes_come_down_whole(world: World, running: Worker, path: str) -> None:
    with running.connect(world.trusting) as client:
        assert client.get(path).body == much()
        assert client.get("/again").code == 200


@every_kind
def test_twenty_megabytes_go_up_whole(world: World, running: Worker) -> None:
    with running.connect(world.trusting) as client:
        answer = client.send(request("/up", method="POST", body=much())).read()
        assert answer.body == f"POST /up {hashlib.sha256(much()).hexdigest()}".encode()


@pytest.mark.parametrize("size", [1, 16384, 131072, MUCH])
def test_a_file_is_sent_whole(world: World, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(much()[:size])

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"))
        return wrapped

    with worker(app, tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        for _ in range(2):
            assert client.get("/").body == file.read_bytes()
        eventually(lambda: str(file) not in running.open_files(), "the file is closed")


@pytest.mark.parametrize("path", ["/much", "/whole"])
def test_a_client_that_reads_slowly_gets_all_and_holds_nobody_up(
    world: World, tmp_path: Path, path: str
) -> None:
    policy = replace(POLICY, response_buffer=2 * MUCH)
    with worker(site, tmp_path, world.setup(policy)) as running:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
            sock.settimeout(CLIENT_TIMEOUT)
            sock.connect(running.address)
            with world.trusting.wrap_socket(sock, server_hostname="localhost") as slow:
                slow.sendall(request(path))
                still_serves(running, world)
                received = bytearray()
                while len(received) < MUCH:
                    received += slow.recv(65536)
                assert received.partition(b"\r\n\r\n")[2] + read_rest(slow, received) == much()
        still_serves(running, world)


def read_rest(slow: ssl.SSLSocket, received: bytearray) -> bytes:
    missing = MUCH + received.index(b"\r\n\r\n") + 4 - len(received)
    rest = bytearray()
    while len(rest) < missing:
        rest += slow.recv(missing - len(rest))
    return bytes(rest)


def test_a_client_that_does_not_read_is_given_up_without_an_orderly_end(world: World, tmp_path: Path) -> None:
    policy = replace(POLICY, write=Seconds(0.3))
    with worker(site, tmp_path, world.setup(policy)) as running, running.connect(world.trusting) as client:
        client.send(request("/whole"))
        eventually(lambda: not running.has_clients(), "the worker has closed the connection")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.read()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"G", b"HTTP/1.1 400 Bad Request"),
    ],
)
def test_plain_http_is_told_that_the_port_speaks_https(running: Worker, said: bytes, status: bytes) -> None:
    with raw(running) as sock:
        sock.sendall(said)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(status)
        assert b"this port speaks HTTPS" in answer


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x00\x05hello", b"\x16" * 500, b"\x16\xff\xff\xff\xff\xff"])
def test_what_only_begins_like_tls_costs_its_connection_alone(
    world: World, running: Worker, said: bytes
) -> None:
    with raw(running) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in b"".join(iter(lambda: sock.recv(65536), b""))
    still_serves(running, world)


def test_bytes_that_nobody_encrypted_end_the_connection(world: World, running: Worker) -> None:
    with running.connect(world.trusting) as client:
        assert client.get("/").code == 200
        os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            client.read()
    still_serves(running, world)


def old_client(world: World, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = client_context(world.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("minimum", "version"),
    [("TLSv1.2", ssl.TLSVersion.TLSv1_1), ("TLSv1.3", ssl.TLSVersion.TLSv1_2)],
)
def test_an_older_version_than_the_oldest_allowed_is_refused(
    world: World, tmp_path: Path, minimum: str, version: ssl.TLSVersion
) -> None:
    with worker(site, tmp_path, world.setup(minimum_version=minimum)) as running:
        assert "PROTOCOL_VERSION" in is_refused(running, old_client(world, version))
        logs(running, "the TLS handshake has failed: unsupported protocol")
        still_serves(running, world)


def test_only_the_ciphers_that_are_set_are_spoken(world: World, tmp_path: Path) -> None:
    with worker(site, tmp_path, world.setup(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")) as running:
        context = client_context(world.authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with running.connect(context) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert (client.sock.cipher() or ("",))[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert "HANDSHAKE_FAILURE" in is_refused(running, context)


@pytest.mark.parametrize("demand", ["optional", "required"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_with_a_certificate_is_known_to_the_application(
    world: World, tmp_path: Path, demand: str, version: ssl.TLSVersion
) -> None:
    own = world.authority.sign("client", "/C=DE/O=Müller, Söhne/CN=shop")
    context = client_context(world.authority, own)
    context.maximum_version = version
    setup = world.setup(cert_reqs=demand, ca_certs=world.authority.pair.certificate)
    with worker(site, tmp_path, setup) as running, running.connect(context) as client:
        for _ in range(2):
            environ = json.loads(client.get("/environ").body)
            assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
            assert environ["SSL_CLIENT_S_DN"].encode("latin-1").decode() == r"CN=shop,O=Müller\, Söhne,C=DE"
            assert environ["SSL_CLIENT_I_DN"] == "CN=authority"
            assert environ["SSL_CLIENT_CERT"].strip() == own.certificate.read_text().strip()
        client.close()
        if demand == "optional":
            with running.connect(world.trusting) as other:
                assert json.loads(other.get("/environ").body)["SSL_CLIENT_VERIFY"] == "NONE"


def test_without_the_certificate_that_is_required_nobody_is_served(world: World, tmp_path: Path) -> None:
    served = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        served.enter()
        return site(environ, start_response)

    served.open()
    setup = world.setup(cert_reqs="required", ca_certs=world.authority.pair.certificate)
    with worker(app, tmp_path, setup) as running:
        assert "CERTIFICATE_REQUIRED" in is_refused(running, world.trusting)
        logs(running, "peer did not return a certificate")
        with running.connect(client_context(world.authority, world.authority.sign("right"))) as client:
            assert client.get("/").code == 200
    assert served.arrivals == 1


@pytest.mark.parametrize("demand", ["optional", "required"])
def test_a_certificate_of_somebody_else_is_refused(world: World, tmp_path: Path, demand: str) -> None:
    stranger = authority_in(tmp_path, "stranger").sign("client")
    setup = world.setup(cert_reqs=demand, ca_certs=world.authority.pair.certificate)
    with worker(site, tmp_path, setup) as running:
        assert "UNKNOWN_CA" in is_refused(running, client_context(world.authority, stranger))
        logs(running, "certificate verify failed")


@pytest.mark.parametrize("fields", ["Connection: close\r\n", ""])
def test_an_orderly_end_is_told(world: World, tmp_path: Path, fields: str) -> None:
    policy = replace(POLICY, keepalive=Seconds(0.3))
    with worker(site, tmp_path, world.setup(policy)) as running, running.connect(world.trusting) as client:
        assert client.get("/", fields=fields).code == 200
        assert client.is_at_end(), "close_notify, else this is an SSLEOFError"


def test_a_response_that_breaks_off_is_not_taken_for_whole(world: World, tmp_path: Path) -> None:
    """Its end would be the end of the connection, so there must be no orderly one."""

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise RuntimeError

    with worker(app, tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.read()


@pytest.mark.parametrize("is_orderly", [True, False])
def test_a_client_that_ends_is_forgotten(world: World, running: Worker, is_orderly: bool) -> None:  # noqa: FBT001 - a parameter of the test
    before = len(running.log())
    client = running.connect(world.trusting)
    assert client.get("/").code == 200
    assert running.has_clients()
    assert isinstance(client.sock, ssl.SSLSocket)
    if is_orderly:
        client.sock.unwrap().close()
    client.close()
    eventually(lambda: not running.has_clients(), "the worker has closed the connection")
    assert "ERROR" not in running.log()[before:]


only_threads = pytest.mark.parametrize("world", ["threads"], indirect=True)
"""What waits for a thread, which a kind with greenlets does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A worker with one thread: it is in `first`; behind that wait two requests, of which one stays in `second`."""

    first: Gate
    second: Gate
    clients: tuple[Client, Client]

    def wait(self) -> None:
        """Let the first of the two run, and the other one wait longer than the worker believes in its client."""
        self.first.open()
        self.second.wait_for(1)
        begin = time.monotonic()
        eventually(lambda: time.monotonic() - begin > 2 * HUNG_UP_AFTER, "some time has passed")


@contextlib.contextmanager
def queue(world: World, folder: Path, setup: Setup) -> Iterator[Queue]:
    first, second = Gate(), Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/first":
                first.enter()
            case "/second":
                second.enter()
        return site(environ, start_response)

    with worker(app, folder, setup) as running, contextlib.ExitStack() as stack:
        blocking, *others = (stack.enter_context(running.connect(world.trusting)) for _ in range(3))
        for other in others:
            assert other.get("/").code == 200
        blocking.send(request("/first"))
        first.wait_for(1)
        for other in others:
            other.send(request("/second"))
        yield Queue(first=first, second=second, clients=(others[0], others[1]))
        assert blocking.read().code == 200


@only_threads
def test_the_next_request_that_comes_while_one_waits_is_answered_too(world: World, tmp_path: Path) -> None:
    """The worker looks whether a client that has waited long is still there: what it finds is kept."""
    with queue(world, tmp_path, world.setup()) as waiting:
        waiting.wait()
        for client in waiting.clients:
            client.send(request("/next", method="POST", body=b"1"))
        waiting.second.open()
        for client in waiting.clients:
            assert client.read().body == b"GET /second "
            assert client.read().body.startswith(b"POST /next ")
    assert waiting.second.arrivals == 2


@only_threads
def test_a_request_whose_client_has_ended_meanwhile_is_not_run(world: World, tmp_path: Path) -> None:
    with queue(world, tmp_path, world.setup()) as waiting:
        waiting.wait()
        stays, leaves = waiting.clients
        assert isinstance(leaves.sock, ssl.SSLSocket)
        leaves.sock.setblocking(False)  # the server's own end is not waited for
        with contextlib.suppress(ssl.SSLWantReadError):
            leaves.sock.unwrap()
        waiting.second.open()
        assert stays.read().code == 200
    assert waiting.second.arrivals == 1


def test_a_client_that_waits_to_be_told_sends_its_body(world: World, running: Worker) -> None:
    with running.connect(world.trusting) as client:
        client.send(request("/", method="POST", fields="Content-Length: 3\r\nExpect: 100-continue\r\n"))
        assert client.read().code == 100
        assert client.send(b"abc").read().code == 200


def test_a_request_that_cannot_be_served_is_told_why_and_the_end_is_orderly(
    world: World, running: Worker
) -> None:
    with running.connect(world.trusting) as client:
        client.send("GET / HTTP/1.1\r\n\r\n")
        assert client.read().code == 400
        assert client.is_at_end()


def test_a_connection_that_waits_when_its_worker_leaves_is_told_to_end(world: World, tmp_path: Path) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.enter()
        return site(environ, start_response)

    with worker(app, tmp_path, world.setup()) as running, running.connect(world.trusting) as client:
        client.send(request("/"))
        gate.wait_for(1)
        running.drain()
        gate.open()
        answer = client.read()
        assert answer.fields["connection"] == "close"
        assert client.is_at_end()
        assert running.wait() == 0


def test_a_unix_socket_stays_plain(world: World, tmp_path: Path) -> None:
    setup = replace(world.setup(), family=socket.AF_UNIX)
    with worker(site, tmp_path, setup) as running, running.connect() as client:
        environ = json.loads(client.get("/environ").body)
        assert environ["wsgi.url_scheme"] == "http"
        assert "HTTPS" not in environ


def test_a_key_update_of_the_client_is_followed(running: Worker) -> None:
    """`openssl s_client` asks for one with the letter K (and tells the server to follow)."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.address[1]}", "-tls1_3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"K\n")
        assert b"KEYUPDATE\n" in iter(client.stdout.readline, b"")
        client.stdin.write(request("/", fields="Connection: close\r\n"))
        assert b"HTTP/1.1 200 OK\r\n" in client.stdout.read()
