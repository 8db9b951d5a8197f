"""What libraries keep back to send it in batches arrives however a worker ends: Sentry, OpenTelemetry, Prometheus, the real ones."""

from __future__ import annotations

import gzip
import http.server
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
import os
import prometheus_client, sentry_sdk
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

COLLECTOR = os.environ["COLLECTOR"]
sentry_sdk.init(f"http://key@{COLLECTOR}/1", enable_logs=True, auto_enabling_integrations=False)
PROVIDER = TracerProvider()
PROVIDER.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://{COLLECTOR}/v1/traces"), schedule_delay_millis=60_000))
TRACER = PROVIDER.get_tracer("site")
ANSWERED = prometheus_client.Counter("answered", "Requests that were answered")

def answer(path):
    with TRACER.start_as_current_span(f"span{path}"):
        sentry_sdk.logger.info(f"log{path}")  # sent every 5 s, or with the hundredth
    ANSWERED.inc()
    return b"ok"

def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("none")
    body = answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""


class Collector(http.server.ThreadingHTTPServer):
    """Takes what is sent to Sentry and to an OpenTelemetry collector."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.bodies: list[bytes] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def has(self, *texts: str) -> bool:
        """Whether all of these have come."""
        whole = b"\n".join(self.bodies)
        return all(text.encode() in whole for text in texts)


class Taker(http.server.BaseHTTPRequestHandler):
    """One message of theirs."""

    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(
            gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
        )
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_what: object) -> None:
        """Say nothing."""


@contextmanager
def _collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with _collecting() as made:
        yield made


@pytest.fixture
def fleet(tmp_path: Path, collector: Collector) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", APP)
        (tmp_path / "counts").mkdir()
        with (tmp_path / "unicornd.toml").open("a") as file:
            file.write(
                f'[app.env]\nCOLLECTOR = "{collector.address}"\nPROMETHEUS_MULTIPROC_DIR = "{tmp_path}/counts"\n'
            )
        yield made


def answered(fleet: Fleet) -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(fleet.folder / "counts"))  # type: ignore[no-untyped-call] # has no types
    return registry.get_sample_value("answered_total")


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("sync", signal.SIGTERM),
        ("threads", signal.SIGQUIT),
        ("gevent", signal.SIGQUIT),
        ("asgi", signal.SIGINT),
    ],
    ids=str,
)
def test_the_last_batch_arrives_when_a_fleet_stops(
    fleet: Fleet, collector: Collector, kind: str, number: signal.Signals
) -> None:
    fleet.start_kind(kind)
    for path in ("/1", "/2"):
        fleet.get(path)
    assert fleet.end(number) == 0
    assert collector.has("log/1", "log/2", "span/1", "span/2"), collector.bodies
    assert answered(fleet) == 2


def test_the_last_batch_arrives_when_a_worker_is_recycled_replaced_or_aborted(
    fleet: Fleet, collector: Collector
) -> None:
    fleet.start_kind("threads", "--max-requests", "2", "--preload")
    fleet.get("/1")
    fleet.get("/2")
    eventually(
        lambda: collector.has("log/1", "log/2", "span/1", "span/2"), "the recycled worker has sent all"
    )
    fleet.await_workers(1)
    fleet.get("/3")
    fleet.send(signal.SIGHUP)
    eventually(lambda: collector.has("log/3", "span/3"), "the worker of the old generation has sent all")
    [pid] = fleet.await_workers(1).values()
    fleet.get("/4")
    os.kill(pid, signal.SIGABRT)
    eventually(lambda: collector.has("log/4", "span/4"), "the aborted worker has sent all")
    fleet.await_workers(1)
    assert answered(fleet) == 4
