"""The operator's functions: loaded once, called with objects that offer gunicorn's documented attributes.

Hooks of the arbiter are loaded and called there, hooks of the worker in the worker, after the fork. One that raises is
logged with its name and harms nothing; only `on_starting` may end the start.
"""

from __future__ import annotations

import inspect
import os
import time
from typing import TYPE_CHECKING, Any

from unicornd.config.exposed import ARBITER_HOOKS
from unicornd.errors import AppError, BootError, ConfigError
from unicornd.forking import BOUNDARY
from unicornd.units import Monotonic
from unicornd.workers.apploader import load_object
from unicornd.workers.importing import on_behalf
from unicornd.workers.views import AppView, ListenerView, left_on, listener_views

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from unicornd.config.sections.hooks import HooksSettings
    from unicornd.config.values import ImportString
    from unicornd.http.messages import Head
    from unicornd.observe.scoreboard import Row
    from unicornd.sockets.listener import Listener
    from unicornd.workers.context import Served

ARITIES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("on_starting", "when_ready", "on_reload", "on_exit", "pre_exec"), (1,)),
    **dict.fromkeys(("post_worker_init", "worker_int", "worker_abort"), (1,)),
    **dict.fromkeys(
        ("pre_fork", "post_fork", "pre_request", "child_exit", "worker_exit", "ssl_context"), (2,)
    ),
    "nworkers_changed": (3,),
    "post_request": (4, 3, 2),
}
"""How many arguments a hook takes: of `post_request`, those that it leaves out are the last ones."""


class Heartbeat:
    """What a hook gets as `worker.tmp`: gunicorn's heartbeat file, which is a row of shared memory here.

    Args:
        row: the worker's.
    """

    def __init__(self, row: Row) -> None:
        self._row = row

    def notify(self) -> None:
        """Give a sign of life."""
        self._row.beat(Monotonic(time.monotonic()))

    def last_update(self) -> float:
        """Return when the worker last gave one (CLOCK_MONOTONIC)."""
        return self._row.read(Monotonic(time.monotonic())).heartbeat


class ServerView:
    """What a hook gets as `server`: gunicorn's arbiter, as far as its documentation goes.

    Attributes:
        log: the error log.
        cfg: the settings.
        pid: of the arbiter.
        num_workers: how many are wanted.
        proc_name: the instance's name.
        app: has the application, in a worker that has loaded it.
        address: what is listened on, as `socket` has it.
        LISTENERS: the listening sockets; none before they are open.
        WORKERS: the living workers by their pid, in the arbiter; empty in a worker.
    """

    def __init__(
        self,
        *,
        log: logging.Logger,
        cfg: Callable[[], object],
        pid: int,
        num_workers: int,
        proc_name: str,
    ) -> None:
        self.log = log
        self._cfg = cfg
        self.pid = pid
        self.num_workers = num_workers
        self.proc_name = proc_name
        self.app = AppView(lambda: self.cfg)
        self._workers: Callable[[], dict[int, WorkerView]] = dict
        self._listeners: Callable[[], Iterable[Listener]] = tuple
        self._own = frozenset({*vars(self), "_own"})

    @property
    def address(self) -> Any:  # noqa: ANN401 - as gunicorn has it
        """What is listened on."""
        return self.cfg.address

    @property
    def LISTENERS(self) -> list[ListenerView]:  # noqa: N802 - gunicorn's name
        """The listening sockets."""
        return listener_views(self._listeners())

    @property
    def kept(self) -> dict[str, object]:
        """What hooks have added."""
        return left_on(self, own=self._own)

    @property
    def WORKERS(self) -> dict[int, WorkerView]:  # noqa: N802 - gunicorn's name
        """The living workers."""
        return self._workers()

    def see(
        self,
        *,
        listeners: Callable[[], Iterable[Listener]],
        workers: Callable[[], dict[int, WorkerView]] = dict,
    ) -> None:
        """Show these from now on."""
        self._listeners = listeners
        self._workers = workers

    @property
    def cfg(self) -> Any:  # noqa: ANN401 - whatever has gunicorn's names
        """The settings."""
        return self._cfg()

    def renew(self, cfg: Callable[[], object]) -> None:
        """Show the settings of another generation."""
        self._cfg = cfg


class WorkerView:
    """What a hook gets as `worker`.

    Attributes:
        pid: 0 before the fork.
        age: how many workers were spawned before it, from 1.
        slot: its place, from 1 (`UNICORND_WORKER_SLOT`).
        generation: of configuration and code.
        log: the error log.
        cfg: the settings.
        app: can be called as the application, once that is loaded, and has gunicorn's `callable` and `wsgi()`.
        wsgi: the application itself; None before it is loaded.
        sockets: what it accepts from.
        ppid: the arbiter's.
        timeout: `cfg.timeout`.
        tmp: its heartbeat; None before the fork.
        booted: whether it serves; `alive`: whether it is to go on: a hook that says no has the worker replaced.
        nr: how many requests it has answered.
    """

    def __init__(
        self,
        *,
        pid: int,
        age: int,
        slot: int,
        generation: int,
        log: logging.Logger,
        cfg: Callable[[], object],
    ) -> None:
        self.pid = pid
        self.age = age
        self.slot = slot
        self.generation = generation
        self.log = log
        self._cfg = cfg
        self.app = AppView(lambda: self.cfg)
        self.sockets: list[ListenerView] = []
        self.ppid = os.getppid() if pid == os.getpid() else os.getpid()
        self.tmp: Heartbeat | None = None
        self.booted = False
        self.aborted = False
        self.nr = 0
        self.on_retire: Callable[[], None] = lambda: None
        self._is_alive = True
        self._own = frozenset({*vars(self), "_own"})

    @property
    def kept(self) -> dict[str, object]:
        """What hooks have added."""
        return left_on(self, own=self._own)

    @property
    def alive(self) -> bool:
        """Whether it is to go on."""
        return self._is_alive

    @alive.setter
    def alive(self, is_alive: bool) -> None:
        is_news = self._is_alive and not is_alive
        self._is_alive = is_alive
        if is_news:
            self.on_retire()

    @property
    def wsgi(self) -> object:
        """The application."""
        return self.app.callable

    @property
    def cfg(self) -> Any:  # noqa: ANN401 - whatever has gunicorn's names
        """The settings."""
        return self._cfg()

    @property
    def timeout(self) -> float:
        """The one for requests, in seconds."""
        return float(self.cfg.timeout)


