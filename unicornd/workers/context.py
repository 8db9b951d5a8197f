"""What a worker is given: its seat, from the arbiter, and its context, which `boot` makes of seat and settings.

The arbiter makes a `Seat` before it forks; the child receives it through the fork (no serialisation). Nothing
in a seat depends on the application or on pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TextIO

from unicornd.dataclass import dataclass, field
from unicornd.http.head import parse_head
from unicornd.workers.asgi.policy import AsgiPolicy

if TYPE_CHECKING:
    import logging
    import socket
    from collections.abc import Callable, Mapping
    from ssl import SSLContext
    from wsgiref.types import WSGIApplication

    from unicornd.http.forwarded import Forwarding, Trust
    from unicornd.http.limits import Limits
    from unicornd.http.messages import Head
    from unicornd.http.proxy import Mode
    from unicornd.observe.scoreboard import Row
    from unicornd.sockets.listener import Listener
    from unicornd.units import Fd, Generation, Seconds, Slot
    from unicornd.workers.channel import Report
    from unicornd.workers.handover import Handover
    from unicornd.workers.line import Line
    from unicornd.workers.overflow import Overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One worker's place: who it is, what it listens on, how it reports, how it learns that it is alone.

    Attributes:
        slot: its place in the pool, from 1.
        generation: which load of configuration and code it belongs to.
        pool: the pool's name, `web`.
        age: how many workers were spawned before it, from 1 (gunicorn's `worker.age`).
        listeners: open listening sockets, shared with the other workers, non-blocking.
        row: its row of the scoreboard; only the worker writes it.
        channel: SOCK_SEQPACKET socket; the worker sends reports (`workers.channel`), the arbiter log files (`renewal`).
        lifeline: read end of a pipe whose only writer is the arbiter; readable (EOF) when the arbiter is gone.
        handover: where idle connections go when this worker leaves, and come from; None for kinds that cannot.
        kept: what the hook pre_fork has left on `server` and `worker`: name → attribute → value.
    """

    slot: Slot
    generation: Generation
    pool: str
    age: int
    listeners: tuple[Listener, ...]
    row: Row
    channel: socket.socket
    lifeline: Fd
    handover: Handover | None = None
    kept: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that has been answered, as the access log and the hooks see it.

    Attributes:
        head: what was asked.
        remote: the client's address, empty for a Unix socket.
        status: the whole status line's text, `200 OK`.
        headers: the application's response headers.
        size: bytes of the response's body.
        seconds: from the complete request to the end of the application's work.
        environ: the request's environ.
    """

    head: Head
    remote: str
    status: str
    headers: list[tuple[str, str]]
    size: int
    seconds: float
    environ: dict[str, object]


def _nothing() -> None:
    """Do it."""


def _ignore(_connection: Line) -> None:
    """Do nothing about it."""


def _pass(_now: float) -> None:
    """Do nothing at that time."""


def _do(act: Callable[[], object]) -> object:
    return act()


STDERR = 2


def _forget(_stacks: bytes) -> None:
    """Nobody will read them."""


class Orders:
    """What the arbiter has told this worker; set by signal handlers, read by the poller.

    Attributes:
        wake: readable when a signal has come.
        wake_fd: its other end, for `signal.set_wakeup_fd`; an event loop may have to be told again.
        is_draining: finish and leave.
        is_last_call: the fleet is about to stop: clients are sent elsewhere.
        is_serving: it is ready, or says so in this moment: it may have requests.
        is_expiring: requests that have run too long are to be given up.
        handover: where idle connections can go, or None.
        fail: ends a process that cannot go on; its work in progress is lost.
        end: has the process end at once although another thread than the main one has the signal (INT, QUIT).
        give_up: tells the clients of running requests that there will be no answer; set by the kind.
        attend: has signs of life given from now on, whatever the main thread does: the worker ends.
        aside: does something in a signal handler that may wait; set by kinds whose loop may be what was interrupted.
        on_abort: the hook `worker_abort`.
        is_in_child: this is not the worker any more, but a child that the application has forked.
        on_fork: called in such a child: nothing of the kind's may run there.
        handlers: of the signals that mean something to the worker.
        signals: those, and those that are to do nothing.
        pollers: descriptors of the kind's epoll objects.
        on_part: told when a part of a response that comes in parts has been sent or kept; set by the kind.
        look: called with the time (monotonic) at a kind's regular look (`keeping`).
        more_stacks: what a kind knows beside the stacks of threads: those of tasks or greenlets, as text, or None.
        keep_stacks: leaves stacks for the arbiter, which reads them when the process has ended.
        log: the error log.
        stacks_fd: where faulthandler writes.
        write_stacks: writes the stacks of all threads for `unicornctl stacks`, if that has not been done yet.
    """

    __slots__ = (
        "aside", "attend", "end", "fail", "give_up", "handlers", "handover", "is_draining", "is_expiring", "is_in_child", "is_last_call", "is_serving", "keep_stacks", "log",
        "look", "more_stacks", "on_abort", "on_fork", "on_part", "pollers", "signals", "stacks_fd", "wake", "wake_fd", "write_stacks",
    )  # fmt: skip

    def __init__(self, wake: socket.socket, wake_fd: int, *, log: logging.Logger) -> None:
        self.wake = wake
        self.log = log
        self.wake_fd = wake_fd
        self.is_draining = False
        self.is_expiring = False
        self.is_in_child = False
        self.is_last_call = False
        self.is_serving = False
        self.handover: Handover | None = None
        self.end: Callable[[], None] = _nothing
        self.fail: Callable[[], None] = _nothing
        self.give_up: Callable[[], None] = _nothing
        self.attend: Callable[[], None] = _nothing
        self.aside: Callable[[Callable[[], object]], object] = _do
        self.on_abort: Callable[[], None] = _nothing
        self.on_part: Callable[[Line], None] = _ignore
        self.look: Callable[[float], None] = _pass
        self.more_stacks: Callable[[], str] | None = None
        self.on_fork: Callable[[], None] = _nothing
        self.pollers: list[int] = []
        self.handlers: dict[int, Any] = {}
        self.signals: tuple[int, ...] = ()
        self.write_stacks: Callable[[], None] = _nothing
        self.keep_stacks: Callable[[bytes], None] = _forget
        self.stacks_fd = STDERR

    @property
    def ends_connections(self) -> bool:
        """Whether a response has to say `Connection: close`: nobody will take the connection over."""
        if self.is_draining:
            return self.handover is None or not self.handover.is_open
        return self.is_last_call


class Recycling(Protocol):
    """Counts requests and says, once, that the worker should be replaced."""

    def count(self) -> bool:
        """Count one request; True when this one was the last before a replacement is to be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxying:
    """The PROXY protocol: which version, and from whom."""

    mode: Mode
    trust: Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPolicy:
    """How requests are read and responses kept; sizes in bytes, times in seconds, 0 for no limit.

    Attributes:
        limits: of a request.
        body_memory: larger bodies go to a temporary file in `tmp_upload_dir`.
        response_buffer: unsent bytes of one response beyond which it goes to a file, or its application has to wait.
        overflow: that file, or None.
        has_sendfile: whether `wsgi.file_wrapper` uses sendfile(2).
        head, body, write, keepalive: how long a client may take for each.
        is_kept_alive: whether connections are kept at all.
        connections: how many are open at a time.
        is_streaming: whether the application reads the body while it arrives; else it is complete when the application
            is called.
        parse: reads heads, with the operator's tolerance.
        forwarding: what is believed of those who forward requests, or None.
        proxying: who may send PROXY headers, or None where nobody speaks that protocol.
        uwsgi: who may speak uwsgi, or None where HTTP is spoken.
    """

    limits: Limits
    body_memory: int
    tmp_upload_dir: str | None
    response_buffer: int
    has_sendfile: bool
    head: Seconds
    body: Seconds
    write: Seconds
    keepalive: Seconds
    is_kept_alive: bool
    connections: int
    is_streaming: bool = False
    parse: Callable[[bytes, Limits], Head] = parse_head
    forwarding: Forwarding | None = None
    proxying: Proxying | None = None
    uwsgi: Trust | None = None
    overflow: Overflow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Everything that a kind needs to serve.

    Attributes:
        seat: who the worker is and what it listens on.
        app: the loaded application.
        orders: what the arbiter says.
        http: how requests are read and responses kept.
        request_timeout: seconds that a request may run before it is given up; 0 for no limit.
        threads: how many requests run at a time; of an event loop, the threads of its default executor.
        asgi: how ASGI applications are served.
        is_multiprocess: whether there may be other workers (`wsgi.multiprocess`).
        log: the error log.
        errors: `wsgi.errors`, written to the error log.
        recycling: counts requests, or None if nobody counts.
        report: tells the arbiter something.
        leave: ends the process in order, although a thread is stuck in the application; does not return.
        ready: tells the arbiter, once, that the kind serves.
        pre_request: hook, called with the head before the application runs, or None.
        on_served: called after each request (access log, post_request hook), or None: nothing is collected for it then.
        tls: what TCP listeners speak TLS with; None for plain HTTP.
    """

    seat: Seat
    app: WSGIApplication
    orders: Orders
    http: HttpPolicy
    threads: int
    request_timeout: Seconds
    is_multiprocess: bool
    log: logging.Logger
    errors: TextIO
    recycling: Recycling | None
    report: Callable[[Report], None]
    leave: Callable[[], None]
    ready: Callable[[], None]
    asgi: AsgiPolicy = field(default_factory=AsgiPolicy)
    pre_request: Callable[[Head], None] | None
    on_served: Callable[[Served], None] | None
    tls: SSLContext | None = None
