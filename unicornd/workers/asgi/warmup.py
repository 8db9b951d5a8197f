"""`app.warmup` for ASGI: requests that an application answers after its startup, before the worker is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from unicornd.errors import BootError
from unicornd.workers.apploader import boot_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

SERVER_ERROR = 500


async def warm_up(
    app: Callable[..., Awaitable[object]], paths: Iterable[str], *, root_path: str, state: dict[str, Any]
) -> None:
    """Ask the application for each path.

    Raises:
        BootError: it raises, answers with a server error, or does not answer.
    """
    for path in paths:
        status = await _ask(app, path, root_path=root_path, state=state)
        if not status or status >= SERVER_ERROR:
            raise BootError(f"app.warmup: GET {path} was answered with {status or 'nothing'}")


async def _ask(
    app: Callable[..., Awaitable[object]], target: str, *, root_path: str, state: dict[str, Any]
) -> int:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": root_path + unquote(path),
        "raw_path": (root_path + path).encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(b"host", b"localhost")],
        "client": None,
        "server": ("localhost", 80),
        "state": state.copy(),
    }
    statuses: list[int] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    try:
        await app(scope, receive, send)
    except BaseException as error:
        raise boot_error(f"app.warmup: GET {target} raised", error) from error
    return statuses[0] if statuses else 0
