"""What applications do wrong, in every kind: the table of docs/kinds.md, asked from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import fleet_in
from tests.support.kinds import ASGI, BUFFERED, EVERY_KIND
from tests.support.waiting import eventually
from tests.support.worker import Setup, Worker, worker
from unicornd.dataclass import dataclass
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

TEXT = ("Content-Type", "text/plain")
BROKEN = 0
"""No whole answer: the connection ends."""
FAILED = "the application failed"


def broken_parts() -> Iterator[bytes]:
    yield b"begun "
    raise ValueError("on purpose")


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    def answer(body: Any, *fields: tuple[str, str], status: str = "200 OK") -> Any:
        start_response(status, [TEXT, *fields])
        return body

    answers: dict[str, Callable[[], Any]] = {
        "/cut": lambda: answer(broken_parts()),
        "/cut-with-length": lambda: answer(broken_parts(), ("Content-Length", "100")),
        "/str": lambda: answer(["text"]),
        "/twice": lambda: (answer([b"a"]), answer([b"b"], status="201 Created"))[1],
        "/no-head": lambda: [b"x"],
        "/nothing": lambda: answer(None),
        "/split-field": lambda: answer([b"x"], ("X-A", "b\r\nX-C: d")),
        "/no-status": lambda: answer([b"x"], status="okay"),
        "/too-short": lambda: answer([b"short"], ("Content-Length", "9")),
        "/too-long": lambda: answer([b"longer"], ("Content-Length", "2")),
        "/": lambda: answer([b"ok"], ("Content-Length", "2")),
    }
    match environ["PATH_INFO"]:
        case "/raise":
            raise ValueError("on purpose")
        case "/exit":
            raise SystemExit(3)
        case "/stop":
            raise StopIteration
        case path:
            return answers[path]()  # type: ignore[no-any-return] # that is the point


async def asgi(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    async def begin(*fields: tuple[bytes, bytes], status: Any = 200) -> None:
        headers = [(b"content-type", b"text/plain"), *fields]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def go_on(body: Any, *, is_more: bool = False) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": is_more})

    def length(size: bytes) -> tuple[bytes, bytes]:
        return (b"content-length", size)

    answers: dict[str, list[Awaitable[None]]] = {
        "/cut": [begin(), go_on(b"begun ", is_more=True)],
        "/cut-with-length": [begin(length(b"100")), go_on(b"begun ", is_more=True)],
        "/str": [begin(), go_on("text")],
        "/twice": [begin(), begin(status=201), go_on(b"x")],
        "/no-head": [go_on(b"x")],
        "/nothing": [],
        "/split-field": [begin(length(b"1"), (b"x-a", b"b\r\nx-c: d")), go_on(b"x")],
        "/no-status": [begin(status="okay"), go_on(b"x")],
        "/too-short": [begin(length(b"9")), go_on(b"short")],
        "/too-long": [begin(length(b"2")), go_on(b"longer")],
        "/": [begin(length(b"2")), go_on(b"ok")],
        "/exit": [],
        "/stop": [],
        "/raise": [],
    }
    path = scope["path"]
    for each, steps in answers.items():
        for step in steps:
            await step if each == path else step.close()  # type: ignore[attr-defined] # a coroutine
    if path == "/exit":
        raise SystemExit(3)
    if path == "/stop":
        raise StopIteration
    if path == "/raise" or "cut" in path:
        raise ValueError("on purpose")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What an application does, what its client gets, and what the log says."""

    path: str
    status: int
    said: str = FAILED


def faults_of(kind: str) -> tuple[Fault, ...]:
    """The table of docs/kinds.md."""
    is_asgi = kind in ASGI
    whole_first = 500 if kind in BUFFERED else BROKEN
    return (
        Fault(path="/raise", status=500),
        Fault(path="/exit", status=500),
        Fault(path="/stop", status=500),
        Fault(path="/no-head", status=500),
        Fault(path="/nothing", status=500, said="without a response" if is_asgi else FAILED),
        Fault(path="/no-status", status=500),
        Fault(path="/split-field", status=500),
        Fault(path="/str", status=BROKEN if is_asgi else 500),
        Fault(path="/twice", status=500),
        Fault(path="/cut", status=whole_first),
        Fault(path="/cut-with-length", status=whole_first),
        Fault(
            path="/too-short",
            status=BROKEN,
            said=FAILED if is_asgi or kind in BUFFERED else "was shorter than",
        ),
        Fault(
            path="/too-long", status=BROKEN if is_asgi else 200, said=FAILED if is_asgi else "was longer than"
        ),
    )


@pytest.fixture(scope="module", params=EVERY_KIND)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker; it has to end in order when it has seen all of this."""
    kind = request.param
    app: Any = asgi if kind in ASGI else wsgi
    with worker(app, tmp_path_factory.mktemp(kind), Setup(kind=kind)) as made:
        made.kind = kind  # type: ignore[attr-defined] # for the tests of this file
        yield made


@pytest.mark.parametrize(
    "number", range(len(faults_of("sync"))), ids=[each.path for each in faults_of("sync")]
)
def test_a_fault_costs_its_own_request_and_is_told(running: Worker, number: int) -> None:
    fault = faults_of(running.kind)[number]  # type: ignore[attr-defined] # see the fixture
    before = len(running.log())
    with running.connect() as client:
        if fault.status == BROKEN:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.get(fault.path)
        else:
            response = client.get(fault.path)
            assert response.code == fault.status
            if fault.status == 500:
                assert response.fields["connection"] == "close"
                assert client.is_at_end()
            elif response.fields.get("connection") != "close":
                assert client.get().body == b"ok", "nothing of the former body is on its way"
    eventually(lambda: fault.said in running.log()[before:], "it is told")
    assert f"path={fault.path} " in running.log()[before:]
    with running.connect() as client:
        assert client.get().body == b"ok", "the worker lives on"
    eventually(lambda: not running.reading().in_flight, "no request is left over, whose time would go on")


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        *((kind, ()) for kind in EVERY_KIND if kind != "sync"),
        ("sync", ("--preload",)),
        ("asgi", ("--preload",)),
    ],
)
def test_an_application_that_raises_at_import_is_a_failed_start(
    tmp_path: Path, kind: str, option: tuple[str, ...]
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("site_app.py", "raise RuntimeError('no database')\n")
        done = fleet.run("-k", kind, *option)
    assert done.returncode == DaemonExit.BOOT
    assert "RuntimeError: no database" in done.stderr
    assert 'site_app.py", line 1' in done.stderr
