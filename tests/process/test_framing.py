"""What an application says → what is on the wire, in every kind: one framing, whatever it says, and the connection in step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kinds import ASGI, EVERY_KIND, keeps_alive
from tests.support.rows import check_rows
from tests.support.worker import POLICY, Setup, request, worker
from unicornd.dataclass import dataclass, replace
from unicornd.http.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.support.worker import Worker

FIELD = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+:[\t ]*[\t\x20-\x7e\x80-\xff]*")
HOP_BY_HOP = {"keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
NEXT = request("/next", fields="Connection: close\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the application says.

    Attributes:
        code: what is on the wire; None: as the application said.
        body: what the client has to get.
        given: the parts that the application gives.
    """

    status: str = "200 OK"
    fields: tuple[tuple[str, str], ...] = ()
    given: tuple[bytes, ...] = (b"hello ", b"world")
    code: int | None = None
    body: bytes = b"hello world"
    has_length: bool | None = None


EMPTY: dict[str, Any] = {"body": b"", "has_length": False}
CASES = {
    "plain": Case(),
    "with a length": Case(fields=(("Content-Length", "11"),), has_length=True),
    "with the same length twice": Case(fields=(("Content-Length", "11"), ("content-length", "11")), has_length=True),
    "chunked by itself": Case(fields=(("Transfer-Encoding", "chunked"), ("Connection", "keep-alive"))),
    "chunked and a length": Case(fields=(("Transfer-Encoding", "chunked"), ("Content-Length", "11")), has_length=True),
    "an unknown coding": Case(fields=(("Transfer-Encoding", "gzip, chunked"),)),
    "hop by hop": Case(
        fields=(("Keep-Alive", "timeout=9"), ("TE", "trailers"), ("Trailer", "X"), ("Upgrade", "h2c"), ("Proxy-Connection", "x"))
    ),
    "a connection of its own": Case(fields=(("Connection", "close"), ("Content-Length", "11"))),
    "two lengths": Case(fields=(("Content-Length", "11"), ("Content-Length", "5")), code=500),
    "a length that is no number": Case(fields=(("Content-Length", "11x"),), code=500),
    "a length with a sign": Case(fields=(("Content-Length", "+11"),), code=500),
    "a list of lengths": Case(fields=(("Content-Length", "11, 11"),), code=500),
    "NUL": Case(fields=(("X-A", "a\0b"),), code=500),
    "CR": Case(fields=(("X-A", "a\rb"),), code=500),
    "LF": Case(fields=(("X-A", "a\nX-B: c"),), code=500),
    "a name that is none": Case(fields=(("X A:", "a"),), code=500),
    "204 with a body": Case(status="204 No Content", **EMPTY),
    "204 with a length": Case(status="204 No Content", fields=(("Content-Length", "11"),), **EMPTY),
    "204 with a coding": Case(status="204 No Content", fields=(("Transfer-Encoding", "chunked"),), **EMPTY),
    "204 without a body": Case(status="204 No Content", given=(), **EMPTY),
    "304 with a body": Case(status="304 Not Modified", body=b""),
    "304 with a length": Case(status="304 Not Modified", fields=(("Content-Length", "11"),), body=b""),
    "304 with a coding": Case(status="304 Not Modified", fields=(("Transfer-Encoding", "chunked"),), body=b""),
    "100 with a body": Case(status="100 Continue", code=500),
    "101 with a body": Case(status="101 Switching Protocols", fields=(("Upgrade", "h2c"), ("Connection", "Upgrade")), code=500),
    "103": Case(status="103 Early Hints", fields=(("Link", "</a.css>; rel=preload"),), given=(), code=500),
    "a body that is empty": Case(given=(), body=b""),
}  # fmt: skip


def case_of(path: str) -> Case:
    return list(CASES.values())[int(path.rpartition("/")[2])]


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/next":
        start_response("200 OK", [("Content-Length", "4")])
        return [b"next"]
    if path == "/size":
        body = str(len(environ["wsgi.input"].read())).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/unread":
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    case = case_of(path)
    start_response(case.status, list(case.fields))
    return iter(case.given) if path.startswith("/parts") else [b"".join(case.given)]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope["path"]
    if path in {"/next", "/size", "/unread"}:
        body = {"/next": b"next", "/unread": b"ok"}.get(path, b"")
        if path == "/size":
            size, is_more = 0, True
            while is_more:
                message = await receive()
                size += len(message.get("body", b""))
                is_more = message.get("more_body", False)
            body = str(size).encode()
        case = Case(fields=(("content-length", str(len(body))),), given=(body,))
    else:
        case = case_of(path)
    fields = [(name.encode(), value.encode()) for name, value in case.fields]
    await send({"type": "http.response.start", "status": int(case.status[:3]), "headers": fields})
    if path.startswith("/parts"):
        for part in case.given:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": b"".join(case.given)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response, read strictly."""

    code: int
    fields: dict[str, str]
    body: bytes
    framing: str


