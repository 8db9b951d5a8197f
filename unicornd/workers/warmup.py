"""`app.warmup`: requests that an application answers before it is said to be ready.

Run in the mold or in the worker, before anything is accepted. What is loaded or cached by the first request is there
then; and an application that cannot answer them cannot boot.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from unicornd.errors import BootError
from unicornd.http.environ import build_environ, shared_environ
from unicornd.http.errors import Refusal
from unicornd.http.head import parse_head
from unicornd.http.limits import Limits
from unicornd.workers.apploader import boot_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO
    from wsgiref.types import WSGIApplication

SERVER_ERROR = "5"


def warm_up(app: WSGIApplication, paths: Iterable[str], *, errors: TextIO) -> None:
    """Ask the application for each path.

    Raises:
        BootError: it raises, or answers with a server error.
    """
    for path in paths:
        status = _ask(app, path, errors=errors)
        if status.startswith(SERVER_ERROR):
            raise BootError(f"app.warmup: GET {path} was answered with {status}")


def _ask(app: WSGIApplication, path: str, *, errors: TextIO) -> str:
    try:
        head = parse_head(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), Limits())
    except Refusal as refusal:
        raise BootError(f"app.warmup: {path!r} is no path: {refusal.detail}") from refusal
    base = shared_environ(
        server_name="localhost",
        server_port="80",
        scheme="http",
        wsgi_errors=errors,
        wsgi_multithread=False,
        wsgi_multiprocess=True,
    )
    environ = build_environ(base, head)
    environ["REMOTE_ADDR"] = ""
    environ["wsgi.input"] = BytesIO()
    said: list[str] = []

    def start_response(status: str, _headers: object, *_exc_info: object) -> Any:  # noqa: ANN401 - PEP 3333's write
        said[:] = [status]
        return lambda _data: None

    try:
        result = app(environ, start_response)
        try:
            for _ in result:
                pass
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        raise boot_error(f"app.warmup: GET {path} raised", error) from error
    return said[0] if said else "500 without start_response()"