class RequestView:
    """What a hook gets as `req`: the attributes of gunicorn's request that hooks read.

    Attributes:
        method, uri, path, query: as sent.
        version: `(1, 1)`.
        headers: upper-case name and value.
    """

    def __init__(self, head: Head) -> None:
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.query = head.query
        self.version = (1, 1) if head.is_http11 else (1, 0)
        self.headers = [
            (key.removeprefix("HTTP_").replace("_", "-"), value) for key, value in head.fields.items()
        ]


def view_of(head: Head) -> RequestView:
    """Return what hooks and loggers get as `req`, the same for all of them: they keep things on it (`req.started = …`)."""
    view = getattr(head, "view", None)
    if not isinstance(view, RequestView):
        view = head.view = RequestView(head)
    return view


class ResponseView:
    """What a hook gets as `resp`.

    Attributes:
        status: `200 OK`; `status_code`: 200.
        headers: name and value.
        sent: bytes of the body.
    """

    def __init__(self, served: Served) -> None:
        self.status = served.status
        self.status_code = int(served.status[:3] or 0)
        self.headers = served.headers
        self.sent = served.size


class Hooks:
    """The hooks that are set, by name.

    Args:
        functions: what to call.
        log: where an exception goes.
    """

    def __init__(self, functions: Mapping[str, Callable[..., object]], log: logging.Logger) -> None:
        self._functions = functions
        self._log = log

    def __bool__(self) -> bool:
        return bool(self._functions)

    def has(self, name: str) -> bool:
        """Return whether there is a hook of that name."""
        return name in self._functions

    def call(self, name: str, *arguments: object) -> None:
        """Call a hook if it is set; what it raises is logged."""
        try:
            self.call_strictly(name, *arguments)
        except Exception:  # noqa: BLE001 - somebody else's code must not take the fleet down
            self._log.exception("a hook raised", extra={"hook": name})

    def call_strictly(self, name: str, *arguments: object) -> None:
        """Call a hook if it is set, and let through what it raises."""
        function = self._functions.get(name)
        if function is not None:
            try:
                function(*arguments)
            finally:
                BOUNDARY.end_child()  # it has forked, and left both ways


def load_arbiter_hooks(settings: HooksSettings, log: logging.Logger) -> Hooks:
    """Import the hooks of the arbiter; they find their modules whenever they import them (`workers.importing`).

    Raises:
        ConfigError: see `load_hooks`.
    """
    with on_behalf():
        targets = {name: getattr(settings, name) for name in ARBITER_HOOKS}
        return load_hooks(targets, log, around=on_behalf())


def load_hooks(
    targets: Mapping[str, ImportString | None],
    log: logging.Logger,
    *,
    around: Callable[[Callable[..., object]], Callable[..., object]] | None = None,
) -> Hooks:
    """Import the hooks that are set.

    Args:
        targets: name → import string, those of one side (`ARBITER_HOOKS`, `WORKER_HOOKS`).
        log: where exceptions go later.
        around: what each function is wrapped in, if in anything.

    Raises:
        ConfigError: one cannot be imported or called.
    """
    functions: dict[str, Any] = {}
    files: dict[str, ModuleType] = {}
    for name, target in targets.items():
        if target is None:
            continue
        try:
            function = load_object(target, files=files)
        except (AppError, BootError) as error:
            message = error.message.removeprefix("app.target: ")
            raise ConfigError(f"hooks.{name}: {message}", hint=error.hint, detail=error.detail) from error
        if not callable(function):
            raise ConfigError(
                f"hooks.{name}: {target} is not callable", hint='name a function: "module:function"'
            )
        fitted = _fitted(name, function)
        functions[name] = fitted if around is None else around(fitted)
    return Hooks(functions, log)


def _fitted(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """Return the function, made to take as many arguments as its moment has.

    Raises:
        ConfigError: it takes another number of them.
    """
    arities = ARITIES[name]
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: only a call can tell
        return function
    for arity in arities:
        try:
            signature.bind(*range(arity))
        except TypeError:
            continue
        if arity == arities[0]:
            return function
        return lambda *arguments: function(*arguments[:arity])
    wanted = " or ".join(map(str, arities))
    raise ConfigError(
        f"hooks.{name}: {getattr(function, '__name__', function)}{signature} cannot be called with {wanted} "
        f"argument{'s' if arities != (1,) else ''}",
        hint=f"a function for {name} takes {wanted}, or *args",
    )
