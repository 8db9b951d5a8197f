"""What people and programs are shown of the arbiter: state and facts → the answers of the control API.

Pure: a snapshot goes in, a model of `control.protocol` comes out; called by the control routes in the arbiter's loop.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from unicornd.arbiter.operations import ROLLED_BACK, Kind, Outcome
from unicornd.arbiter.state import DISK_IS_NEWER, Halt, Phase
from unicornd.arbiter.troubles import crash_loop, saturation
from unicornd.control import protocol
from unicornd.control.wording import duration, plural
from unicornd.dataclass import dataclass
from unicornd.errors import CtlExit
from unicornd.observe.scoreboard import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unicornd.arbiter.journal import Entry
    from unicornd.arbiter.operations import Operation
    from unicornd.arbiter.postmortems import Postmortem
    from unicornd.arbiter.state import Child, Pool, State
    from unicornd.observe.scoreboard import Reading
    from unicornd.units import Monotonic, Pid

MAX_WAITING_LINES = 20
"""How many of the workers that an operation waits for are named; a fleet of hundreds would fill the screen."""

FleetState = Literal[
    "starting", "ready", "saturated", "degraded", "crash-looping", "reloading", "scaling", "stopping", "empty"
]
ReloadState = Literal["done", "failed", "rolled_back", "refused"]
PhaseName = Literal["booting", "ready", "draining", "dying"]

_PHASES: Mapping[Phase, PhaseName] = {
    Phase.BOOTING: "booting",
    Phase.READY: "ready",
    Phase.DRAINING: "draining",
    Phase.DYING: "dying",
}

_ENDED: Mapping[str, str] = {"failed": "not finished", "rolled_back": "rolled back", "refused": "refused"}

EXIT_CODES: Mapping[Outcome, CtlExit] = {
    Outcome.RUNNING: CtlExit.UNREACHABLE,
    Outcome.DONE: CtlExit.DONE,
    Outcome.FAILED: CtlExit.FAILED,
    Outcome.ROLLED_BACK: CtlExit.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFacts:
    """One listening socket: `address` as bound (`127.0.0.1:8000`, `unix:/run/x.sock`), queue None if unknown."""

    address: str
    queue: int | None
    backlog: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the loop knows beside the `State`.

    Attributes:
        version: of unicornd; python: of its interpreter; prefix: the folder of its environment.
        instance: the instance's name.
        target: `app.target`.
        config_file: path of unicornd.toml, or None.
        control: address of the control socket (`@name` if it is abstract), or None.
        kind: of the workers, `sync` or `threads`; `threads` how many each has.
        pid: of the arbiter.
        started_at: when the arbiter started (monotonic).
        served_at: when the fleet was READY for the first time, or None.
        wall: wall-clock time (seconds since the epoch) at `at`, which is monotonic: the bridge between both clocks.
        listeners: what is listened on.
        readings: scoreboard rows by pid of the worker.
        memory: bytes by pid (PSS where the kernel tells, else resident), arbiter included; absent: unknown.
        file_size: `workers.count` of the configuration, resolved; differs from the pool's size after `scale`.
        requests: answered since the fleet started, dead workers and upgrades included; errors: 5xx among them.
        restarts: workers that died unasked since then.
        last_events: the newest journal entries, oldest first.
        timeouts, lost, disconnects, boot_failures: see `metrics.Totals`.
        slots: how many requests can run at a time; 0 where nothing bounds them.
        last_reload: the last one that has ended, or None.
    """

    version: str
    instance: str
    target: str
    config_file: str | None
    control: str | None
    kind: str
    threads: int
    gil: Literal["on", "off"]
    pid: Pid
    started_at: Monotonic
    served_at: Monotonic | None
    at: Monotonic
    wall: float
    listeners: tuple[ListenerFacts, ...]
    readings: Mapping[Pid, Reading]
    memory: Mapping[Pid, int]
    file_size: int
    requests: int
    errors: int
    restarts: int
    last_events: tuple[Entry, ...]
    python: str = ""
    prefix: str = ""
    timeouts: int = 0
    lost: int = 0
    disconnects: int = 0
    boot_failures: int = 0
    slots: int = 0
    last_reload: Operation | None = None

    @property
    def waiting(self) -> int:
        """How many connections and requests nobody has taken."""
        queued = sum(each.queue or 0 for each in self.listeners)
        return queued + sum(reading.waiting for reading in self.readings.values())


