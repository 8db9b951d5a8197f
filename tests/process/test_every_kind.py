"""What every kind of worker does alike, asked from outside: the cases are the same, only the kind differs."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import BUFFERED, EVERY_KIND, LARGE, OWN_KIND, PARTS, application, keeps_alive, site
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from tests.support.worker import POLICY, Gate, Setup, Shared, request, worker
from unicornd.dataclass import replace
from unicornd.http.forwarded import Forwarding, Trust
from unicornd.http.limits import Limits
from unicornd.units import Seconds
from unicornd.workers.asgi.policy import AsgiPolicy
from unicornd.workers.channel import RetiringReport
from unicornd.workers.recycle import Recycling
from unicornd.workers.signals import DISMISS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unicornd.http.messages import Head
    from unicornd.workers.context import Served

every_kind = pytest.mark.parametrize("kind", EVERY_KIND)
MACHINES = ["threads", "asgi", "gevent", "gevent_pywsgi", "tornado"]
"""One of each way to serve: for what the arbiter does, or what kinds of one machine do with the same code."""
each_machine = pytest.mark.parametrize("kind", MACHINES)
each_kind = pytest.mark.parametrize("kind", [*EVERY_KIND, pytest.param(OWN_KIND, id="own")])
"""With that of the operator's: what the contract of kinds is about."""
streaming_kind = pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind not in BUFFERED])
keeping_kind = pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if keeps_alive(kind)])
SHORT = Seconds(0.3)
SECURE = {"X-FORWARDED-PROTO": "https"}


LIMITED = replace(POLICY, limits=Limits(request_line=200, header_count=16, header_size=300, body_size=1000))
HURRIED = replace(POLICY, head=SHORT, body=SHORT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with Shared(lambda: tmp_path_factory.mktemp("worker")) as made:
        yield made


def forwarding(trusted: str) -> Forwarding:
    return Forwarding(Trust([trusted]), secure=SECURE, allowed=())


CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


@every_kind
def test_a_request_is_answered_by_unicornd(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        response = client.get("/environ?a=b%20c")
        assert (response.code, response.body.decode().split("\n")) == (
            200,
            ["/environ", "a=b%20c", "127.0.0.1"],
        )
        assert response.fields["server"] == "unicornd"
        assert response.fields["date"].endswith(" GMT")
        assert response.fields["content-length"] == str(len(response.body))


@keeping_kind
def test_a_connection_is_kept_for_further_requests_until_its_time_is_up(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, policy=replace(POLICY, keepalive=SHORT))
    with worker(application(kind), tmp_path, setup) as running, running.connect() as client:
        for _ in range(3):
            assert client.get().body == b"ok"
        assert client.is_at_end()
        eventually(lambda: running.reading().requests == 3, "all are counted")


@each_kind
def test_a_connection_is_closed_if_the_client_or_the_settings_want_that(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        assert client.get(fields="Connection: close\r\n").fields["connection"] == "close"
        assert client.is_at_end()
    setup = Setup(kind=kind, policy=replace(POLICY, is_kept_alive=False))
    with shared.worker(application, setup).connect() as client:
        assert client.get().fields["connection"] == "close"
        assert client.is_at_end()


@every_kind
def test_a_chunked_body_reaches_the_application_whole(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        assert client.send(CHUNKED).read().body == b"abcde"
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        for number in range(len(CHUNKED)):  # byte by byte
            client.send(CHUNKED[number : number + 1])
        assert client.read().body == b"abcde"


@streaming_kind
def test_a_response_without_a_length_is_sent_in_parts(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        response = client.get("/parts")
        assert response.body == b"".join(PARTS)
        assert response.fields.get("transfer-encoding") == "chunked"


@keeping_kind
def test_pipelined_requests_are_answered_in_their_order(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, threads=2)).connect() as client:
        client.send(b"".join(request(f"/environ?{number}") for number in range(20)))
        answers = [client.read().body.decode().split("\n")[1] for _ in range(20)]
        assert answers == [str(number) for number in range(20)]


@every_kind
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/" + "a" * 300), 414),
        (request(fields="".join(f"X-{number}: 1\r\n" for number in range(20))), 431),
        (request(fields=f"X-Long: {'a' * 400}\r\n"), 431),
        (request("/echo", method="POST", body=b"a" * 2000), 413),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n"
            + b"a" * 2000
            + b"\r\n",
            413,
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=["request line", "fields", "field", "body", "chunked body", "bad length", "no request"],
)
def test_what_is_too_large_or_wrong_is_refused_with_the_status_for_it(
    shared: Shared, kind: str, sent: bytes, status: int
) -> None:
    running = shared.worker(application, Setup(kind=kind, policy=LIMITED))
    before = len(running.log())
    with running.connect() as client:
        response = client.send(sent).read()
        assert response.code == status
        assert response.fields["connection"] == "close"
        assert client.finish().is_at_end()
    with running.connect() as client:
        assert client.get().code == 200
    assert "request refused" in running.log()[before:]


@every_kind
def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, policy=LIMITED)).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        cut_off = False
        try:
            for number in range(1000):
                client.send(b"X-%d: %s\r\n" % (number, b"a" * 100))
        except ConnectionError:
            cut_off = True  # a reset that a send has told of, a read does not tell of again: it finds the end
        try:
            assert client.read().code == 431
        except ConnectionResetError:
            pass
        except EOFError:
            assert cut_off


@every_kind
@pytest.mark.parametrize(
    "part",
    [request()[:-2], request("/echo", method="POST", fields="Content-Length: 9\r\n") + b"a"],
    ids=["head", "body"],
)
def test_a_client_that_does_not_finish_its_request_is_told_so(shared: Shared, kind: str, part: bytes) -> None:
    with shared.worker(application, Setup(kind=kind, policy=HURRIED)).connect() as client:
        assert client.send(part).read().code == 408
        assert client.finish().is_at_end()


@every_kind
def test_a_client_that_sends_nothing_is_closed_silently(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, policy=HURRIED)).connect() as client:
        assert client.is_at_end()


