"""TLS of a whole fleet: certificates at start and at reloads, what is refused and why, and nothing lost when workers leave."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority, Pair, authority_in, client_context, openssl
from tests.support.fleet import PATIENCE, Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = ("-k", "threads", "--threads", "4", "--keep-alive", "60")
TLS = '[tls]\ncertfile = "server.pem"\nkeyfile = "server.key"\n'
HOOKS = """\
import os, pathlib, ssl

def right(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pathlib.Path(__file__).with_name("book").open("a") as book:
        book.write(f"{os.getpid()} {config.certfile}\\n")
    return context

def own(config, default_ssl_context_factory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("server.pem", "server.key")
    return context

def nothing(config, default_ssl_context_factory): pass
def broken(config, default_ssl_context_factory): raise LookupError("no vault")
text = "no function"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A fleet, who vouches for it, and a client's side of TLS."""

    fleet: Fleet
    authority: Authority
    trusting: ssl.SSLContext

    def install(self, pair: Pair) -> None:
        """Put a certificate where the fleet looks for it; the names say nothing of its contents."""
        shutil.copy(pair.key, self.fleet.folder / "server.key")
        shutil.copy(pair.certificate, self.fleet.folder / "server.pem")

    def connect(self, address: str = "") -> http.client.HTTPSConnection:
        host, _, port = (address or self.fleet.addresses()[0]).rpartition(":")
        return http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=self.trusting)

    def get(self, path: str = "/") -> str:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def serial(self) -> str:
        """The certificate's, as a new client sees it."""
        with contextlib.closing(self.connect()) as connection:
            connection.connect()
            return serial_of(connection)

    def say(self, text: str) -> None:
        """Add to the configuration."""
        config = self.fleet.folder / "unicornd.toml"
        config.write_text(config.read_text() + text)


def serial_of(connection: http.client.HTTPSConnection) -> str:
    assert isinstance(connection.sock, ssl.SSLSocket)
    return str((connection.sock.getpeercert() or {})["serialNumber"])


def sees_another(site: Site, old: str) -> Callable[[], bool]:
    return lambda: site.serial() != old


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    with fleet_in(tmp_path) as fleet:
        made = Site(fleet=fleet, authority=authority, trusting=client_context(authority))
        made.install(authority.sign("first"))
        made.say(TLS)
        yield made


def curl(site: Site, *arguments: str) -> str:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--cacert",
        str(site.authority.pair.certificate),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["sync", "threads"])
def test_curl_is_served_and_keeps_its_connection_where_the_kind_does(site: Site, kind: str) -> None:
    site.fleet.start("-k", kind)
    url = f"https://localhost:{site.fleet.addresses()[0].rpartition(':')[2]}/"
    said = curl(site, "--write-out", " %{num_connects} %{http_version} %{ssl_verify_result}\n", url, url)
    first, second = said.splitlines()
    assert first.startswith("v1 ")
    assert first.endswith(" 1 1.1 0")
    assert second.endswith(" 0 1.1 0" if kind == "threads" else " 1 1.1 0")


@pytest.mark.parametrize("preload", [("--preload",), ()], ids=["preload", "plain"])
def test_a_reload_reads_a_new_certificate_and_loses_nothing(site: Site, preload: tuple[str, ...]) -> None:
    site.fleet.start(*THREADS, *preload)
    old = site.serial()
    kept = site.connect()
    kept.request("GET", "/")
    assert kept.getresponse().read()
    with Traffic(site.connect, is_keepalive=True) as kept_traffic, Traffic(site.connect) as traffic:
        for number in (2, 3):
            site.install(site.authority.sign(f"certificate{number}"))
            site.fleet.send(signal.SIGHUP)
            site.fleet.await_log(f"generation {number} serves")
            eventually(sees_another(site, old), "a new client sees the new certificate")
            old = site.serial()
            eventually(traffic.answered_more(20), "clients are served")
    assert traffic.tally.failures == []
    assert kept_traffic.tally.failures == []
    kept.close()


