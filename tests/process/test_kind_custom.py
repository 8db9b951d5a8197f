"""A kind of the operator's own: found by module, class or file; served by; told apart from what is no kind."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = '''\
"""A kind in forty lines: one thread, one request a connection."""

import builtins, select, socket, time
from unicornd.workers.channel import RetiringReport

class Plain:
    KEEPS_ALIVE = False
    INTERFACE = "wsgi"

    def prepare(self):
        builtins.prepared_by = "Plain"

    def run(self, context):
        self.counters = context.seat.row.counters()
        context.ready()
        sockets = [listener.sock for listener in context.seat.listeners]
        while not context.orders.is_draining:
            ready, _, _ = select.select([*sockets, context.orders.wake, context.seat.lifeline], [], [], 0.5)
            context.seat.row.beat(time.monotonic())
            if context.seat.lifeline in ready:
                break
            for sock in ready:
                if sock in sockets:
                    self.accept(sock, context)
        for sock in sockets:
            while self.accept(sock, context):
                pass
            sock.close()

    def accept(self, listener, context):
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return False
        with client:
            client.setblocking(True)
            method, path, _ = client.recv(65536).split(b" ", 2)
            cell = context.seat.row.cell(0)
            cell.begin(time.monotonic(), method + b" " + path)
            body = b"".join(context.app({"PATH_INFO": path.decode()}, lambda *_: None))
            client.sendall(b"HTTP/1.1 200 OK\\r\\nServer: unicornd\\r\\nConnection: close\\r\\n\\r\\n" + body)
            cell.clear()
            self.counters.add(time.monotonic(), 0.001)
        if context.recycling is not None and context.recycling.count():
            context.report(RetiringReport(why="enough"))
        return True

KEEPS_ALIVE, INTERFACE = Plain.KEEPS_ALIVE, Plain.INTERFACE

def run(context):
    Plain().run(context)

class NoKind:
    pass
'''

APP = """\
import builtins, os
prepared = getattr(builtins, "prepared_by", "nobody")

def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{prepared} {os.getpid()}".encode()]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.write("own_kind.py", KIND)
        fleet.write("site_app.py", APP)
        yield fleet


def set_kind(fleet: Fleet, kind: str, *more: str) -> None:
    fleet.change("unicornd.toml", "count = 2", "\n".join([f'count = 2\nkind = "{kind}"', *more]))


@pytest.mark.parametrize(
    ("kind", "prepared"),
    [
        ("own_kind:Plain", "Plain"),
        ("own_kind.Plain", "Plain"),
        ("./own_kind.py:Plain", "Plain"),
        ("./own_kind.py", "nobody"),
    ],
)
def test_a_kind_of_ones_own_serves_and_has_prepared_before_the_application(
    fleet: Fleet, kind: str, prepared: str
) -> None:
    set_kind(fleet, kind)
    fleet.start()
    who, pid = fleet.get().split()
    assert who == prepared
    assert int(pid) in fleet.pids().values()
    assert fleet.status()["wanted"]["kind"] == kind
    assert sum(worker["requests"] for worker in fleet.status()["workers"]) == 1


def test_it_is_recycled_and_reloaded_as_any_other(fleet: Fleet) -> None:
    set_kind(fleet, "own_kind:Plain", "max_requests = 3")
    fleet.start()
    pids = {fleet.get().split()[1] for _ in range(40)}
    assert len(pids) > 2
    fleet.client.post("/v1/reload", {})
    fleet.await_workers(2)
    assert "Plain" in fleet.get()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "own_kind:NoKind",
            "workers.kind: own_kind:NoKind is no kind: it has no KEEPS_ALIVE, INTERFACE, run",
        ),
        ("own_kind:Other", "has no attribute 'Other'"),
        ("nowhere:Kind", "there is no module 'nowhere'"),
        ("./broken.py:Kind", "ZeroDivisionError"),
    ],
)
def test_what_is_no_kind_is_a_failed_boot_that_says_so(fleet: Fleet, kind: str, said: str) -> None:
    fleet.write("broken.py", "1 / 0\n")
    set_kind(fleet, kind)
    done = fleet.run()
    assert done.returncode in {3, 4}
    assert said in done.stderr
    assert "workers.kind: " in done.stderr
    assert "app.target" not in done.stderr.partition("workers.kind: ")[2]


def test_a_kind_that_is_not_known_is_refused_before_anything_is_forked(fleet: Fleet) -> None:
    set_kind(fleet, "thread")
    done = fleet.run()
    assert done.returncode == 78
    assert 'did you mean "threads"?' in done.stderr


def test_a_reload_to_a_kind_that_cannot_be_had_has_no_effect(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.pids()
    set_kind(fleet, "thread")
    fleet.send(signal.SIGHUP)
    fleet.await_log("SIGHUP refused")
    assert fleet.pids() == before
