"""The event loop: which one, how it hears of orders, and where its tasks are when the worker is stuck."""

from __future__ import annotations

import asyncio
import signal
import traceback
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from unicornd.workers.context import WorkerContext


def loop_factory(loop: Literal["auto", "asyncio", "uvloop"]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop."""
    if loop == "asyncio" or (loop == "auto" and find_spec("uvloop") is None):
        return asyncio.SelectorEventLoop
    import uvloop  # noqa: PLC0415 - not installed everywhere

    return uvloop.new_event_loop


def listen_to_orders(context: WorkerContext, is_told_to_leave: asyncio.Event) -> None:
    """Have the event set by TERM and by the end of the lifeline."""
    loop = asyncio.get_running_loop()
    orders, lifeline = context.orders, context.seat.lifeline
    signal.set_wakeup_fd(orders.wake_fd, warn_on_full_buffer=False)  # uvloop has put its own there

    def on_wake() -> None:
        with suppress(BlockingIOError):
            if signal.SIGTERM in orders.wake.recv(4096):
                orders.is_draining = True
        if orders.is_draining:
            is_told_to_leave.set()

    def on_lifeline() -> None:
        loop.remove_reader(lifeline)
        context.log.warning("the arbiter is gone; finishing what is in flight")
        orders.is_draining = True
        is_told_to_leave.set()

    loop.add_reader(orders.wake, on_wake)
    loop.add_reader(lifeline, on_lifeline)
    on_wake()


def tell_tasks(loop: asyncio.AbstractEventLoop, log: logging.Logger) -> None:
    """Write where every task is: the whole chain of coroutines, which Task.print_stack does not follow."""
    lines = []
    for task in asyncio.all_tasks(loop):
        lines.append(f"{task.get_name()}:")
        coroutine: object = task.get_coro()
        while coroutine is not None:
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
            if frame is not None:
                lines += [line.rstrip() for line in traceback.format_stack(frame, limit=1)]
            coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    log.error("asyncio tasks\n%s", "\n".join(lines))
