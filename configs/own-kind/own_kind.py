"""A kind of worker of one's own: one thread, one request a connection, nothing but the standard library and the contract.

Take it as a beginning: everything that `unicornctl` can do with a worker works with this one (docs/kinds.md).
"""

from __future__ import annotations

import io
import select
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from unicornd.http.environ import build_environ, shared_environ
from unicornd.http.errors import Refusal
from unicornd.workers.channel import RetiringReport
from unicornd.workers.context import Served

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from unicornd.http.messages import Head
    from unicornd.units import Monotonic
    from unicornd.workers.context import WorkerContext

BEAT_SECONDS = 0.5


class Plain:
    """What `workers.kind` names; it is made without arguments."""

    KEEPS_ALIVE = False
    INTERFACE = "wsgi"

    def prepare(self) -> None:
        """Come before the application is imported: the place for monkey patches."""

    def run(self, context: WorkerContext) -> None:
        """Serve until told to drain; return when nothing is in flight."""
        self.context, self.counters = context, context.seat.row.counters()
        orders, lifeline = context.orders, context.seat.lifeline
        listeners = [listener.sock for listener in context.seat.listeners]
        context.ready()
        while not orders.is_draining:
            readable, _, _ = select.select([*listeners, orders.wake, lifeline], [], [], BEAT_SECONDS)
            context.seat.row.beat(now())
            if orders.wake in readable:
                orders.wake.recv(4096)  # a signal: `orders` knows which
            if lifeline in readable:
                context.log.warning("the arbiter is gone; finishing what is in flight")
                break
            for listener in listeners:
                if listener in readable:
                    self.accept(listener)
        for listener in listeners:
            while self.accept(listener):  # what the kernel has queued
                pass
            listener.close()

    def accept(self, listener: socket.socket) -> bool:
        """Serve the next client; False if none waits, or another worker was faster."""
        try:
            client, address = listener.accept()
        except BlockingIOError:
            return False
        with client:
            client.settimeout(self.context.http.head or None)
            try:
                self.serve(client, address[0] if isinstance(address, tuple) else "")
            except Refusal as refusal:
                client.sendall(response(f"{refusal.status.value} {refusal.status.phrase}", [], b""))
            except OSError as error:  # it has gone, or it is too slow
                self.context.log.debug("a client was given up", extra={"why": str(error)})
        return True

    def serve(self, client: socket.socket, remote: str) -> None:
        """Read a request, have it answered, count it, tell of it."""
        context, began = self.context, now()
        received = client.recv(65536)
        while b"\r\n\r\n" not in received:
            if not (more := client.recv(65536)):
                return
            received += more
        block, _, rest = received.partition(b"\r\n\r\n")
        head = context.http.parse(block + b"\r\n\r\n", context.http.limits)  # raises Refusal
        if head.length < 0:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "this kind reads no chunked bodies")
        while len(rest) < head.length:
            if not (more := client.recv(65536)):
                return
            rest += more
        environ = {
            **build_environ(shared_environ(server_name="localhost", server_port="", scheme="http"), head),
            "REMOTE_ADDR": remote,
            "wsgi.input": io.BytesIO(rest[: head.length]),
            "wsgi.errors": context.errors,
            "wsgi.multithread": False,
            "wsgi.multiprocess": context.is_multiprocess,
        }
        cell = context.seat.row.cell(0)
        cell.begin(began, f"{head.method} {head.path}".encode("latin-1"))
        if context.pre_request is not None:
            context.pre_request(head)
        status, headers, body = self.answer(environ, head)
        client.sendall(response(status, headers, b"" if head.method == "HEAD" else body))
        cell.clear()
        if status.startswith("5"):
            self.counters.errors += 1
        self.counters.add(now(), now() - began)
        if context.on_served is not None:  # the access log, hooks.post_request, statsd
            served = Served(
                head=head, remote=remote, status=status, headers=headers, size=len(body), seconds=now() - began, environ=environ
            )  # fmt: skip
            context.on_served(served)
        if context.recycling is not None and context.recycling.count():
            context.report(
                RetiringReport(why=f"max_requests reached after {self.counters.requests} requests")
            )

    def answer(self, environ: dict[str, Any], head: Head) -> tuple[str, list[tuple[str, str]], bytes]:
        """Call the application; what it raises costs this request."""
        said: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Any:  # noqa: ANN401 - PEP 3333
            said[:] = [status, headers]
            return lambda _data: None

        try:
            parts: Iterable[bytes] = self.context.app(environ, start_response)
            return said[0], said[1], b"".join(parts)
        except BaseException as error:
            facts = {"method": head.method, "path": head.path}
            self.context.log.exception("the application failed", exc_info=error, extra=facts)
            return "500 Internal Server Error", [], b""


def now() -> Monotonic:
    """Return the time as cells and heartbeat have it."""
    return time.monotonic()  # type: ignore[return-value] # a NewType of float


def response(status: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """Return the bytes of a response that ends its connection."""
    fields = [*headers, ("Server", "unicornd"), ("Connection", "close")]
    if not any(name.lower() == "content-length" for name, _ in headers):
        fields.append(("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
