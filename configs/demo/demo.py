"""The demo application: shows the request, and which worker of which generation answered it.

Plain WSGI (PEP 3333), no framework, so that `make run` needs nothing but unicornd.
"""

from __future__ import annotations

import html
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

STARTED = time.time()
MAX_SLEEP_SECONDS = 60.0

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>unicornd demo</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.6rem }} table {{ border-collapse: collapse; width: 100% }}
  td {{ border-top: 1px solid #8884; padding: .25rem .5rem; vertical-align: top; overflow-wrap: anywhere }}
  td:first-child {{ white-space: nowrap; opacity: .7 }} code {{ background: #8882; padding: 0 .25rem }}
</style>
<h1>Worker {slot}, generation {generation}</h1>
<p>Process {pid} has been up for {age:.0f} s. Reload the page: another worker may answer.
Edit <code>configs/demo/demo.py</code> and run <code>unicornctl reload</code>: the generation counts up, and no
request fails. Break the file and reload: the old generation goes on.</p>
<p><a href="/slow?seconds=3">A slow page</a>, <a href="/stream">a streamed page</a>;
<form method="post" action="/upload" enctype="multipart/form-data">
<input type="file" name="file"> <button>Upload</button></form>
<table>{rows}</table>
</html>
"""


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request."""
    page = PAGES.get(environ["PATH_INFO"])
    if page is None:
        return _answer(start_response, HTTPStatus.NOT_FOUND, b"There is no such page.\n", kind="text/plain")
    return page(environ, start_response)


def show_request(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Show what the application was given."""
    shown = sorted(
        (key, str(value)) for key, value in environ.items() if key.isupper() or key.startswith("wsgi.")
    )
    rows = "".join(f"<tr><td>{html.escape(key)}<td>{html.escape(value)}" for key, value in shown)
    text = PAGE.format(
        slot=os.environ.get("UNICORND_WORKER_SLOT", "?"),
        generation=os.environ.get("UNICORND_GENERATION", "?"),
        pid=os.getpid(),
        age=time.time() - STARTED,
        rows=rows,
    )
    return _answer(start_response, HTTPStatus.OK, text.encode(), kind="text/html; charset=utf-8")


def wait(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer after `seconds`, so that `unicornctl status` has something to show."""
    try:
        seconds = float(parse_qs(environ["QUERY_STRING"]).get("seconds", ["1"])[0])
    except ValueError:
        return _answer(
            start_response, HTTPStatus.BAD_REQUEST, b"seconds must be a number.\n", kind="text/plain"
        )
    seconds = min(max(seconds, 0.0), MAX_SLEEP_SECONDS)
    time.sleep(seconds)
    return _answer(start_response, HTTPStatus.OK, f"Slept {seconds:g} s.\n".encode(), kind="text/plain")


def stream(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Answer in pieces, without a Content-Length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(1, 11):
        yield f"line {number} of 10\n".encode()
        time.sleep(0.1)


def count_upload(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the request's body and tell its size."""
    size = 0
    while piece := environ["wsgi.input"].read(64 * 1024):
        size += len(piece)
    return _answer(start_response, HTTPStatus.OK, f"Received {size} bytes.\n".encode(), kind="text/plain")


def tell_health(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say that this worker answers."""
    return _answer(start_response, HTTPStatus.OK, b"ok\n", kind="text/plain")


PAGES: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/": show_request,
    "/slow": wait,
    "/stream": stream,
    "/upload": count_upload,
    "/healthz": tell_health,
}


def _answer(start_response: StartResponse, status: HTTPStatus, body: bytes, *, kind: str) -> list[bytes]:
    start_response(
        f"{status.value} {status.phrase}", [("Content-Type", kind), ("Content-Length", str(len(body)))]
    )
    return [body]
