"""The control socket among strangers: whatever a client does, others are answered, and nothing is left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import tempfile
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.control_port import FakePort, Served, make_child, make_state, serve
from tests.support.squatter import NOBODY, become
from tests.support.waiting import eventually
from unicornd.arbiter.events import BecameReady
from unicornd.arbiter.journal import CAPACITY
from unicornd.arbiter.state import Phase
from unicornd.config.sections.control import ControlSettings
from unicornd.control.client import Client, ControlError, connect
from unicornd.control.endpoints import READ_ONLY
from unicornd.control.listening import open_control_socket
from unicornd.control.peers import PeerRule, make_peer_rule
from unicornd.control.server import MAX_CONNECTIONS
from unicornd.errors import AlreadyRunningError, CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with serve(tmp_path, FakePort(make_state(2))) as running:
        yield running
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "the server leaves no descriptor"


def is_answering(served: Served) -> bool:
    return bool(served.client.get("/v1/status")["state"] == "ready")


def write(served: Served, text: str) -> None:
    """Have something happen."""
    served.do(lambda: served.port.journal.append("thing.happened", text))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"\x00\xff\x13garbage\r\n\r\n", b"400"),
        (b"\x00\x00\x00\x10" + b'{"command": "x"}\r\n\r\n', b"400"),
        (b"GET /" + b"x" * 200_000, b"431"),
        (b"POST /v1/scale HTTP/1.1\r\nHost: c\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"GET /v1/status HTTP/1.1\r\nHost: c\r\n\r\n" * 5000, b"200"),
    ],
    ids=["garbage", "gunicornc", "too long", "body too large", "thousands at once"],
)
def test_a_bad_message_is_answered_and_holds_nobody_up(served: Served, message: bytes, status: bytes) -> None:
    with connect(served.address, timeout=10.0) as client:
        sender = threading.Thread(target=send_all, args=(client, message))
        sender.start()
        assert is_answering(served)
        assert client.recv(4096).startswith(b"HTTP/1.1 " + status)
        client.shutdown(socket.SHUT_RDWR)
        sender.join(timeout=10)
        assert not sender.is_alive()


def send_all(client: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(message)


@pytest.mark.parametrize(
    "message", [b"", b"GET /v1/sta", b"POST /v1/scale HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_half_sent_message_holds_nobody_up(served: Served, message: bytes) -> None:
    with connect(served.address, timeout=10.0) as client:
        client.sendall(message)
        assert is_answering(served)


def test_idle_connections_do_not_lock_anybody_out(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 50):
            stack.enter_context(connect(served.address, timeout=10.0))
            assert len(served.do(lambda: served.server.sockets)) <= MAX_CONNECTIONS + 1
        assert is_answering(served)


def test_a_hundred_streams_all_get_every_event(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(connect(served.address, timeout=10.0)) for _ in range(100)]
        for reader in readers:
            reader.sendall(b"GET /v1/events?since=0 HTTP/1.0\r\n\r\n")
        for number in range(20):
            write(served, f"number {number}")
        assert is_answering(served)
        for reader in readers:
            received = b""
            while b"number 19" not in received:
                data = reader.recv(1 << 16)
                assert data, "the stream goes on"
                received += data
            lines = received.partition(b"\r\n\r\n")[2].splitlines()
            assert [json.loads(line)["seq"] for line in lines] == list(range(1, 21))


def test_a_reader_that_does_not_read_costs_no_memory_and_misses_the_oldest_events(served: Served) -> None:
    with connect(served.address, timeout=10.0) as reader:
        reader.sendall(b"GET /v1/events?since=0 HTTP/1.0\r\n\r\n")

        def write_much() -> None:
            for _ in range(CAPACITY):
                served.port.journal.append("thing.happened", "x" * 1000)

        for _ in range(20):
            served.do(write_much)
        assert is_answering(served)
        received = b""
        while f'"seq":{20 * CAPACITY},'.encode() not in received:
            data = reader.recv(1 << 20)
            assert data, "the stream goes on"
            received = received[-2000:] + data


def test_events_come_as_they_happen(served: Served) -> None:
    lines = served.client.lines("/v1/events?since=0")
    for text in ("one", "two"):
        write(served, text)
        assert json.loads(next(lines))["text"] == text
    lines.close()  # type: ignore[attr-defined] # a generator


def test_a_stream_that_is_refused_says_why(served: Served) -> None:
    with pytest.raises(ControlError, match="not a number"):
        next(served.client.lines("/v1/events?since=x"))


def test_who_waits_for_an_operation_is_told_its_steps_and_its_end(tmp_path: Path) -> None:
    port = FakePort(make_state(1))
    with serve(tmp_path, port) as served:
        operation = served.client.post("/v1/scale", {"count": 2})
        assert operation["state"] == "running"
        answers: list[dict[str, object]] = []
        waiter = threading.Thread(
            target=lambda: answers.append(
                served.client.get(f"/v1/operations/{operation['id']}?wait=30", patience=40.0)
            )
        )
        waiter.start()
        booting = make_child(2, phase=Phase.BOOTING)

        def boot() -> None:
            port.state = make_state(2, make_child(1), booting)

        served.do(boot)
        eventually(lambda: len(served.do(lambda: served.server.sockets)) > 1, "somebody waits")
        served.apply(BecameReady(at=port.now(), pid=booting.pid))
        waiter.join(timeout=20)
        (answer,) = answers
        assert (answer["state"], answer["exit_code"], answer["step_count"]) == ("done", 0, 1)


def test_who_waits_is_answered_at_the_end_of_the_server(tmp_path: Path) -> None:
    port = FakePort(make_state(1))
    with serve(tmp_path, port) as served:
        served.client.post("/v1/reload")
        waiter = connect(served.address, timeout=10.0)
        waiter.sendall(b"GET /v1/operations/reload-1?wait=60 HTTP/1.0\r\n\r\n")
        served.client.post("/v1/stop")
        assert b'"failed"' in waiter.recv(1 << 16), "superseded by the stop"
        waiter.close()


def test_the_admin_listener_answers_probes_and_a_browser_over_tcp() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    host, port = listener.getsockname()
    admin = Served(FakePort(make_state(2)), listener=listener, address="")
    admin.start(among=tuple(READ_ONLY))
    try:
        browser = http.client.HTTPConnection(host, port, timeout=10)
        for path, status in (("/readyz", 200), ("/metrics", 200), ("/", 200), ("/v1/status", 404)):
            browser.request("GET", path)
            response = browser.getresponse()
            assert (response.status, bool(response.read())) == (status, True)
        browser.close()
    finally:
        admin.stop()


def test_a_stranger_is_told_that_he_may_not(named: Path) -> None:
    assert ask_as(NOBODY, named) == (CtlExit.PERMISSION, CtlExit.PERMISSION)


@pytest.mark.parametrize(
    ("key", "name", "codes"),
    [
        ("allow_users", str(NOBODY), (CtlExit.DONE, CtlExit.DONE)),
        ("allow_groups", str(NOBODY), (CtlExit.DONE, CtlExit.DONE)),
        ("view_users", str(NOBODY), (CtlExit.DONE, CtlExit.PERMISSION)),
        ("view_groups", str(NOBODY), (CtlExit.DONE, CtlExit.PERMISSION)),
    ],
)
def test_who_is_named_may_look_or_change(
    named: Path, key: str, name: str, codes: tuple[CtlExit, CtlExit]
) -> None:
    assert ask_as(NOBODY, named, ControlSettings.model_validate({key: (name,)})) == codes


def test_a_refused_change_says_who_one_is_and_what_grants_more(
    named: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ask_as(NOBODY, named, ControlSettings(view_users=("nobody",)))
    told = capfd.readouterr().err
    assert "user nobody may look at this fleet, and not change it (role: look)" in told
    assert "allow_users" in told


@pytest.fixture
def named() -> Iterator[Path]:
    """A path for a socket that every user can reach; pytest's folders are root's alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a stranger")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "control.sock"