@pytest.mark.parametrize("preload", [("--preload",), ()], ids=["preload", "plain"])
def test_a_new_worker_of_a_generation_has_its_certificate_whatever_is_on_disk(
    site: Site, preload: tuple[str, ...]
) -> None:
    site.fleet.start("-w", "1", *preload)
    old = site.serial()
    for name in ("server.pem", "server.key"):
        (site.fleet.folder / name).unlink()
    pids = site.fleet.pids()
    os.kill(pids[1], signal.SIGKILL)
    eventually(lambda: site.fleet.pids().get(1) not in {None, pids[1]}, "the worker has been replaced")
    assert site.serial() == old


def test_a_session_is_resumed_at_whatever_worker(site: Site) -> None:
    site.fleet.start("-w", "3")
    host, _, port = site.fleet.addresses()[0].rpartition(":")
    site.trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    session = None
    served, resumed = set(), []
    for _ in range(30):
        with (
            socket.create_connection((host, int(port)), timeout=PATIENCE) as sock,
            site.trusting.wrap_socket(sock, server_hostname="localhost", session=session) as client,
        ):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            served.add(b"".join(iter(lambda: client.recv(65536), b"")).split()[-1])
            resumed.append(client.session_reused)
            session = session or client.session
    assert resumed == [False] + 29 * [True]
    assert served <= {str(pid).encode() for pid in site.fleet.pids().values()}


BROKEN = {
    "nothing there": ("server.pem", None, "tls.certfile: {file} cannot be read: No such file or directory"),
    "no key": ("server.key", None, "tls.keyfile: {file} cannot be read: No such file or directory"),
    "a folder": ("server.key", "folder", "tls.keyfile: {file} cannot be read: Is a directory"),
    "no certificate": ("server.pem", "empty", "tls.certfile: there is no certificate in {file}"),
    "not a key": ("server.key", "empty", "tls.keyfile: there is no private key in {file}"),
    "garbage": ("server.pem", "garbage", "cannot be used"),
    "the key of another one": ("server.key", "other", "tls.keyfile: the key in {file} is not that of the certificate in"),
    "an encrypted key": ("server.key", "encrypted", "tls.keyfile: the key in {file} is encrypted"),
}  # fmt: skip


def break_file(site: Site, name: str, how: str | None) -> None:
    file = site.fleet.folder / name
    if how == "encrypted":
        openssl("pkey", "-in", file, "-aes256", "-passout", "pass:secret", "-out", f"{file}.new")
        os.replace(f"{file}.new", file)  # noqa: PTH105 - two names as text
        return
    file.unlink()
    match how:
        case "folder":
            file.mkdir()
        case "empty":
            file.touch()
        case "garbage":
            file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        case "other":
            shutil.copy(site.authority.sign("other").key, file)


@pytest.mark.parametrize(("name", "how", "text"), BROKEN.values(), ids=BROKEN)
def test_a_certificate_that_cannot_be_used_is_refused_at_start(
    site: Site, name: str, how: str | None, text: str
) -> None:
    break_file(site, name, how)
    done = site.fleet.run()
    assert done.returncode == 78
    assert text.format(file=site.fleet.folder / name) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_that_cannot_be_used_is_refused_by_a_reload_and_the_old_one_serves(site: Site) -> None:
    pair = site.authority.sign("first")
    site.install(pair)
    site.fleet.start()
    old, pids = site.serial(), site.fleet.pids()
    for name, how, text in BROKEN.values():
        break_file(site, name, how)
        before, wanted = len(site.fleet.log), text.format(file=site.fleet.folder / name)
        site.fleet.send(signal.SIGHUP)
        eventually(lambda b=before, w=wanted: w in site.fleet.log[b:], f"the log says {wanted!r}")  # type: ignore[misc]
        site.fleet.await_state("ready")
        assert site.serial() == old
        assert site.fleet.pids() == pids
        if how == "folder":
            (site.fleet.folder / name).rmdir()
        site.install(pair)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ('ciphers = "no-such"\n', "tls.ciphers: there is no such cipher suite in 'no-such'"),
        ('ca_certs = "none.pem"\ncert_reqs = "required"\n', "tls.ca_certs: "),
        ('ca_certs = "site_app.py"\ncert_reqs = "optional"\n', "tls.ca_certs: there is no certificate in "),
    ],
)
def test_other_settings_that_cannot_be_used_are_refused_at_start(site: Site, more: str, text: str) -> None:
    site.say(more)
    done = site.fleet.run()
    assert done.returncode == 78
    assert text in done.stderr


