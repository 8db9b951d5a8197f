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


@dataclass(slots=True)
class Totals:
    """What workers that are gone had counted, and how many of them died unasked.

    Attributes:
        lost_lines: log → lines that could not be written.
    """

    requests: int = 0
    errors: int = 0
    busy_seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    restarts: int = 0
    lost_lines: dict[str, int] = field(default_factory=dict)

    def add(self, reading: Reading | Totals) -> None:
        """Add the last reading of a worker, or other totals."""
        if isinstance(reading, Totals):
            self.restarts += reading.restarts
        self.requests += reading.requests
        self.errors += reading.errors
        self.busy_seconds += reading.busy_seconds
        self.buckets = [total + more for total, more in zip(self.buckets, reading.buckets, strict=True)]
        for log, lines in reading.lost_lines.items():
            self.lost_lines[log] = self.lost_lines.get(log, 0) + lines

    def with_living(self, readings: Iterable[Reading | Totals]) -> Totals:
        """Return these totals with those of living workers, or others, added."""
        total = Totals()
        total.add(self)
        for reading in readings:
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
    """

    workers: Mapping[str, int]
    wanted: int
    generation: int
    connections: int
    busy: int
    queues: Mapping[str, int]
    started: float


def exposition(fleet: Fleet, total: Totals) -> bytes:
    """Return all metrics as Prometheus text."""
    queues = {f'listener="{_escaped(name)}"': length for name, length in fleet.queues.items()}
    rows: list[tuple[str, str, str, Mapping[str, float]]] = [
        (
            "workers",
            "gauge",
            "Workers by phase.",
            {f'phase="{phase}"': n for phase, n in fleet.workers.items()},
        ),
        ("workers_wanted", "gauge", "Workers that there should be.", {"": fleet.wanted}),
        ("generation", "gauge", "Generation that serves.", {"": fleet.generation}),
        ("worker_restarts_total", "counter", "Workers that died unasked.", {"": total.restarts}),
        ("connections", "gauge", "Open connections.", {"": fleet.connections}),
        ("requests_in_flight", "gauge", "Requests inside the application.", {"": fleet.busy}),
        ("accept_queue", "gauge", "Connections that wait to be accepted.", queues),
        ("requests_total", "counter", "Requests answered.", {"": total.requests}),
        ("request_errors_total", "counter", "Requests answered with a 5xx status.", {"": total.errors}),
        (
            "log_lines_lost_total",
            "counter",
            "Log lines that could not be written.",
            {f'log="{log}"': total.lost_lines.get(log, 0) for log in LOGS},
        ),
        ("start_time_seconds", "gauge", "When the arbiter started.", {"": fleet.started}),
    ]
    lines = [
        line for name, kind, about, values in rows for line in _family(name, kind, about=about, values=values)
    ]
    return ("\n".join(lines + _histogram(total)) + "\n").encode()


def _family(name: str, kind: str, *, about: str, values: Mapping[str, float]) -> list[str]:
    samples = [
        f"unicornd_{name}{{{labels}}} {value}" if labels else f"unicornd_{name} {value}"
        for labels, value in values.items()
    ]
    return [f"# HELP unicornd_{name} {about}", f"# TYPE unicornd_{name} {kind}", *samples]


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
