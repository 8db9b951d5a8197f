from __future__ import annotations

import json
import selectors
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.control.connection import IDLE, LINGER, MESSAGE, WRITE, Connection, Stage
from unicornd.control.exchange import Answer, LongPoll, Reply, Request, Stream
from unicornd.control.reading import LIMITS, MAX_BODY, MAX_BUFFER, RequestReader
from unicornd.http.errors import Refusal
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = Monotonic(0.0)
REQUEST = b"GET /v1/status?a=1 HTTP/1.1\r\nHost: c\r\n\r\n"
POST = b"POST /v1/scale HTTP/1.1\r\nHost: c\r\nContent-Length: 11\r\n\r\n" + b'{"count":8}'
CHUNKED = b'POST /v1/scale HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cou\r\n6\r\nnt":8}\r\n0\r\n\r\n'
READ, WRITE_MASK = selectors.EVENT_READ, selectors.EVENT_WRITE


# The reader.


@pytest.mark.parametrize(
    "message", [REQUEST, POST, CHUNKED, b"\r\n" + POST], ids=["get", "post", "chunked", "crlf"]
)
def test_a_request_is_the_same_whole_byte_by_byte_and_split_at_every_offset(message: bytes) -> None:
    pieces = [[message], [bytes([byte]) for byte in message]]
    pieces += [[message[:at], message[at:]] for at in range(1, len(message))]
    found = []
    for parts in pieces:
        reader = RequestReader()
        taken = []
        for part in parts:
            reader.feed(part)
            if (incoming := reader.take()) is not None:
                taken.append(incoming.request)
        assert reader.is_empty
        found.append(taken)
    assert all(each == found[0] for each in found)
    assert len(found[0]) == 1
    assert found[0][0].body in {b"", b'{"count":8}'}


def test_requests_sent_ahead_are_taken_one_after_the_other() -> None:
    reader = RequestReader()
    reader.feed(POST + CHUNKED + REQUEST)
    taken = [reader.take() for _ in range(4)]
    assert [each and each.request.path for each in taken] == ["/v1/scale", "/v1/scale", "/v1/status", None]


def refusal_of(data: bytes, *, step: int) -> Refusal | None:
    """Feed `data` in pieces, take every request out of it, and return why it is refused, or None."""
    reader = RequestReader()
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
            while reader.take() is not None:
                pass
    except Refusal as refusal:
        return refusal
    return None


@given(st.binary(max_size=2000), st.integers(1, 200))
def test_whatever_is_sent_is_a_request_awaited_or_refused(data: bytes, step: int) -> None:
    refusal = refusal_of(data, step=step)
    assert refusal is None or 400 <= refusal.status < 600


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff\x13garbage\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: c\r\n\r\n", 414),
        (b"x" * (LIMITS.head_size + 1), 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode(), 413),
        (b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
    ids=["garbage", "long line", "long head", "no host", "long body", "smuggling", "bad chunk"],
)
def test_what_is_no_request_is_refused_with_its_status(data: bytes, status: int) -> None:
    refusal = refusal_of(data, step=1000)
    assert refusal is not None
    assert refusal.status == status


def test_more_than_is_kept_is_refused() -> None:
    reader = RequestReader()
    reader.feed(b"x" * MAX_BUFFER)
    with pytest.raises(Refusal):
        reader.feed(b"x")


# The connection.


class Peer:
    """Both ends of one connection; the test is the client and the loop."""

    def __init__(self, route: Callable[[Request], Answer]) -> None:
        ours, self.client = socket.socketpair()
        ours.setblocking(False)
        self.client.settimeout(10)
        self.connection = Connection(ours, route=route, now=START)

    def send(self, data: bytes, *, now: float = 0.0) -> None:
        self.client.sendall(data)
        self.connection.respond(READ, now=Monotonic(now))

    def receive(self, *, now: float = 0.0) -> bytes:
        self.connection.respond(WRITE_MASK, now=Monotonic(now))
        return self.client.recv(1 << 20)

    def close(self) -> None:
        self.connection.sock.close()
        self.client.close()


def echo(request: Request) -> Answer:
    return Reply(status=HTTPStatus.OK, body=f"{request.method} {request.path}".encode())


