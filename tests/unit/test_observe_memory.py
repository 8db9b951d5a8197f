"""Which death was the kernel's doing, from files as cgroups(7) describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.observe.memory import OomWatch, kill_counter_of
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from pathlib import Path

ARBITER, FIRST, SECOND = "self", 11, 12


class Machine:
    """Its processes and their groups, in version 1 or 2 of the control groups."""

    def __init__(self, root: Path, *, version: int) -> None:
        self.root = root
        self._controllers = {1: "memory", 2: ""}[version]
        self._groups = root / {1: "sys/fs/cgroup/memory", 2: "sys/fs/cgroup"}[version]
        self._file = {1: "memory.oom_control", 2: "memory.events"}[version]

    def put(self, pid: int | str, group: str) -> None:
        folder = self.root / f"proc/{pid}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup").write_text(f"9:name=systemd:/\n4:{self._controllers}:{group}\n")

    def count(self, group: str, kills: int) -> Path:
        counter = self._groups / group.removeprefix("/") / self._file
        counter.parent.mkdir(parents=True, exist_ok=True)
        counter.write_text(f"low 0\noom_kill_disable 0\noom_kill {kills}\n")
        return counter


@pytest.fixture(params=[1, 2])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    made = Machine(tmp_path, version=request.param)
    made.put(ARBITER, "/shop")
    made.count("/shop", 3)
    return made


def watch_of(machine: Machine) -> OomWatch:
    watch = OomWatch(machine.root)
    for pid in (FIRST, SECOND):
        watch.know(pid)
    return watch


def test_a_kill_since_the_start_explains_one_death_and_no_later_one(machine: Machine) -> None:
    watch = watch_of(machine)
    assert not watch.has_killed(FIRST, last=None, now=Monotonic(1))
    machine.count("/shop", 4)
    assert watch.has_killed(FIRST, last=None, now=Monotonic(2))
    assert not watch.has_killed(SECOND, last=None, now=Monotonic(2.1))


def test_two_kills_explain_two_deaths_at_once_and_none_that_comes_later(machine: Machine) -> None:
    watch = watch_of(machine)
    machine.count("/shop", 6)
    assert watch.has_killed(FIRST, last=None, now=Monotonic(1))
    assert watch.has_killed(SECOND, last=None, now=Monotonic(1.5))
    assert not watch.has_killed(FIRST, last=None, now=Monotonic(4)), "the third one was no process of ours"


def test_a_worker_in_a_group_of_its_own_is_known_by_that(machine: Machine) -> None:
    machine.put(FIRST, "/limited")
    counter = machine.count("/limited", 1)
    watch = watch_of(machine)
    assert not watch.has_killed(FIRST, last=None, now=Monotonic(1)), "that was before"
    watch.know(FIRST)
    machine.count("/limited", 2)
    assert not watch.has_killed(SECOND, last=None, now=Monotonic(2)), "it is in another group"
    assert watch.has_killed(FIRST, last=None, now=Monotonic(2))
    machine.count("/limited", 3)
    assert watch.has_killed(SECOND, last=counter, now=Monotonic(5)), "it was put there later"


def test_who_has_ended_otherwise_is_forgotten(machine: Machine) -> None:
    machine.put(FIRST, "/limited")
    machine.count("/limited", 0)
    watch = watch_of(machine)
    watch.forget(FIRST)
    machine.count("/limited", 1)
    assert not watch.has_killed(FIRST, last=None, now=Monotonic(1))


def test_a_container_that_sees_its_own_group_as_the_root_has_its_counts(machine: Machine) -> None:
    machine.put(FIRST, "/../outside")
    counter = machine.count("/", 0)
    assert kill_counter_of(FIRST, root=machine.root) == counter


def test_the_dead_of_version_1_are_in_no_group(tmp_path: Path) -> None:
    for version, is_told in ((1, False), (2, True)):
        machine = Machine(tmp_path / str(version), version=version)
        machine.put(FIRST, "/" if version == 1 else "/shop (deleted)")
        machine.count("/", 0)
        assert (kill_counter_of(FIRST, root=machine.root, is_dead=True) is not None) == is_told


def test_a_machine_that_does_not_count_explains_nothing(tmp_path: Path) -> None:
    watch = OomWatch(tmp_path)
    watch.know(FIRST)
    assert not watch.has_killed(FIRST, last=None, now=Monotonic(1))
