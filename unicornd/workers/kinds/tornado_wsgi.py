"""A WSGI application behind tornado's HTTP server: its container, with our environ and our answers.

Run in the worker's event loop, or in the threads that `kinds.tornado` gives it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from tornado.iostream import SSLIOStream, StreamClosedError
from tornado.wsgi import WSGIContainer

from unicornd.forking import BOUNDARY
from unicornd.workers.peerfacts import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from tornado.httputil import HTTPServerRequest

    from unicornd.http.environ import Environ
    from unicornd.workers.context import WorkerContext


class Container(WSGIContainer):
    """A WSGI application as tornado runs it: the whole response is there before it is sent.

    Args:
        context: the worker's.
        executor: where it runs, if not in the loop.
    """

    def __init__(self, context: WorkerContext, executor: Executor | None) -> None:
        super().__init__(cast("Any", _answering_once(context.app)), executor)
        self._context = context

    async def handle_request(self, request: HTTPServerRequest) -> None:
        """Run the application; a failure is answered with 500."""
        connection = cast("Any", request.connection)
        try:
            await super().handle_request(request)
        except StreamClosedError:
            pass
        except BaseException as error:
            facts = {"method": request.method, "path": request.path}
            self._context.log.exception("the application failed", exc_info=error, extra=facts)
            connection.break_off(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed")
        finally:
            connection.note_end()  # also of a request whose client has gone, or which was given up

    def environ(self, request: HTTPServerRequest) -> dict[str, Any]:
        """Return the environ; its errors go to our log, and names with an underscore are nobody's."""
        fields = request.headers
        for name in [name for name in fields if "_" in name]:
            del fields[name]
        environ = super().environ(request)
        environ["wsgi.errors"] = self._context.errors
        environ["wsgi.input_terminated"] = True
        environ["RAW_URI"] = request.uri
        connection: Any = request.connection
        if request.protocol == "https":
            environ["HTTPS"] = "on"
        if isinstance(connection.stream, SSLIOStream):
            environ |= _facts_of(connection)
        if connection.forwarded is not None:
            connection.forwarded.apply(environ)
        address = getattr(getattr(request.connection, "context", None), "address", None)
        if not isinstance(address, tuple):  # a Unix socket
            environ["REMOTE_ADDR"] = ""
        else:
            environ["REMOTE_PORT"] = address[1]
        return environ

    def _log(self, status_code: int, request: HTTPServerRequest) -> None:
        """Our access log says it."""


def _answering_once(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Have an application fail that answers twice (PEP 3333); tornado takes its last answer."""

    def call(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        has_begun = False

        def start(*said: Any, exc_info: Any = None) -> Any:  # noqa: ANN401 - as in PEP 3333
            nonlocal has_begun
            status, headers, *more = said
            exc_info = more[0] if more else exc_info
            if has_begun and exc_info is None:
                raise AssertionError("start_response() was called again without exc_info")
            has_begun = True
            return start_response(status, headers, exc_info)

        error: BaseException | None = None
        try:
            return app(environ, start)
        except StopIteration as stop:  # no future takes it, so the request would wait for ever
            raise RuntimeError("the application raised StopIteration") from (error := stop)
        except BaseException as raised:
            error = raised
            raise
        finally:
            BOUNDARY.end_child(error)  # here: the loop's thread, which would be told, is not in the child
            error = None  # the traceback refers to this frame

    return call


def _facts_of(connection: Any) -> Environ:  # noqa: ANN401 - tornado's own type
    """Return what is known of the client's certificate; found once a connection, its context remembers."""
    context = connection.context
    if not hasattr(context, "ssl_facts"):
        sock = connection.stream.socket
        certificate = sock.getpeercert()
        context.ssl_facts = {"SSL_CLIENT_VERIFY": "NONE"}
        if certificate:
            context.ssl_facts = facts_of(certificate, sock.getpeercert(binary_form=True))
    facts: Environ = context.ssl_facts
    return facts