def status(state: State, facts: Facts, *, pool: Pool, running: Operation | None) -> protocol.Status:
    """The fleet on one page."""
    rollout = state.rollouts.get(pool.name)
    fleet, reason = fleet_state(state, pool=pool, running=running, now=facts.at)
    return protocol.Status(
        state=fleet,
        reason=_reason(fleet, reason, state=state, facts=facts),
        since=0.0 if facts.served_at is None else _span(facts.served_at, facts.at),
        instance=facts.instance,
        target=facts.target,
        config_file=facts.config_file,
        control=facts.control,
        gil=facts.gil,
        generation=pool.generation if rollout is None else rollout.previous.generation,
        arbiter=protocol.ArbiterFacts(
            pid=facts.pid,
            version=facts.version,
            python=facts.python,
            prefix=facts.prefix,
            started_at=_time(facts.wall - (facts.at - facts.started_at)),
            uptime=_span(facts.started_at, facts.at),
            memory=facts.memory.get(facts.pid),
        ),
        wanted=protocol.Wanted(
            count=pool.size, file_count=facts.file_size, kind=facts.kind, threads=facts.threads
        ),
        rollout=_rollout(state, pool=pool, now=facts.at),
        operation=None if running is None else operation(running, state, facts=facts),
        listeners=[
            protocol.Listener(address=each.address, queue=each.queue, backlog=each.backlog)
            for each in facts.listeners
        ],
        workers=workers(state, facts),
        mold=_mold(state, facts, pool=pool),
        totals=_totals(facts),
        latency=latency(facts.readings.values()),
        last_reload=_last_reload(facts),
        events=[event(entry) for entry in facts.last_events],
    )


def _totals(facts: Facts) -> protocol.Totals:
    return protocol.Totals(
        requests=facts.requests,
        errors=facts.errors,
        restarts=facts.restarts,
        timeouts=facts.timeouts,
        lost=facts.lost,
        disconnects=facts.disconnects,
        boot_failures=facts.boot_failures,
    )


def _reason(fleet: FleetState, reason: str, *, state: State, facts: Facts) -> str:
    """Return why a fleet is what it is, with what only the facts know."""
    if fleet == "saturated":
        return _saturation(state, facts)
    last = _last_reload(facts)
    if fleet != "ready" or last is None or last.state == "done":
        return reason
    told = f"the last reload was {_ENDED[last.state]} {duration(last.age)} ago"
    return f"{told}; {reason}" if reason else told


def _saturation(state: State, facts: Facts) -> str:
    since = facts.at if state.saturated_since is None else state.saturated_since
    busy = sum(len(reading.in_flight) for reading in facts.readings.values())
    return saturation(since, facts.at, waiting=facts.waiting, busy=busy, slots=facts.slots)


def _last_reload(facts: Facts) -> protocol.LastReload | None:
    last = facts.last_reload
    if last is None or last.ended_at is None:
        return None
    return protocol.LastReload(
        at=_time(facts.wall - (facts.at - last.ended_at)),
        age=_span(last.ended_at, facts.at),
        operation=last.id,
        state=_reload_state(last),
        reason=_why(last),
        hint=last.hint,
    )


def _why(reload: Operation) -> str:
    """Return why a reload came to nothing, without the word for that; of a wrong configuration the first error, too."""
    first = reload.detail.partition("\n")[0].strip() if reload.refused is not None else ""
    why = reload.result.removeprefix(ROLLED_BACK)
    why = f"still serving {why}" if why != reload.result else why
    return f"{why}: {first}" if first else why


def _reload_state(last: Operation) -> ReloadState:
    if last.refused is not None:
        return "refused"
    match last.state:
        case Outcome.DONE:
            return "done"
        case Outcome.ROLLED_BACK:
            return "rolled_back"
        case _:
            return "failed"


def _mold(state: State, facts: Facts, *, pool: Pool) -> protocol.Mold | None:
    for mold in state.molds.values():
        if mold.pool == pool.name and mold.generation == pool.generation:
            return protocol.Mold(
                pid=mold.pid,
                phase=_PHASES[mold.phase],
                generation=mold.generation,
                age=_span(mold.born_at, facts.at),
                memory=facts.memory.get(mold.pid),
            )
    return None


def postmortem(died: Postmortem) -> protocol.Postmortem:
    """One worker's end."""
    return protocol.Postmortem(
        at=_time(died.wall),
        name=died.name,
        slot=died.slot,
        pid=died.pid,
        generation=died.generation,
        code=died.code,
        signal=died.signal,
        told=died.told,
        lived=died.lived,
        requests=died.requests,
        peak_memory=died.peak_memory,
        was_oom=died.was_oom,
        lost=[protocol.InFlight(request=each.request, age=max(0.0, each.age)) for each in died.lost],
        timed_out=[
            protocol.InFlight(request=each.request, age=max(0.0, each.age)) for each in died.timed_out
        ],
        failure=died.failure,
        stacks=died.stacks,
        count=died.count,
        first_at=_time(died.first),
    )


