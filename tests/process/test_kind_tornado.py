"""The kind tornado: applications of tornado's own, and WSGI applications through its container."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from tornado import httputil, web, websocket

from tests.support.certificates import authority_in, client_context
from tests.support.fleet import fleet_in
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, request, worker
from unicornd.config.sections.tls import TlsSettings
from unicornd.dataclass import replace
from unicornd.http.forwarded import Forwarding, Trust
from unicornd.http.limits import Limits
from unicornd.units import Seconds
from unicornd.workers.tls import make_context

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KIND = "tornado"


class Hello(web.RequestHandler):
    async def get(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))
        self.write(f"hello after {seconds}")

    def post(self, _seconds: str) -> None:
        self.write(str(len(self.request.body)))


class Stream(web.RequestHandler):
    async def get(self) -> None:
        for part in ("one ", "two"):
            self.write(part)
            await self.flush()


class Shout(websocket.WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message.upper())


class Switch(web.RequestHandler):
    """Says that another protocol follows, and takes no connection."""

    def get(self) -> None:
        self.set_status(101)


class NoContent(web.RequestHandler):
    """Hands a body to the connection behind a status that has none."""

    def get(self) -> None:
        connection: Any = self.request.connection
        connection.write_headers(
            httputil.ResponseStartLine("HTTP/1.1", 204, "No Content"), httputil.HTTPHeaders(), b"body"
        )
        connection.write(b"more")
        connection.finish()
        self._finished = True


def application() -> Any:
    routes = [
        (r"/hello/(.*)", Hello),
        (r"/stream", Stream),
        (r"/shout", Shout),
        (r"/switch", Switch),
        (r"/204", NoContent),
    ]
    return web.Application(routes)


def test_an_application_of_tornado_is_served_natively(tmp_path: Path) -> None:
    with (
        worker(application(), tmp_path, Setup(kind=KIND)) as running,
        running.connect() as slow,
        running.connect() as fast,
    ):
        slow.send(request("/hello/0.3"))
        assert fast.get("/hello/0").body == b"hello after 0"
        assert slow.read().body == b"hello after 0.3"
        assert fast.get("/stream").body == b"one two"
        assert fast.send(request("/hello/0", method="POST", body=b"four")).read().body == b"4"
        chunked = request("/hello/0", method="POST", fields="Transfer-Encoding: chunked\r\n")
        assert fast.send(chunked + b"3\r\nabc\r\n0\r\n\r\n").read().body == b"3"
        assert fast.get("/nothing").code == 404
        eventually(lambda: running.reading().requests == 6, "all are counted")


def test_another_protocol_is_for_who_takes_the_connection(tmp_path: Path) -> None:
    with worker(application(), tmp_path, Setup(kind=KIND)) as running:
        with running.connect() as client:
            assert client.get("/switch").code == 500
            assert client.is_at_end()
        with running.connect() as client:
            client.send(request("/switch", fields="Connection: Upgrade\r\nUpgrade: x\r\n"))
            received = b"".join(iter(lambda: client.sock.recv(1000), b""))
            assert received.startswith(b"HTTP/1.1 101 ")
            assert received.endswith(b"\r\n\r\n")


def test_what_is_written_behind_204_is_not_sent(tmp_path: Path) -> None:
    with worker(application(), tmp_path, Setup(kind=KIND)) as running, running.connect() as client:
        assert client.get("/204").code == 204
        assert client.get("/hello/0").body == b"hello after 0"


def test_a_websocket_of_tornado_is_served(tmp_path: Path) -> None:
    fields = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    with worker(application(), tmp_path, Setup(kind=KIND)) as running, running.connect() as client:
        client.send(request("/shout", fields=fields))
        client.send(b"\x81\x82\0\0\0\0hi")
        received = b""
        while not received.endswith(b"\x81\x02HI"):
            received += client.sock.recv(1000)
        assert received.startswith(b"HTTP/1.1 101 ")


def test_limits_hold_for_tornado_too(tmp_path: Path) -> None:
    limits = Limits(request_line=100, header_count=5, header_size=200, body_size=1000)
    setup = Setup(kind=KIND, policy=replace(POLICY, limits=limits))
    with worker(application(), tmp_path, setup) as running:
        for sent, status in (
            (request("/" + "a" * 100), 414),
            (request(fields="".join(f"X-{number}: 1\r\n" for number in range(9))), 431),
            (request("/hello/0", method="POST", body=b"a" * 2000), 413),
        ):
            with running.connect() as client:
                assert client.send(sent).read().code == status
                assert client.finish().is_at_end()
        assert running.log().count("request refused") == 3


def test_a_request_that_runs_too_long_is_answered_with_504_while_others_go_on(tmp_path: Path) -> None:
    setup = Setup(kind=KIND, request_timeout=Seconds(0.5))
    with (
        worker(application(), tmp_path, setup) as running,
        running.connect() as slow,
        running.connect() as other,
    ):
        slow.send(request("/hello/30"))
        assert slow.read().code == 504
        assert other.get("/hello/0").code == 200
        assert "timeouts.request" in running.log()


def test_a_wsgi_application_runs_in_threads_if_there_are_some(tmp_path: Path) -> None:
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/raise":
            raise ValueError("on purpose")
        if environ["PATH_INFO"] == "/wait":
            gate.enter()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    with worker(app, tmp_path, Setup(kind=KIND, threads=2)) as running, contextlib.ExitStack() as stack:
        waiting, other = (stack.enter_context(running.connect()) for _ in range(2))
        waiting.send(request("/wait"))
        gate.wait_for(1)
        assert other.get().body == b"ok"
        gate.open()
        assert waiting.read().body == b"ok"
        assert other.get("/raise").code == 500
        assert "on purpose" in running.log()


class Known(web.RequestHandler):
    def get(self) -> None:
        certificate = self.request.get_ssl_certificate()
        self.write(
            f"{self.request.protocol} {certificate['subject'] if isinstance(certificate, dict) else None}"
        )


def test_an_application_of_tornado_finds_scheme_and_certificate_where_it_looks_for_them(
    tmp_path: Path,
) -> None:
    authority = authority_in(tmp_path)
    server, own = authority.sign("server"), authority.sign("client", "/CN=shop")
    tls = make_context(
        TlsSettings(
            certfile=server.certificate,
            keyfile=server.key,
            ca_certs=authority.pair.certificate,
            cert_reqs="required",
        )
    )
    policy = replace(POLICY, forwarding=Forwarding(Trust(["127.0.0.1"]), secure={"X-S": "1"}, allowed=()))
    app: Any = web.Application([(r"/", Known)])
    with (
        worker(app, tmp_path, Setup(kind=KIND, tls=tls, policy=policy)) as running,
        running.connect(client_context(authority, own)) as client,
    ):
        assert client.get().body == b"https ((('commonName', 'shop'),),)"
        assert client.get(fields="X-S: 0\r\n").body.startswith(b"http (")
        assert client.get().body.startswith(b"https (")


@pytest.mark.parametrize(("kind", "code"), [("threads", 4), ("tornado", 0)])
def test_an_application_of_tornado_needs_the_kind_tornado(tmp_path: Path, kind: str, code: int) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", "from tornado import web\napplication = web.Application([])\n")
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"')
        if code:
            ended = fleet.run()
            assert ended.returncode == code
            assert 'kind = "tornado"' in ended.stdout + ended.stderr
        else:
            fleet.start()
            assert "Traceback" not in fleet.log


@pytest.mark.parametrize(
    ("said", "setting"), [("app.root_path=/a", "app.root_path"), ('app.warmup=["/"]', "app.warmup")]
)
def test_what_has_no_effect_on_an_application_of_tornado_is_refused(
    tmp_path: Path, said: str, setting: str
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", "from tornado import web\napplication = web.Application([])\n")
        ended = fleet.run("-k", "tornado", "--set", said)
        assert ended.returncode == 3
        assert f"{setting} has no effect on a tornado application" in ended.stderr
