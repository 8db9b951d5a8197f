"""What is known beside the state, gathered when somebody asks: listeners, rows, memory, settings, numbers.

Run by the arbiter's loop. It looks and changes nothing.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from unicornd import __version__
from unicornd.arbiter.crowding import BOUNDED
from unicornd.arbiter.operations import Outcome
from unicornd.arbiter.reload import config_path
from unicornd.arbiter.requests import only_pool
from unicornd.arbiter.state import Phase
from unicornd.arbiter.troubles import crash_loop
from unicornd.arbiter.upgrade.candidate import python_version
from unicornd.arbiter.view import Facts, ListenerFacts
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import name_of
from unicornd.control.protocol import ConfigReport, ConfigValue
from unicornd.observe.memory import memory_of
from unicornd.observe.metrics import Fleet, exposition
from unicornd.sockets.queues import queue_of
from unicornd.units import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.arbiter.context import ArbiterContext
    from unicornd.arbiter.reload import Deployment

LAST_EVENTS = 8
"""How many of the newest events `status` shows."""


class Survey:
    """Gathers it.

    Args:
        context: the arbiter's parts.
        instance: the instance's name.
        control: address of the control socket, or None.
    """

    def __init__(self, context: ArbiterContext, *, instance: str, control: str | None) -> None:
        self._context = context
        self._core, self._processes = context.core, context.processes
        self._instance = instance
        self._control = control
        self._started_at = context.kernel.now()
        self._wall_at_start = time.time()

    def facts(self, *, is_brief: bool = False) -> Facts:
        """Return what the status shows beside the state.

        Args:
            is_brief: without memory, which takes half a millisecond a process to find out.
        """
        deployment = self._context.deployments.present
        settings = deployment.settings
        file = config_path(deployment)
        readings = self._processes.readings()
        total = self._processes.counted()
        pid = Pid(os.getpid())
        now = self._context.kernel.now()
        return Facts(
            version=__version__,
            instance=self._instance,
            target=name_of(settings.app),
            config_file=str(file) if file is not None else None,
            control=self._control,
            kind=self._processes.kind or kind_of(settings.workers, settings.app.interface),
            threads=settings.workers.threads,
            gil=self._processes.gil,
            pid=pid,
            started_at=self._started_at,
            served_at=self._context.service.served_at,
            at=now,
            wall=time.time(),
            listeners=self._listeners(deployment),
            readings=readings,
            memory={} if is_brief else _memory((pid, *readings, *self._processes.molds)),
            file_size=self._context.deployments.file_size,
            requests=total.requests,
            errors=total.errors,
            restarts=total.restarts,
            last_events=self._context.journal.tail(LAST_EVENTS),
            python=python_version(),
            prefix=sys.prefix,
            timeouts=total.timeouts,
            lost=total.lost,
            disconnects=total.disconnects,
            boot_failures=total.boot_failures,
            slots=self._slots(),
            last_reload=self._context.operations.last_reload,
        )

    def config(self) -> ConfigReport:
        """Return the effective settings with their origins."""
        deployment = self._context.deployments.present
        file = config_path(deployment)
        return ConfigReport(
            config_file=str(file) if file is not None else None,
            values=[
                ConfigValue(key=row.key, value=row.value, layer=row.layer, where=row.where)
                for row in deployment.loaded.rows
            ],
        )

    def metrics(self) -> bytes:
        """Return the Prometheus text."""
        now = self._context.kernel.now()
        last = self._context.operations.last_reload
        readings = self._processes.readings()
        children = self._core.state.children.values()
        pool = only_pool(self._core.state)
        listeners = self._listeners(self._context.deployments.present)
        fleet = Fleet(
            workers={phase.name.lower(): sum(child.phase is phase for child in children) for phase in Phase},
            wanted=pool.size,
            generation=pool.generation,
            connections=sum(reading.connections for reading in readings.values()),
            busy=sum(len(reading.in_flight) for reading in readings.values()),
            queues={each.address: each.queue for each in listeners if each.queue is not None},
            started=self._wall_at_start,
            waiting=sum(reading.waiting for reading in readings.values()),
            is_saturated=self._core.state.saturated_since is not None,
            is_crash_looping=bool(crash_loop(self._core.state, now)),
            reload_worked=last.state is Outcome.DONE if last is not None else None,
            reloaded_at=time.time() - (now - (last.ended_at or now)) if last is not None else 0.0,
        )
        return exposition(fleet, self._processes.counted())

    def _slots(self) -> int:
        """How many requests can run at a time in the workers that serve; 0 where nothing bounds them."""
        if self._processes.kind not in BOUNDED:
            return 0
        serving = {pid for pid, child in self._core.state.children.items() if child.phase is Phase.READY}
        return sum(handle.row.cells for pid, handle in self._processes.workers.items() if pid in serving)

    def _listeners(self, deployment: Deployment) -> tuple[ListenerFacts, ...]:
        found = []
        for listener in () if self._core.state.has_left_listeners else deployment.listeners:
            queue = queue_of(listener)
            found.append(
                ListenerFacts(
                    address=listener.bound,
                    queue=queue[0] if queue is not None else None,
                    backlog=queue[1] if queue is not None else deployment.settings.server.backlog,
                )
            )
        return tuple(found)


def _memory(pids: Iterable[Pid]) -> dict[Pid, int]:
    return {pid: size for pid in pids if (size := memory_of(pid)) is not None}
