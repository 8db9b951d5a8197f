"""What is done after each request: access log, statsd, the hook post_request; decided once a worker.

Called by the thread that has served the request.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from unicornd.observe import access, logs
from unicornd.observe.accesslog import AccessLog
from unicornd.observe.logger import Forward
from unicornd.observe.statsd import Statsd
from unicornd.workers.hooks import ResponseView, view_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings
    from unicornd.workers.context import Served
    from unicornd.workers.hooks import Hooks, WorkerView

    Teller = Callable[[Served], None]


def on_served(
    settings: LoggingSettings,
    *,
    metrics: MetricsSettings,
    hooks: Hooks,
    worker: WorkerView,
) -> Teller | None:
    """Return what is to be done after a request, or None if nobody wants to know."""
    tellers: list[Teller] = []
    forwards = [each for each in logging.getLogger(logs.ERROR_LOG).handlers if isinstance(each, Forward)]
    log = logging.getLogger(logs.ACCESS_LOG)
    if forwards:
        tellers.append(_by_class(forwards[0]))
    elif log.handlers or log.propagate:
        tellers.append(_by_log(AccessLog(log, settings, slot=worker.slot)))
    if metrics.statsd is not None:
        statsd = Statsd(metrics)
        tellers.append(lambda served: statsd.tell_request(served.status, served.seconds))
    if hooks.has("post_request"):
        tellers.append(_by_hook(hooks, worker))
    if len(tellers) <= 1:
        return tellers[0] if tellers else None

    def tell(served: Served) -> None:
        for teller in tellers:
            teller(served)

    return tell


def _by_log(log: AccessLog) -> Teller:
    def tell(served: Served) -> None:
        log.write(
            access.Request(
                environ=served.environ,
                status=served.status,
                headers={name.lower(): value for name, value in served.headers},
                size=served.size,
                seconds=served.seconds,
            )
        )

    return tell


def _by_class(forward: Forward) -> Teller:
    def tell(served: Served) -> None:
        duration = timedelta(seconds=served.seconds)
        forward.access(ResponseView(served), view_of(served.head), served.environ, duration)

    return tell


def _by_hook(hooks: Hooks, worker: WorkerView) -> Teller:
    def tell(served: Served) -> None:
        worker.nr += 1
        request, response = view_of(served.head), ResponseView(served)
        hooks.call("post_request", worker, request, served.environ, response)

    return tell
