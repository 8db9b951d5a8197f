"""What of the operator's runs as root, in the arbiter, and can be changed by others.

Hooks of the arbiter, and whatever opens the logs, run as whoever has started unicornd. That is no worry where only root
may write these files, nor where the workers are root, too. Standard library only; imports none of what it looks at.
"""

from __future__ import annotations

import os
import stat
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from unicornd.config.instance import working_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unicornd.config.sections.app import AppSettings
    from unicornd.config.settings import Settings
    from unicornd.config.values import ImportString

ARBITER_HOOKS = (
    "on_starting", "when_ready", "on_reload", "pre_fork", "child_exit", "nworkers_changed", "on_exit",
    "pre_exec",
)  # fmt: skip
WORKER_HOOKS = (
    "post_fork", "post_worker_init", "worker_int", "worker_abort", "pre_request", "post_request", "worker_exit",
)  # fmt: skip
ROOT = 0


def exposed(settings: Settings, *, uid: int, trusted: int = ROOT) -> list[str]:
    """Return a line for each thing that gives others than root, or the workers, more than is theirs.

    Args:
        settings: of the fleet.
        uid: of the process that is, or would be, the arbiter.
        trusted: who may write what runs as root.
    """
    if uid != trusted or settings.process.user in {None, "root", str(trusted)}:
        return []
    lines = list(_controlled(settings))
    for key, target in _targets(settings):
        file = _file_of(target, settings.app)
        place = _writable(file, trusted) if file is not None else None
        if place is not None:
            lines.append(
                f"{key}: {target} runs as root, from {file}; {place} can be changed by others than root"
            )
    return lines


def _controlled(settings: Settings) -> Iterator[str]:
    """A worker is its user: whoever lets that user steer the fleet lets a compromised worker do it."""
    if not settings.control.enabled:
        return
    user = settings.process.user
    for name, what in (
        ("allow_users", "change and stop"),
        ("view_users", "see the other workers' requests of"),
    ):
        if user in getattr(settings.control, name):
            yield f"control.{name}: {user} is the user of the workers: a compromised one could {what} the fleet"


def _targets(settings: Settings) -> Iterator[tuple[str, ImportString]]:
    for name in ARBITER_HOOKS:
        target = getattr(settings.hooks, name)
        if target is not None:
            yield f"hooks.{name}", target
    for name in ("logger_class", "config_object"):
        target = getattr(settings.logging, name)
        if target is not None:
            yield f"logging.{name}", target


def _file_of(target: ImportString, app: AppSettings) -> str | None:
    """Return the file that a function comes from; None if it is not found, or has none."""
    home = str(app.chdir) if app.chdir is not None else str(working_folder())
    if target.is_file:
        return os.path.join(home, target.module)  # noqa: PTH118 - likewise
    return file_of(target.module, [*sys.path, *app.pythonpath, *app.search_first, home, *app.search_last])


def file_of(module: str, path: Sequence[str]) -> str | None:
    """Return the file of a module, given by its dotted name or its path; None if it is not found, or has none."""
    if module.endswith(".py"):
        return module
    found: str | None = None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        spec = PathFinder.find_spec(".".join(names[:depth]), path)
        if spec is None:
            return None
        path, found = spec.submodule_search_locations or [], spec.origin
    return found


def _writable(file: str, trusted: int) -> str | None:
    """Return the first of a file and the folders above it that somebody else may write; None if there is none."""
    place = os.path.realpath(file)
    while True:
        try:
            found = os.stat(place)  # noqa: PTH116 - as above
        except OSError:  # told elsewhere
            return None
        is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        is_open = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != ROOT)
        if found.st_uid not in {ROOT, trusted} or (is_open and not is_sticky):
            return place
        above = os.path.dirname(place)  # noqa: PTH120 - likewise
        if above == place:
            return None
        place = above
