"""A real worker process without an arbiter: forked from the test, serving an application of the test's choice.

The child runs a kind as `workers.boot` does, with the real signals, scoreboard row, channel and lifeline; the test holds
the other ends of them. Applications are closures: what they share with the test (gates, counters) is made before.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
import time
import traceback
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tests.support.waiting import eventually
from unicornd.config.values import Address
from unicornd.dataclass import dataclass, field, replace
from unicornd.errors import DaemonExit
from unicornd.http.limits import Limits
from unicornd.observe.logs import ErrorStream
from unicornd.observe.scoreboard import Reading, Row
from unicornd.sockets.listener import Listener, queue_length
from unicornd.units import Fd, Generation, Monotonic, Seconds, Slot
from unicornd.workers import signals
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.channel import ReadyReport, Report, decode_report, encode_report
from unicornd.workers.context import HttpPolicy, Orders, Seat, WorkerContext
from unicornd.workers.keeping import Keeper
from unicornd.workers.possessions import Possessions
from unicornd.workers.registry import load_kind, prepare

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from typing import Self, TextIO

    from unicornd.http.messages import Head
    from unicornd.workers.context import Recycling, Served

for name in (
    "email.utils",
    "concurrent.futures.thread",
    "ssl",
    "zope.interface",
    "unicornd.workers.serve",
    "uvicorn.protocols.websockets.auto",
):
    importlib.import_module(name)
for name in ("sync", "threads", "asgi", "tornado"):
    importlib.import_module(f"unicornd.workers.kinds.{name}")
# Read once here, and not by each worker that is forked. Not gevent and eventlet: all would have both of them in them.

CLIENT_TIMEOUT = 20.0
BACKLOG = 512
GATE_PAUSE = 0.005
POLICY = HttpPolicy(
    limits=Limits(),
    body_memory=256 * 1024,
    tmp_upload_dir=None,
    response_buffer=1024 * 1024,
    has_sendfile=True,
    head=Seconds(30.0),
    body=Seconds(30.0),
    write=Seconds(30.0),
    keepalive=Seconds(30.0),
    is_kept_alive=True,
    connections=1000,
)
"""Patient: only a test that is about a deadline should meet one."""


class Gate:
    """Where an application waits until the test lets it through; the test sees how many have come."""

    def __init__(self) -> None:
        context = get_context("fork")
        self._arrivals = context.Value("i", 0)
        self._open = context.Event()

    @contextlib.contextmanager
    def opened_after(self) -> Iterator[None]:
        """Open it when a test is over, however that went: nobody waits there for ever."""
        try:
            yield
        finally:
            self.open()

    @property
    def arrivals(self) -> int:
        return int(self._arrivals.value)

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def count(self) -> None:
        """For the application: be counted."""
        with self._arrivals.get_lock():
            self._arrivals.value += 1

    def enter(self) -> None:
        """For the application: be counted, and wait."""
        self.count()
        deadline = time.monotonic() + CLIENT_TIMEOUT
        while not self._open.is_set():  # not `wait`, which would keep a whole loop of greenlets waiting
            assert time.monotonic() < deadline
            time.sleep(GATE_PAUSE)

    def open(self) -> None:
        self._open.set()

    def wait_for(self, arrivals: int) -> None:
        eventually(lambda: self.arrivals >= arrivals, f"{arrivals} requests have reached the application")


def _nothing() -> None:
    """Do nothing before a worker boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the worker serves."""

    kind: str = "threads"
    threads: int = 1
    policy: HttpPolicy = POLICY
    family: socket.AddressFamily = socket.AF_INET
    recycling: Recycling | None = None
    request_timeout: Seconds = Seconds(0)
    pre_request: Callable[[Head], None] | None = None
    on_served: Callable[[Served], None] | None = None
    asgi: AsgiPolicy = field(default_factory=AsgiPolicy)
    cells: int = 0
    """Of the row; 0: as many as threads."""
    tls: ssl.SSLContext | None = None
    before: Callable[[], None] = _nothing
    """Called in the child before it serves (limits of the process)."""


class Worker:
    """A running worker; `with worker(...)` makes one."""

    def __init__(self, app: Callable[..., Any], setup: Setup, folder: Path) -> None:
        self._log_file = folder / "worker.log"
        self._sock = _listening(setup.family, folder)
        self.address = self._sock.getsockname()
        self.family = setup.family
        self.row = Row.create(setup.cells or setup.threads)
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, self._lifeline = os.pipe()
        self.exit_status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._lifeline)
                self._channel.close()
                self._serve(app, setup, channel=channel, lifeline=lifeline)
                code = 0
            except BaseException:
                with self._log_file.open("a") as log:
                    traceback.print_exc(file=log)
                raise
            finally:
                os._exit(code)
        channel.close()
        os.close(lifeline)
        self._channel.settimeout(CLIENT_TIMEOUT)
        if not (said := self._channel.recv(65536)):
            raise AssertionError(
                f"the worker has ended before it was ready, with {self.wait()}; its log: {self.log()}"
            )
        assert isinstance(decode_report(said), ReadyReport)
        self._sockets_at_rest = self._sockets()

    def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        return Client(self.family, self.address, tls=tls)

    def drain(self) -> None:
        self.send(signal.SIGTERM)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hold it still: what is sent meanwhile it finds at one look."""
        self.send(signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the worker stands still")
        yield
        self.send(signal.SIGCONT)

    def queued(self) -> int:
        """Return how many connections wait to be accepted."""
        address = Address.parse(f"127.0.0.1:{self.address[1]}")
        queue = queue_length(Listener(address=address, sock=self._sock, is_inherited=False))
        assert queue is not None
        return queue[0]

    def stop_listening(self) -> None:
        """Close the test's own copy of the listener, as an arbiter does that is leaving."""
        self._sock.close()

    def shut_listener(self) -> str:
        """Shut the listener down, which ends it in all processes that share it; return how `open_files` names it."""
        self._sock.shutdown(socket.SHUT_RDWR)
        return f"socket:[{os.fstat(self._sock.fileno()).st_ino}]"

    def abandon(self) -> None:
        """Close the lifeline, as an arbiter does that dies."""
        os.close(self._lifeline)
        self._lifeline = -1

    def report(self) -> Report:
        """Wait for a report of the worker and return it."""
        return decode_report(self._channel.recv(65536))

    def has_no_report(self) -> bool:
        """Return whether the worker, which has ended, has reported nothing more."""
        return self._channel.recv(65536) == b""

    def reading(self) -> Reading:
        return self.row.read(Monotonic(time.monotonic()))

    def log(self) -> str:
        return self._log_file.read_text() if self._log_file.exists() else ""

    def open_files(self) -> list[str]:
        """Return what the descriptors of the worker point to."""
        found = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(link.readlink()))
        return found

    def has_clients(self) -> bool:
        """Return whether it has more sockets than it had when it became ready; some are inherited from the test's."""
        return self._sockets() > self._sockets_at_rest

    def is_over(self) -> bool:
        """Return whether the process has ended; then `exit_status` is known."""
        if self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)
        return self.exit_status is not None

    def wait(self) -> int:
        """Wait for the end of the process and return its exit code."""
        eventually(self.is_over, f"the worker has ended; its log: {self.log()}")
        assert self.exit_status is not None
        return self.exit_status

    def close(self) -> None:
        if not self.is_over():
            os.kill(self.pid, signal.SIGKILL)
            eventually(self.is_over, "the killed worker is gone")
        if self._lifeline >= 0:
            os.close(self._lifeline)
        self._channel.close()
        self._sock.close()
        self.row.close()

    def _sockets(self) -> int:
        return sum(file.startswith("socket:") for file in self.open_files())

    def _serve(self, app: Callable[..., Any], setup: Setup, *, channel: socket.socket, lifeline: int) -> None:
        log = logging.Logger("worker")  # noqa: LOG001 - not in the tree of the test's process
        log.addHandler(_log_handler(self._log_file))
        orders = signals.install(on_quit=lambda: None, on_abort=lambda: None, log=log)
        os.environ["EVENTLET_NO_GREENDNS"] = "yes"  # half of its start, and no name is resolved here
        kind = load_kind(setup.kind)
        gc.freeze()  # gevent looks at all that the collector knows; what other tests left would fail (a dead proxy)
        prepare(kind)
        host, port = (self.address[:2]) if isinstance(self.address, tuple) else ("", 0)
        text = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
        address = Address.parse(text if host else f"unix:{self.address}")
        setup.before()
        seat = Seat(
            slot=Slot(1), generation=Generation(1), pool="web", age=1, row=self.row, channel=channel,
            listeners=(Listener(address=address, sock=self._sock, is_inherited=False),), lifeline=Fd(lifeline),
        )  # fmt: skip
        keeper = Keeper(orders, log, possessions=Possessions(seat, orders))
        orders.fail = lambda: os._exit(DaemonExit.FAILED)
        keeper.put_right()
        context = WorkerContext(
            seat=seat, app=app, orders=orders, threads=setup.threads, is_multiprocess=True, log=log,
            http=replace(setup.policy, is_kept_alive=setup.policy.is_kept_alive and kind.KEEPS_ALIVE),
            errors=cast("TextIO", ErrorStream(log)), recycling=setup.recycling,
            report=lambda report: cast("None", channel.send(encode_report(report))),
            ready=lambda: _tell_ready(orders, channel, keeper),  # its signals are its own now
            asgi=setup.asgi, pre_request=setup.pre_request, on_served=setup.on_served,
            request_timeout=setup.request_timeout, tls=setup.tls, leave=lambda: os._exit(0),
        )  # fmt: skip
        kind.run(context)


