"""The same application for every kind of worker: as WSGI and as ASGI, so that one test can ask all of them alike.

/            "ok"                          /echo       the body that was sent
/wait        "ok", once the gate is open   /parts      three parts without a length
/large       LARGE bytes                   /raise      raises before it answers
/cut         raises after a part           /environ    path, query and client, a line each
/scheme      http or https
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.worker import Gate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

EVERY_KIND = ["sync", "threads", "asgi", "gevent", "gevent_pywsgi", "eventlet", "tornado"]
OWN_KIND = f"{Path(__file__).parents[2]}/configs/own-kind/own_kind.py:Plain"
"""The example of a kind of one's own: what the contract promises, it has to keep, too."""
ASGI = frozenset({"asgi"})
"""Kinds that call their application as ASGI.

Written down and not asked of the kind, as all that is here: a test process that imports gevent and eventlet forks
every later worker with both in it.
"""
BUFFERED = frozenset({"tornado"})
"""Kinds that have a WSGI application's whole response before they send any of it."""
LARGE = 3_000_000
PARTS = [b"one ", b"two ", b"three"]
TEXT = "text/plain"


def keeps_alive(kind: str) -> bool:
    return kind not in {"sync", OWN_KIND}


def is_concurrent(kind: str) -> bool:
    """Whether a worker with one thread runs several requests at a time."""
    return kind not in {"sync", "threads"}


def application(kind: str, gate: Gate | None = None) -> Callable[..., Any]:
    """Return the application in the way in which the kind calls it."""
    gate = gate or Gate()
    return asgi_app(gate) if kind in ASGI else wsgi_app(gate)


def wsgi_app(gate: Gate) -> Callable[..., Iterable[bytes]]:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        match path:
            case "/wait":
                gate.enter()
                body = b"ok"
            case "/echo":
                body = environ["wsgi.input"].read()
            case "/large":
                body = bytes(LARGE)
            case "/environ":
                body = f"{path}\n{environ['QUERY_STRING']}\n{environ['REMOTE_ADDR']}".encode()
            case "/scheme":
                body = environ["wsgi.url_scheme"].encode()
            case "/raise":
                raise ValueError("raised on purpose")
            case "/parts" | "/cut":
                start_response("200 OK", [("Content-Type", TEXT)])
                return _parts(is_cut=path == "/cut")
            case _:
                body = b"ok"
        start_response("200 OK", [("Content-Type", TEXT), ("Content-Length", str(len(body)))])
        return [body]

    return app


def _parts(*, is_cut: bool) -> Iterator[bytes]:
    for part in PARTS:
        yield part
        if is_cut:
            raise ValueError("raised on purpose")


def asgi_app(gate: Gate) -> Callable[..., Awaitable[None]]:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        path = scope["path"]
        match path:
            case "/wait":
                await asyncio.to_thread(gate.enter)
                body = b"ok"
            case "/echo":
                body = await _whole(receive)
            case "/large":
                body = bytes(LARGE)
            case "/environ":
                client = scope["client"][0] if scope["client"] else ""
                body = f"{path}\n{scope['query_string'].decode()}\n{client}".encode()
            case "/scheme":
                body = scope["scheme"].encode()
            case "/raise":
                raise ValueError("raised on purpose")
            case "/parts" | "/cut":
                await _send_parts(send, is_cut=path == "/cut")
                return
            case _:
                body = b"ok"
        fields = [(b"content-type", TEXT.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return app


async def _whole(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message: dict[str, Any] = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _send_parts(send: Any, *, is_cut: bool) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", TEXT.encode())]})
    for part in PARTS:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        if is_cut:
            raise ValueError("raised on purpose")
    await send({"type": "http.response.body", "body": b""})


SITE = {
    "wsgi": """\
import os, pathlib, time
HERE = pathlib.Path(__file__).parent

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stuck":
        while not (HERE / "gate").exists():
            time.sleep(0.01)
    if path == "/crash":
        os.kill(os.getpid(), 9)
    body = f"v1 {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
""",
    "asgi": """\
import asyncio, os, pathlib
HERE = pathlib.Path(__file__).parent

async def application(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]
    if path == "/stuck":
        while not (HERE / "gate").exists():
            await asyncio.sleep(0.01)
    if path == "/crash":
        os.kill(os.getpid(), 9)
    body = f"v1 {os.getpid()}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
""",
}
"""For a whole fleet: `/` answers with version and pid, `/stuck` waits for the file `gate`, `/crash` kills its worker."""


def site(kind: str) -> str:
    return SITE["asgi" if kind in ASGI else "wsgi"]
