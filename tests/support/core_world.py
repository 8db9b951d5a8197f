"""A world for the decision core: processes that live and die as a test says, and an accountant who trusts nobody.

`World` runs plan → perform → fold as the arbiter's loop does. It keeps its own books of every process (`Process`) and
judges each action by them, never by the core's `State`: what it may not do, it may not do even if the state says so.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from unicornd.arbiter import actions, events
from unicornd.arbiter.fold import fold
from unicornd.arbiter.plan import plan
from unicornd.arbiter.state import Halt, Order, Phase, Pool, Role, State
from unicornd.dataclass import replace
from unicornd.units import Generation, Monotonic, Pid, Slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unicornd.arbiter.state import Patience

KILL_AGAIN = 5.0
FORK_PATIENCE = 10.0
SILENCE = 3.0
SHORT_LIFE = 1.0
CALM = 10.0
SIGKILL = 9
START = Monotonic(1000.0)
ROUNDS = 60
"""Plans that one turn of the loop may need until nothing is left to do; more is an order that is never answered."""


@dataclass
class Process:
    """What really is the case with one child."""

    pid: Pid
    pool: str
    slot: Slot
    generation: Generation
    born_at: Monotonic
    beat_at: Monotonic
    ready_at: Monotonic | None = None
    failed_at: Monotonic | None = None
    busy_since: Monotonic | None = None
    has_asked: bool = False
    is_mold: bool = False
    owes: dict[int, tuple[actions.Spawn, Monotonic]] = field(default_factory=dict)
    """Of a mold: the workers that it was asked for and has not forked, by ticket."""
    orders: list[tuple[Order, Monotonic]] = field(default_factory=list)

    @property
    def is_staying(self) -> bool:
        return not self.orders and self.failed_at is None

    @property
    def is_booting(self) -> bool:
        return self.ready_at is None and self.is_staying

    @property
    def is_ready(self) -> bool:
        return self.ready_at is not None and self.is_staying

    @property
    def is_draining(self) -> bool:
        return bool(self.orders) and {order for order, _ in self.orders} <= {Order.DRAIN, Order.EXPIRE}

    def given(self, *orders: Order) -> Monotonic | None:
        """When it was last given one of these orders."""
        return max((at for order, at in self.orders if order in orders), default=None)


def due_orders(process: Process, patience: Patience) -> Iterator[tuple[float, Order]]:
    """Yield what the process must be told, and when, if it goes on like this."""
    killed, pressed = process.given(Order.KILL), process.given(Order.QUIT, Order.ABORT)
    if killed is not None:
        yield killed + KILL_AGAIN, Order.KILL
    elif pressed is not None:
        yield pressed + patience.kill, Order.KILL
    elif process.failed_at is not None:
        yield process.failed_at + patience.kill, Order.KILL
    elif process.ready_at is None:
        if patience.boot:
            yield process.born_at + patience.boot, Order.KILL
    elif process.is_mold:
        if process.owes:
            yield min(at for _, at in process.owes.values()) + FORK_PATIENCE, Order.KILL
    else:
        if process.is_draining and patience.graceful:
            yield process.orders[0][1] + patience.graceful, Order.KILL
        expired = process.given(Order.EXPIRE)
        if expired is not None:
            yield max(expired, process.beat_at) + max(patience.kill, SILENCE), Order.ABORT
            return
        if process.busy_since is not None and patience.request:
            order = Order.EXPIRE if patience.spares_siblings else Order.ABORT
            yield process.busy_since + patience.request, order
        if process.busy_since is None and patience.heartbeat:
            yield process.beat_at + patience.heartbeat, Order.ABORT


@dataclass
class World:
    """The fleet, the clock, and the books."""

    state: State = field(default_factory=State)
    now: Monotonic = START
    pids: int = 100
    tickets: int = 0
    processes: dict[Pid, Process] = field(default_factory=dict)
    forks_to_refuse: int = 0
    left: actions.Leave | None = None
    failures: dict[str, int] = field(default_factory=dict)
    killed_at: Monotonic | None = None
    failed_at: dict[str, Monotonic] = field(default_factory=dict)
    rolling: dict[str, int] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)
    ended: list[actions.Action] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    doomed: bool = False
    is_quick: bool = False
    halt_at: Monotonic | None = None
    has_left_listeners: bool = False
    good: dict[str, Pool] = field(default_factory=dict)
    """What was desired before a rollout that is in progress."""

    # The world → the core.

    def tell(self, event: events.Event) -> None:
        before, self.state = self.state, fold(self.state, event)
        for pid, child in (*self.state.children.items(), *self.state.molds.items()):
            known = before.children.get(pid) or before.molds.get(pid)
            assert known is None or child.phase >= known.phase, "phases only go forward"

    def declare(self, pool: Pool) -> None:
        self.tell(events.PoolDeclared(at=self.now, pool=pool))

    def ready(self, process: Process) -> None:
        if process.is_booting:
            process.ready_at = process.beat_at = self.now
            if not process.is_mold:
                self.served.add(process.pool)
                self._forgive(process.pool)
        self.tell(events.BecameReady(at=self.now, pid=process.pid))

    def fail(self, process: Process, *, cause: str = "boot", reason: str = "it raised\nTraceback") -> None:
        """The process says that it cannot boot; it has not exited yet."""
        is_news = process.is_booting
        if is_news:
            process.failed_at = self.now
            self._note_failure(process)
        self.tell(events.BootFailed(at=self.now, pid=process.pid, cause=cause, reason=reason))

    def exit(self, process: Process, *, code: int | None = 0, signal: int | None = None) -> None:
        """The process is gone."""
        is_early = process.ready_at is not None and self.now - process.ready_at < SHORT_LIFE
        if process.is_ready and is_early and signal == SIGKILL:
            is_calm = self.killed_at is None or self.now - self.killed_at >= CALM
            self.killed_at, is_early = self.now, not is_calm
        if process.is_booting or (process.is_ready and is_early):
            self._note_failure(process)
        del self.processes[process.pid]
        self.tell(events.Exited(at=self.now, pid=process.pid, code=code, signal=signal))
        for ticket in tuple(process.owes):
            self.break_promise(process, ticket)

    def keep_promise(self, mold: Process, ticket: int) -> None:
        """The mold forks a worker that it was asked for."""
        action, _ = mold.owes.pop(ticket)
        self._be_born(action, ticket=ticket)

    def break_promise(self, mold: Process, ticket: int) -> None:
        """The mold cannot fork it."""
        action, _ = mold.owes.pop(ticket)
        self._refuse_fork(action, ticket=ticket)

    def beat(self, process: Process) -> None:
        process.beat_at = self.now
        self._sweep(process)

    def begin(self, process: Process) -> None:
        process.busy_since = process.busy_since or self.now
        self._sweep(process)

    def finish(self, process: Process) -> None:
        process.busy_since, process.beat_at = None, self.now
        self._sweep(process)

    def _sweep(self, process: Process) -> None:
        if process.is_mold:
            return
        beaten = events.Beaten(
            at=self.now, pid=process.pid, beat_at=process.beat_at, busy_since=process.busy_since
        )
        self.tell(beaten)

    def ask_replacement(self, process: Process) -> None:
        process.has_asked = process.has_asked or process.is_ready
        self.tell(events.ReplacementAsked(at=self.now, pid=process.pid, why="max_requests"))

    def resize(self, pool: str, size: int, *, from_oldest: bool = False) -> None:
        before = self.pool(pool)
        if pool in self.good:
            self.good[pool] = replace(self.good[pool], size=size)
        self.tell(events.Resized(at=self.now, pool=pool, size=size, from_oldest=from_oldest))
        if pool in self.good:
            self.good[pool] = replace(self.good[pool], closed=self.state.rollouts[pool].previous.closed)
            assert len(self.slots(self.good[pool])) == size
        self._judge_slots(before, from_oldest=from_oldest)

    def roll(self, pool: Pool) -> None:
        self.good.setdefault(pool.name, self.pool(pool.name))
        self.rolling[pool.name] = 0
        self.hung.discard(pool.name)
        self._forgive(pool.name)
        self.tell(events.RolloutStarted(at=self.now, pool=pool))

    def halt(self, halt: Halt) -> None:
        self.is_quick = self.is_quick or self.doomed or halt is Halt.QUICK
        self.halt_at = self.halt_at or self.now
        self.tell(events.HaltAsked(at=self.now, halt=halt))

    # The core → the world.

    def turn(self) -> actions.Plan:
        """Do what the core wants until it wants nothing more, then look at everything."""
        for _ in range(ROUNDS):
            planned = plan(self.state, self.now)
            assert planned == plan(self.state, self.now), "the same state and time give the same plan"
            if not planned.actions or self.left:
                self.audit(planned)
                return planned
            for action in planned.actions:
                failures = dict(self.failures)
                self._perform(action)
                if isinstance(action, actions.Spawn) and self.failures != failures:
                    break  # a fork failed: as the loop does, plan anew
        raise AssertionError("the plan does not stop asking")

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.Spawn():
                self._spawn(action)
            case actions.Command():
                self._command(action)
            case actions.FinishRollout():
                self._judge_end(action)
                self.tell(events.RolloutFinished(at=self.now, pool=action.pool))
                del self.good[action.pool]
            case actions.AbandonRollout():
                self._judge_end(action)
                self._forgive(action.pool)
                failed = self.pool(action.pool)
                self.tell(events.RolloutAbandoned(at=self.now, pool=action.pool))
                back, good = self.pool(action.pool), self.good.pop(action.pool)
                is_elsewhere = bool(good.folders) and not any(each in failed.folders for each in good.folders)
                is_kept = good.is_molded or is_elsewhere
                assert back == replace(good, is_disk_newer=not is_kept), "the last good one is back"
            case actions.LeaveListeners():
                assert not self.has_left_listeners, "once"
                assert self.now >= self.drain_until(), "what comes before is still let in"
                self.has_left_listeners = True
                self.tell(events.ListenersLeft(at=self.now))
            case actions.Leave():
                assert self.state.halt is not Halt.NO
                assert not self.processes, "somebody is left behind"
                assert (action.cause == "halt") is not self.doomed
                assert bool(action.reason) is self.doomed
                self.left = action
            case _:
                assert_never(action)

    def _spawn(self, action: actions.Spawn) -> None:
        self._judge_spawn(action)
        if self.forks_to_refuse:
            self.forks_to_refuse -= 1
            self._refuse_fork(action)
        elif action.role is Role.WORKER and self.pool(action.pool).is_molded:
            self.tickets += 1
            [mold] = [each for each in self.molds_of(action.pool) if each.is_ready and self.is_wanted(each)
                      and each.generation == action.generation]  # fmt: skip
            mold.owes[self.tickets] = (action, self.now)
            self.tell(
                events.SpawnAsked(
                    at=self.now, ticket=self.tickets, mold=mold.pid, pool=action.pool, slot=action.slot,
                    generation=action.generation,
                )
            )  # fmt: skip
        else:
            self._be_born(action)

    def _be_born(self, action: actions.Spawn, *, ticket: int | None = None) -> None:
        self.pids += 1
        process = Process(
            pid=Pid(self.pids), pool=action.pool, slot=action.slot, generation=action.generation,
            born_at=self.now, beat_at=self.now, is_mold=action.role is Role.MOLD,
        )  # fmt: skip
        self.processes[process.pid] = process
        self.tell(
            events.Spawned(
                at=self.now, pid=process.pid, pool=action.pool, slot=action.slot, generation=action.generation,
                role=action.role, ticket=ticket,
            )
        )  # fmt: skip

    def _refuse_fork(self, action: actions.Spawn, *, ticket: int | None = None) -> None:
        self._count_failure(action.pool, action.generation)
        self.tell(
            events.SpawnFailed(
                at=self.now, pool=action.pool, slot=action.slot, generation=action.generation, reason="EAGAIN",
                ticket=ticket,
            )
        )  # fmt: skip

    def _command(self, action: actions.Command) -> None:
        assert action.pid in self.processes, "only pids that we have"
        process = self.processes[action.pid]
        last = process.given(action.order)
        assert last is None or (action.order is Order.KILL and self.now >= last + KILL_AGAIN), (
            "one order of a kind"
        )
        self._judge_order(process, action.order)
        if process.is_booting and action.order is Order.KILL:
            self._note_failure(process, is_hung=True)
        process.orders.append((action.order, self.now))
        self.tell(events.Ordered(at=self.now, pid=process.pid, order=action.order))

    # The books.

    def pool(self, name: str) -> Pool:
        return self.state.pools[name]

    def of(self, name: str) -> list[Process]:
        return [
            process for process in self.processes.values() if process.pool == name and not process.is_mold
        ]

    def molds_of(self, name: str) -> list[Process]:
        return [process for process in self.processes.values() if process.pool == name and process.is_mold]

    @staticmethod
    def slots(pool: Pool) -> list[int]:
        """The lowest slots that are not closed."""
        free = (slot for slot in itertools.count(1) if slot not in pool.closed)
        return list(itertools.islice(free, pool.size))

    def owed(self, pool: Pool) -> list[Slot]:
        """The slots for which a mold of the desired generation was asked."""
        return [
            action.slot
            for mold in self.molds_of(pool.name)
            if mold.generation == pool.generation
            for action, _ in mold.owes.values()
            if action.slot in self.slots(pool)
        ]

    def is_rolling(self, pool: Pool) -> bool:
        """Whether children of another generation are around, on their way out or not."""
        return pool.name in self.state.rollouts or any(
            process.generation != pool.generation and (process.is_staying or process.is_draining)
            for process in self.of(pool.name)
        )

    def count_ready(self, name: str) -> int:
        return sum(process.is_ready for process in self.of(name))

    def is_wanted(self, process: Process) -> bool:
        pool = self.pool(process.pool)
        if process.is_mold:
            desired = [pool, self.good[pool.name]] if pool.name in self.good else [pool]
            return process.generation in {each.generation for each in desired if each.is_molded}
        is_right = process.generation == pool.generation and process.slot in self.slots(pool)
        return is_right and not process.has_asked

    def drain_until(self) -> float:
        """Until when a stopping fleet accepts."""
        if self.is_quick or self.doomed or not self.served or self.halt_at is None:
            return 0.0
        return self.halt_at + max(pool.patience.drain for pool in self.state.pools.values())

    def moments(self) -> list[float]:
        """Every moment to come at which something is due, and the ends of the delays."""
        due = [
            at
            for each in self.processes.values()
            for at, _ in due_orders(each, self.pool(each.pool).patience)
        ]
        delays = [self.delay_until(name) for name in self.failures]
        delays.append(self.drain_until())
        calm = [self.killed_at + CALM] if self.killed_at is not None else []
        lives = [each.ready_at + SHORT_LIFE for each in self.processes.values() if each.ready_at is not None]
        return sorted({moment for moment in (*due, *delays, *lives, *calm) if moment > self.now})

    def delay_until(self, name: str) -> float:
        count = self.failures.get(name, 0)
        return self.failed_at[name] + min(0.1 * 2 ** min(count - 1, 16), 30.0) if count else 0.0

    def _forgive(self, name: str) -> None:
        self.failures.pop(name, None)
        self.failed_at.pop(name, None)

    def _note_failure(self, process: Process, *, is_hung: bool = False) -> None:
        self._count_failure(process.pool, process.generation, is_hung=is_hung)
        if process.pool not in self.served and self.state.halt is Halt.NO:
            self.doomed = True

    def _count_failure(self, name: str, generation: Generation, *, is_hung: bool = False) -> None:
        if self.state.halt is not Halt.NO:
            return
        self.failures[name] = self.failures.get(name, 0) + 1
        self.failed_at[name] = self.now
        if name in self.rolling and generation == self.pool(name).generation:
            self.rolling[name] += 1
            self.hung |= {name} if is_hung else set()

    # The judgement.

    def _judge_slots(self, before: Pool, *, from_oldest: bool) -> None:
        """A pool that grows keeps its slots; one that shrinks loses the highest ones, or those of its oldest workers."""
        was, now = self.slots(before), self.slots(self.pool(before.name))
        if len(now) >= len(was):
            assert set(was) <= set(now), "who serves stays"
            return
        gone = [slot for slot in was if slot not in now]
        assert len(was) - len(now) == len(gone), "nobody comes"
        if not from_oldest:
            assert gone == was[len(now) :], "the highest ones"
            return
        born = {
            slot: max((each.born_at for each in self.of(before.name) if each.is_staying and each.slot == slot), default=0.0)
            for slot in was
        }  # fmt: skip
        for action, asked_at in (owed for mold in self.molds_of(before.name) for owed in mold.owes.values()):
            born[action.slot] = asked_at
        assert max(born[slot] for slot in gone) <= min((born[slot] for slot in now), default=math.inf), (
            "the oldest"
        )

    def _judge_spawn(self, action: actions.Spawn) -> None:
        pool, ours = self.pool(action.pool), self.of(action.pool)
        assert self.state.halt is Halt.NO, "no spawn while stopping"
        assert action.generation == pool.generation
        if action.role is Role.MOLD:
            assert pool.is_molded
            same = [each for each in self.molds_of(pool.name) if each.generation == pool.generation]
            assert not any(each.is_staying for each in same), "one mold a generation"
            assert self.now >= self.delay_until(pool.name), "no spawn before the back-off ends"
            return
        assert action.slot in self.slots(pool), "a slot that it has"
        assert action.slot not in self.owed(pool), "slots are unique"
        in_slot = [process for process in ours if process.slot == action.slot]
        assert not any(process.is_staying and self.is_wanted(process) for process in in_slot), (
            "slots are unique"
        )
        if self.failures.get(pool.name):
            assert self.now >= self.delay_until(pool.name), "no spawn before the back-off ends"
            probes = [process for process in ours if process.is_booting and self.is_wanted(process)]
            assert not probes, "one probe at a time"
            assert not self.owed(pool), "one probe at a time"
        beside = [process for process in in_slot if process.is_staying]
        if pool.surge == 0 and self.is_rolling(pool):
            assert not beside, "without surge, a slot is empty before it is filled"
            assert not any(process.is_draining for process in in_slot), "and its old child has left"
        elif beside:
            surge = pool.surge if self.is_rolling(pool) else 1
            there = self.slots(pool)
            staying = [process.slot for process in ours if process.is_staying and process.slot in there]
            assert len(staying) - len(set(staying)) < surge, "no more than `surge` extra children"

    def _judge_order(self, process: Process, order: Order) -> None:
        pool = self.pool(process.pool)
        is_due = any(at <= self.now and due is order for at, due in due_orders(process, pool.patience))
        is_early = self.state.halt is not Halt.NO and not self.has_left_listeners
        assert not (is_early and order in {Order.DRAIN, Order.QUIT}), "first the listeners are left"
        match order:
            case Order.KILL | Order.ABORT | Order.EXPIRE:
                assert is_due, f"{order} before its deadline"
            case Order.QUIT if process.is_mold:
                assert process.is_staying
                assert self.state.halt is not Halt.NO or not self.is_wanted(process), "a mold stays"
            case Order.QUIT if self.state.halt is Halt.QUICK:
                assert process.is_staying or process.is_draining
            case Order.QUIT:
                assert process.is_booting, "who serves is never told to quit"
                assert self.state.halt is not Halt.NO or not self.is_wanted(process)
            case Order.DRAIN:
                assert process.is_ready
                assert not process.is_mold
                if self.state.halt is Halt.NO:
                    allowance = 1 if pool.surge == 0 and self.is_rolling(pool) else 0
                    staying = self.count_ready(pool.name) - 1
                    assert staying >= pool.size - allowance, "a drain never takes the ready below the size"
                    assert not self.is_wanted(process), "who is wanted stays"
                    ready = {each.slot for each in self.of(pool.name) if each.is_ready}
                    surplus = ready - set(self.slots(pool))
                    assert process.slot == max(surplus, default=process.slot), (
                        "slots too many go first, from above"
                    )
            case _:
                assert_never(order)

    def _judge_end(self, action: actions.FinishRollout | actions.AbandonRollout) -> None:
        assert action.pool in self.rolling, "a rollout ends once"
        pool, failures = self.pool(action.pool), self.rolling.pop(action.pool)
        assert action.generation == pool.generation
        self.ended.append(action)
        ours = [process for process in self.of(pool.name) if process.is_staying]
        new = [process for process in ours if process.generation == pool.generation]
        if isinstance(action, actions.FinishRollout):
            assert len(ours) == len(new), "every old one has been told to leave"
            assert sum(process.is_ready for process in new) >= pool.size
        else:
            assert failures >= pool.max_failures or action.pool in self.hung
            assert action.reason

    # At rest.

    def audit(self, planned: actions.Plan) -> None:
        """The plan is empty: was everything done that had to be?"""
        if self.left is not None:
            return
        self._audit_wake(planned)
        for process in self.processes.values():
            for at, order in due_orders(process, self.pool(process.pool).patience):
                assert at > self.now, f"{order} was due at {at}: {process}"
        if self.state.halt is not Halt.NO or self.doomed:
            assert self.processes, "nobody is left, and the arbiter stays"
            if self.now < self.drain_until() and not self.has_left_listeners:
                return
            assert self.has_left_listeners
            assert not any(process.is_staying for process in self.processes.values()), "everybody leaves"
            if self.is_quick or self.doomed:
                assert not any(process.is_draining for process in self.processes.values()), "at once"
            return
        for pool in self.state.pools.values():
            self._audit_pool(pool)

    def _audit_wake(self, planned: actions.Plan) -> None:
        if planned.wake_at is None:
            assert not plan(self.state, Monotonic(self.now + 1e6)).actions, "it overslept"
            return
        assert planned.wake_at > self.now, "wake_at lies in the future"
        before = Monotonic(math.nextafter(planned.wake_at, -math.inf))
        assert plan(self.state, before) == planned, "nothing is to be done before wake_at"
        assert plan(self.state, planned.wake_at).actions, "something is to be done at wake_at"

    def _audit_pool(self, pool: Pool) -> None:
        ours = self.of(pool.name)
        wanted = [process.slot for process in ours if process.is_staying and self.is_wanted(process)]
        assert len(wanted) == len(set(wanted)), "slots are unique"
        assert not any(process.is_booting and not self.is_wanted(process) for process in ours)
        leaves_over = [process for process in ours if process.is_ready and not self.is_wanted(process)]
        assert not leaves_over or self.count_ready(pool.name) <= pool.size, "who is not needed has been told"
        molds = [mold for mold in self.molds_of(pool.name) if mold.is_staying]
        assert all(self.is_wanted(mold) for mold in molds), "a mold that nobody needs has been told to go"
        present = [mold for mold in molds if mold.generation == pool.generation]
        is_waiting = any(process.is_booting for process in (*ours, *present)) or bool(self.owed(pool))
        is_probing = is_waiting or self.now < self.delay_until(pool.name)
        if not (self.failures.get(pool.name) and is_probing):
            assert len(present) == pool.is_molded, "a molded generation has its mold"
            if all(mold.is_ready for mold in present):
                self._audit_slots(pool, ours)
        is_complete = len(wanted) == pool.size == self.count_ready(pool.name) and not leaves_over
        assert not (is_complete and pool.name in self.rolling), "a complete rollout is finished"
        if (failures := self.rolling.get(pool.name)) is not None:
            assert failures < pool.max_failures, "a rollout that has failed is abandoned"
            assert pool.name not in self.hung
        assert (pool.name in self.rolling) == (pool.name in self.state.rollouts)

    def _audit_slots(self, pool: Pool, ours: list[Process]) -> None:
        """Every slot has somebody, but for one that a rollout without surge waits for."""
        held = {process.slot for process in ours if process.is_staying} | set(self.owed(pool))
        if pool.surge == 0 and self.is_rolling(pool):
            held |= {process.slot for process in ours if process.is_draining}
        empty = set(self.slots(pool)) - held
        assert not empty, f"slots {empty} are empty"

    # Peace.

    def settle(self, fate: str = "ready", *, rounds: int = 300) -> None:
        """Let time pass until nothing changes: requests end, who was told leaves, who boots meets its fate."""
        self.forks_to_refuse = 10_000 if fate == "no fork" else 0
        for _ in range(rounds):
            for process in self.processes.values():
                if (
                    process.ready_at is not None
                    and process.given(Order.QUIT, Order.ABORT, Order.KILL) is None
                ):
                    self.finish(process)
            planned = self.turn()
            if self.left is not None:
                return
            if not self._live(fate):
                if self.is_at_rest() or planned.wake_at is None:
                    return
                self.now = planned.wake_at

    def is_at_rest(self) -> bool:
        """Whether nothing is on its way: nobody boots or leaves, no delay runs."""
        is_quiet = all(process.is_ready and not process.owes for process in self.processes.values())
        return is_quiet and not self.failures and self.state.halt is Halt.NO

    def _live(self, fate: str) -> bool:
        has_changed = False
        for process in tuple(self.processes.values()):
            if not process.is_staying:
                if process.given(Order.KILL) is None:
                    self.exit(process)
                else:
                    self.exit(process, code=None, signal=9)
                has_changed = True
            elif process.is_booting:
                has_changed |= self._meet(process, fate)
            for ticket in tuple(process.owes):
                if self.forks_to_refuse:
                    self.break_promise(process, ticket)
                else:
                    self.keep_promise(process, ticket)
                has_changed = True
        return has_changed

    def _meet(self, process: Process, fate: str) -> bool:
        match fate:
            case "ready" | "no fork":
                self.ready(process)
            case "fail":
                self.fail(process)
            case "exit":
                self.exit(process, code=1)
            case "die early":
                self.ready(process)
                self.exit(process, code=None, signal=11)
            case _:
                return False
        return True

    def assert_settled(self) -> None:
        """Every pool is as it is desired, and is left alone."""
        for pool in self.state.pools.values():
            ours = self.of(pool.name)
            assert sorted(process.slot for process in ours) == self.slots(pool), ours
            assert all(process.is_ready and self.is_wanted(process) for process in ours), ours
            molds = self.molds_of(pool.name)
            assert [mold.generation for mold in molds] == [pool.generation] * pool.is_molded
            assert all(mold.is_ready for mold in molds)
            assert pool.name not in self.state.rollouts
        for seconds in (0.0, 1.0, 3600.0):
            self.now = Monotonic(self.now + seconds)
            for process in self.processes.values():
                self.beat(process)
            assert not plan(self.state, self.now).actions, "a settled pool is left alone"
            assert all(child.phase is Phase.READY for child in self.state.children.values())
