"""Operations in any schedule: whatever happens to the workers, who asked for something gets an answer, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.support.control_port import make_pool
from unicornd.arbiter import actions, events
from unicornd.arbiter.fold import fold
from unicornd.arbiter.operations import Kind, Operation, Operations, Outcome
from unicornd.arbiter.plan import plan
from unicornd.arbiter.requests import Granted, Recycle, Reload, Scale, Stop, Wish, decide
from unicornd.arbiter.state import Halt, Phase, State
from unicornd.dataclass import replace
from unicornd.units import Monotonic, Pid, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.arbiter.state import Child

TURNS = 400
"""Turns of the loop in which every schedule comes to rest; more would be a fleet that never does."""

WISHES = st.one_of(
    st.just(Reload()),
    st.builds(Scale, count=st.integers(1, 6)),
    st.builds(Recycle, slot=st.integers(1, 3).map(Slot)),
    st.builds(Stop, halt=st.sampled_from([Halt.GRACEFUL, Halt.QUICK])),
)
FATES = st.lists(st.sampled_from(["ready", "fail", "exit", "die", "wait"]), max_size=40)


@dataclass
class World:
    """A fleet whose workers do what the schedule says."""

    state: State = field(default_factory=State)
    operations: Operations = field(default_factory=Operations)
    now: Monotonic = field(default=Monotonic(100.0))
    has_left: bool = False
    pids: int = 1000

    def tell(self, event: events.Event) -> None:
        previous, self.state = self.state, fold(self.state, event)
        self.operations.observe(event, previous=previous, state=self.state)

    def turn(self) -> None:
        """Do what the plan asks for, as the loop does."""
        self.now = Monotonic(self.now + 1.0)
        for child in tuple(self.state.children.values()):
            self.tell(events.Beaten(at=self.now, pid=child.pid, beat_at=self.now, busy_since=None))
        for action in plan(self.state, self.now).actions:
            self.perform(action)

    def perform(self, action: actions.Action) -> None:
        match action:
            case actions.Spawn():
                self.pids += 1
                self.tell(
                    events.Spawned(
                        at=self.now,
                        pid=Pid(self.pids),
                        pool=action.pool,
                        slot=action.slot,
                        generation=action.generation,
                    )
                )
            case actions.Command():
                self.tell(events.Ordered(at=self.now, pid=action.pid, order=action.order))
            case actions.FinishRollout():
                self.tell(events.RolloutFinished(at=self.now, pool=action.pool))
            case actions.AbandonRollout():
                self.tell(events.RolloutAbandoned(at=self.now, pool=action.pool))
            case actions.LeaveListeners():
                self.tell(events.ListenersLeft(at=self.now))
            case actions.Leave():
                self.has_left = True

    def meet(self, child: Child, fate: str) -> None:
        """Let something happen to a worker, if it can."""
        is_booting, is_ordered = child.phase is Phase.BOOTING, child.ordered is not None
        match fate:
            case "ready" if is_booting:
                self.tell(events.BecameReady(at=self.now, pid=child.pid))
            case "fail" if is_booting:
                self.tell(
                    events.BootFailed(at=self.now, pid=child.pid, cause="boot", reason="it raised\nTraceback")
                )
                self.tell(events.Exited(at=self.now, pid=child.pid, code=3, signal=None))
            case "exit" if is_ordered:
                self.tell(events.Exited(at=self.now, pid=child.pid, code=0, signal=None))
            case "die":
                self.tell(events.Exited(at=self.now, pid=child.pid, code=None, signal=9))
            case _:
                pass

    def settle(self, fate: str) -> None:
        """Let everything come to rest: who boots has this fate, who was told to leave does."""
        for _ in range(TURNS):
            self.turn()
            if self.has_left or self.operations.running is None:
                return
            for child in tuple(self.state.children.values()):
                self.meet(child, "exit" if child.ordered is not None else fate)


def make_world() -> World:
    world = World()
    world.tell(events.PoolDeclared(at=world.now, pool=make_pool(3)))
    for _ in range(4):
        world.turn()
        for child in tuple(world.state.children.values()):
            world.meet(child, "ready")
    return world


def ask(world: World, wish: Wish) -> str | None:
    decision = decide(wish, state=world.state, running=world.operations.running, now=world.now)
    if not isinstance(decision, Granted) or decision.joins is not None:
        return None
    operation = world.operations.begin(
        decision.kind, title=decision.title, pool=decision.pool, now=world.now, pid=decision.pid
    )
    for event in decision.events:
        world.tell(event)
    if isinstance(wish, Reload):
        pool = world.state.pools["web"]
        world.tell(events.RolloutStarted(at=world.now, pool=replace(pool, generation=pool.generation + 1)))  # type: ignore[arg-type] # int
    return operation.id


def live(world: World, fates: Iterable[str]) -> list[Operation]:
    """Let the schedule happen; return the running operation after each turn."""
    seen = []
    for fate in fates:
        world.turn()
        for child in tuple(world.state.children.values())[:2]:
            world.meet(child, fate)
        if world.operations.running is not None:
            seen.append(world.operations.running)
    return seen


@given(wishes=st.lists(WISHES, min_size=1, max_size=3), fates=FATES, last=st.sampled_from(["ready", "fail"]))
def test_whoever_asked_gets_an_answer_and_it_never_changes(
    wishes: list[Wish], fates: list[str], last: str
) -> None:
    world = make_world()
    asked: list[str] = []
    ended: dict[str, Operation] = {}
    for wish in wishes:
        if (operation_id := ask(world, wish)) is not None:
            asked.append(operation_id)
        for operation in live(world, fates):
            assert operation.state is Outcome.RUNNING
        for known in asked:
            found = world.operations.find(known)
            assert found is not None
            assert ended.get(known, found) == found, "an ended operation never changes"
            if found.state is not Outcome.RUNNING:
                ended[known] = found
    world.settle(last)
    for known in asked:
        found = world.operations.find(known)
        assert found is not None
        assert found.state is not Outcome.RUNNING, f"{found.title}: {found.steps}"
        assert found.result
        assert [step.at for step in found.steps] == sorted(step.at for step in found.steps)


@given(size=st.integers(1, 6), fates=FATES)
def test_a_scale_that_is_done_has_reached_its_size(size: int, fates: list[str]) -> None:
    world = make_world()
    operation_id = ask(world, Scale(count=size)) or ""
    live(world, fates)
    world.settle("ready")
    operation = world.operations.find(operation_id)
    assert operation is not None
    if operation.state is Outcome.DONE:
        assert operation.result == f"{size} worker{'s' if size != 1 else ''} ready"
        assert world.state.pools["web"].size == size
    else:
        assert operation.failures >= world.state.pools["web"].max_failures


@given(fates=FATES, last=st.sampled_from(["ready", "fail"]))
def test_a_reload_ends_with_the_new_generation_or_with_the_old_one_and_says_which(
    fates: list[str], last: str
) -> None:
    world = make_world()
    ask(world, Reload())
    live(world, fates)
    world.settle(last)
    operation = world.operations.find("reload-1")
    assert operation is not None
    assert operation.kind is Kind.RELOAD
    generation = world.state.pools["web"].generation
    assert (operation.state, generation) in {(Outcome.DONE, 2), (Outcome.ROLLED_BACK, 1)}
