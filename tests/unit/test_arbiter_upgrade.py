"""The two ends of an upgrade's baton: each arbiter believes the other one, and nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import eventually
from unicornd.arbiter.kernel import LinuxKernel
from unicornd.arbiter.upgrade.handoff import MAX_TRANSFER_BYTES, VARIABLE, Handoff, StateTransfer
from unicornd.arbiter.upgrade.incoming import Baton
from unicornd.arbiter.upgrade.launch import LaunchCommand
from unicornd.arbiter.upgrade.successor import UNCLEAR, Successor
from unicornd.arbiter.wakeup import hear
from unicornd.observe.metrics import Totals
from unicornd.units import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator

SAY = f"""
import json, os, signal, sys
baton = json.loads(os.environ["{VARIABLE}"])["baton"]
def say(text):
    os.write(baton, text)
def child(text):
    if os.fork() == 0:
        say(text)
        os._exit(0)
    os.wait()
"""
READY = b'{"code": 0, "text": ""}'


def left_by(pid: int, baton: int) -> Handoff:
    return Handoff(
        pid=Pid(pid), baton=baton, control=None, control_address="", admin=None, handover=(), listeners=(), passed=()
    )  # fmt: skip


class Old:
    """The old arbiter's end; what is executed anew is some lines of Python."""

    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self.selector = selectors.DefaultSelector()
        self.ended: list[object] = []
        self.upgrade = Successor(self.kernel, self.selector)

    def start(self, code: str) -> Pid:
        command = (sys.executable, "-c", SAY + code + "\nsignal.pause()")
        launch = LaunchCommand(program=command, arguments=(), folder="/", environ=dict(os.environ))
        return self.upgrade.start(
            launch,
            lambda _left: None,
            handoff=lambda baton: left_by(os.getpid(), baton),
            seconds=60,
            on_ready=self.ended.append,
            on_failure=self.ended.append,
        )

    def turn(self) -> bool:
        hear(self.selector, 0.01)
        return bool(self.ended)

    def close(self) -> None:
        if self.upgrade.pid is not None:
            self.kernel.kill(self.upgrade.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.upgrade.pid, os.WEXITED | os.WNOWAIT)
            for death in self.kernel.reap():
                self.upgrade.take_death(death)
        assert not self.selector.get_map()
        self.selector.close()


@pytest.fixture
def old() -> Iterator[Old]:
    with contextlib.closing(Old()) as made:
        yield made


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('say(b\'{"code": 3, "text": "no database"}\')', "no database"),
        ("say(b'nonsense')", UNCLEAR),
        ("say(b'[' * 60000)", UNCLEAR),
        ("say(b'{\"a\":' * 60000)", UNCLEAR),
        ("say(b'[]')", UNCLEAR),
        ("say(b'{}')", UNCLEAR),
        ("say(b'{\"code\": 3}')", UNCLEAR),
        ('say(b\'{"code": "0", "text": ""}\')', UNCLEAR),
        ("say(b'\\xff')", UNCLEAR),
    ],
)
def test_what_a_new_unicornd_says_ends_its_upgrade_only(old: Old, code: str, reason: str) -> None:
    old.start(code)
    eventually(old.turn, "the upgrade has ended")
    assert old.ended == [reason]


def test_a_verdict_in_pieces_is_read_when_it_is_whole(old: Old) -> None:
    pid = old.start('say(b\'{"code": 0,\'); say(b\'"text": ""}\')')
    eventually(old.turn, "the upgrade has ended")
    assert old.ended == [pid]


def test_a_process_of_the_new_unicornd_does_not_speak_for_it(
    old: Old, caplog: pytest.LogCaptureFixture
) -> None:
    old.start(f'child({READY!r}); say(b\'{{"code": 3, "text": "no database"}}\')')
    eventually(old.turn, "the upgrade has ended")
    assert old.ended == ["no database"]
    assert "speaks for the new unicornd" in caplog.text


class New:
    """The new arbiter's end."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.happened: list[object] = []
        self.baton = Baton(left_by(os.getpid(), theirs.detach()))
        self.baton.watch(
            self.selector,
            lambda: self.happened.append("promoted"),
            heard=self.happened.append,
            gone=lambda: self.happened.append("gone"),
        )

    def turn(self) -> None:
        hear(self.selector, 1.0)

    def close(self) -> None:
        self.ours.close()
        self.baton.close()
        self.selector.close()


@pytest.fixture
def new() -> Iterator[New]:
    with contextlib.closing(New()) as made:
        yield made


PROMOTION = StateTransfer(counted=Totals(requests=3), is_promotion=True)


def test_a_predecessor_of_another_release_is_waited_for_if_it_is_not_understood(new: New) -> None:
    for line in (
        b"{}", b"nonsense", b'{"counted": {"moons": 1}, "is_promotion": true}', b"[]", b"[" * 60_000, b"\xff",
        json.dumps({"counted": {}, "is_promotion": True, "upgrade": []}).encode(), b"x" * (2 * MAX_TRANSFER_BYTES),
    ):  # fmt: skip
        new.ours.sendall(line + b"\n")
        new.turn()
    while select_now(new.selector):
        new.turn()
    assert new.happened == []
    new.ours.sendall(PROMOTION.line()[:10])
    new.turn()
    new.ours.sendall(PROMOTION.line()[10:])
    new.turn()
    assert new.happened == [PROMOTION, "promoted"]
    new.ours.close()
    new.turn()
    assert new.happened == [PROMOTION, "promoted", "gone"]
    assert not new.selector.get_map()


def select_now(selector: selectors.BaseSelector) -> bool:
    return bool(selector.select(0))


def test_a_process_of_the_predecessor_does_not_promote(new: New, caplog: pytest.LogCaptureFixture) -> None:
    pid = LinuxKernel().fork(lambda: new.ours.send(PROMOTION.line()) and 0)
    os.waitpid(pid, 0)
    new.turn()
    assert new.happened == []
    assert f"process {pid} speaks for the old unicornd" in caplog.text
    new.ours.send(PROMOTION.line())
    new.turn()
    assert new.happened == [PROMOTION, "promoted"]