def fleet_state(
    state: State, *, pool: Pool, running: Operation | None, now: Monotonic
) -> tuple[FleetState, str]:
    """What the fleet is, in one word, and why it is not `ready`, or what threatens it."""
    ready = count_ready(state, pool=pool)
    missing = f"{ready} of {pool.size} workers are ready"
    if (change := _change(state, pool=pool, running=running, missing=missing)) is not None:
        return change
    if pool.size == 0:
        return "empty", "no workers are wanted"
    if loop := crash_loop(state, now):
        return "crash-looping", f"{missing}; {loop}"
    if ready < pool.size:
        told = f"; {DISK_IS_NEWER}" if pool.is_disk_newer else ""
        return "degraded", missing + _next_try(state, pool=pool, now=now) + told
    if state.shut_listeners:
        return "degraded", _shut(state)
    if state.saturated_since is not None:
        return "saturated", f"requests wait that no worker takes, for {duration(now - state.saturated_since)}"
    return "ready", DISK_IS_NEWER if pool.is_disk_newer else ""


def _shut(state: State) -> str:
    return (
        f"nobody can connect to {', '.join(state.shut_listeners)}: shut down by a worker, or without its file"
    )


def _change(
    state: State, *, pool: Pool, running: Operation | None, missing: str
) -> tuple[FleetState, str] | None:
    """What the fleet is becoming, if it is not meant to stay as it is."""
    if state.halt is not Halt.NO:
        have = "has" if len(state.children) == 1 else "have"
        return "stopping", f"{plural(len(state.children), 'worker')} {have} not left yet"
    if pool.name not in state.served:
        return "starting", missing
    if (rollout := state.rollouts.get(pool.name)) is not None:
        return (
            "reloading",
            f"generation {pool.generation} is to replace {rollout.previous.generation}; {missing}",
        )
    if running is not None and running.kind is Kind.SCALE:
        return "scaling", missing
    if running is not None and running.asking:
        return "reloading", f"{running.asking}; {missing}"
    return None


def _next_try(state: State, *, pool: Pool, now: Monotonic) -> str:
    backoff = state.backoffs.get(pool.name)
    if backoff is None or backoff.not_before <= now:
        return ""
    return f"; {backoff.failures} failed to boot, next try in {backoff.not_before - now:.1f} s"


def count_ready(state: State, *, pool: Pool) -> int:
    """How many workers of the pool serve."""
    return sum(child.pool == pool.name and child.phase is Phase.READY for child in state.children.values())


def readiness(state: State, *, pool: Pool) -> protocol.Health:
    """Whether requests are served: not before the first worker is ready, and not once the fleet is stopping."""
    if state.halt is not Halt.NO:
        return protocol.Health(ok=False, reason="the fleet is being stopped")
    if state.shut_listeners:
        return protocol.Health(ok=False, reason=_shut(state))
    ready = count_ready(state, pool=pool)
    told = f"; {DISK_IS_NEWER}" if pool.is_disk_newer else ""
    told += "; saturated: requests wait that no worker takes" if state.saturated_since is not None else ""
    return protocol.Health(ok=ready > 0, reason=f"{ready} of {pool.size} workers are ready" + told)


def workers(state: State, facts: Facts) -> list[protocol.Worker]:
    """All workers, by slot; two of one slot (old and new) by age."""
    children = sorted(state.children.values(), key=lambda child: (child.slot, child.born_at, child.pid))
    return [_worker(child, facts) for child in children]


def _worker(child: Child, facts: Facts) -> protocol.Worker:
    reading = facts.readings.get(child.pid)
    beat_at = child.beat_at if reading is None else max(child.beat_at, reading.heartbeat)
    busy = () if reading is None else reading.in_flight
    return protocol.Worker(
        slot=child.slot,
        pid=child.pid,
        phase=_PHASES[child.phase],
        is_retiring=child.is_retiring,
        generation=child.generation,
        age=_span(child.born_at, facts.at),
        phase_age=_span(child.phase_since, facts.at),
        heartbeat_age=_span(beat_at, facts.at),
        requests=0 if reading is None else reading.requests,
        errors=0 if reading is None else reading.errors,
        # Who polls counts them, once a tick; while all threads are in the application, nobody does.
        connections=0 if reading is None else max(reading.connections, len(busy)),
        waiting=0 if reading is None else reading.waiting,
        busy=len(busy),
        threads=facts.threads,
        memory=facts.memory.get(child.pid),
        now=[
            protocol.InFlight(request=each.text, age=_span(each.since, facts.at))
            for each in sorted(busy, key=lambda each: each.since)
        ],
        failure=child.failure.partition("\n")[0],
    )


