"""WSGI or ASGI? Decided from the callable, and held against what the operator has said.

Run in the worker, before READY. What is callable does not say what it is called with; so the signs are taken in the
order of their strength: a coroutine function, the number of parameters, the frameworks' own hints.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

from unicornd.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.kinds import Interface

_OTHER_CALL = {
    "asgi": "serves ASGI, and the application is WSGI",
    "wsgi": "serves WSGI, and the application is ASGI",
}


def interface_of(app: Callable[..., Any]) -> Literal["wsgi", "asgi", "asgi2"]:
    """Return how an application wants to be called; `asgi2` is the interface of 2017, two calls one after the other."""
    if not inspect.isclass(app) and _is_coroutine_function(app):
        return "asgi"
    match _positional(app):
        case 3:
            return "asgi"  # scope, receive, send
        case 1:
            return "asgi2"  # scope
        case _:
            return "wsgi"  # environ, start_response; or it cannot be told


def is_tornado(app: object) -> bool:
    """Return whether an application is one of tornado's own, which only its server can call."""
    return any(
        ancestor.__module__.partition(".")[0] == "tornado" and hasattr(ancestor, "start_request")
        for ancestor in type(app).__mro__
    )


def chosen_interface(app: Callable[..., Any], said: Interface, *, target: object) -> Literal["wsgi", "asgi"]:
    """Return the interface that an application has, which must be the one that `app.interface` says.

    Raises:
        AppError: it is another one, or one that nobody speaks any more.
    """
    found = interface_of(app)
    if found == "asgi2" and said != "wsgi":
        raise AppError(
            f"app.target: {target} is an ASGI 2 application (called twice), which is not served",
            hint="wrap it: asgiref.compatibility.guarantee_single_callable(application)",
        )
    if found == "asgi2":
        found = "wsgi"
    if said not in {"auto", found}:
        raise AppError(
            f'app.interface: it says "{said}", but {target} is {found.upper()}',
            hint=f'set interface = "{found}" under [app], or leave it out',
        )
    return found


def check_served(kind: str, serves: str, *, app: Literal["wsgi", "asgi"], target: object) -> None:
    """Hold an application against the kind that is to serve it.

    Raises:
        AppError: they do not fit.
    """
    if serves == app:
        return
    hint = (
        'set kind = "asgi" under [workers], or leave it out'
        if app == "asgi"
        else 'set kind = "sync" or "threads" under [workers], or leave it out'
    )
    raise AppError(f'workers.kind: "{kind}" {_OTHER_CALL[serves]}: {target}', hint=hint)


def _is_coroutine_function(app: Callable[..., Any]) -> bool:
    inner = inspect.unwrap(app) if not inspect.ismethod(app) else app
    while hasattr(inner, "func") and not inspect.isfunction(inner):  # functools.partial
        inner = inner.func
    if inspect.iscoroutinefunction(inner):
        return True
    return not inspect.isroutine(inner) and inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 - not whether it can be called


def _positional(app: Callable[..., Any]) -> int:
    """Return how many positional arguments a call takes; -1 if that cannot be told."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return -1
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return -1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)