@pytest.fixture
def make_peer() -> Iterator[Callable[[Callable[[Request], Answer]], Peer]]:
    peers: list[Peer] = []

    def make(route: Callable[[Request], Answer]) -> Peer:
        peers.append(Peer(route))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


Maker = Any


def test_a_connection_is_kept_for_the_next_request(make_peer: Maker) -> None:
    peer = make_peer(echo)
    for _ in range(3):
        peer.send(REQUEST)
        answer = peer.receive()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nGET /v1/status")
    assert peer.connection.stage is Stage.READING


def test_requests_sent_ahead_are_answered_one_a_turn(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(REQUEST * 3)
    answers = 0
    turns = 0
    while peer.connection.interest & WRITE_MASK:
        peer.connection.respond(WRITE_MASK, now=START)
        turns += 1
    answers = peer.client.recv(1 << 16).count(b"HTTP/1.1 200")
    assert answers == 3
    assert turns >= 3


def test_http_10_gets_its_answer_and_the_end(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in peer.receive()
    assert peer.client.recv(10) == b""
    assert peer.connection.stage is Stage.LINGERING


def test_head_gets_the_length_without_the_body(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(REQUEST.replace(b"GET", b"HEAD"))
    answer = peer.receive()
    assert b"Content-Length: 15" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(make_peer: Maker) -> None:
    peer = make_peer(echo)
    head, _, body = POST.partition(b"\r\n\r\n")
    peer.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert peer.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(body)
    assert peer.receive().startswith(b"HTTP/1.1 200")


def test_a_half_sent_request_is_408_when_its_time_is_up(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(b"GET / HT", now=1.0)
    assert peer.connection.deadline == 1.0 + MESSAGE
    peer.send(b"TP/", now=2.0)
    assert peer.connection.deadline == 1.0 + MESSAGE, "dripping bytes does not buy time"
    peer.connection.tick(Monotonic(1.0 + MESSAGE))
    answer = peer.receive()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_a_silent_connection_is_hung_up_on(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.connection.tick(Monotonic(IDLE - 0.1))
    assert peer.connection.stage is Stage.READING
    peer.connection.tick(Monotonic(IDLE))
    assert peer.connection.interest == 0


def test_a_refused_client_can_read_why_although_it_goes_on_sending(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(b"garbage\r\n\r\n")
    peer.send(b"x" * 1000)
    answer = peer.receive()
    assert answer.startswith(b"HTTP/1.1 400 ")
    peer.send(b"x" * 1000)
    peer.connection.tick(Monotonic(LINGER))
    assert peer.connection.interest == 0


def test_a_client_that_does_not_read_is_hung_up_on(make_peer: Maker) -> None:
    peer = make_peer(lambda _request: Reply(status=HTTPStatus.OK, body=b"x" * (8 << 20)))
    peer.send(REQUEST)
    peer.connection.respond(WRITE_MASK, now=Monotonic(1.0))
    peer.connection.tick(Monotonic(WRITE))
    assert peer.connection.stage is Stage.WRITING
    peer.connection.tick(Monotonic(1.0 + WRITE))
    assert peer.connection.interest == 0


def test_a_client_that_has_gone_is_forgotten_without_a_word(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.send(REQUEST)
    peer.client.close()
    peer.connection.respond(WRITE_MASK, now=START)
    assert peer.connection.interest == 0


def test_a_long_poll_is_answered_when_there_is_news(make_peer: Maker) -> None:
    news: list[Reply] = []
    late = Reply(status=HTTPStatus.OK, body=b"nothing new")
    peer = make_peer(
        lambda _request: LongPoll(
            poll=lambda: news[0] if news else None, until=Monotonic(5.0), expire=lambda: late
        )
    )
    peer.send(REQUEST)
    peer.connection.tick(Monotonic(1.0))
    assert peer.connection.stage is Stage.POLLING
    news.append(Reply(status=HTTPStatus.OK, body=b"news"))
    peer.connection.tick(Monotonic(2.0))
    assert peer.receive().endswith(b"news")
    news.clear()
    peer.send(REQUEST, now=3.0)
    peer.connection.tick(Monotonic(5.0))
    assert peer.receive().endswith(b"nothing new")


def test_a_long_poll_can_lead_to_another_one(make_peer: Maker) -> None:
    late = Reply(status=HTTPStatus.OK, body=b"at last")
    second = LongPoll(poll=lambda: None, until=Monotonic(9.0), expire=lambda: late)
    peer = make_peer(
        lambda _request: LongPoll(poll=lambda: None, until=Monotonic(5.0), expire=lambda: second)
    )
    peer.send(REQUEST)
    peer.connection.tick(Monotonic(5.0))
    assert (peer.connection.stage, peer.connection.deadline) == (Stage.POLLING, 9.0)
    peer.connection.tick(Monotonic(9.0))
    assert peer.receive().endswith(b"at last")


def test_a_long_poll_ends_with_its_client(make_peer: Maker) -> None:
    late = Reply(status=HTTPStatus.OK, body=b"")
    peer = make_peer(lambda _request: LongPoll(poll=lambda: None, until=Monotonic(5.0), expire=lambda: late))
    peer.send(REQUEST)
    peer.client.close()
    peer.connection.respond(READ, now=START)
    assert peer.connection.interest == 0


def test_a_stream_sends_chunks_and_asks_for_more_only_when_they_were_taken(make_peer: Maker) -> None:
    asked: list[int] = []

    def pull() -> bytes:
        asked.append(1)
        return b"line\n"

    peer = make_peer(lambda _request: Stream(content_type="text/plain", pull=pull))
    peer.send(REQUEST)
    head = peer.receive()
    assert b"Transfer-Encoding: chunked" in head
    for _ in range(3):
        peer.connection.tick(START)
    assert len(asked) == 1
    assert peer.receive() == b"5\r\nline\n\r\n"


def test_a_quiet_stream_has_no_deadline_and_a_slow_reader_one(make_peer: Maker) -> None:
    lines: list[bytes] = []
    peer = make_peer(
        lambda _request: Stream(content_type="text/plain", pull=lambda: lines.pop() if lines else b"")
    )
    peer.send(REQUEST)
    peer.receive()
    peer.connection.tick(Monotonic(1000.0))
    assert peer.connection.deadline is None
    lines.append(b"x" * (8 << 20))
    peer.connection.tick(Monotonic(2000.0))
    peer.connection.respond(WRITE_MASK, now=Monotonic(2000.0))
    peer.connection.tick(Monotonic(2000.0 + WRITE))
    assert peer.connection.interest == 0


def test_when_the_server_ends_what_waits_is_answered_and_all_are_hung_up_on(make_peer: Maker) -> None:
    news = Reply(status=HTTPStatus.OK, body=b"over")
    is_over: list[bool] = []
    peer = make_peer(
        lambda _request: LongPoll(
            poll=lambda: news if is_over else None, until=Monotonic(5.0), expire=lambda: news
        )
    )
    peer.send(REQUEST)
    is_over.append(True)
    peer.connection.finish(Monotonic(1.0))
    assert peer.client.recv(1000).endswith(b"over")
    assert peer.connection.interest == 0


def test_a_defect_in_a_route_is_logged_and_answered_with_500(
    make_peer: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_request: Request) -> Answer:
        raise OSError("no such thing")

    peer = make_peer(fail)
    for _ in range(2):
        peer.send(REQUEST)
        assert peer.receive().startswith(b"HTTP/1.1 500 ")
    assert "no such thing" in caplog.text


def test_a_defect_behind_a_long_poll_ends_that_connection_only(
    make_peer: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    def poll() -> Reply | None:
        raise KeyError("gone")

    late = Reply(status=HTTPStatus.OK, body=b"")
    peer = make_peer(lambda _request: LongPoll(poll=poll, until=Monotonic(5.0), expire=lambda: late))
    peer.send(REQUEST)
    peer.connection.tick(START)
    assert peer.connection.interest == 0
    assert "gone" in caplog.text


def test_head_of_a_stream_is_its_head_alone(make_peer: Maker) -> None:
    peer = make_peer(lambda _request: Stream(content_type="text/plain", pull=lambda: b"line"))
    peer.send(REQUEST.replace(b"GET", b"HEAD"))
    answer = peer.receive()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
    assert peer.client.recv(10) == b""


def test_a_connection_that_is_woken_without_reason_waits_on(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.connection.respond(READ, now=START)
    assert peer.connection.stage is Stage.READING


def test_a_connection_that_ended_is_not_finished_again(make_peer: Maker) -> None:
    peer = make_peer(echo)
    peer.connection.hang_up()
    peer.connection.finish(START)
    assert peer.connection.interest == 0
