"""What a worker or a mold reports, read by the arbiter: real processes at the other end, most of them hostile."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.control_port import make_child, make_state
from tests.support.waiting import eventually
from tests.unit.test_worker_channel import HOSTILE
from unicornd.arbiter import events
from unicornd.arbiter.actions import Spawn
from unicornd.arbiter.eventlog import EventLog
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.kernel import LinuxKernel
from unicornd.arbiter.processes import ProcessTable
from unicornd.arbiter.reports import MOST_AT_ONCE, MOST_IN_A_LIFE
from unicornd.arbiter.spawn import Blueprint, Spawner
from unicornd.arbiter.state import Phase, Role
from unicornd.arbiter.wakeup import hear
from unicornd.units import Generation, Pid, Slot
from unicornd.workers.channel import BornReport, ReadyReport, RetiringReport, encode_report
from unicornd.workers.context import Seat
from unicornd.workers.order import close_seat, receive_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unicornd.arbiter.spawn import WorkerHandle

READY = encode_report(ReadyReport(kind="sync"))
RETIRING = encode_report(RetiringReport(why="it is tired"))


class Arbiter:
    """The part of it that hears; its workers do what a test says, then wait until they are killed."""

    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self.selector = selectors.DefaultSelector()
        self.happened: list[events.Event] = []
        self.defect: Exception | None = None
        self.processes = ProcessTable(Spawner(self.kernel), self.selector, kernel=self.kernel)

    def _take(self, event: events.Event) -> None:
        self.happened.append(event)
        if self.defect is not None and isinstance(event, events.BecameReady):
            raise self.defect

    def spawn(self, live: Callable[[Seat], object], role: Role = Role.WORKER) -> Pid:
        def run(seat: Seat) -> int:
            live(seat)
            while True:
                signal.pause()

        action = Spawn(pool="web", slot=Slot(1), generation=Generation(1), why="the test wants it", role=role)
        return self.processes.fill(action, blueprint(run)).pid

    def ask(self) -> int:
        action = Spawn(pool="web", slot=Slot(1), generation=Generation(1), why="the test wants it")
        return self.processes.ask(action, blueprint(lambda _seat: 1))[0]

    def of(self, kind: type[events.Event]) -> list[events.Event]:
        return [event for event in self.happened if isinstance(event, kind)]

    def await_event(self, kind: type[events.Event], count: int = 1) -> None:
        def is_there() -> bool:
            self.hear(0.01)
            return len(self.of(kind)) >= count

        eventually(is_there, f"{count} × {kind.__name__}")

    def hear(self, seconds: float) -> None:
        hear(self.selector, seconds, after_each=self.deliver)

    def deliver(self) -> None:
        self.processes.deliver(self._take)

    def hears(self, seated: WorkerHandle) -> bool:
        return seated.channel.fileno() in self.selector.get_map()

    def reap(self, pid: Pid) -> None:
        self.kernel.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.processes.vacate(pid)
        self.deliver()

    def close(self) -> None:
        for pid in (*self.processes.workers, *self.processes.molds):
            self.reap(pid)
        self.selector.close()


def blueprint(run: Callable[[Seat], int]) -> Blueprint:
    return Blueprint(generation=Generation(1), listeners=(), cells=1, run=run, mold=run)


@pytest.fixture
def arbiter() -> Iterator[Arbiter]:
    made = Arbiter()
    yield made
    made.close()


def say(*datagrams: bytes) -> Callable[[Seat], object]:
    def live(seat: Seat) -> None:
        for datagram in datagrams:
            seat.channel.send(datagram)

    return live


def say_as(pid: int, datagram: bytes) -> Callable[[Seat], object]:
    """Claim to be somebody else, which the kernel lets root do."""
    claim = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", pid, 0, 0))]
    return lambda seat: seat.channel.sendmsg([datagram], claim)


def in_a_child(what: Callable[[Seat], object]) -> Callable[[Seat], object]:
    def live(seat: Seat) -> None:
        if (pid := os.fork()) == 0:
            what(seat)
            os._exit(0)
        os.waitpid(pid, 0)

    return live


def both(first: Callable[[Seat], object], second: Callable[[Seat], object]) -> Callable[[Seat], object]:
    return lambda seat: (first(seat), second(seat))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="nobody else can claim to be another process")


@pytest.mark.parametrize("datagram", HOSTILE, ids=lambda datagram: repr(datagram[:20]))
def test_what_is_no_report_is_told_once_and_the_next_report_is_heard(
    arbiter: Arbiter, caplog: pytest.LogCaptureFixture, datagram: bytes
) -> None:
    pid = arbiter.spawn(say(datagram, datagram, READY))
    arbiter.await_event(events.BecameReady)
    assert [event.pid for event in arbiter.of(events.BecameReady)] == [pid]  # type: ignore[union-attr]
    assert not arbiter.of(events.Distrusted)
    assert len([each for each in caplog.records if "ignored" in each.getMessage()]) == 1


def test_a_worker_becomes_ready_once(arbiter: Arbiter) -> None:
    arbiter.spawn(say(READY, READY, encode_report(ReadyReport(kind="other")), RETIRING))
    arbiter.await_event(events.ReplacementAsked)
    assert len(arbiter.of(events.BecameReady)) == 1
    assert arbiter.processes.kind == "sync"


@pytest.mark.parametrize("datagram", [RETIRING, READY, b"nonsense", b""])
def test_who_reports_without_end_is_heard_in_turns_and_then_not_at_all(
    arbiter: Arbiter, datagram: bytes
) -> None:
    def flood(seat: Seat) -> None:
        with contextlib.suppress(OSError):
            while True:
                seat.channel.send(datagram)

    seated = arbiter.processes.workers[arbiter.spawn(flood)]
    turns = 0

    def is_over() -> bool:
        nonlocal turns
        before = len(arbiter.happened)
        turns += bool(hear_one(arbiter))
        assert len(arbiter.happened) - before <= MOST_AT_ONCE
        return bool(arbiter.of(events.Distrusted))

    eventually(is_over, "it is not believed any more")
    assert turns >= MOST_IN_A_LIFE / MOST_AT_ONCE
    assert len(arbiter.of(events.ReplacementAsked)) <= MOST_IN_A_LIFE
    assert not arbiter.hears(seated)
    [event] = arbiter.of(events.Distrusted)
    assert (event.pid, event.why) == (seated.pid, "it has made more than 64 reports")  # type: ignore[union-attr]


def hear_one(arbiter: Arbiter) -> bool:
    is_there = bool(arbiter.selector.select(0.01))
    arbiter.hear(0)
    return is_there


def test_all_that_a_dead_worker_has_said_is_heard(arbiter: Arbiter) -> None:
    count = MOST_AT_ONCE * 3
    pid = arbiter.spawn(lambda seat: (say(*[RETIRING] * count)(seat), os._exit(0)))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    arbiter.reap(pid)
    assert len(arbiter.of(events.ReplacementAsked)) == count


def test_a_process_that_the_worker_has_started_does_not_speak_for_it(
    arbiter: Arbiter, caplog: pytest.LogCaptureFixture
) -> None:
    pid = arbiter.spawn(both(in_a_child(say(RETIRING, RETIRING)), say(READY)))
    arbiter.await_event(events.BecameReady)
    assert not arbiter.of(events.ReplacementAsked)
    [record] = [each for each in caplog.records if "ignored" in each.getMessage()]
    assert f"speaks on the channel of {pid}" in record.getMessage()


@needs_root
def test_a_claim_to_be_another_process_is_no_report(arbiter: Arbiter) -> None:
    arbiter.spawn(both(say_as(os.getpid(), RETIRING), say(READY)))
    arbiter.await_event(events.BecameReady)
    assert not arbiter.of(events.ReplacementAsked)


def test_descriptors_that_a_worker_sends_are_not_kept(arbiter: Arbiter) -> None:
    def live(seat: Seat) -> None:
        socket.send_fds(seat.channel, [READY], [seat.row.fd] * 50)
        seat.channel.send(RETIRING)

    arbiter.spawn(live)
    before = len(list(Path("/proc/self/fd").iterdir()))
    arbiter.await_event(events.ReplacementAsked)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_defect_that_a_report_meets_ends_its_worker_only(
    arbiter: Arbiter, caplog: pytest.LogCaptureFixture
) -> None:
    arbiter.defect = RecursionError("too deep")
    seated = arbiter.processes.workers[arbiter.spawn(say(READY, RETIRING))]
    arbiter.await_event(events.Distrusted)
    assert not arbiter.of(events.ReplacementAsked)
    assert not arbiter.hears(seated)
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "internal error" in record.getMessage()
    assert record.exc_info is not None


def order_of(seat: Seat) -> Seat:
    order = receive_order(seat)
    assert isinstance(order, Seat)
    return order


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (say(encode_report(BornReport())), "says that it is there, which is no new child of the arbiter"),
        (in_a_child(say(encode_report(BornReport()))), "says that it is there, which is no new child of the arbiter"),
        (say(b"born\x001"), "says something else than that it is there"),
        (say(READY), "says something else than that it is there"),
        (say(b"[" * 60_000), "says something else than that it is there"),
        (say(b""), "says something else than that it is there"),
        pytest.param(say_as(1, encode_report(BornReport())), "process 1 says that it is there", marks=needs_root),
        pytest.param(say_as(os.getpid(), encode_report(BornReport())), f"process {os.getpid()} says", marks=needs_root),
        pytest.param(say_as(os.getppid(), encode_report(BornReport())), f"process {os.getppid()} says", marks=needs_root),
    ],
    ids=["the mold", "its child", "a number", "ready", "deep", "nothing", "init", "the arbiter", "a stranger"],
)  # fmt: skip
def test_a_mold_that_answers_in_a_workers_place_is_not_believed(
    arbiter: Arbiter, answer: Callable[[Seat], object], why: str
) -> None:
    mold = arbiter.spawn(lambda seat: answer(order_of(seat)), Role.MOLD)
    ticket = arbiter.ask()
    arbiter.await_event(events.Distrusted)
    [failed, distrusted] = arbiter.happened
    assert isinstance(failed, events.SpawnFailed)
    assert isinstance(distrusted, events.Distrusted)
    assert (failed.ticket, distrusted.pid) == (ticket, mold)
    assert distrusted.why.startswith("it was asked to fork worker 1, and process ")
    assert why in distrusted.why
    assert not arbiter.processes.workers


def test_a_mold_that_closes_a_workers_channel_has_not_forked_it(arbiter: Arbiter) -> None:
    arbiter.spawn(lambda seat: close_seat(order_of(seat)), Role.MOLD)
    arbiter.ask()
    arbiter.await_event(events.SpawnFailed)
    assert not arbiter.of(events.Distrusted)


def test_a_worker_that_does_not_come_is_given_up_when_its_mold_is_gone_and_somebody_holds_its_channel(
    arbiter: Arbiter,
) -> None:
    reader, writer = os.pipe()

    def live(seat: Seat) -> None:
        order_of(seat)
        if (pid := os.fork()) == 0:
            signal.pause()  # with the channel, until the test kills it
        os.write(writer, str(pid).encode())

    mold = arbiter.spawn(live, Role.MOLD)
    ticket = arbiter.ask()
    holder = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    now = arbiter.kernel.now()
    assert arbiter.processes.tick(now) is None, "the mold is there: the plan knows how long it may take"
    arbiter.reap(mold)
    until = arbiter.processes.tick(now)
    assert until is not None
    assert now < until <= now + 10.0
    assert not arbiter.happened
    assert arbiter.processes.tick(until) == until, "what follows from that is to be planned at once"
    assert arbiter.processes.tick(until) is None
    arbiter.deliver()
    os.kill(holder, signal.SIGKILL)
    [event] = arbiter.happened
    assert isinstance(event, events.SpawnFailed)
    assert event.ticket == ticket


def test_a_new_child_that_says_so_is_a_worker_once(arbiter: Arbiter) -> None:
    """The test's own child stands in for one that the kernel has given to the arbiter (see tests/process/test_preload)."""
    channel: list[socket.socket] = []

    def give_back(seat: Seat) -> None:
        order = order_of(seat)
        socket.send_fds(back, [b"x"], [order.channel.fileno()])

    def live() -> int:
        channel[0].send(encode_report(BornReport()))
        while True:
            signal.pause()

    ours, back = socket.socketpair()
    with ours, back:
        arbiter.spawn(give_back, Role.MOLD)
        arbiter.ask()
        _, [fd], _, _ = socket.recv_fds(ours, 1, 1)
        channel.append(socket.socket(fileno=fd))
    with channel[0]:
        newborn = arbiter.kernel.fork(live)
    arbiter.await_event(events.Spawned)
    assert list(arbiter.processes.workers) == [newborn]