@every_kind
def test_a_client_that_does_not_read_is_given_up_and_hinders_nobody(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, policy=replace(POLICY, write=SHORT, response_buffer=64 * 1024))
    with worker(application(kind), tmp_path, setup) as running:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(running.address)
            slow.sendall(request("/large"))
            eventually(lambda: running.reading().connections == 1, "it is connected")
            with running.connect() as client:
                assert client.get().code == 200
            eventually(lambda: running.reading().connections == 0, "it is given up")
        assert running.reading().in_flight == ()


@every_kind
def test_a_slow_reader_gets_everything(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind)).connect() as client:
        assert len(client.get("/large").body) == LARGE


@streaming_kind
def test_an_application_that_raises_is_answered_for_and_its_worker_lives_on(
    shared: Shared, kind: str
) -> None:
    running = shared.worker(application, Setup(kind=kind))
    eventually(lambda: running.reading().connections == 0, "those of before are closed")
    before, said = running.reading(), len(running.log())
    with running.connect() as client:
        assert client.get("/raise").code == 500
    with running.connect() as client, pytest.raises((EOFError, ConnectionResetError)):
        client.get("/cut")
    with running.connect() as client:
        assert client.get().code == 200
    eventually(lambda: running.reading().requests == before.requests + 3, "all are counted")
    assert running.reading().errors > before.errors
    assert running.log()[said:].count("the application failed") == 2
    assert running.log()[said:].count("Traceback") == 2
    assert "path=/raise" in running.log()[said:]


