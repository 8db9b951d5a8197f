"""A control server with a fleet that a test makes up: the real routes and sockets, a state of the test's choice.

The server runs in a thread of the test's process, in a loop like the arbiter's. The test changes the fleet by events,
inside that loop.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from concurrent.futures import Future
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from unicornd.arbiter.fold import fold
from unicornd.arbiter.journal import Journal
from unicornd.arbiter.operations import Operation, Operations
from unicornd.arbiter.requests import Refusal, Reload, Upgrade, Wish, decide, no_worker
from unicornd.arbiter.routes import make_route
from unicornd.arbiter.state import Child, Patience, Phase, Pool, State
from unicornd.arbiter.view import Facts, ListenerFacts
from unicornd.control.client import Client
from unicornd.control.endpoints import Endpoint
from unicornd.control.listening import open_control_socket
from unicornd.control.protocol import ConfigReport, ConfigValue
from unicornd.control.server import ControlServer
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.units import Generation, Monotonic, Pid, Seconds, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from unicornd.arbiter.events import Event
    from unicornd.arbiter.postmortems import Postmortem
    from unicornd.control.exchange import Gate

Made = TypeVar("Made")

LOOP_PAUSE = 0.05
PATIENCE = Patience(
    boot=Seconds(60.0),
    request=Seconds(30.0),
    heartbeat=Seconds(30.0),
    graceful=Seconds(30.0),
    kill=Seconds(5.0),
)
WALL = 1_795_440_000.0


def make_pool(size: int, *, generation: int = 1) -> Pool:
    return Pool(
        name="web", size=size, generation=Generation(generation), surge=1, max_failures=3, patience=PATIENCE
    )


def make_child(slot: int, *, phase: Phase = Phase.READY, generation: int = 1, at: float = 0.0) -> Child:
    born = Monotonic(at)
    return Child(
        pid=Pid(8100 + slot + 100 * (generation - 1)), pool="web", slot=Slot(slot), generation=Generation(generation),
        phase=phase, born_at=born, phase_since=born, beat_at=born,
    )  # fmt: skip


def make_state(size: int, *children: Child) -> State:
    everyone = children or tuple(make_child(slot) for slot in range(1, size + 1))
    return State(
        pools=MappingProxyType({"web": make_pool(size)}),
        children=MappingProxyType({child.pid: child for child in everyone}),
        served=frozenset({"web"}),
    )


def make_facts(*, at: float = 100.0, **changes: object) -> Facts:
    facts = Facts(
        version="0.1.0", instance="shop", target="shop.wsgi:application", config_file="/srv/shop/unicornd.toml",
        control="/run/unicornd/shop.sock", kind="threads", threads=8, gil="off", pid=Pid(8100), started_at=Monotonic(0.0),
        served_at=Monotonic(1.0), at=Monotonic(at), wall=WALL,
        listeners=(ListenerFacts(address="127.0.0.1:8000", queue=0, backlog=2048),),
        readings={}, memory={}, file_size=2, requests=0, errors=0, restarts=0, last_events=(),
    )  # fmt: skip
    return replace(facts, **changes)  # type: ignore[arg-type] # the caller names fields of Facts


class FakePort:
    """A `ControlPort` whose fleet only changes when the test says so."""

    def __init__(self, state: State, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = state
        self.journal = Journal(lambda: WALL)
        self.operations = Operations()
        self.reload_refusal: Refusal | None = None
        self.asking = ""
        self.previews: list[Callable[[], None]] = []
        self.changes: tuple[str, ...] = ("workers.count: 2 → 4",)
        self.facts_value = make_facts()
        self.died: tuple[Postmortem, ...] = ()
        self.holds_interpreter = False
        self.insisted: list[Pid] = []
        self._clock = clock

    def now(self) -> Monotonic:
        return Monotonic(self._clock())

    def facts(self, *, is_brief: bool = False) -> Facts:  # noqa: ARG002 - made up
        return replace(self.facts_value, at=self.now(), last_events=self.journal.tail(5))

    def config(self) -> ConfigReport:
        value = ConfigValue(key="workers.count", value=2, layer="file", where="unicornd.toml:4")
        return ConfigReport(config_file=self.facts_value.config_file, values=[value])

    def metrics(self) -> bytes:
        return b"unicornd_workers 2\n"

    def ask_stacks(self, slot: Slot) -> Pid | Refusal:
        seated = [child.pid for child in self.state.children.values() if child.slot == slot]
        return seated[0] if seated else no_worker(slot, self.state)

    def insist_on_stacks(self, pid: Pid) -> None:
        self.insisted.append(pid)
        self.holds_interpreter = False

    def stacks(self, pid: Pid) -> str:
        return (
            ""
            if self.holds_interpreter
            else f'Thread {pid} (most recent call first):\n  File "shop.py", line 7 in checkout\n'
        )

    def postmortems(self) -> tuple[Postmortem, ...]:
        return self.died

    def submit(self, wish: Wish) -> Operation | Refusal:
        decision = decide(wish, state=self.state, running=self.operations.running, now=self.now())
        if isinstance(decision, Refusal):
            return decision
        if decision.joins is not None:
            return decision.joins
        operation = self.operations.begin(
            decision.kind, title=decision.title, pool=decision.pool, now=self.now(), pid=decision.pid,
            asking=(self.asking or "it is asked") if isinstance(wish, Reload) else "",
        )  # fmt: skip
        if isinstance(wish, Reload) and not self.asking:
            self.answer()
        self.apply(*decision.events)
        return self.operations.find(operation.id) or operation

    def preview_reload(self, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        self.previews.append(lambda: then(self.reload_refusal or self.changes))
        if not self.asking:
            self.answer()

    def preview_upgrade(self, wish: Upgrade, then: Callable[[Sequence[str] | Refusal], None]) -> None:
        then(self.reload_refusal or (f"to {wish.executable}",))

    def answer(self) -> None:
        """What was asked has been found out: the configuration can be read, or `reload_refusal`."""
        self.asking = ""
        while self.previews:
            self.previews.pop()()
        if self.reload_refusal is None:
            self.operations.accept()
            return
        refusal = self.reload_refusal
        self.operations.refuse(
            refusal.exit_code,
            result=refusal.message,
            now=self.now(),
            detail=refusal.detail,
            hint=refusal.hint,
        )

    def apply(self, *events: Event) -> None:
        """Fold events, and let the running operation see them, as the loop does."""
        for event in events:
            previous, self.state = self.state, fold(self.state, event)
            self.operations.observe(event, previous=previous, state=self.state)


CONFIG_REFUSAL = Refusal(
    status=HTTPStatus.UNPROCESSABLE_ENTITY,
    exit_code=CtlExit.CONFIG,
    message="the configuration is wrong; still serving generation 1",
    detail="unicornd.toml:6: workers.cuont: unknown key, did you mean count?",
)


class Served:
    """A running control server.

    Attributes:
        port: the fleet; touch it through `do` while the server runs.
        address: of the control socket.
    """

    def __init__(self, port: FakePort, *, listener: socket.socket, address: str) -> None:
        self.port = port
        self.address = address
        self.client = Client(address=address)
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._calls: list[Callable[[], None]] = []
        self._wake, self._woken = socket.socketpair()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def do(self, call: Callable[[], Made]) -> Made:
        """Call something inside the loop and return its result."""
        future: Future[Made] = Future()
        self._calls.append(lambda: future.set_result(call()))
        self._wake.send(b".")
        return future.result(timeout=10)

    def apply(self, *events: Event) -> None:
        self.do(lambda: self.port.apply(*events))

    def start(
        self,
        *,
        authorize: Callable[[socket.socket], Gate | None] = lambda _sock: None,
        among: Sequence[Endpoint] = tuple(Endpoint),
        clock: Callable[[], Monotonic] | None = None,
    ) -> None:
        self.server = ControlServer(
            self._selector,
            self._listener,
            route=make_route(self.port, among=among),
            authorize=authorize,
            clock=clock or self.port.now,
        )
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _mask: self._woken.recv(100))
        self._thread.start()

    def stop(self) -> None:
        self.do(lambda: setattr(self, "_is_over", True))
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        self.server.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _run(self) -> None:
        while not self._is_over:
            for key, mask in self._selector.select(LOOP_PAUSE):
                key.data(mask)
            while self._calls:
                self._calls.pop(0)()
            self.server.tick(self.port.now())


@contextlib.contextmanager
def serve(
    folder: Path,
    port: FakePort,
    *,
    authorize: Callable[[socket.socket], Gate | None] = lambda _sock: None,
    among: Sequence[Endpoint] = tuple(Endpoint),
) -> Iterator[Served]:
    """Serve a made-up fleet on a control socket in `folder`."""
    control = open_control_socket((str(folder / "control.sock"),), mode=0o600)
    served = Served(port, listener=control.sock, address=control.address)
    served.start(authorize=authorize, among=among)
    try:
        yield served
    finally:
        served.stop()
        control.remove()
