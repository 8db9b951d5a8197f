"""What reads bytes of somebody who may be hostile, as properties: whatever comes, what is read is within bounds.

Each is a function of Hypothesis, which `python -m tests.fuzz` calls again and again. A property holds for any input;
those of `tests/property` that are about such bytes are among them.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import socket
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_observe_rows import test_whatever_is_in_a_row_what_is_read_is_what_it_can_be as rows
from tests.support.control_port import FakePort, make_state
from unicornd.arbiter.reports import MOST_AT_ONCE, MOST_IN_A_LIFE, Reports, UntrueError, read_birth
from unicornd.arbiter.routes import make_route
from unicornd.control.endpoints import Endpoint
from unicornd.control.server import ControlServer
from unicornd.observe.scoreboard import Row
from unicornd.sockets.credentials import want_credentials
from unicornd.units import Fd, Generation, Monotonic, Pid, Slot
from unicornd.workers.channel import MAX_REPORT_BYTES, decode_report, encode_report
from unicornd.workers.context import Seat
from unicornd.workers.handover import MAX_MESSAGE, Handover
from unicornd.workers.order import receive_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["TARGETS"]

CELLS = 2
MOST_TURNS = 200
"""Of the control server's loop for what one client sends at once."""

deep = st.builds(
    lambda each, times: each * times, st.sampled_from([b"[", b'{"a":', b"\0", b"9"]), st.integers(0, 60_000)
)
words = st.sampled_from(
    [
        b"born",
        b"ready",
        b"retiring",
        b"boot_failed",
        b"app",
        b"boot",
        b"threads",
        b"-1",
        b"\xff",
        b"\x1b[31m\n",
    ]
)
reports = (
    st.binary(max_size=200) | deep | st.lists(words | st.binary(max_size=20), max_size=6).map(b"\0".join)
)


def _listener() -> int:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")
    sock.listen()
    return sock.detach()


def _connection() -> int:
    one, other = socket.socketpair()
    with other:
        return one.detach()


THINGS: dict[str, Callable[[], int]] = {
    "a folder": lambda: os.open("/", os.O_RDONLY | os.O_DIRECTORY),
    "a file": lambda: os.memfd_create("fuzz"),
    "a datagram socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
    "an unconnected socket": lambda: socket.socket().detach(),
    "a listener": _listener,
    "a connection": _connection,
}
"""What can be sent along: the maker of a descriptor."""
things = st.lists(st.sampled_from(sorted(THINGS)), max_size=4)

facts = st.builds(
    lambda values, size, rest: _message(json.dumps(values).encode(), size, rest),
    st.recursive(st.text(max_size=20) | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=4)),
    st.none() | st.integers(0, 65535),
    st.binary(max_size=200),
)
handed = facts | st.binary(max_size=100) | deep.map(lambda data: data[: MAX_MESSAGE + 10])

