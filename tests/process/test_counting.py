"""What a worker's row says of requests that came to no good end: timeouts and clients that left, in every kind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kinds import ASGI, EVERY_KIND, application
from tests.support.waiting import eventually
from tests.support.worker import Gate, Setup, Worker, request, worker
from unicornd.units import Seconds
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.signals import EXPIRE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from unicornd.workers.context import Served

LIMIT, SECOND = Seconds(0.3), Seconds(1.0)
MEGABYTE = 2**20
HUGE = 24 * MEGABYTE
ENDED_BY_THE_ARBITER = {"sync": signal.SIGABRT, "threads": EXPIRE, "tornado": signal.SIGABRT}
"""Kinds that do not limit requests themselves, or whose loop a WSGI application blocks: the signal that the arbiter sends."""
DEAF = ((), 10)
"""A call of sigtimedwait(2) that blocks: no library of greenlets patches it."""


def setup_of(kind: str, told: Callable[[Served], None] | None = None, *, limit: Seconds = LIMIT) -> Setup:
    return Setup(
        kind=kind,
        threads=2 if kind == "threads" else 1,
        request_timeout=limit,
        asgi=AsgiPolicy(request=limit),
        on_served=told,
    )


def site(kind: str, gate: Gate) -> Callable[..., Any]:
    """The application of all kinds, with a response that no socket's buffer takes."""
    app = application(kind, gate)
    head = [("Content-Length", str(HUGE))]

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/huge":
            await app(scope, receive, send)
            return
        fields = [(name.encode(), value.encode()) for name, value in head]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        for _ in range(HUGE // MEGABYTE):
            await send({"type": "http.response.body", "body": bytes(MEGABYTE), "more_body": True})
            await asyncio.sleep(0)  # else the loop hears of the client's end after the last part
        await send({"type": "http.response.body", "body": b""})

    def wsgi(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/huge":
            return app(environ, start_response)
        start_response("200 OK", head)
        return (bytes(MEGABYTE) for _ in range(HUGE // MEGABYTE))

    return asgi if kind in ASGI else wsgi


def leave_early(running: Worker) -> None:
    """Ask for a large response, and reset the connection as soon as it begins."""
    with running.connect() as client:
        client.send(request("/huge"))
        client.sock.recv(1)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def has_overrun(running: Worker, limit: Seconds = LIMIT) -> bool:
    since = running.reading().busy_since
    return since is not None and time.monotonic() - since > limit


def ask_in_vain(running: Worker, gate: Gate, *, by: signal.Signals | int | None) -> int:
    """Have a request run into its limit; return the status that its client gets."""
    with running.connect() as client:
        client.send(request("/wait"))
        gate.wait_for(1)
        if by is not None:
            eventually(lambda: has_overrun(running), "its time is up")
            running.send(by)
        return client.read().code


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_client_that_leaves_and_a_request_that_times_out_are_counted(tmp_path: Path, kind: str) -> None:
    gate, log = Gate(), tmp_path / "served"

    def tell(served: Served) -> None:
        with log.open("a") as file:
            file.write(f"{served.head.path} {served.status[:3]}\n")

    with worker(site(kind, gate), tmp_path, setup_of(kind, tell)) as running, gate.opened_after():
        leave_early(running)
        eventually(
            lambda: (running.reading().requests, running.reading().disconnects) == (1, 1), "it is over"
        )
        assert ask_in_vain(running, gate, by=ENDED_BY_THE_ARBITER.get(kind)) == 504
        eventually(lambda: running.reading().requests == 2, "both are counted")
        reading = running.reading()
        assert (reading.errors, reading.timeouts, reading.disconnects) == (1, 1, 1)
        assert sum(reading.buckets) == 2
        assert reading.busy_seconds >= LIMIT / 2
        assert reading.lost == (), "its client was told"
        eventually(lambda: log.read_text().splitlines()[-1] == "/wait 504", "the access log has it")
        gate.open()
        if ENDED_BY_THE_ARBITER.get(kind) is signal.SIGABRT:
            running.wait()


def blocking(kind: str, gate: Gate) -> Callable[..., Any]:
    """An application that holds up its worker's loop."""

    async def asgi(scope: Any, _receive: Any, _send: Any) -> None:
        assert scope["type"] == "http"
        gate.count()
        signal.sigtimedwait(*DEAF)

    def wsgi(_environ: Any, _start_response: Any) -> list[bytes]:
        gate.count()
        signal.sigtimedwait(*DEAF)
        return []

    return asgi if kind in ASGI else wsgi


@pytest.mark.parametrize("kind", ["asgi", "gevent", "gevent_pywsgi", "eventlet", "tornado"])
def test_a_request_that_blocks_its_loop_is_counted_before_the_worker_ends(tmp_path: Path, kind: str) -> None:
    gate = Gate()
    with worker(blocking(kind, gate), tmp_path, setup_of(kind)) as running:
        assert ask_in_vain(running, gate, by=signal.SIGABRT) == 504
        running.wait()
        reading = running.reading()
        assert (reading.requests, reading.errors, reading.timeouts) == (1, 1, 1)
        assert [each.is_given_up for each in reading.in_flight] == [True]


def test_a_request_that_comes_back_after_it_was_given_up_is_not_counted_again(tmp_path: Path) -> None:
    """A response that makes progress keeps the worker while it leaves."""
    late, end = Gate(), tmp_path / "end"

    def parts() -> Iterator[bytes]:
        while not end.exists():
            time.sleep(0.01)
            yield b"."

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] != "/wait":
            return parts()
        late.enter()
        return [b"ok"]

    with contextlib.ExitStack() as stack:
        patient = setup_of("threads", limit=SECOND)  # the parts come far more often, however busy the machine
        running = stack.enter_context(worker(app, tmp_path, patient))
        stack.callback(end.touch)
        stack.enter_context(late.opened_after())
        slow, stuck = (stack.enter_context(running.connect()) for _ in range(2))
        slow.send(request("/"))
        stuck.send(request("/wait"))
        late.wait_for(1)
        eventually(lambda: has_overrun(running, SECOND), "its time is up")
        running.send(EXPIRE)
        assert stuck.read().code == 504
        late.open()
        eventually(lambda: len(running.reading().in_flight) == 1, "it has come back")
        end.touch()
        assert slow.read().code == 200
        running.wait()
        reading = running.reading()
        assert (reading.requests, reading.errors, reading.timeouts, sum(reading.buckets)) == (2, 1, 1, 2)