def read_answer(data: bytes, *, method: str) -> tuple[Answer, bytes]:
    """Read one response as RFC 9112 has it and return it with what follows; anything else fails."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, data
    line, *fields = head.split(b"\r\n")
    status = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t\x20-\x7e]*", line)
    assert status, line
    assert all(FIELD.fullmatch(field) for field in fields), fields
    pairs = [
        (name.decode().lower(), value.decode("latin-1").strip())
        for name, _, value in (f.partition(b":") for f in fields)
    ]
    found = dict(pairs)
    for name in ("content-length", "transfer-encoding", "connection", "date", "server"):
        assert [each for each, _ in pairs].count(name) <= 1, pairs
    code = int(status[1])
    assert code == 426 or not HOP_BY_HOP & found.keys(), found
    assert code >= 200, line
    length, coding = found.get("content-length"), found.get("transfer-encoding")
    assert length is None or coding is None, found
    if method == "HEAD" or code in {204, 304}:
        assert code != 204 or (length is None and coding is None), found
        assert coding is None, found
        return Answer(code=code, fields=found, body=b"", framing="none"), rest
    if length is not None:
        assert length.isdecimal(), length
        assert len(rest) >= int(length), (length, rest)
        return Answer(code=code, fields=found, body=rest[: int(length)], framing="length"), rest[
            int(length) :
        ]
    if coding is not None:
        assert coding == "chunked"
        body = b""
        while True:
            size, _, rest = rest.partition(b"\r\n")
            assert re.fullmatch(rb"[0-9a-fA-F]+", size), size
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) :]
            assert rest.startswith(b"\r\n"), rest
            rest = rest[2:]
            if int(size, 16) == 0:
                return Answer(code=code, fields=found, body=body, framing="chunked"), rest
    assert found.get("connection", "").lower() == "close", found
    return Answer(code=code, fields=found, body=rest, framing="close"), b""


@pytest.fixture(scope="module", params=EVERY_KIND)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    kind = request.param
    app: Any = asgi if kind in ASGI else wsgi
    policy = replace(POLICY, limits=Limits(body_size=1000))
    with worker(app, tmp_path_factory.mktemp(kind), Setup(kind=kind, policy=policy)) as made:
        made.kind = kind  # type: ignore[attr-defined] # for the tests of this file
        yield made


def exchanged(running: Worker, sent: bytes) -> bytes:
    """Send all at once, and read what comes until the end."""
    with running.connect() as client:
        client.send(sent)
        received = bytearray()
        while data := client.sock.recv(65536):
            received += data
        return bytes(received)


def check_next(rest: bytes, answer: Answer) -> None:
    """What follows has to be the next response, or nothing where the connection was closed."""
    if rest:
        assert answer.fields.get("connection", "").lower() != "close"
        following, end = read_answer(rest, method="GET")
        assert (following.code, following.body, end) == (200, b"next", b"")


@pytest.mark.parametrize("way", ["whole", "parts"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_response_has_one_framing(running: Worker, method: str, way: str) -> None:
    def check(name: str) -> None:
        case, number = CASES[name], list(CASES).index(name)
        received = exchanged(running, request(f"/{way}/{number}", method=method) + NEXT)
        answer, rest = read_answer(received, method=method)
        assert answer.code == (case.code or int(case.status[:3]))
        if case.code is None:
            if method != "HEAD":
                assert answer.body == case.body
            if case.has_length is not None:
                assert ("content-length" in answer.fields) is case.has_length
            assert rest or answer.fields["connection"].lower() == "close"
        check_next(rest, answer)

    check_rows(((name, name) for name in CASES), check)


@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n"])
def test_a_client_of_http_1_0_is_sent_no_chunks(running: Worker, fields: str) -> None:
    def check(name: str) -> None:
        case, number = CASES[name], list(CASES).index(name)
        sent = f"GET /parts/{number} HTTP/1.0\r\nHost: x\r\n{fields}\r\n".encode() + NEXT
        answer, rest = read_answer(exchanged(running, sent), method="GET")
        assert answer.code == (case.code or int(case.status[:3]))
        assert "transfer-encoding" not in answer.fields
        if case.code is None:
            assert answer.body == case.body
        check_next(rest, answer)

    check_rows(((name, name) for name in CASES), check)


def test_a_body_without_a_length_that_breaks_is_not_taken_for_whole(tmp_path: Path) -> None:
    """To HTTP/1.0, nothing but a reset says so."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ValueError("on purpose")

    with worker(app, tmp_path, Setup(kind="asgi")) as running, running.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: client.sock.recv(65536), b""))