def _tell_ready(orders: Orders, channel: socket.socket, keeper: Keeper) -> None:
    orders.is_serving = True
    orders.look = keeper.look
    keeper.put_right()
    channel.send(encode_report(ReadyReport()))


class Client:
    """A client's connection that sends bytes and reads responses one after the other."""

    def __init__(
        self, family: socket.AddressFamily, address: Any, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.sock = socket.socket(family)
        self.sock.settimeout(CLIENT_TIMEOUT)
        self.sock.connect(address)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False)
        self._file = self.sock.makefile("rb")

    def send(self, data: bytes | str) -> Client:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def get(self, path: str = "/", *, fields: str = "", method: str = "GET") -> Response:
        """Ask for a path and return the response."""
        return self.send(request(path, fields=fields, method=method)).read(method=method)

    def read(self, *, method: str = "GET") -> Response:
        """Read one response, `100 Continue` too.

        Raises:
            EOFError: the connection ended before the response did.
        """
        status = self._line()
        fields = {}
        while line := self._line():
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        code = int(status.split(" ")[1])
        if method == "HEAD" or code in {100, 204, 304}:
            body = b""
        elif fields.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        elif "content-length" in fields:
            body = self._exactly(int(fields["content-length"]))
        else:
            body = self._file.read()
        return Response(code=code, status=status, fields=fields, body=body)

    def is_at_end(self) -> bool:
        """Wait for the server's next byte; return whether it was the end."""
        return self._file.read(1) == b""

    def is_reset(self) -> bool:
        """Wait for the server's next byte; return whether the connection was reset."""
        try:
            self._file.read(1)
        except ConnectionResetError:
            return True
        return False

    def finish(self) -> Client:
        """Send nothing more."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the connection ended after {line!r}")
        return line[:-2].decode("latin-1")

    def _chunk(self) -> bytes:
        size = int(self._line(), 16)
        data = self._exactly(size)
        assert self._line() == ""
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(f"the connection ended after {len(data)} of {size} bytes")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a client has read; names of fields are in lower case."""

    code: int
    status: str
    fields: dict[str, str]
    body: bytes


