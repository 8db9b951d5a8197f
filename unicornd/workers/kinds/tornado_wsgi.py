"""A WSGI application behind tornado's HTTP server: its container, with our environ and our answers.

Run in the worker's event loop, or in the threads that `kinds.tornado` gives it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from tornado.iostream import StreamClosedError
from tornado.wsgi import WSGIContainer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tornado.httputil import HTTPServerRequest

    from unicornd.workers.context import WorkerContext


class Container(WSGIContainer):
    """A WSGI application as tornado runs it: the whole response is there before it is sent.

    Args:
        context: the worker's.
        executor: where it runs, if not in the loop.
    """

    def __init__(self, context: WorkerContext, executor: Executor | None) -> None:
        super().__init__(cast("Any", context.app), executor)
        self._context = context

    async def handle_request(self, request: HTTPServerRequest) -> None:
        """Run the application; a failure is answered with 500."""
        try:
            await super().handle_request(request)
        except StreamClosedError:
            pass
        except BaseException as error:
            facts = {"method": request.method, "path": request.path}
            self._context.log.exception("the application failed", exc_info=error, extra=facts)
            connection = cast("Any", request.connection)
            connection.break_off(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed")

    def environ(self, request: HTTPServerRequest) -> dict[str, Any]:
        """Return the environ; its errors go to our log, and names with an underscore are nobody's."""
        fields = request.headers
        for name in [name for name in fields if "_" in name]:
            del fields[name]
        environ = super().environ(request)
        environ["wsgi.errors"] = self._context.errors
        environ["wsgi.input_terminated"] = True
        environ["RAW_URI"] = request.uri
        address = getattr(getattr(request.connection, "context", None), "address", None)
        if not isinstance(address, tuple):  # a Unix socket
            environ["REMOTE_ADDR"] = ""
        else:
            environ["REMOTE_PORT"] = address[1]
        return environ

    def _log(self, status_code: int, request: HTTPServerRequest) -> None:
        """Our access log says it."""
