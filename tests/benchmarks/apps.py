"""The applications under load: as little Python as possible, so that the server is what is measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

BODY = b"Hello, world!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", list(HEADERS))
    return [BODY]


def sleepy(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(0.010)
    start_response("200 OK", list(HEADERS))
    return [BODY]


LARGE = 10_000_000
BLOCK = bytes(100_000)


def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Ten megabytes in pieces at `/large`, else a hello world."""
    if environ["PATH_INFO"] != "/large":
        return hello(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(LARGE))])
    return (BLOCK for _ in range(LARGE // len(BLOCK)))


ASGI_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS]


async def hello_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    while scope["type"] == "lifespan":
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
    await send({"type": "http.response.start", "status": 200, "headers": ASGI_HEADERS})
    await send({"type": "http.response.body", "body": BODY})
