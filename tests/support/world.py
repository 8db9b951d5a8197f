"""A world for the decision core: children that obey, fail, hang and die as a test decides, and a clock that it turns.

It performs what `plan` asks for, folds the events, and checks after every step what must hold under any schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unicornd.arbiter import events
from unicornd.arbiter.actions import (
    AbandonRollout,
    Action,
    Command,
    FinishRollout,
    Leave,
    LeaveListeners,
    Spawn,
)
from unicornd.arbiter.deadlines import KILL_AGAIN
from unicornd.arbiter.fold import fold
from unicornd.arbiter.lateness import owed
from unicornd.arbiter.plan import plan
from unicornd.arbiter.state import Halt, Order, Patience, Phase, Pool, State
from unicornd.units import Generation, Monotonic, Pid, Seconds

POOL = "people"
START = Monotonic(100.0)
START = Monotonic(100.0)
MOST_TURNS = 200
PATIENCE = Patience(
    boot=Seconds(10.0),
    request=Seconds(7.0),
    heartbeat=Seconds(20.0),
    graceful=Seconds(5.0),
    kill=Seconds(2.0),
)
TIMEOUTS = (10.0, 7.0, 20.0, 5.0, 2.0, KILL_AGAIN, 0.1, 1.0, 30.0)


def make_pool(size: int, *, generation: int = 1, surge: int = 1, max_failures: int = 3) -> Pool:
    return Pool(
        name=POOL,
        size=size,
        generation=Generation(generation),
        surge=surge,
        max_failures=max_failures,
        patience=PATIENCE,
    )


@dataclass(slots=True)
class World:
    """Everything outside the core."""

    state: State = field(default_factory=State)
    now: Monotonic = START
    left: Leave | None = None
    fork_works: bool = True
    finished: list[Generation] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    distrusted: set[Pid] = field(default_factory=set)
    orders: list[tuple[Pid, Order]] = field(default_factory=list)
    _next_pid: int = 1000

    def take(self, event: events.Event) -> None:
        """Fold an event; phases only go forward."""
        before = self.state
        self.state = fold(self.state, event)
        for pid, child in self.state.children.items():
            old = before.children.get(pid)
            assert old is None or child.phase >= old.phase, "a phase went back"

    def act(self) -> None:
        """Plan and perform until nothing is asked for any more."""
        for _ in range(MOST_TURNS):
            if self.left is not None:
                return
            planned = plan(self.state, self.now)
            assert planned.wake_at is None or planned.wake_at > self.now, "wake_at lies in the past"
            if not planned.actions:
                return
            orders = [(action.pid, action.order) for action in planned.actions if isinstance(action, Command)]
            assert len({pid for pid, _ in orders}) == len(orders), "two orders for one pid"
            for action in planned.actions:
                backoffs = self.state.backoffs
                self._perform(action)
                if self.state.backoffs is not backoffs and isinstance(action, Spawn):
                    break  # a fork failed: as the loop does, plan anew
        raise AssertionError("the plan never stops asking")

    def _perform(self, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(action)
            case Command():
                self._order(action)
            case FinishRollout():
                assert self.state.rollouts, "no rollout to finish"
                self.finished.append(action.generation)
                self.take(events.RolloutFinished(at=self.now, pool=action.pool))
            case AbandonRollout():
                assert self.state.rollouts, "no rollout to abandon"
                self.abandoned.append(action.reason)
                self.take(events.RolloutAbandoned(at=self.now, pool=action.pool))
            case LeaveListeners():
                self.take(events.ListenersLeft(at=self.now))
            case Leave():
                assert not self.state.children, "left with children"
                self.left = action

    def _spawn(self, action: Spawn) -> None:
        pool = self.state.pools[action.pool]
        assert self.state.halt is Halt.NO, "a spawn while stopping"
        assert pool.has(action.slot), "a slot outside the pool"
        assert action.generation == pool.generation
        mates = [c for c in self.state.children.values() if c.phase <= Phase.READY and not c.is_retiring]
        assert not any(c.slot == action.slot and c.generation == action.generation for c in mates), (
            "a slot twice"
        )
        backoff = self.state.backoffs.get(action.pool)
        assert backoff is None or backoff.not_before <= self.now, "a spawn before the back-off ends"
        if not self.fork_works:
            self.take(
                events.SpawnFailed(
                    at=self.now,
                    pool=action.pool,
                    slot=action.slot,
                    generation=action.generation,
                    reason="EAGAIN",
                )
            )
            return
        self._next_pid += 1
        pid = Pid(self._next_pid)
        self.take(
            events.Spawned(
                at=self.now, pid=pid, pool=action.pool, slot=action.slot, generation=action.generation
            )
        )

    def _order(self, action: Command) -> None:
        child = self.state.children.get(action.pid)
        assert child is not None, "an order for a stranger"
        if action.order is Order.DRAIN and self.state.halt is Halt.NO:
            pool = self.state.pools[child.pool]
            ready = [c for c in self.state.children.values() if c.phase is Phase.READY]
            least = pool.size - (1 if pool.surge == 0 else 0)
            assert len(ready) - 1 >= least, "a drain takes what serves below the size"
        if action.order is Order.KILL:
            self._check_kill(action.pid)
        self.orders.append((action.pid, action.order))
        self.take(events.Ordered(at=self.now, pid=action.pid, order=action.order))

    def _check_kill(self, pid: Pid) -> None:
        child = self.state.children[pid]
        if pid in self.distrusted and child.ordered is not Order.KILL:
            return
        since, limit = {
            Phase.BOOTING: (child.born_at, PATIENCE.boot),
            Phase.DRAINING: (child.phase_since, PATIENCE.graceful),
            Phase.DYING: (child.ordered_at, KILL_AGAIN if child.ordered is Order.KILL else PATIENCE.kill),
        }[child.phase]
        assert since is not None
        assert self.now >= since + limit + owed(self.state.lateness, since), "killed before its deadline"

    def oversleep(self, seconds: float) -> None:
        """Everything stands still for so long from the next moment on at which the arbiter wants to wake up."""
        wanted = plan(self.state, self.now).wake_at
        since = self.now if wanted is None else wanted
        self.now = Monotonic(since + seconds)
        self.take(events.WokeLate(at=self.now, since=since))

    def step(self, seconds: float) -> None:
        """Turn the clock; nothing may have been due in between without being asked for when it was due."""
        target = Monotonic(self.now + seconds)
        while self.left is None:
            planned = plan(self.state, self.now)
            if planned.wake_at is None or planned.wake_at > target:
                break
            self.now = planned.wake_at
            self.act()
        self.now = target
        self.act()

    def phases(self) -> dict[Pid, Phase]:
        return {pid: child.phase for pid, child in self.state.children.items()}

    def pids(self, *phases: Phase) -> list[Pid]:
        return [pid for pid, child in self.state.children.items() if not phases or child.phase in phases]

    def become_ready(self, pid: Pid) -> None:
        self.take(events.BecameReady(at=self.now, pid=pid))

    def exit(self, pid: Pid, *, code: int | None = 0, signal: int | None = None) -> None:
        self.take(events.Exited(at=self.now, pid=pid, code=code, signal=signal))

    def distrust(self, pid: Pid) -> None:
        self.distrusted.add(pid)
        self.take(events.Distrusted(at=self.now, pid=pid, why="it lies"))
        if self.state.children[pid].ordered is not Order.KILL:
            killed = [each.pid for each in plan(self.state, self.now).actions if isinstance(each, Command)]
            assert pid in killed, "it is killed at once"

    def beat(self, pid: Pid, *, busy_since: float | None = None) -> None:
        busy = None if busy_since is None else Monotonic(busy_since)
        self.take(events.Beaten(at=self.now, pid=pid, beat_at=self.now, busy_since=busy))

    def heal(self) -> None:
        """Every child does what it is told, and boots, until nothing changes any more."""
        self.fork_works = True
        for _ in range(MOST_TURNS):
            self.act()
            before = self.phases()
            for pid in self.pids(Phase.BOOTING):
                self.become_ready(pid)
            for pid in self.pids(Phase.DRAINING, Phase.DYING):
                self.exit(pid)
            for pid in self.pids(Phase.READY):
                self.beat(pid)
            self.act()
            if self.left is not None:
                return
            pause = max(
                (backoff.not_before - self.now for backoff in self.state.backoffs.values()), default=0.0
            )
            if self.phases() == before and pause <= 0.0:
                return
            self.step(min(max(pause, 0.01), 4.0))
        raise AssertionError("a healthy world does not settle")

    def assert_settled(self) -> None:
        """The fleet is as it is desired, and is left alone."""
        pool = self.state.pools[POOL]
        ready = [c for c in self.state.children.values() if c.phase is Phase.READY]
        assert len(self.state.children) == len(ready) == pool.size
        assert {c.generation for c in ready} <= {pool.generation}
        assert len({c.slot for c in ready}) == pool.size, "slots are unique"
        assert not plan(self.state, self.now).actions, "a settled pool is left alone"
        assert not self.state.rollouts, "a rollout ends"


def started(size: int, *, surge: int = 1, max_failures: int = 3) -> World:
    """A fleet of `size` READY workers."""
    world = declared(size, surge=surge, max_failures=max_failures)
    for pid in world.pids():
        world.become_ready(pid)
    world.act()
    world.step(2.0)
    for pid in world.pids():
        world.beat(pid)
    return world


def declared(size: int, *, surge: int = 1, max_failures: int = 3) -> World:
    """A fleet of `size` workers that are booting."""
    world = World()
    world.take(
        events.PoolDeclared(at=world.now, pool=make_pool(size, surge=surge, max_failures=max_failures))
    )
    world.act()
    return world
