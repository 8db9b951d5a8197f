"""Views of a WSGI application that are coroutine functions: what runs them needs a thread of their own.

Flask and Django run such a view in an event loop in the thread that has asked (asgiref's AsyncToSync). A second request in
that thread while the view waits finds a loop that runs, and fails: so it is where greenlets share a thread, and in tornado's
own loop. Looked for after the application was loaded, so that it is said before anybody is answered with 500.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from unicornd.config.kinds import GREEN, TORNADO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WRAPPED = ("app", "application", "wsgi_app", "__wrapped__", "__self__")
"""Where middleware has the application that it wraps."""
_MOST_LAYERS = 8
_MOST_NAMED = 3


def warning_for(app: object, *, kind: str, threads: int) -> str:
    """Return what is to be said of an application's coroutine views in this kind of worker; empty if nothing is."""
    if kind not in GREEN and not (kind == TORNADO and threads == 1):
        return ""
    names = list(dict.fromkeys(async_views(app)))
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    also = ", or several threads" if kind == TORNADO else ""
    return (
        f'{", ".join(names[:_MOST_NAMED])}{more}: async views fail in the kind "{kind}" while another one waits, as they share its '
        f'thread; set kind = "threads"{also} under [workers], or serve the framework\'s ASGI application'
    )


def async_views(app: object) -> Iterator[str]:
    """Yield the names of the views, of Flask's or Django's, that are coroutine functions."""
    for layer in _layers(app):
        functions = getattr(layer, "view_functions", None)
        if isinstance(functions, dict):
            yield from _named(functions.values())
            for hooks in ("before_request_funcs", "after_request_funcs", "teardown_request_funcs"):
                for each in dict(getattr(layer, hooks, None) or {}).values():
                    yield from _named(each)
        elif type(layer).__module__ == "django.core.handlers.wsgi":
            yield from _named(_callbacks())


def _layers(app: object) -> Iterator[object]:
    """Yield an application, and what it wraps."""
    layer: object = app
    for _ in range(_MOST_LAYERS):
        yield layer
        inner = (vars(layer).get(name) if hasattr(layer, "__dict__") else None for name in _WRAPPED)
        found = next((each for each in (*inner, getattr(layer, "__self__", None)) if callable(each)), None)
        if found is None or found is layer:
            return
        layer = found


def _named(views: Iterable[Any]) -> Iterator[str]:
    for view in views:
        if _is_async(view):
            named = getattr(view, "view_class", view)
            yield f"{named.__module__}.{getattr(named, '__qualname__', named)}"


def _is_async(view: Any) -> bool:  # noqa: ANN401 - of the application
    if inspect.iscoroutinefunction(view):
        return True
    found = getattr(view, "view_class", None)
    methods = getattr(found, "methods", None) or getattr(found, "http_method_names", None) or ()
    return any(inspect.iscoroutinefunction(getattr(found, str(name).lower(), None)) for name in methods)


def _callbacks() -> list[Any]:
    """Return Django's views; none if its routes cannot be loaded, which the first request will tell."""
    try:
        resolver = sys.modules["django.urls"].get_resolver()
        return list(_below(resolver))
    except Exception:  # noqa: BLE001 - see above
        return []


def _below(resolver: Any) -> Iterator[Any]:  # noqa: ANN401 - Django's
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _below(pattern)
        else:
            yield pattern.callback
