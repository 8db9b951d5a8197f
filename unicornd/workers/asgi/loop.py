"""The event loop: which one, how it hears of orders, and where its tasks are when the worker is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from unicornd.workers.chains import text_of
from unicornd.workers.outside import survive
from unicornd.workers.signals import LEAVE

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Coroutine
    from types import FrameType

    from unicornd.workers.context import Orders, WorkerContext


def loop_factory(loop: Literal["auto", "asyncio", "uvloop"]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop."""
    if loop == "asyncio" or (loop == "auto" and find_spec("uvloop") is None):
        return asyncio.SelectorEventLoop
    import uvloop  # noqa: PLC0415 - not installed everywhere

    return uvloop.new_event_loop


def run_loop(
    life: Coroutine[Any, Any, None],
    factory: Callable[[], asyncio.AbstractEventLoop] | None,
    *,
    log: logging.Logger,
    orders: Orders,
) -> None:
    """Run an event loop until `life` has ended, as `asyncio.run` does; what the application raises into it is survived."""
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(life)
        while True:
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                if (
                    task.done() or orders.is_in_child
                ):  # the application has forked, and this is how its child ends
                    raise
                survive(error, log)
            else:
                orders.attend()  # what is left of the application is cancelled and waited for, and nobody looks meanwhile
                return


def listen_to_orders(context: WorkerContext, is_told_to_leave: asyncio.Event) -> None:
    """Have the event set by TERM and by the end of the lifeline."""
    loop = asyncio.get_running_loop()
    orders, lifeline = context.orders, context.seat.lifeline
    signal.set_wakeup_fd(orders.wake_fd, warn_on_full_buffer=False)  # uvloop has put its own there

    def on_wake() -> None:
        with suppress(BlockingIOError):
            if not LEAVE.isdisjoint(orders.wake.recv(4096)):
                orders.is_draining = True
        if orders.is_draining:
            is_told_to_leave.set()

    def on_lifeline() -> None:
        loop.remove_reader(lifeline)
        context.log.warning("the arbiter is gone; finishing what is in flight")
        orders.is_draining = True
        is_told_to_leave.set()

    orders.pollers.append(poller_of(loop))
    loop.add_reader(orders.wake, on_wake)
    loop.add_reader(lifeline, on_lifeline)
    orders.on_fork = partial(end_at_next_turn, loop)
    on_wake()


def end_at_next_turn(loop: asyncio.AbstractEventLoop) -> None:
    """In a child that the application has forked: end it when it comes back into the loop, which is not for it.

    From Python 3.14 on, no task goes on there, so it would never come to an end by itself.
    """
    with suppress(RuntimeError):  # it is closed; or in its debug mode, and another thread has forked
        loop.call_soon(os._exit, 0)


def poller_of(loop: asyncio.AbstractEventLoop) -> int:
    """Return the descriptor of a loop's epoll object. Neither asyncio nor uvloop has a public name for it."""
    inner: Any = loop
    selector = getattr(inner, "_selector", None)
    return int(selector.fileno() if selector is not None else inner._get_backend_id())  # noqa: SLF001 - see above


def stacks_of_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Return where every task is: the whole chain of coroutines, which Task.print_stack does not follow."""
    return text_of((f"Task {task.get_name()}", _frames_of(task)) for task in asyncio.all_tasks(loop))


def _frames_of(task: asyncio.Task[object]) -> list[FrameType]:
    """Return the frames of what a task awaits, the innermost first."""
    frames: list[FrameType] = []
    coroutine: object = task.get_coro()
    while coroutine is not None:
        for name in ("cr_frame", "gi_frame", "ag_frame"):
            if (frame := getattr(coroutine, name, None)) is not None:
                frames.insert(0, frame)
        awaited = (getattr(coroutine, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
        coroutine = next((each for each in awaited if each is not None), None)
    return frames