@pytest.mark.parametrize("kind", ["threads", "asgi", "gevent", "gevent_pywsgi", "eventlet", "tornado"])
def test_every_kind_serves_and_reads_a_new_certificate_at_a_reload(site: Site, kind: str) -> None:
    if kind == "asgi":
        site.fleet.write(
            "site_app.py",
            "async def application(scope, receive, send):\n"
            "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
            "    await send({'type': 'http.response.body', 'body': scope['scheme'].encode()})\n",
        )
    site.fleet.start("-k", kind, "-w", "1")
    old = site.serial()
    with Traffic(site.connect, is_keepalive=True) as kept, Traffic(site.connect) as fresh:
        site.install(site.authority.sign("renewed"))
        site.fleet.send(signal.SIGHUP)
        eventually(sees_another(site, old), "a new client sees the new certificate")
        eventually(fresh.answered_more(20), "new clients are served")
    assert fresh.tally.failures == []
    closed = ("RemoteDisconnected", "BrokenPipe")  # which of them is up to OpenSSL
    assert [each for each in kept.tally.failures if not any(name in each for name in closed)] == []


def test_a_kind_of_the_operator_s_that_does_not_speak_tls_is_refused(site: Site) -> None:
    site.fleet.write(
        "plain.py", "KEEPS_ALIVE = False\nINTERFACE = 'wsgi'\ndef run(context): context.ready()\n"
    )
    done = site.fleet.run("-k", "./plain.py", PYTHONPATH=str(site.fleet.folder))
    assert done.returncode != 0
    assert "does not speak TLS: it has no SPEAKS_TLS" in done.stderr


def test_certificates_for_unix_sockets_alone_are_refused(site: Site) -> None:
    done = site.fleet.run("-b", f"unix:{site.fleet.folder}/web.sock")
    assert done.returncode == 78
    assert "tls.certfile has no effect: every listener of server.bind is a Unix socket" in done.stderr


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("[proxy]\nprotocol = 'v2'\n", "proxy.protocol: a PROXY header in front of TLS is not read"),
        ("", 'server.protocol: "uwsgi" is not spoken over TLS'),
    ],
)
def test_what_cannot_be_spoken_together_with_tls_is_refused(site: Site, more: str, text: str) -> None:
    site.say(more)
    if not more:
        site.fleet.change("unicornd.toml", "[server]\n", '[server]\nprotocol = "uwsgi"\n')
    done = site.fleet.run()
    assert done.returncode == 78
    assert text in done.stderr