def test_a_mold_takes_orders_from_its_arbiter_only(arbiter: Arbiter) -> None:
    def live(seat: Seat) -> None:
        try:
            order_of(seat)
        except ValueError as error:
            seat.channel.send(encode_report(RetiringReport(why=str(error))))
        close_seat(order_of(seat))

    mold = arbiter.processes.molds[arbiter.spawn(live, Role.MOLD)]
    stranger = arbiter.kernel.fork(lambda: mold.channel.send(b"{}") and 0, kept=None)
    os.waitpid(stranger, 0)
    arbiter.ask()
    arbiter.await_event(events.SpawnFailed)
    [asked] = arbiter.of(events.ReplacementAsked)
    assert isinstance(asked, events.ReplacementAsked)
    assert asked.why == f"process {stranger} has sent it, and not the arbiter"
    assert not arbiter.of(events.Distrusted)


@pytest.mark.parametrize(("phase", "count"), [(Phase.BOOTING, 1), (Phase.READY, 0), (Phase.DYING, 0)])
def test_only_a_worker_that_was_booting_is_told_to_be_ready(phase: Phase, count: int) -> None:
    journal = Journal(lambda: 0.0)
    child = make_child(1, phase=phase)
    event = events.BecameReady(at=child.born_at, pid=child.pid)
    state = make_state(1, child)
    EventLog(logging.getLogger("unicornd"), journal).observe(event, previous=state, state=state)
    assert journal.last == count
