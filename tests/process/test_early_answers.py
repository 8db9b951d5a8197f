"""A request that is answered before it is complete: the client sends on, and reads its answer nevertheless."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import authority_in, client_context
from tests.support.kinds import EVERY_KIND, application
from tests.support.waiting import eventually
from tests.support.worker import CLIENT_TIMEOUT, POLICY, Setup, Shared
from unicornd.config.sections.tls import TlsSettings
from unicornd.dataclass import replace
from unicornd.http.limits import Limits
from unicornd.units import Seconds
from unicornd.workers.connection import LINGER_PAUSE, LINGER_SECONDS, Connection
from unicornd.workers.tls import make_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

UPLOAD = 20_000_000
"""More than the buffers of both kernels take, so that it can only be sent while the other side reads."""
LIMITED = replace(POLICY, limits=Limits(body_size=1000))
HURRIED = replace(POLICY, body=Seconds(0.3))
every_kind = pytest.mark.parametrize("kind", EVERY_KIND)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with Shared(lambda: tmp_path_factory.mktemp("worker")) as made:
        yield made


@pytest.fixture(scope="module", params=["plain", "tls"])
def ways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """What server and client speak TLS with."""
    if request.param == "plain":
        return None, None
    authority = authority_in(tmp_path_factory.mktemp("certificates"))
    own = authority.sign("server")
    settings = TlsSettings(certfile=own.certificate, keyfile=own.key)
    return make_context(settings), client_context(authority)


def upload(path: str, fields: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n{fields}\r\n"
    return head.encode() + bytes(UPLOAD)


@every_kind
def test_a_body_that_is_too_large_can_be_sent_whole_and_413_be_read(
    shared: Shared, kind: str, ways: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> None:
    ours, theirs = ways
    with shared.worker(application, Setup(kind=kind, policy=LIMITED, tls=ours)).connect(theirs) as client:
        assert client.send(upload("/")).read().code == 413


@every_kind
@pytest.mark.parametrize("fields", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_an_application_that_does_not_read_the_body_answers_a_client_that_sends_it_whole(
    shared: Shared, kind: str, fields: str, ways: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> None:
    ours, theirs = ways
    with shared.worker(application, Setup(kind=kind, tls=ours)).connect(theirs) as client:
        answer = client.send(upload("/", fields)).read()
        assert (answer.code, answer.body) == (200, b"ok")


@every_kind
def test_a_head_that_is_refused_may_be_followed_by_what_its_client_had_to_say(
    shared: Shared, kind: str
) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n" + bytes(UPLOAD))
        assert client.read().code == 400


@every_kind
def test_a_body_that_comes_too_slowly_may_still_be_sent_behind_408(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, policy=HURRIED)).connect() as client:
        head, _, body = upload("/echo").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        first = client.sock.recv(8, socket.MSG_PEEK)  # the answer has come
        assert first == b"HTTP/1.1"
        assert client.send(body).read().code == 408


@every_kind
def test_a_client_that_has_read_its_early_answer_and_closes_leaves_nothing_open(
    shared: Shared, kind: str
) -> None:
    running = shared.worker(application, Setup(kind=kind, policy=LIMITED))
    with running.connect() as client:
        assert client.send(upload("/")[:2_000_000]).read().code == 413
    eventually(lambda: not running.has_clients(), "the worker has closed it")


@contextlib.contextmanager
def lingering(now: float) -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(CLIENT_TIMEOUT)
    connection = Connection(ours, ("", ""), base={}, policy=POLICY)
    with theirs:
        connection.linger(now)
        yield connection, theirs
        connection.close()


def test_lingering_begins_anew_with_what_comes_up_to_its_end() -> None:
    with lingering(100.0) as (connection, client):
        assert connection.deadline == 100.0 + LINGER_PAUSE
        for now in (104.0, 108.0, 129.0):
            client.send(b"more")
            connection.discard(now)
            assert connection.deadline == min(now + LINGER_PAUSE, 100.0 + LINGER_SECONDS)
        client.close()
        with pytest.raises(EOFError):
            connection.discard(129.5)