paths = st.sampled_from([each.value.path for each in Endpoint]).map(
    lambda path: path.replace("{slot}", "1").replace("{id}", "1")
) | st.text(st.characters(codec="latin-1"), max_size=30)
queries = st.sampled_from(
    ["", "?dry_run=1", "?wait=0", "?since=0&follow=0", "?since=-1&follow=0", "?%ff", "?wait=nan"]
)
bodies = (
    st.binary(max_size=100)
    | deep
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.dictionaries(st.sampled_from(["count", "mode", "by", "to", "x"]), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
)
lengths = st.none() | st.integers(-5, 10**20)


def _request(method: str, path: str, query: str, body: bytes, length: int | None) -> bytes:
    size = len(body) if length is None else length
    head = f"{method} {path}{query} HTTP/1.1\r\nHost: unicornd\r\nContent-Length: {size}\r\n\r\n"
    return head.encode("latin-1") + body


requests = st.builds(
    _request, st.sampled_from(["GET", "POST", "HEAD", "PUT", "get", ""]), paths, queries, bodies, lengths
)


@given(datagram=reports)
def decoding(datagram: bytes) -> None:
    """A report is one of ours, or a ValueError; ours survive the way back."""
    try:
        report = decode_report(datagram)
    except ValueError:
        return
    assert len(encode_report(report)) <= MAX_REPORT_BYTES
    assert type(decode_report(encode_report(report))) is type(report)


@given(datagrams=st.lists(reports, max_size=MOST_IN_A_LIFE + 10), along=things, is_own=st.booleans())
def reading(datagrams: list[bytes], along: list[str], *, is_own: bool) -> None:
    """The arbiter's end of a channel yields so many reports at most, none of a stranger's, and keeps no descriptor."""
    with _channel() as (ours, theirs), _no_descriptor_more():
        taken = sum(_send(theirs, each, along) for each in datagrams)
        known = Reports(ours, speaker=Pid(os.getpid() if is_own else os.getpid() + 1))
        found = 0
        with contextlib.suppress(UntrueError):
            while not known.is_over:
                left = known.left
                found += len(list(known.read(MOST_AT_ONCE)))
                if known.left == left:
                    break
        assert found <= min(taken, MOST_IN_A_LIFE)
        assert is_own or not found


@given(datagram=reports, along=things)
def birth(datagram: bytes, along: list[str]) -> None:
    """Whoever says that a molded worker is there says so for itself, whatever else it says."""
    with _channel() as (ours, theirs), _no_descriptor_more():
        if _send(theirs, datagram, along):
            with contextlib.suppress(UntrueError):
                assert read_birth(ours) in {os.getpid(), None}


@given(messages=st.lists(st.tuples(handed, things), max_size=5))
def taking_over(messages: list[tuple[bytes, list[str]]]) -> None:
    """What a worker takes over is a connection, with texts that are texts; the rest is closed."""
    pair = Handover.open()
    try:
        with _no_descriptor_more():
            for message, along in messages:
                _send(pair.giving, message, along)
            for each in pair.take():
                with each.sock:
                    assert each.sock.getpeername() is not None
                    assert all(isinstance(text, str) for text in (each.listener, *each.remote))
                    assert len(each.received) <= MAX_MESSAGE
    finally:
        pair.close()


@given(datagram=reports | st.binary(max_size=100), along=things)
def ordering(datagram: bytes, along: list[str]) -> None:
    """A mold takes orders from the arbiter alone, and keeps nothing of what others send."""
    row = Row.create(CELLS)
    reader, writer = os.pipe()
    with _channel() as (ours, theirs):
        mold = Seat(
            slot=Slot(0), generation=Generation(1), pool="web", age=1, listeners=(), row=row, channel=ours,
            lifeline=Fd(reader),
        )  # fmt: skip
        with _no_descriptor_more():
            if _send(theirs, datagram, along):
                with contextlib.suppress(ValueError, BlockingIOError):
                    receive_order(mold)
                    raise AssertionError("an order of somebody who is not the arbiter")
    row.close()
    os.close(reader)
    os.close(writer)


@given(parts=st.lists(requests | st.binary(max_size=300), min_size=1, max_size=4))
def asking(parts: list[bytes]) -> None:
    """After whatever a client sends, the control server answers the next one."""
    with _server() as (turn, connect):
        with connect() as client:
            with contextlib.suppress(OSError):
                for part in parts:
                    client.send(part)
                    turn()
            assert _received(client)[:5] in {b"", b"HTTP/"}
        with connect() as client:
            client.send(b"GET /healthz HTTP/1.0\r\nHost: unicornd\r\n\r\n")
            for _ in range(MOST_TURNS):
                turn()
                if answer := _received(client):
                    assert answer.startswith(b"HTTP/1.1 200 ")
                    return
            raise AssertionError("no answer")


TARGETS: dict[str, Callable[[], None]] = {
    "reports, decoded": decoding,
    "reports, read": reading,
    "births": birth,
    "rows": rows,
    "handover": taking_over,
    "orders": ordering,
    "control": asking,
}


@contextlib.contextmanager
def _channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        want_credentials(ours)
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@contextlib.contextmanager
def _no_descriptor_more() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - many a second
    yield
    assert os.listdir("/proc/self/fd") == before, "a descriptor is left"  # noqa: PTH208


@contextlib.contextmanager
def _server() -> Iterator[tuple[Callable[[], None], Callable[[], socket.socket]]]:
    """Give a control server's loop, turn by turn, with a clock that stands still."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # an abstract name that the kernel chooses (unix(7), autobind)
    listener.listen()
    listener.setblocking(False)
    port = FakePort(make_state(2), clock=lambda: 100.0)
    with selectors.DefaultSelector() as selector:
        server = ControlServer(
            selector,
            listener,
            route=make_route(port, among=tuple(Endpoint)),
            authorize=lambda _sock: None,
            clock=port.now,
        )

        def turn() -> None:
            for key, mask in selector.select(0):
                key.data(mask)
            server.tick(Monotonic(100.0))

        def connect() -> socket.socket:
            client = socket.socket(socket.AF_UNIX)
            client.connect(listener.getsockname())
            client.setblocking(False)
            turn()
            return client

        try:
            yield turn, connect
        finally:
            server.close()


def _received(client: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return client.recv(65536)
    return b""


def _send(sock: socket.socket, data: bytes, along: Sequence[str]) -> bool:
    """Send a datagram with descriptors; False if the kernel does not take it."""
    descriptors = [THINGS[each]() for each in along]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        sock.sendmsg([data], rights)
    except OSError:
        return False
    finally:
        for fd in descriptors:
            os.close(fd)
    return True


def _message(text: bytes, size: int | None, rest: bytes) -> bytes:
    return (len(text) if size is None else size).to_bytes(2, "big") + text + rest