@pytest.mark.parametrize(
    ("said", "scheme"), [("http", "http False"), ("https", "https True"), ("", "https True")]
)
def test_a_proxy_that_is_trusted_knows_the_scheme_better(site: Site, said: str, scheme: str) -> None:
    site.fleet.write(
        "site_app.py",
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [f\"{environ['wsgi.url_scheme']} {'HTTPS' in environ}\".encode()]\n",
    )
    site.fleet.start()
    with contextlib.closing(site.connect()) as connection:
        connection.request("GET", "/", headers={"X-Forwarded-Proto": said} if said else {})
        assert connection.getresponse().read().decode() == scheme


def test_certificate_and_key_may_be_in_one_file(site: Site) -> None:
    folder = site.fleet.folder
    with (folder / "server.pem").open("a") as file:
        file.write((folder / "server.key").read_text())
    site.fleet.change("unicornd.toml", 'keyfile = "server.key"\n', "")
    site.fleet.start()
    assert site.get().startswith("v1 ")


def test_a_key_that_only_root_can_read_serves_workers_of_another_user(authority: Authority) -> None:
    """Where the tests do not run as root, there is one user, and its key is its own."""
    with tempfile.TemporaryDirectory() as name, fleet_in(Path(name)) as fleet:
        site = Site(fleet=fleet, authority=authority, trusting=client_context(authority))
        site.install(authority.sign("first"))
        site.say(TLS)
        fleet.folder.chmod(0o755)
        (fleet.folder / "server.key").chmod(0o400)
        if os.geteuid() == 0:
            site.say('[process]\nuser = "nobody"\n')
        fleet.start()
        assert site.get().startswith("v1 ")
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        assert site.get().startswith("v1 ")
        if os.geteuid() == 0:
            assert {Path(f"/proc/{pid}").owner() for pid in fleet.pids().values()} == {"nobody"}


@pytest.mark.parametrize("preload", [False, True])
def test_the_hook_is_called_once_a_worker_and_its_context_is_spoken(site: Site, preload: bool) -> None:  # noqa: FBT001 - a parameter of the test
    site.fleet.write("shop_hooks.py", HOOKS)
    site.say('[hooks]\nssl_context = "shop_hooks:right"\n')
    site.fleet.start(*(("--preload",) if preload else ()))
    with contextlib.closing(site.connect()) as connection:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        assert connection.sock.version() == "TLSv1.2"
    book = [line.split() for line in (site.fleet.folder / "book").read_text().splitlines()]
    assert len(book) == (1 if preload else 2)
    if not preload:
        assert {int(pid) for pid, _ in book} == set(site.fleet.pids().values())
    assert {file for _, file in book} == {str(site.fleet.folder / "server.pem")}


def test_a_hook_alone_is_enough(site: Site) -> None:
    site.fleet.change("unicornd.toml", TLS, '[hooks]\nssl_context = "shop_hooks:own"\n')
    site.fleet.write("shop_hooks.py", HOOKS)
    site.fleet.start()
    assert site.get().startswith("v1 ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "hooks.ssl_context: shop_hooks:nothing has returned NoneType, not an ssl.SSLContext"),
        ("broken", "hooks.ssl_context raised LookupError: no vault"),
        ("text", "hooks.ssl_context: shop_hooks:text is not a function"),
        ("absent", "hooks.ssl_context: "),
    ],
)
def test_a_hook_that_gives_no_context_is_a_boot_that_fails(site: Site, name: str, text: str) -> None:
    site.fleet.write("shop_hooks.py", HOOKS)
    site.say(f'[hooks]\nssl_context = "shop_hooks:{name}"\n')
    done = site.fleet.run()
    assert done.returncode == 3
    assert text in done.stderr


def test_a_hook_that_breaks_is_rolled_back_by_a_reload(site: Site) -> None:
    site.fleet.start()
    pids = site.fleet.pids()
    site.fleet.write("shop_hooks.py", HOOKS)
    site.say('[hooks]\nssl_context = "shop_hooks:broken"\n')
    site.fleet.send(signal.SIGHUP)
    site.fleet.await_log("generation 2 is given up")
    assert "hooks.ssl_context raised LookupError: no vault" in site.fleet.log
    assert site.get().startswith("v1 ")
    assert site.fleet.pids() == pids


def test_workers_that_are_recycled_and_a_fleet_that_drains_lose_no_request(site: Site) -> None:
    site.say("[timeouts]\ndrain = 0.5\n")
    process = site.fleet.start(*THREADS, "--max-requests", "40")
    [address] = site.fleet.addresses()

    def connect() -> http.client.HTTPConnection:
        return site.connect(address)

    with Traffic(connect, is_keepalive=True) as kept, Traffic(connect) as fresh:
        eventually(kept.answered_more(400), "kept connections are served")
        eventually(fresh.answered_more(200), "new connections are served")
        assert kept.tally.connections < kept.tally.answered, "connections were kept"
        site.fleet.send(signal.SIGTERM)
        eventually(lambda: process.poll() is not None, "the fleet has stopped")
    refused = "ConnectionRefusedError"
    assert [text for text in (*kept.tally.failures, *fresh.tally.failures) if refused not in text] == []


def test_a_fleet_that_starts_to_speak_tls_goes_on_with_plain_connections(site: Site) -> None:
    """An idle connection is handed over to a generation whose listener speaks TLS."""
    site.fleet.change("unicornd.toml", TLS, "")
    site.fleet.start(*THREADS)
    with contextlib.closing(site.fleet.connect()) as plain:
        plain.request("GET", "/")
        assert plain.getresponse().read().startswith(b"v1 ")
        site.say(TLS)
        site.fleet.send(signal.SIGHUP)
        site.fleet.await_log("generation 2 serves")
        eventually(lambda: site.get().startswith("v1 "), "new clients speak TLS")
        plain.request("GET", "/")
        answer = plain.getresponse().read().decode()
    assert int(answer.split()[1]) in site.fleet.pids().values()
