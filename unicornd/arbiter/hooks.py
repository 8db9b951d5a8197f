"""The arbiter's hooks, connected to the moments that they are for.

Run by the arbiter's loop. A hook that raises is logged and harms nothing, except `on_starting`: there an exception
refuses the start, as operators of gunicorn rely on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.arbiter import events
from unicornd.arbiter.state import Role
from unicornd.config.resolved import under_their_names
from unicornd.errors import ConfigError, UnicorndError
from unicornd.workers.hooks import ServerView, WorkerView, load_arbiter_hooks
from unicornd.workers.importing import prepare_hooks

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from typing import Self

    from unicornd.arbiter.actions import Spawn
    from unicornd.arbiter.postmortems import Ended
    from unicornd.arbiter.processes import ProcessTable
    from unicornd.arbiter.reload import Deployment, Deployments
    from unicornd.arbiter.spawn import WorkerHandle
    from unicornd.arbiter.state import State
    from unicornd.config.sections.hooks import HooksSettings
    from unicornd.workers.hooks import Hooks


class ArbiterHooks:
    """The hooks that run in the arbiter.

    Args:
        hooks: loaded.
        server: what they get.
        next_deployment: returns the one that is on trial, whose hooks a reload loads.
    """

    def __init__(
        self, hooks: Hooks, server: ServerView, *, next_deployment: Callable[[], Deployment | None]
    ) -> None:
        self._hooks = hooks
        self._next = next_deployment
        self._server = server
        self._were_set = False
        self._views: dict[int, WorkerView] = {}
        """By age, of the workers that a hook has seen."""

    @classmethod
    def load(
        cls,
        settings: HooksSettings,
        cfg: Callable[[], object],
        *,
        log: logging.Logger,
        name: str,
        next_deployment: Callable[[], Deployment | None],
    ) -> Self:
        """Import the hooks that are set.

        Raises:
            ConfigError: one cannot be imported.
        """
        hooks = load_arbiter_hooks(settings, log)
        server = ServerView(log=log, cfg=cfg, pid=os.getpid(), num_workers=0, proc_name=name)
        return cls(hooks, server, next_deployment=next_deployment)

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

    def show(self, deployments: Deployments, processes: ProcessTable) -> None:
        """Have the hooks see listeners and workers from now on (`server.LISTENERS`, `server.WORKERS`)."""
        self._server.see(
            listeners=lambda: deployments.present.listeners,
            workers=lambda: {pid: self._view_of(handle) for pid, handle in processes.workers.items()},
        )

    def prepare(self, action: Spawn, age: int) -> Mapping[str, Mapping[str, object]]:
        """Call `pre_fork` for a worker, and return what it has left on both of its arguments: the worker has its own."""
        if not self._hooks.has("pre_fork"):
            return {}
        worker = self._views[age] = self._view(0, age, slot=action.slot, generation=action.generation)
        self._hooks.call("pre_fork", self._server, worker)
        return {"server": self._server.kept, "worker": worker.kept}

    def observe(self, event: events.Event, *, previous: State, state: State) -> None:  # noqa: ARG002 - an observer's
        """Call the hooks that are for what has happened."""
        match event:
            case events.Resized():
                self.call_resized(event.size, previous.pools[event.pool].size)
            case events.RolloutStarted():
                before = previous.pools[event.pool.name].size
                if event.pool.size != before:
                    self.call_resized(event.pool.size, before)
                self._reload()
            case _:
                pass

    def observe_death(self, ended: Ended) -> None:
        """Call `child_exit` for a worker that has ended."""
        if ended.handle is None or ended.child.role is not Role.WORKER:
            return
        if self._hooks.has("child_exit"):
            self._hooks.call("child_exit", self._server, self._view_of(ended.handle))
        self._views.pop(ended.handle.age, None)

    def _view_of(self, handle: WorkerHandle) -> WorkerView:
        """Return what hooks see of a worker, the same at each moment of its life: they keep things on it."""
        view = self._views.get(handle.age)
        if view is None:
            view = self._view(handle.pid, handle.age, slot=handle.slot, generation=handle.generation)
            self._views[handle.age] = view
        view.pid = handle.pid
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

    def _reload(self) -> None:
        """Take the hooks and settings of the next generation; hooks that cannot be loaded leave the old ones."""
        following = self._next()
        if following is not None:
            settings = following.settings
            self._server.renew(under_their_names(settings, self._server.proc_name))
            self._were_set = self.are_set
            prepare_hooks(settings.app, following.folders)
            try:
                self._hooks = load_arbiter_hooks(settings.hooks, self._server.log)
            except ConfigError as error:
                self._server.log.error("%s; the arbiter's old hooks stay\n%s", error.message, error.detail)  # noqa: TRY400 - told
        self.call("on_reload")