def request(path: str = "/", *, fields: str = "", method: str = "GET", body: bytes = b"") -> bytes:
    """Return a request; `fields` are whole lines with their CRLF."""
    if body:
        fields += f"Content-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n".encode("latin-1") + body


@contextlib.contextmanager
def worker(app: Callable[..., Any], folder: Path, setup: Setup | None = None, /) -> Iterator[Worker]:
    """Run a worker; afterwards it has to end by itself when it is told to drain."""
    running = Worker(app, setup or Setup(), folder)
    try:
        yield running
        if not running.is_over():
            running.drain()
            assert running.wait() == 0, running.log()
    finally:
        running.close()


class Shared:
    """Workers for tests that only send them bytes: one for each application and setup, made when it is first asked for.

    Whoever gets one counts from what it has served and said before, and leaves it as it was. All have to end in order
    when the module is over.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._made: list[tuple[Callable[[str], Callable[..., Any]], Setup, Worker]] = []
        self._stack = contextlib.ExitStack()

    def worker(self, application: Callable[[str], Callable[..., Any]], setup: Setup) -> Worker:
        """Return the worker that serves what `application` gives for its kind; a new one if that has ended."""
        for app, its_setup, made in self._made:
            if app is application and its_setup == setup and not made.is_over():
                return made
        made = self._stack.enter_context(worker(application(setup.kind), self._folder(), setup))
        self._made.append((application, setup, made))
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _listening(family: socket.AddressFamily, folder: Path) -> socket.socket:
    sock = socket.socket(family)
    if family == socket.AF_UNIX:
        sock.bind(str(folder / "worker.sock"))
    else:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _log_handler(file: Path) -> logging.Handler:
    shown = logging.FileHandler(file)
    line = "%(levelname)s %(message)s method=%(method)s path=%(path)s why=%(why)s"
    shown.setFormatter(logging.Formatter(line, defaults={"method": "", "path": "", "why": ""}))
    return shown
