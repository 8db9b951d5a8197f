"""Actions → events, on a kernel that the test makes up."""

from __future__ import annotations

import selectors
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.kernel import FakeKernel
from unicornd.arbiter import events
from unicornd.arbiter.actions import AbandonRollout, Command, FinishRollout, Spawn
from unicornd.arbiter.perform import perform
from unicornd.arbiter.processes import ProcessTable
from unicornd.arbiter.reload import Deployments
from unicornd.arbiter.spawn import Spawner
from unicornd.arbiter.state import Order
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.sockets.notify import Notifier
from unicornd.sockets.store import Store
from unicornd.units import Generation, Monotonic, Pid, Slot
from unicornd.workers import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from unicornd.forking import Closable
    from unicornd.workers.context import Seat


class Eavesdropper(FakeKernel):
    """Keeps the child's end of each channel, as the child would."""

    def __init__(self) -> None:
        super().__init__()
        self.seats: list[Seat] = []

    def fork(self, child: Callable[[], int], *, kept: Collection[Closable] | None = ()) -> Pid:
        pid = super().fork(child, kept=kept)
        free = child.__closure__ or ()
        (seat,) = [cell.cell_contents for cell in free if type(cell.cell_contents).__name__ == "Seat"]
        self.seats.append(seat)
        return pid


class World:
    """Everything that `perform` works on."""

    def __init__(self, folder: Path) -> None:
        (folder / "unicornd.toml").write_text(
            f'[app]\ntarget = "site_app"\n[server]\nbind = "unix:{folder}/1.sock"\n'
        )
        self.folder = folder
        self.kernel = Eavesdropper()
        self.selector = selectors.DefaultSelector()
        self.happened: list[events.Event] = []
        self.processes = ProcessTable(Spawner(self.kernel), self.selector, kernel=self.kernel)
        sources = Sources(folder=folder)
        self.deployments = Deployments(sources, (), store=Store(Notifier()))
        self.deployments.start(load(sources))

    def perform(
        self, action: Spawn | Command | FinishRollout | AbandonRollout, *, is_quick: bool = True
    ) -> list[events.Event]:
        made = list(
            perform(
                action,
                self.kernel,
                processes=self.processes,
                deployments=self.deployments,
                is_quick=is_quick,
            )
        )
        self.processes.deliver(self.happened.append)
        return made

    def spawn(self, slot: int = 1, generation: int = 1) -> Pid:
        spawn = Spawn(pool="web", slot=Slot(slot), generation=Generation(generation), why="the test wants it")
        (event,) = self.perform(spawn)
        assert isinstance(event, events.Spawned)
        return event.pid

    def close(self) -> None:
        for pid in tuple(self.processes.workers):
            self.processes.vacate(pid)
        self.deployments.close_listeners()
        self.selector.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def command(pid: Pid, order: Order) -> Command:
    return Command(pid=pid, order=order, why="the test wants it")


def test_spawn_forks_and_keeps_the_other_ends(world: World) -> None:
    pid = world.spawn(slot=3)
    seated = world.processes.workers[pid]
    assert (seated.slot, seated.generation, seated.age) == (3, 1, 1)
    assert [seat.slot for seat in world.kernel.seats] == [3]


def test_a_refused_fork_is_an_event_and_leaves_no_descriptor(
    world: World,
) -> None:
    before = open_descriptors()
    world.kernel.refusal = OSError(11, "Resource temporarily unavailable")
    (event,) = world.perform(Spawn(pool="web", slot=Slot(1), generation=Generation(1), why="it is empty"))
    assert event == events.SpawnFailed(
        at=Monotonic(1000.0),
        pool="web",
        slot=Slot(1),
        generation=Generation(1),
        reason="Resource temporarily unavailable",
    )
    assert not world.processes.workers
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("order", "number"),
    [
        (Order.DRAIN, signal.SIGTERM), (Order.QUIT, signal.SIGQUIT), (Order.ABORT, signal.SIGABRT), (Order.KILL, signal.SIGKILL),
    ],
)  # fmt: skip
def test_every_order_is_a_signal(world: World, order: Order, number: signal.Signals) -> None:
    pid = world.spawn()
    assert world.perform(command(pid, order)) == [events.Ordered(at=Monotonic(1000.0), pid=pid, order=order)]
    assert world.kernel.signals == [(pid, number)]


def test_a_worker_that_is_not_needed_decides_itself_whether_it_serves_already(world: World) -> None:
    pid = world.spawn()
    world.perform(command(pid, Order.QUIT), is_quick=False)
    world.perform(command(pid, Order.KILL), is_quick=False)
    assert world.kernel.signals == [(pid, signals.DISMISS), (pid, signal.SIGKILL)]


def test_all_orders_have_a_signal(world: World) -> None:
    for order in Order:
        world.perform(command(world.spawn(), order))
    assert len(world.kernel.signals) == len(Order)


def test_a_worker_that_somebody_else_has_reaped_is_let_go(world: World) -> None:
    pid = world.spawn()
    world.kernel.steal(pid)
    assert world.perform(command(pid, Order.DRAIN)) == [
        events.Exited(at=Monotonic(1000.0), pid=pid, code=None, signal=None)
    ]
    assert pid not in world.processes.workers


def test_finishing_a_rollout_adopts_the_new_settings_and_closes_what_only_the_old_had(world: World) -> None:
    config = world.folder / "unicornd.toml"
    config.write_text(config.read_text().replace("1.sock", "2.sock"))
    world.deployments.prepare(load(Sources(folder=world.folder)))
    assert {path.name for path in world.folder.glob("*.sock")} == {"1.sock", "2.sock"}
    assert world.perform(FinishRollout(pool="web", generation=Generation(2))) == [
        events.RolloutFinished(at=Monotonic(1000.0), pool="web")
    ]
    assert {path.name for path in world.folder.glob("*.sock")} == {"2.sock"}
    assert world.deployments.present.blueprint.generation == 2


def test_abandoning_a_rollout_keeps_the_old_settings_and_closes_what_only_the_new_had(world: World) -> None:
    config = world.folder / "unicornd.toml"
    config.write_text(config.read_text().replace("1.sock", "2.sock"))
    world.deployments.prepare(load(Sources(folder=world.folder)))
    action = AbandonRollout(pool="web", generation=Generation(2), reason="no database")
    assert world.perform(action) == [events.RolloutAbandoned(at=Monotonic(1000.0), pool="web")]
    assert {path.name for path in world.folder.glob("*.sock")} == {"1.sock"}
    assert world.deployments.present.blueprint.generation == 1
    assert world.deployments.blueprint(Generation(1)).generation == 1