def ask_as(
    uid: int, path: Path, settings: ControlSettings | None = None
) -> tuple[CtlExit | int, CtlExit | int]:
    """Look, and change something, in a child with another uid; return how both went. What is refused is on stderr."""
    control = open_control_socket((str(path),), mode=0o666)
    served = Served(FakePort(make_state(1)), listener=control.sock, address=str(path))
    served.start(authorize=make_peer_rule(settings or ControlSettings()).authorize)
    try:
        child = os.fork()
        if child == 0:
            codes = [CtlExit.FAILED, CtlExit.FAILED]
            try:
                become(uid)
                client = Client(address=str(path))
                codes = [
                    code_of(lambda: client.get("/v1/status")),
                    code_of(lambda: client.post("/v1/reopen")),
                ]
            finally:
                os._exit(codes[0] * 16 + codes[1])
        looked, changed = divmod(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 16)
        return looked, changed
    finally:
        served.stop()


def code_of(question: Callable[[], object]) -> CtlExit:
    try:
        question()
    except ControlError as error:
        os.write(2, f"{error.message}\n{error.hint}\n".encode())
        return error.code
    return CtlExit.DONE


def test_a_strangers_request_changes_nothing() -> None:
    control = open_control_socket((f"@unicornd-test-{uuid.uuid4().hex}",), mode=0o600)
    port = FakePort(make_state(2))
    served = Served(port, listener=control.sock, address=control.address)
    nobody = PeerRule(uids=frozenset(), gids=frozenset())
    served.start(authorize=nobody.authorize)
    try:
        with pytest.raises(ControlError) as caught:
            served.client.post("/v1/stop")
        assert caught.value.code is CtlExit.PERMISSION
        assert served.do(lambda: port.operations.running) is None
    finally:
        served.stop()


CONTENDERS = 8


@pytest.mark.parametrize("round_number", range(10))
def test_of_many_that_start_at_once_over_a_stale_socket_one_gets_it(
    tmp_path: Path, round_number: int
) -> None:
    path = tmp_path / f"control-{round_number}.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    children = [
        contend(path, go=(go_read, go_write), done=(done_read, done_write)) for _ in range(CONTENDERS)
    ]
    for end in (go_read, done_read):
        os.close(end)
    os.close(go_write)  # everybody starts
    verdicts = [
        os.waitstatus_to_exitcode(status) for status in wait_for_losers(children, count=CONTENDERS - 1)
    ]
    assert verdicts == [1] * (CONTENDERS - 1), "the others say that it is running already"
    connect(str(path), timeout=10.0).close()
    os.close(done_write)
    assert [os.waitstatus_to_exitcode(status) for status in wait_for_losers(children, count=1)] == [0]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def contend(path: Path, *, go: tuple[int, int], done: tuple[int, int]) -> int:
    """A child that takes the path when it may, and holds it until it may end: code 0; 1 if another has it."""
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        os.close(go[1])
        os.close(done[1])
        os.read(go[0], 1)
        with open_control_socket((str(path),), mode=0o600).sock:
            os.read(done[0], 1)
        code = 0
    except AlreadyRunningError:
        code = 1
    finally:
        os._exit(code)


def wait_for_losers(children: list[int], *, count: int) -> list[int]:
    """Reap so many of the children, whichever end first."""
    statuses: list[int] = []
    while len(statuses) < count:
        pid, status = os.wait()
        if pid in children:
            statuses.append(status)
    return statuses
