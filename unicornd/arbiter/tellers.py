"""The arbiter's hooks, connected to the moments that they are for.

Run by the arbiter's loop. A hook that raises is logged and harms nothing, except `on_starting`: there an exception
refuses the start, as operators of gunicorn rely on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.arbiter.actions import Spawn
from unicornd.arbiter.state import Role
from unicornd.config.resolved import under_their_names
from unicornd.errors import ConfigError, UnicorndError
from unicornd.workers.hooks import ServerView, WorkerView, load_arbiter_hooks
from unicornd.workers.importing import prepare_hooks

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Self

    from unicornd.arbiter.actions import Action
    from unicornd.arbiter.loop import Loop
    from unicornd.arbiter.port import Port
    from unicornd.arbiter.reload import Deployments
    from unicornd.arbiter.spawn import Seated
    from unicornd.config.sections.hooks import HooksSettings
    from unicornd.workers.hooks import Hooks


class ArbiterHooks:
    """The hooks that run in the arbiter.

    Args:
        hooks: loaded.
        server: what they get.
    """

    def __init__(self, hooks: Hooks, server: ServerView) -> None:
        self._hooks = hooks
        self._server = server
        self._were_set = False
        self._views: dict[int, WorkerView] = {}
        """By age, of the workers that a hook has seen."""

    @classmethod
    def load(
        cls, settings: HooksSettings, cfg: Callable[[], object], *, log: logging.Logger, name: str
    ) -> Self:
        """Import the hooks that are set.

        Raises:
            ConfigError: one cannot be imported.
        """
        hooks = load_arbiter_hooks(settings, log)
        server = ServerView(log=log, cfg=cfg, pid=os.getpid(), num_workers=0, proc_name=name)
        return cls(hooks, server)

    @property
    def are_set(self) -> bool:
        """Whether there are any, or have been."""
        return self._were_set or bool(self._hooks)

    def call_starting(self, count: int) -> None:
        """Tell the first number of workers, and call `on_starting`.

        Raises:
            UnicorndError: it raised; the start is refused.
        """
        self.call_resized(count, None)
        try:
            self._hooks.call_strictly("on_starting", self._server)
        except Exception as error:
            raise UnicorndError(
                f"hooks.on_starting raised {type(error).__name__}: {error}", hint="the hook refuses the start"
            ) from error

    def call(self, name: str) -> None:
        """Call a hook that only gets the server."""
        self._hooks.call(name, self._server)

    def call_resized(self, new: int, old: int | None) -> None:
        """Call `nworkers_changed`; `old` is None for the first number of all."""
        self._server.num_workers = new
        self._hooks.call("nworkers_changed", self._server, new, old)

    def connect(self, loop: Loop, port: Port, *, deployments: Deployments) -> None:
        """Have the hooks called from now on."""
        self._server.see(
            listeners=lambda: deployments.present.listeners,
            workers=lambda: {pid: self._view_of(seated) for pid, seated in loop.seats.seated.items()},
        )
        loop.seats.keep(self._kept)
        loop.before_spawn = lambda action: self._before_spawn(action, loop)
        loop.on_exit = self._on_exit
        port.on_reload = lambda: self._on_reload(deployments)
        port.on_resize = self.call_resized

    def _before_spawn(self, action: Action, loop: Loop) -> None:
        if isinstance(action, Spawn) and action.role is Role.WORKER and self._hooks.has("pre_fork"):
            age = loop.seats.next_age
            worker = self._views[age] = self._view(0, age, slot=action.slot, generation=action.generation)
            self._hooks.call("pre_fork", self._server, worker)

    def _kept(self, age: int) -> dict[str, dict[str, object]]:
        """Return what pre_fork has left on both of its arguments: the worker has objects of its own."""
        view = self._views.get(age)
        return {} if view is None else {"server": self._server.kept, "worker": view.kept}

    def _on_exit(self, seated: Seated) -> None:
        if self._hooks.has("child_exit"):
            self._hooks.call("child_exit", self._server, self._view_of(seated))
        self._views.pop(seated.age, None)

    def _view_of(self, seated: Seated) -> WorkerView:
        """Return what hooks see of a worker, the same at each moment of its life: they keep things on it."""
        view = self._views.get(seated.age)
        if view is None:
            view = self._view(seated.pid, seated.age, slot=seated.slot, generation=seated.generation)
            self._views[seated.age] = view
        view.pid = seated.pid
        return view

    def _view(self, pid: int, age: int, *, slot: int, generation: int) -> WorkerView:
        return WorkerView(
            pid=pid,
            age=age,
            slot=slot,
            generation=generation,
            log=self._server.log,
            cfg=lambda: self._server.cfg,
        )

    def _on_reload(self, deployments: Deployments) -> None:
        """Take the hooks and settings of the next generation; hooks that cannot be loaded leave the old ones."""
        if deployments.next is not None:
            settings = deployments.next.settings
            self._server.renew(under_their_names(settings, self._server.proc_name))
            self._were_set = self.are_set
            prepare_hooks(settings.app, deployments.next.folders)
            try:
                self._hooks = load_arbiter_hooks(settings.hooks, self._server.log)
            except ConfigError as error:
                self._server.log.error("%s; the arbiter's old hooks stay\n%s", error.message, error.detail)  # noqa: TRY400 - told
        self.call("on_reload")
