"""Numbers for Prometheus: the rows of living workers and the totals of dead ones, as text.

Run by the arbiter. What a dead worker had counted is added to the totals, so counters never go backwards. The text
follows the exposition format 0.0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass, field
from unicornd.escaping import one_line
from unicornd.observe.outlet import LOGS
from unicornd.observe.scoreboard import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unicornd.observe.scoreboard import Reading


_Row = tuple[str, str, str, "Mapping[str, float]"]
"""Of a metric: name, kind, what it is, and value by labels."""


@dataclass(slots=True)
class Totals:
    """What workers that are gone had counted, and what became of them.

    Attributes:
        lost_lines: log → lines that could not be written.
        restarts: workers that died unasked, or had to be ended, after they had been ready.
        boot_failures: workers and molds that did not become ready.
        lost: requests that workers had when they died, and whose clients were told nothing.
    """

    requests: int = 0
    errors: int = 0
    busy_seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    restarts: int = 0
    lost_lines: dict[str, int] = field(default_factory=dict)
    timeouts: int = 0
    disconnects: int = 0
    lost: int = 0
    boot_failures: int = 0

    def add(self, reading: Reading | Totals) -> None:
        """Add the last reading of a worker, or other totals."""
        if isinstance(reading, Totals):
            self.restarts += reading.restarts
            self.lost += reading.lost
            self.boot_failures += reading.boot_failures
        self.timeouts += reading.timeouts
        self.disconnects += reading.disconnects
        self.requests += reading.requests
        self.errors += reading.errors
        self.busy_seconds += reading.busy_seconds
        self.buckets = [total + more for total, more in zip(self.buckets, reading.buckets, strict=True)]
        for log, lines in reading.lost_lines.items():
            self.lost_lines[log] = self.lost_lines.get(log, 0) + lines

    def with_living(self, readings: Iterable[Reading | Totals]) -> Totals:
        """Return these totals with those of living workers, or others, added."""
        total = Totals()
        for reading in (self, *readings):
            total.add(reading)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is exposed beside the totals.

    Attributes:
        workers: how many in each phase.
        wanted: how many there should be.
        generation: that serves.
        connections: open in all workers.
        busy: requests running in all workers.
        queues: listener → connections that wait to be accepted.
        started: wall-clock time of the arbiter's start.
        waiting: complete requests that no thread runs yet, in all workers.
        is_saturated: whether requests wait and no worker takes them.
        is_crash_looping: whether workers die again and again.
        reload_worked: whether the last reload was done, or None before the first.
        reloaded_at: wall-clock time at which that one ended.
    """

    workers: Mapping[str, int]
    wanted: int
    generation: int
    connections: int
    busy: int
    queues: Mapping[str, int]
    started: float
    waiting: int = 0
    is_saturated: bool = False
    is_crash_looping: bool = False
    reload_worked: bool | None = None
    reloaded_at: float = 0.0


def _last_reload(fleet: Fleet) -> list[_Row]:
    if fleet.reload_worked is None:
        return []
    about = "1 if the last reload was done, 0 if it was refused or rolled back."
    return [
        ("last_reload_successful", "gauge", about, {"": fleet.reload_worked}),
        ("last_reload_time_seconds", "gauge", "When the last reload ended.", {"": fleet.reloaded_at}),
    ]


def exposition(fleet: Fleet, total: Totals) -> bytes:
    """Return all metrics as Prometheus text."""
    rows = [*_gauges(fleet), *_counters(total), *_last_reload(fleet)]
    lines = [
        line for name, kind, about, values in rows for line in _family(name, kind, about=about, values=values)
    ]
    return ("\n".join(lines + _histogram(total)) + "\n").encode()


def _gauges(fleet: Fleet) -> list[_Row]:
    phases = {f'phase="{phase}"': count for phase, count in fleet.workers.items()}
    queues = {f'listener="{_escaped(name)}"': length for name, length in fleet.queues.items()}
    rows: list[tuple[str, str, Mapping[str, float]]] = [
        ("workers", "Workers by phase.", phases),
        ("workers_wanted", "Workers that there should be.", {"": fleet.wanted}),
        ("generation", "Generation that serves.", {"": fleet.generation}),
        ("connections", "Open connections.", {"": fleet.connections}),
        ("requests_in_flight", "Requests inside the application.", {"": fleet.busy}),
        ("requests_waiting", "Complete requests that no thread runs yet.", {"": fleet.waiting}),
        ("accept_queue", "Connections that wait to be accepted.", queues),
        ("saturated", "1 while requests wait and no worker takes them.", {"": fleet.is_saturated}),
        ("crash_looping", "1 while workers die again and again.", {"": fleet.is_crash_looping}),
        ("start_time_seconds", "When the arbiter started.", {"": fleet.started}),
    ]
    return [(name, "gauge", about, values) for name, about, values in rows]


def _counters(total: Totals) -> list[_Row]:
    gone = "Clients that left before the end of their request or its answer."
    rows = [
        ("worker_restarts_total", "Workers that died unasked, or had to be ended.", total.restarts),
        ("worker_boot_failures_total", "Workers that did not become ready.", total.boot_failures),
        ("requests_total", "Requests answered.", total.requests),
        ("request_errors_total", "Requests answered with a 5xx status.", total.errors),
        ("request_timeouts_total", "Requests that ran into timeouts.request.", total.timeouts),
        ("requests_lost_total", "Requests whose worker died with them, without an answer.", total.lost),
        ("client_disconnects_total", gone, total.disconnects),
    ]
    lines = {f'log="{log}"': total.lost_lines.get(log, 0) for log in LOGS}
    return [
        *((name, "counter", about, {"": count}) for name, about, count in rows),
        ("log_lines_lost_total", "counter", "Log lines that could not be written.", lines),
    ]


def _family(name: str, kind: str, *, about: str, values: Mapping[str, float]) -> list[str]:
    samples = [
        f"unicornd_{name}{{{labels}}} {_number(value)}" if labels else f"unicornd_{name} {_number(value)}"
        for labels, value in values.items()
    ]
    return [f"# HELP unicornd_{name} {about}", f"# TYPE unicornd_{name} {kind}", *samples]


def _number(value: float) -> float:
    return int(value) if isinstance(value, bool) else value


def _histogram(total: Totals) -> list[str]:
    name = "unicornd_request_duration_seconds"
    lines = [
        f"# HELP {name} Time from a complete request to the application's end.",
        f"# TYPE {name} histogram",
    ]
    count = 0
    for bound, requests in zip((*map(str, BUCKETS), "+Inf"), total.buckets, strict=True):
        count += requests
        lines.append(f'{name}_bucket{{le="{bound}"}} {count}')
    return [*lines, f"{name}_sum {total.busy_seconds}", f"{name}_count {count}"]


def _escaped(label: str) -> str:
    return one_line(label).replace("\\", "\\\\").replace('"', '\\"')
