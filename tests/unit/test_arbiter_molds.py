"""What the plan does with molds, step by step."""

from __future__ import annotations

from tests.support.core_world import World
from unicornd.arbiter import events
from unicornd.arbiter.actions import Command, Spawn
from unicornd.arbiter.fold import fold
from unicornd.arbiter.plan import plan
from unicornd.arbiter.state import Halt, Order, Patience, Phase, Pool, Role
from unicornd.dataclass import replace
from unicornd.units import Generation, Monotonic, Pid, Seconds, Slot

PATIENCE = Patience(
    boot=Seconds(60), request=Seconds(30), heartbeat=Seconds(30), graceful=Seconds(30), kill=Seconds(5)
)
POOL = Pool(
    name="web", size=2, generation=Generation(1), surge=1, max_failures=2, patience=PATIENCE, is_molded=True
)


def begun() -> World:
    world = World()
    world.declare(POOL)
    return world


def test_the_mold_comes_first_and_workers_when_it_is_ready() -> None:
    world = begun()
    [action] = plan(world.state, world.now).actions
    assert isinstance(action, Spawn)
    assert (action.role, action.slot) == (Role.MOLD, 0)
    world.turn()
    assert not plan(world.state, world.now).actions, "nobody else can be had before"
    [mold] = world.processes.values()
    world.ready(mold)
    actions = plan(world.state, world.now).actions
    assert [action.slot for action in actions if isinstance(action, Spawn)] == [1, 2]


def test_a_mold_that_does_not_fork_is_killed_when_its_time_is_up() -> None:
    world = begun()
    world.turn()
    [mold] = world.processes.values()
    world.ready(mold)
    asked_at = world.now
    world.turn()
    assert plan(world.state, world.now).wake_at == asked_at + 10.0
    [action] = plan(world.state, Monotonic(asked_at + 10.0)).actions
    assert action == Command(pid=mold.pid, order=Order.KILL, why="it does not fork")


def test_a_mold_that_asks_to_be_replaced_is_not_heard() -> None:
    world = begun()
    world.settle()
    [mold] = world.molds_of("web")
    state = fold(world.state, events.ReplacementAsked(at=world.now, pid=mold.pid, why="?"))
    assert state == world.state


def test_what_was_asked_for_another_generation_does_not_fill_a_slot() -> None:
    world = begun()
    world.settle()
    asked = events.SpawnAsked(
        at=world.now, ticket=9, mold=Pid(1), pool="web", slot=Slot(1), generation=Generation(1)
    )
    world.state = fold(world.state, asked)
    world.roll(replace(POOL, generation=Generation(2), surge=2, is_molded=False))
    slots = [action.slot for action in plan(world.state, world.now).actions if isinstance(action, Spawn)]
    assert slots == [1, 2]


def test_the_end_waits_for_what_a_mold_was_asked_for() -> None:
    world = begun()
    asked = events.SpawnAsked(
        at=world.now, ticket=1, mold=Pid(1), pool="web", slot=Slot(1), generation=Generation(1)
    )
    world.state = fold(world.state, asked)
    state = fold(world.state, events.HaltAsked(at=world.now, halt=Halt.GRACEFUL))
    state = fold(state, events.ListenersLeft(at=world.now))
    assert plan(state, world.now).actions == ()
    born = events.Spawned(
        at=world.now, pid=Pid(7), pool="web", slot=Slot(1), generation=Generation(1), ticket=1
    )
    state = fold(state, born)
    assert state.expected == {}
    assert state.children[Pid(7)].phase is Phase.BOOTING
    [action] = plan(state, world.now).actions
    assert isinstance(action, Command)
    assert action.order is Order.QUIT


def test_a_new_mold_does_not_answer_for_what_the_old_one_owes() -> None:
    world = begun()
    world.turn()
    [old] = world.processes.values()
    world.ready(old)
    world.turn()
    world.now = Monotonic(world.now + 10.0)
    world.turn()
    [_, new] = world.processes.values()
    world.ready(new)
    assert new.is_mold
    assert not [action for action in plan(world.state, world.now).actions if isinstance(action, Command)]