def latency(readings: Iterable[Reading]) -> protocol.Latency:
    """Percentiles of the workers' summed histograms, interpolated inside a bucket; above the last bound: that bound."""
    counts = [sum(column) for column in zip(*(reading.buckets for reading in readings), strict=True)]
    return protocol.Latency(
        p50=_percentile(counts, 0.50), p95=_percentile(counts, 0.95), p99=_percentile(counts, 0.99)
    )


def _percentile(counts: Sequence[int], share: float) -> float | None:
    rank = sum(counts) * share
    if not rank:
        return None
    lower = 0.0
    for bound, count in zip(BUCKETS, counts, strict=False):
        if count and rank <= count:
            return round(lower + (bound - lower) * rank / count, 6)
        rank -= count
        lower = bound
    return lower


def _rollout(state: State, *, pool: Pool, now: Monotonic) -> protocol.Rollout | None:
    rollout = state.rollouts.get(pool.name)
    if rollout is None:
        return None
    ready = sum(
        child.pool == pool.name and child.generation == pool.generation and child.phase is Phase.READY
        for child in state.children.values()
    )
    return protocol.Rollout(
        generation=pool.generation,
        previous=rollout.previous.generation,
        ready=ready,
        failures=rollout.failures,
        age=_span(rollout.started_at, now),
        reason=rollout.reason.partition("\n")[0],
    )


def operation(subject: Operation, state: State, *, facts: Facts, after: int = 0) -> protocol.Operation:
    """How far an operation is; of its steps those after the first `after`."""
    is_running = subject.state is Outcome.RUNNING
    until = facts.at if subject.ended_at is None else subject.ended_at
    return protocol.Operation(
        id=subject.id,
        kind=subject.kind.value,
        title=subject.title,
        state=subject.state.value,
        seconds=_span(subject.started_at, until),
        steps=[
            protocol.Step(at=_span(subject.started_at, step.at), text=step.text)
            for step in subject.steps[after:]
        ],
        step_count=len(subject.steps),
        waiting_for=_waiting_for(subject, state, facts=facts) if is_running else [],
        result=subject.result,
        detail=subject.detail,
        hint=subject.hint,
        exit_code=subject.refused or EXIT_CODES[subject.state],
    )


def _waiting_for(subject: Operation, state: State, *, facts: Facts) -> list[str]:
    """What an answer is waited for; which workers are on their way in or out, and what keeps them."""
    lines = []
    if subject.asking:
        lines.append(f"{subject.asking}, {_span(subject.started_at, facts.at):.0f} s")
    for child in sorted(state.children.values(), key=lambda child: (child.phase, child.slot)):
        age = _span(child.phase_since, facts.at)
        who = f"worker {child.slot} (pid {child.pid})"
        match child.phase:
            case Phase.READY:
                continue
            case Phase.BOOTING:
                lines.append(f"{who} to boot, {duration(age)}")
            case Phase.DRAINING:
                lines.append(f"{who} to drain, {duration(age)}" + _in_flight(child, facts))
            case _:
                lines.append(f"{who} to end, {duration(age)}")
    more = len(lines) - MAX_WAITING_LINES
    return lines if more <= 0 else [*lines[:MAX_WAITING_LINES], f"{more} more"]


def _in_flight(child: Child, facts: Facts) -> str:
    reading = facts.readings.get(child.pid)
    if reading is None or not reading.in_flight:
        return ""
    oldest = min(reading.in_flight, key=lambda each: each.since)
    more = f" and {len(reading.in_flight) - 1} more" if len(reading.in_flight) > 1 else ""
    return f": {duration(_span(oldest.since, facts.at))} {oldest.text}{more}"


def event(entry: Entry) -> protocol.Event:
    """One entry of the journal."""
    return protocol.Event(
        seq=entry.seq, at=_time(entry.at), kind=entry.kind, text=entry.text, facts=dict(entry.facts)
    )


def event_lines(entries: Iterable[Entry]) -> bytes:
    """Entries as JSON lines."""
    return b"".join(event(entry).json() + b"\n" for entry in entries)


def _span(start: Monotonic, end: Monotonic) -> float:
    return round(max(end - start, 0.0), 3)


def _time(wall: float) -> str:
    return datetime.fromtimestamp(wall, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
