"""A parsed head → the environ of PEP 3333.

`shared_environ` is called once a listener; `build_environ` once a request: it copies the base and adds what the request
says. The keys follow RFC 3875 section 4.1 and PEP 3333, strings are latin-1 ("bytes as native strings").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from unicornd.http.messages import Head

Environ = dict[str, Any]


def shared_environ(
    *, server_name: str, server_port: str, scheme: str, script_name: str = "", **more: object
) -> Environ:
    """Return what is the same for every request of a listener.

    Args:
        server_name: host that is listened on; of a Unix socket, replaced by the request's Host.
        server_port: its port as text, may be empty for a Unix socket.
        scheme: `http` or `https`.
        script_name: where the application is mounted.
        more: further keys, with `wsgi_` and `unicornd_` for `wsgi.` and `unicornd.`: `wsgi_errors=…`.
    """
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "SCRIPT_NAME": script_name,
        "SERVER_NAME": server_name,
        "SERVER_PORT": server_port,
        "SERVER_SOFTWARE": "unicornd",
        **{key.replace("_", ".", 1): value for key, value in more.items()},
    }


def build_environ(base: Environ, head: Head) -> Environ:
    """Return the environ for one request; who asks and the body are the caller's to add.

    Args:
        base: of `shared_environ`.
        head: the parsed head.
    """
    environ = base.copy()
    environ.update(head.fields)
    path = head.path
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    environ["QUERY_STRING"] = head.query
    environ["RAW_URI"] = head.target
    environ["SERVER_PROTOCOL"] = head.protocol
    if head.forwarded is not None:
        head.forwarded.apply(environ)
    return environ


def split_host(host: str) -> tuple[str, str]:
    """Return name and port of a Host field's value; `localhost` and `80` for what is not there."""
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port:
        name, port = host, ""
    return name or "localhost", port or "80"