def test_a_request_that_runs_too_long_is_given_up_where_its_siblings_can_be_spared() -> None:
    world = World()
    world.declare(replace(POOL, size=1, is_molded=False, patience=replace(PATIENCE, spares_siblings=True)))
    world.settle()
    [worker] = world.processes.values()
    world.begin(worker)
    begun_at = world.now
    world.now = Monotonic(begun_at + 30.0)
    [action] = plan(world.state, world.now).actions
    assert isinstance(action, Command)
    assert action.order is Order.EXPIRE
    world.turn()
    assert world.state.children[worker.pid].phase is Phase.DRAINING
    world.now = Monotonic(begun_at + 34.9)
    world.beat(worker)
    world.now = Monotonic(begun_at + 39.8)
    assert not [each for each in plan(world.state, world.now).actions if isinstance(each, Command)], (
        "it reacts"
    )
    world.now = Monotonic(begun_at + 40.0)
    [action] = [each for each in plan(world.state, world.now).actions if isinstance(each, Command)]
    assert action.order is Order.ABORT


def test_a_mold_that_is_not_believed_is_killed_at_once_and_another_one_comes_later() -> None:
    world = begun()
    world.settle()
    [mold] = world.molds_of("web")
    state = fold(world.state, events.Distrusted(at=world.now, pid=mold.pid, why="it lies"))
    assert state.molds[mold.pid].phase is Phase.DYING
    assert state.backoffs["web"].failures == 1
    assert plan(state, world.now).actions == (Command(pid=mold.pid, order=Order.KILL, why="it lies"),)
    again = fold(state, events.Distrusted(at=world.now, pid=mold.pid, why="it lies again"))
    assert again is state
    killed = fold(state, events.Ordered(at=world.now, pid=mold.pid, order=Order.KILL))
    assert not [action for action in plan(killed, world.now).actions if isinstance(action, Command)]
    gone = fold(killed, events.Exited(at=world.now, pid=mold.pid, code=None, signal=9))
    assert gone.backoffs["web"].failures == 1, "it is counted once"
    [action] = plan(gone, gone.backoffs["web"].not_before).actions
    assert isinstance(action, Spawn)
    assert action.role is Role.MOLD


def test_a_worker_that_is_not_believed_while_it_leaves_is_no_failure() -> None:
    world = begun()
    world.settle()
    pid = min(world.state.children)
    state = fold(world.state, events.Ordered(at=world.now, pid=pid, order=Order.DRAIN))
    state = fold(state, events.Distrusted(at=world.now, pid=pid, why="it lies"))
    assert not state.backoffs
    [action] = plan(state, world.now).actions
    assert action == Command(pid=pid, order=Order.KILL, why="it lies")


def test_a_stranger_that_is_not_believed_changes_nothing() -> None:
    world = begun()
    assert fold(world.state, events.Distrusted(at=world.now, pid=Pid(9), why="it lies")) is world.state


def test_a_new_generation_that_is_not_believed_is_given_up_and_a_first_one_ends_the_start() -> None:
    world = begun()
    world.turn()
    [mold] = world.processes.values()
    state = fold(world.state, events.Distrusted(at=world.now, pid=mold.pid, why="it lies"))
    assert state.halt is Halt.QUICK
    assert state.fatal == "the mold is not believed: it lies"
    world = begun()
    world.settle()
    world.roll(replace(POOL, generation=Generation(2)))
    world.turn()
    [new] = [mold for mold in world.state.molds.values() if mold.generation == 2]
    state = fold(world.state, events.Distrusted(at=world.now, pid=new.pid, why="it lies"))
    assert state.rollouts["web"].has_failed
    assert state.rollouts["web"].reason == "the mold is not believed: it lies"
