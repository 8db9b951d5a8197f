"""Whether the application that a configuration names can be found: nothing of it is imported, nothing is run.

Runs in the command's process.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from unicornd.config.values import ImportString


def why_not_found(target: ImportString, folders: Iterable[Path]) -> str:
    """Return why the module of a target cannot be found, or nothing.

    Args:
        target: `app.target`.
        folders: the application's, in front of what is installed.
    """
    if target.is_file:
        places = [folder / target.module for folder in folders]  # an absolute path stays what it is
        return "" if any(place.is_file() for place in places) else f"there is no file {target.module}"
    top, *rest = target.module.split(".")
    spec = _find(top, [*map(str, folders), *sys.path])
    if spec is None:
        where = ", ".join(dict.fromkeys(map(str, folders)))
        return f"there is no module {top}: not in {where}, and none is installed"
    found = top
    for name in rest:
        if spec.submodule_search_locations is None:
            return f"{found} is a module, so there is no {target.module}"
        spec = _find(f"{found}.{name}", list(spec.submodule_search_locations))
        if spec is None:
            return f"there is no module {name} in the package {found}"
        found = f"{found}.{name}"
    return ""


def _find(name: str, path: Sequence[str]) -> ModuleSpec | None:
    """Ask each finder: what is installed to be edited may have one of its own."""
    if (spec := PathFinder.find_spec(name, path)) is not None or "." in name:
        return spec
    return next(
        (found for finder in sys.meta_path if (found := finder.find_spec(name, None)) is not None), None
    )