BODY = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
"""A body that is not to be taken for a request."""
CHUNKED = b"5\r\nGET /\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
UPGRADES = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "h2c, kept": "Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n",
    "h2c alone": "Connection: upgrade\r\nUpgrade: h2c\r\n",
    "shout": "Connection: Upgrade\r\nUpgrade: shout/1.0\r\n",
    "a list": "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
    "Upgrade only": "Upgrade: websocket\r\n",
    "Connection only": "Connection: Upgrade\r\n",
}


@pytest.mark.parametrize("path", ["/size", "/unread"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_is_a_body_whatever_upgrade_is_offered(
    running: Worker, path: str, *, is_chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked\r\n" if is_chunked else f"Content-Length: {len(BODY)}\r\n"
    size = len(BODY) + 5 * is_chunked

    def check(fields: str) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}{framing}\r\n".encode()
        sent = head + (CHUNKED if is_chunked else BODY) + NEXT
        answer, rest = read_answer(exchanged(running, sent), method="POST")
        assert (answer.code, answer.body) == (200, b"%d" % size if path == "/size" else b"ok")
        assert rest or answer.fields["connection"].lower() == "close"
        check_next(rest, answer)

    check_rows(UPGRADES.items(), check)


@pytest.mark.parametrize("name", ["h2c", "shout"])
def test_a_body_that_comes_later_and_in_pieces_is_a_body(running: Worker, name: str) -> None:
    head = f"POST /size HTTP/1.1\r\nHost: x\r\n{UPGRADES[name]}Content-Length: {len(BODY)}\r\n\r\n".encode()
    with running.connect() as client:
        for byte in head + BODY:
            client.send(bytes([byte]))
        assert client.read().body == b"%d" % len(BODY)
        if keeps_alive(running.kind):  # type: ignore[attr-defined] # see the fixture
            assert client.get("/next").body == b"next"


@pytest.mark.parametrize("upgrade", [UPGRADES["h2c"], WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_limit_of_a_body_holds_with_an_upgrade(
    running: Worker, upgrade: str, *, is_chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked\r\n" if is_chunked else "Content-Length: 2000\r\n"
    body = b"7d0\r\n" + bytes(2000) + b"\r\n0\r\n\r\n" if is_chunked else bytes(2000)
    head = f"POST /size HTTP/1.1\r\nHost: x\r\n{upgrade}{framing}\r\n".encode()
    with running.connect() as client:
        response = client.send(head + body).read()
    assert response.code in {400, 413}


@pytest.mark.parametrize(
    ("line", "fields", "code"),
    [
        ("POST", WEBSOCKET + "Content-Length: 4\r\n", 400),
        ("GET", WEBSOCKET + "Content-Length: 4\r\n", 400),
        ("POST", WEBSOCKET + "Content-Length: 0\r\n", 400),
        ("GET", WEBSOCKET.replace("Version: 13", "Version: 99"), 426),
        ("GET", WEBSOCKET.replace("Key: ", "No-Key: "), 400),
    ],
)
def test_a_websocket_that_cannot_be_opened_is_an_error_or_an_ordinary_request(
    running: Worker, line: str, fields: str, code: int
) -> None:
    body = b"" if "Content-Length: 4" not in fields else b"body"
    sent = f"{line} /size HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode() + body + NEXT
    answer, rest = read_answer(exchanged(running, sent), method=line)
    if running.kind in ASGI:  # type: ignore[attr-defined] # see the fixture
        assert (answer.code, rest) == (code, b"")
        assert answer.fields["connection"] == ("close, upgrade" if code == 426 else "close")
        assert answer.fields.get("sec-websocket-version", "13") == "13"
    else:  # nothing but the application speaks it there
        assert (answer.code, answer.body) == (200, b"%d" % len(body))
        check_next(rest, answer)


def test_nothing_that_follows_a_websocket_is_taken_for_a_request(tmp_path: Path) -> None:
    """gevent-websocket opens it; whether or not the application takes it up, its connection ends with it."""
    with worker(wsgi, tmp_path, Setup(kind="gevent_pywsgi")) as running:
        received = exchanged(running, request("/next", fields=WEBSOCKET) + NEXT)
    assert received.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert received.count(b"HTTP/1.1") == 1
