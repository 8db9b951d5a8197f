"""What hooks reach through `server` and `worker`, and what they have left there: of gunicorn's arbiter and application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from unicornd.sockets.listener import Listener

MAX_TOLD = 4096
"""Characters of a value that a mold is told: all of it has to fit into one datagram."""
Kept = dict[str, dict[str, object]]
"""What pre_fork has left on `server` and `worker`: name → attribute → value."""


class ListenerView:
    """One of `server.LISTENERS`: has all of the socket's methods, `sock` and `cfg_addr`; as text it is its address.

    Args:
        listener: open.
    """

    def __init__(self, listener: Listener) -> None:
        from unicornd.config.gunicorn_view import place_of  # noqa: PLC0415 - for those who ask

        self.sock = listener.sock
        self.cfg_addr = place_of(listener.address)
        self._bound = listener.bound

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of a socket
        return getattr(self.sock, name)

    def __str__(self) -> str:
        return self._bound if self._bound.startswith("unix:") else f"http://{self._bound}"


class AppView:
    """What hooks get as `worker.app` and `server.app`: the application, and gunicorn's object that has it.

    Attributes:
        callable: the application; None before it is loaded, and in the arbiter.
    """

    def __init__(self, cfg: Callable[[], object]) -> None:
        self._cfg = cfg
        self.callable: Any = None

    @property
    def cfg(self) -> object:
        """The settings."""
        return self._cfg()

    def wsgi(self) -> Any:  # noqa: ANN401 - the operator's
        """Return the application.

        Raises:
            RuntimeError: this process has not loaded it.
        """
        if self.callable is None:
            raise RuntimeError(
                "the application is not loaded here: it is in the workers, from post_worker_init on; the arbiter never has it"
            )
        return self.callable

    load = wsgi

    def __call__(self, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 - as the application
        """Call the application."""
        return self.wsgi()(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the application
        if name.startswith("__"):  # asked for by Python, of this object
            raise AttributeError(name)
        return getattr(self.wsgi(), name)


def listener_views(listeners: Iterable[Listener]) -> list[ListenerView]:
    """Return what hooks get as `server.LISTENERS`."""
    return [ListenerView(listener) for listener in listeners]


def left_on(view: object, *, own: frozenset[str]) -> dict[str, object]:
    """Return the attributes that a hook has added."""
    return {name: value for name, value in vars(view).items() if name not in own}


def told(kept: Mapping[str, Mapping[str, object]]) -> Kept:
    """Return what of it a mold can be told: what JSON has."""
    return {
        name: {key: value for key, value in items.items() if _is_plain(value)} for name, items in kept.items()
    }


def _is_plain(value: object) -> bool:
    try:
        text = json.dumps(value)
        return len(text) <= MAX_TOLD and bool(json.loads(text) == value)
    except (TypeError, ValueError):
        return False
