"""The lifespan protocol: the application starts before the first request and ends after the last one (ASGI, lifespan 2.0).

Run in the worker's event loop. An application that does not take part raises as soon as it sees the scope; one that has
asked for an event and raises then has failed, whatever `asgi.lifespan` says.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from unicornd.errors import BootError
from unicornd.workers.apploader import boot_error

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable

Message = dict[str, Any]


class Lifespan:
    """One application's life.

    Args:
        app: the application.
        mode: `asgi.lifespan`.
        log: the error log.

    Attributes:
        state: what the application leaves there is copied into the scope of each request.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[object]],
        *,
        mode: Literal["auto", "on", "off"],
        log: logging.Logger,
    ) -> None:
        self._app = app
        self._mode = mode
        self._log = log
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._has_asked = False
        self._is_deaf = False
        """Whether it answers as if everything were HTTP."""
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Let the application start.

        Raises:
            BootError: it has failed to.
        """
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._live(), name="lifespan")
        answer = await self._exchange("lifespan.startup", self._task)
        if answer is None:
            self._end_of_start(self._task)
        elif answer["type"] != "lifespan.startup.complete":
            await asyncio.wait([self._task], timeout=1.0)  # it raises what it has told already
            text = str(answer.get("message") or "").rstrip()
            last = text.rpartition("\n")[2].strip() or "the application said lifespan.startup.failed"
            raise BootError(f"the application's startup failed: {last}", detail=text)

    async def stop(self) -> None:
        """Let the application end; what goes wrong is logged."""
        if self._task is None or self._task.done():
            return
        answer = await self._exchange("lifespan.shutdown", self._task)
        if answer is not None and answer["type"] != "lifespan.shutdown.complete":
            self._log.error("the application's shutdown failed\n%s", answer.get("message", ""))
        await asyncio.wait([self._task], timeout=1.0)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
        elif self._task.exception() is not None and answer is None:
            self._log.error("the application's shutdown failed", exc_info=self._task.exception())

    async def _live(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:  # these two would end the event loop
            raise RuntimeError(f"the application raised {error!r}") from error

    async def _receive(self) -> Message:
        self._has_asked = True
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        if not str(message["type"]).startswith("lifespan."):
            self._is_deaf = True
            raise RuntimeError(f"{message['type']} was sent in answer to a lifespan event")
        self._answers.put_nowait(message)

    async def _exchange(self, event: str, life: asyncio.Task[None]) -> Message | None:
        """Give an event and wait for the answer; None if the application has ended instead."""
        self._events.put_nowait({"type": event})
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait([life, answer], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

    def _end_of_start(self, task: asyncio.Task[None]) -> None:
        """The application has ended instead of answering: it does not take part, or it has failed."""
        error = None if task.cancelled() else task.exception()
        if error is not None and ((self._has_asked and not self._is_deaf) or self._mode == "on"):
            raise boot_error("the application's startup raised", error) from error
        if self._mode == "on":
            raise BootError(
                "the application does not take part in the lifespan protocol",
                hint='set lifespan = "auto" or "off" under [asgi]',
            )
        self._log.debug("the application does not take part in the lifespan protocol")
