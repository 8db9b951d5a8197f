"""The fleet's gauges and counters for statsd, and lines that a syslog daemon had not taken: sent from time to time.

Run by the arbiter's loop as a ticker. Gauges are sent when they change and every ten seconds, so that a lost packet is
made good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.observe import logs
from unicornd.observe.statsd import Statsd
from unicornd.sockets.queues import queue_of
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from unicornd.arbiter.core import Core
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployments
    from unicornd.config.sections.metrics import MetricsSettings

GAUGE_SECONDS = 10.0
BACKLOG_SECONDS = 1.0


class Telemetry:
    """Sends them.

    Args:
        core: the state.
        processes: what workers have counted.
        deployments: know where to.
    """

    def __init__(self, core: Core, processes: ProcessTable, *, deployments: Deployments) -> None:
        self._core = core
        self._processes = processes
        self._deployments = deployments
        self._metrics: MetricsSettings | None = None
        self._statsd: Statsd | None = None
        self._workers = -1
        self._sent: dict[str, int] = {}
        self._next_gauge = 0.0
        self._next_backlog = 0.0

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Send what is due; return when something is due again."""
        metrics = self._deployments.present.settings.metrics
        if metrics is not self._metrics:
            self._change(metrics)
        logging = self._deployments.present.settings.logging
        moments = []
        if logging.syslog.enabled:
            logs.push()
            moments.append(now + BACKLOG_SECONDS)
        if self._statsd is not None:
            moments.append(self._send_workers(self._statsd, now))
            if metrics.backlog:
                moments.append(self._send_backlog(self._statsd, now))
        return Monotonic(min(moments)) if moments else None

    def _change(self, metrics: MetricsSettings) -> None:
        if self._statsd is not None:
            self._statsd.close()
        self._metrics = metrics
        self._statsd = Statsd(metrics) if metrics.statsd is not None else None
        self._workers = -1

    def _send_workers(self, statsd: Statsd, now: float) -> float:
        workers = len(self._core.state.children)
        if workers != self._workers or now >= self._next_gauge:
            self._workers = workers
            self._next_gauge = now + GAUGE_SECONDS
            statsd.send(statsd.line("gunicorn.workers", workers, kind="gauge"))
            statsd.send(*self._news(statsd))
        return self._next_gauge

    def _news(self, statsd: Statsd) -> list[str]:
        """What has been counted since the last time, of what workers do not send themselves; gunicorn has no names for it."""
        total = self._processes.counted()
        counts = {
            "requests.timeout": total.timeouts,
            "requests.lost": total.lost,
            "clients.disconnected": total.disconnects,
            "workers.restarted": total.restarts,
            "workers.boot_failed": total.boot_failures,
        }
        before, self._sent = self._sent or counts, counts
        more = {name: count - before[name] for name, count in counts.items()}
        state = self._core.state
        saturated = statsd.line("unicornd.saturated", int(state.saturated_since is not None), kind="gauge")
        return [saturated] + [
            statsd.line(f"unicornd.{name}", count, kind="counter") for name, count in more.items() if count
        ]

    def _send_backlog(self, statsd: Statsd, now: float) -> float:
        if now >= self._next_backlog:
            self._next_backlog = now + BACKLOG_SECONDS
            queues = [queue_of(listener) for listener in self._deployments.present.listeners]
            total = sum(queue[0] for queue in queues if queue is not None)
            statsd.send(statsd.line("gunicorn.backlog", total, kind="histogram"))
        return self._next_backlog
