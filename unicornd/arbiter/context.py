"""What the parts of the arbiter share; made once, before any of them.

Nothing here is replaced while the arbiter lives: what changes is inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    import logging
    import selectors

    from unicornd.arbiter.core import Core
    from unicornd.arbiter.eventlog import EventLog
    from unicornd.arbiter.journal import Journal
    from unicornd.arbiter.kernel import Kernel
    from unicornd.arbiter.operations import Operations
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployments
    from unicornd.arbiter.service import ServiceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterContext:
    """The arbiter's parts.

    Attributes:
        kernel: the system calls that change processes, and the clock.
        selector: where the loop waits.
        core: the state of the fleet.
        processes: its workers and molds.
        deployments: its settings, listeners and blueprints.
        operations: what was asked of it.
        eventlog: where what happens is written, for the log and for `journal`.
        service: what the service manager is told.
        log: the error log.
    """

    kernel: Kernel
    selector: selectors.BaseSelector
    core: Core
    processes: ProcessTable
    deployments: Deployments
    operations: Operations
    eventlog: EventLog
    journal: Journal
    service: ServiceStatus
    log: logging.Logger
