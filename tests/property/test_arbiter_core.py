"""The decision core under any schedule of deaths, readies, beats, time, scales, reloads, fork failures and stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.world import POOL, TIMEOUTS, World, declared, make_pool
from unicornd.arbiter import events
from unicornd.arbiter.state import Halt, Phase

if TYPE_CHECKING:
    from unicornd.units import Pid

STEPS = st.one_of(
    st.sampled_from([timeout + offset for timeout in TIMEOUTS for offset in (-0.001, 0.0, 0.001)]),
    st.floats(0.001, 40.0),
)


class Core(RuleBasedStateMachine):
    world: World

    @initialize(size=st.integers(0, 4), surge=st.integers(0, 3), max_failures=st.integers(1, 3))
    def start(self, size: int, surge: int, max_failures: int) -> None:
        self.world = declared(size, surge=surge, max_failures=max_failures)

    def pick(self, data: st.DataObject, *phases: Phase) -> Pid | None:
        pids = self.world.pids(*phases)
        return data.draw(st.sampled_from(pids)) if pids else None

    @rule(data=st.data())
    def boots(self, data: st.DataObject) -> None:
        if (pid := self.pick(data, Phase.BOOTING)) is not None:
            self.world.become_ready(pid)
            self.world.act()

    @rule(data=st.data(), cause=st.sampled_from(["app", "boot"]))
    def fails_to_boot(self, data: st.DataObject, cause: str) -> None:
        if (pid := self.pick(data, Phase.BOOTING)) is not None:
            now = self.world.now
            self.world.take(events.BootFailed(at=now, pid=pid, cause=cause, reason="no database\ntraceback"))
            self.world.act()
            self.world.exit(pid, code=3)
            self.world.act()

    @rule(data=st.data(), code=st.sampled_from([None, 0, 3]))
    def dies(self, data: st.DataObject, code: int | None) -> None:
        if (pid := self.pick(data)) is not None:
            self.world.exit(pid, code=code, signal=9 if code is None else None)
            self.world.act()

    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        if (pid := self.pick(data, Phase.DRAINING, Phase.DYING)) is not None:
            self.world.exit(pid)
            self.world.act()

    @rule(data=st.data(), busy=st.floats(0.0, 8.0) | st.none())
    def beats(self, data: st.DataObject, busy: float | None) -> None:
        if (pid := self.pick(data)) is not None:
            self.world.beat(pid, busy_since=None if busy is None else self.world.now - busy)
            self.world.act()

    @rule(data=st.data())
    def asks_for_replacement(self, data: st.DataObject) -> None:
        if (pid := self.pick(data, Phase.READY)) is not None:
            self.world.take(events.ReplacementAsked(at=self.world.now, pid=pid, why="max_requests"))
            self.world.act()

    @rule(data=st.data())
    def is_not_believed(self, data: st.DataObject) -> None:
        if (pid := self.pick(data)) is not None:
            self.world.distrust(pid)
            self.world.act()

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.world.step(seconds)

    @rule(seconds=STEPS)
    def everything_stands_still(self, seconds: float) -> None:
        self.world.oversleep(seconds)
        self.world.act()

    @rule(works=st.booleans())
    def fork_works_or_not(self, *, works: bool) -> None:
        self.world.fork_works = works

    @rule(size=st.integers(0, 5), from_oldest=st.booleans())
    def is_scaled(self, size: int, *, from_oldest: bool) -> None:
        self.world.take(events.Resized(at=self.world.now, pool=POOL, size=size, from_oldest=from_oldest))
        self.world.act()

    @precondition(lambda self: POOL in self.world.state.served)
    @rule(size=st.integers(0, 4), surge=st.integers(0, 3), max_failures=st.integers(1, 3))
    def is_reloaded(self, size: int, surge: int, max_failures: int) -> None:
        known = {pool.generation for pool in self.world.state.pools.values()}
        known |= {child.generation for child in self.world.state.children.values()}
        pool = make_pool(size, generation=max(known) + 1, surge=surge, max_failures=max_failures)
        self.world.take(events.RolloutStarted(at=self.world.now, pool=pool))
        self.world.act()

    @rule(halt=st.sampled_from([Halt.GRACEFUL, Halt.QUICK]))
    def is_stopped(self, halt: Halt) -> None:
        if self.world.now > 300.0:  # late: most runs are to see something before
            self.world.take(events.HaltAsked(at=self.world.now, halt=halt))
            self.world.act()

    def teardown(self) -> None:
        """Whatever has happened, a healthy world settles; and if all is to end, it ends."""
        if not hasattr(self, "world"):
            return
        self.world.heal()
        if self.world.state.halt is Halt.NO:
            self.world.assert_settled()
            self.world.take(events.HaltAsked(at=self.world.now, halt=Halt.GRACEFUL))
            self.world.heal()
        assert self.world.left is not None, "a stopping pool halts"


Core.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestCore = Core.TestCase