@streaming_kind
def test_a_body_that_breaks_off_on_a_unix_socket_lacks_its_last_chunk(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, family=socket.AF_UNIX)).connect() as client:
        client.send(request("/cut"))
        received = b"".join(iter(lambda: client.sock.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        assert body in {b"", b"4\r\none \r\n"}


@each_kind
def test_a_request_in_flight_is_shown_and_finished_when_the_worker_leaves(tmp_path: Path, kind: str) -> None:
    gate = Gate()
    with worker(application(kind, gate), tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(request("/wait"))
        gate.wait_for(1)
        assert [each.text for each in running.reading().in_flight] == ["GET /wait"]
        running.drain()
        gate.open()
        response = client.read()
        assert (response.body, response.fields["connection"]) == (b"ok", "close")
        assert client.is_at_end()
        assert running.wait() == 0
        assert running.reading().in_flight == ()


@each_kind
def test_what_the_kernel_has_queued_is_answered_when_the_worker_leaves(tmp_path: Path, kind: str) -> None:
    gate = Gate()
    policy = replace(POLICY, connections=1)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(
            worker(application(kind, gate), tmp_path, Setup(kind=kind, policy=policy))
        )
        first = stack.enter_context(running.connect()).send(request("/wait"))
        gate.wait_for(1)
        queued = [stack.enter_context(running.connect()).send(request()) for _ in range(200)]
        running.stop_listening()
        running.drain()
        gate.open()
        for client in (first, *queued):
            assert client.read().body == b"ok"
        assert running.wait() == 0


@keeping_kind
def test_a_request_that_comes_after_the_order_to_leave_is_answered(tmp_path: Path, kind: str) -> None:
    gate = Gate()
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(worker(application(kind, gate), tmp_path, Setup(kind=kind, threads=2)))
        kept, busy, idle = (stack.enter_context(running.connect()) for _ in range(3))
        assert kept.get().code == idle.get().code == 200
        busy.send(request("/wait"))
        gate.wait_for(1)
        running.drain()
        response = kept.get()
        assert (response.code, response.fields["connection"]) == (200, "close")
        assert idle.is_at_end()
        gate.open()
        assert busy.read().code == 200
        assert running.wait() == 0


@each_kind
def test_a_worker_without_an_arbiter_finishes_and_leaves(tmp_path: Path, kind: str) -> None:
    gate = Gate()
    with worker(application(kind, gate), tmp_path, Setup(kind=kind)) as running, running.connect() as client:
        client.send(request("/wait"))
        gate.wait_for(1)
        running.abandon()
        gate.open()
        assert client.read().body == b"ok"
        assert running.wait() == 0
        assert "the arbiter is gone" in running.log()


@each_kind
def test_a_worker_that_is_not_needed_and_serves_already_finishes_what_it_has(
    tmp_path: Path, kind: str
) -> None:
    gate = Gate()
    setup = Setup(kind=kind, threads=2)
    with worker(application(kind, gate), tmp_path, setup) as running, running.connect() as client:
        client.send(request("/wait"))
        gate.wait_for(1)
        running.send(DISMISS)
        gate.open()
        assert client.read().body == b"ok"
        assert running.wait() == 0


@each_kind
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_nothing(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    gate = Gate()
    with (
        worker(application(kind, gate), tmp_path, Setup(kind=kind, threads=2)) as running,
        running.connect() as client,
    ):
        client.send(request("/wait"))
        gate.wait_for(1)
        running.send(number)
        assert running.wait() == 0


@each_kind
def test_a_worker_that_has_served_enough_says_so_once_and_serves_on(tmp_path: Path, kind: str) -> None:
    setup = Setup(kind=kind, recycling=Recycling(3, jitter=0, random=Random(1)))
    with worker(application(kind), tmp_path, setup) as running:
        for _ in range(6):
            with running.connect() as client:
                assert client.get().code == 200
        report = running.report()
        assert isinstance(report, RetiringReport)
        assert "3 requests" in report.why
        running.drain()
        assert running.wait() == 0
        assert running.has_no_report()


@each_kind
def test_hooks_and_access_log_hear_of_each_request(tmp_path: Path, kind: str) -> None:
    seen = tmp_path / "seen"

    def before(head: Head) -> None:
        with seen.open("a") as file:
            file.write(f"before {head.method} {head.path} {head.query} {head.fields['HTTP_HOST']}\n")

    def after(served: Served) -> None:
        line = f"after {served.environ['RAW_URI']} {served.status} {served.size} {served.remote} {dict(served.headers)!r}\n"
        with seen.open("a") as file:
            file.write(line)

    setup = Setup(kind=kind, pre_request=before, on_served=after)
    with worker(application(kind), tmp_path, setup) as running, running.connect() as client:
        client.get("/parts?b")
        eventually(lambda: seen.exists() and seen.read_text().count("\n") == 2, "both have been called")
    first, second = seen.read_text().splitlines()
    assert first == "before GET /parts b test"
    assert second.lower().startswith("after /parts?b 200 ok 13 127.0.0.1 {'content-type': 'text/plain'")


@each_kind
def test_a_unix_socket_is_served_too(shared: Shared, kind: str) -> None:
    with shared.worker(application, Setup(kind=kind, family=socket.AF_UNIX)).connect() as client:
        assert client.get("/environ").body == b"/environ\n\n"


@every_kind
def test_a_forwarder_that_is_trusted_says_what_the_scheme_is(tmp_path: Path, kind: str) -> None:
    fields = "X-Forwarded-Proto: https\r\nX_Forwarded_Proto: http\r\n"
    for trusted, scheme in (("127.0.0.1", b"https"), ("10.0.0.0/8", b"http")):
        setup = Setup(
            kind=kind,
            policy=replace(POLICY, forwarding=forwarding(trusted)),
            asgi=AsgiPolicy(trusted=(trusted,)),
        )
        with worker(application(kind), tmp_path, setup) as running:
            with running.connect() as client:
                assert client.get("/scheme", fields=fields).body == scheme
            with running.connect() as client:
                assert client.get("/scheme").body == b"http", "it was said of one request"


# Whole fleets.


@pytest.fixture
def fleet(tmp_path: Path, kind: str) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", site(kind))
        fleet.change("unicornd.toml", "count = 2", f'count = 2\nkind = "{kind}"')
        yield fleet


@each_machine
def test_a_worker_that_is_killed_is_replaced_and_what_it_served_is_told(fleet: Fleet) -> None:
    fleet.start()
    before = set(fleet.pids().values())
    with pytest.raises((OSError, http.client.HTTPException)):
        fleet.get("/crash")
    eventually(lambda: len(fleet.pids()) == 2 and set(fleet.pids().values()) != before, "it is replaced")
    assert fleet.get().startswith("v1 ")
    assert "was serving GET /crash" in fleet.log


@each_kind
def test_a_mold_forks_one_worker_after_the_other(fleet: Fleet) -> None:
    fleet.start("--preload")
    for _ in range(2):
        before = fleet.pids()
        os.kill(before[1], signal.SIGKILL)
        eventually(lambda before=before: fleet.pids().get(1, before[1]) != before[1], "it is replaced")  # type: ignore[misc]
        assert fleet.get().startswith("v1 ")
    assert "it does not fork" not in fleet.log


@each_kind
def test_a_request_that_runs_too_long_is_ended_and_told_with_stacks(fleet: Fleet) -> None:
    fleet.start("--timeout", "1")
    connection = fleet.connect()
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/stuck")
        assert connection.getresponse().status == 504
    fleet.await_log("/stuck")
    eventually(lambda: not any(each["now"] for each in fleet.status()["workers"]), "it is ended")
    fleet.await_workers(2)
    assert fleet.get().startswith("v1 ")
    assert "timeouts.request" in fleet.log, fleet.log


@each_kind
def test_reloading_and_scaling_under_load_lose_nothing(fleet: Fleet) -> None:
    fleet.start()
    address = fleet.addresses()[0]

    def connect() -> http.client.HTTPConnection:
        return fleet.connect(address)

    with (
        Traffic(connect, clients=4, is_keepalive=False) as fresh,
        Traffic(connect, clients=4, is_keepalive=True) as kept,
    ):
        for size in (3, 1, 2):
            fleet.client.post("/v1/scale", {"count": size})
            fleet.await_workers(size)
        generation = fleet.status()["generation"]
        fleet.send(signal.SIGHUP)
        eventually(lambda: fleet.status()["generation"] > generation, "a new generation serves")
        fleet.await_workers(2)
        eventually(fresh.answered_more(20), "new connections are answered")
        eventually(kept.answered_more(20), "kept connections are answered")
    assert fresh.tally.failures == []
    assert kept.tally.failures == []
    assert fresh.tally.longest < 5


@each_kind
def test_replacing_workers_and_stopping_under_load_lose_nothing(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "count = 2", "count = 2\nmax_requests = 100")
    fleet.start()
    address, before = fleet.addresses()[0], set(fleet.pids().values())

    def connect() -> http.client.HTTPConnection:
        return fleet.connect(address)

    with (
        Traffic(connect, clients=3, is_keepalive=False) as fresh,
        Traffic(connect, clients=3, is_keepalive=True) as kept,
    ):
        eventually(lambda: fleet.pids() and not before & set(fleet.pids().values()), "both were replaced")
        eventually(fresh.answered_more(20), "new connections are answered")
        eventually(kept.answered_more(20), "kept connections are answered")
        assert fresh.tally.failures == kept.tally.failures == []
        assert fleet.end() == 0
        for traffic in (fresh, kept):
            eventually(lambda traffic=traffic: traffic.tally.failures, "the port refuses")  # type: ignore[misc]
    left = [*fresh.tally.failures, *kept.tally.failures]
    assert [each for each in left if "refused" not in each.lower()] == []


@each_machine
def test_the_access_log_has_a_line_for_each_request(fleet: Fleet) -> None:
    fleet.start("--access-logfile", str(fleet.folder / "access.log"))
    fleet.get("/some?thing")
    log = fleet.folder / "access.log"
    eventually(lambda: log.exists() and log.read_text().endswith("\n"), "the line is written")
    line = log.read_text()
    assert line.startswith("127.0.0.1 - - [")
    assert '"GET /some?thing HTTP/1.1" 200 ' in line
