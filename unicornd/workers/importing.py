"""Where code is looked for: the application's folders first in the workers, and in the arbiter only for the operator.

The arbiter may be root, and the application's folders may belong to somebody else. So they are never in its `sys.path`:
a `ctypes.py` that lies there must not take the place of the standard library's, and a name that some library only tries
to import must not be found there. What the operator has asked to be run there (hooks, logging) is found by
`ApplicationFinder`, the last one of `sys.meta_path`. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from unicornd.config.instance import working_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType

    from unicornd.config.sections.app import AppSettings


INSTALLED = tuple({os.path.join(place, "lib", "") for place in (sys.prefix, sys.base_prefix)})  # noqa: PTH118 - as above
"""Where the standard library and packages are."""


class ApplicationFinder:
    """Finds modules in the application's folders, behind everything that is installed, for those who may have them.

    These are: whatever is imported while the operator's code is loaded or called (`on_behalf`), and at any time, in any
    thread, code that comes from these folders itself: a logging class may import when it writes its first line.
    `sys.path` could not tell these from a library that tries whether something is installed.

    Args:
        folders: where to look, in this order.
        surroundings: environment variables that the operator's code sees; None for one that it does not.
    """

    def __init__(self, folders: Sequence[str], surroundings: Mapping[str, str | None] | None = None) -> None:
        self.folders = tuple(os.path.abspath(folder) for folder in folders)  # noqa: PTH100 - a str is what finders want
        self._surroundings = surroundings or {}
        self._openings = 0
        """How many calls of the operator's code are under way."""
        self._kept: dict[str, str | None] = {}

    def enter(self) -> None:
        """Begin a call of the operator's code: the first one changes the environment."""
        self._openings += 1
        if self._openings == 1:
            self._kept = {name: os.environ.get(name) for name in self._surroundings}
            _set(self._surroundings)

    def leave(self) -> None:
        """End a call; the last one puts the environment back, but for what the code itself has set meanwhile."""
        self._openings -= 1
        if self._openings == 0:
            same = {name for name, value in self._surroundings.items() if os.environ.get(name) == value}
            _set({name: value for name, value in self._kept.items() if name in same})

    def find_spec(self, name: str, path: Sequence[str] | None = None, *_target: object) -> ModuleSpec | None:
        """Return where a module is; None if it is not there, or not for whoever asks."""
        if path is not None:  # in a package, which says itself where its modules are
            return None
        if not self._openings and not self._is_asked_by_its_own(sys._getframe(1)):  # noqa: SLF001 - who imports is not told in another way
            return None
        return PathFinder.find_spec(name, list(self.folders))

    def _is_asked_by_its_own(self, frame: FrameType | None) -> bool:
        while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "importlib":
            frame = frame.f_back
        if frame is None:
            return False
        file = frame.f_code.co_filename
        if not os.path.isabs(file):  # noqa: PTH117 - `<string>` and `<frozen os>` are nobody's files
            return False
        file = os.path.abspath(file)  # noqa: PTH100 - once an import that nobody else has found
        if file.startswith(INSTALLED):  # an environment below the application's folder is not the application
            return False
        return file.startswith(tuple(os.path.join(folder, "") for folder in self.folders))  # noqa: PTH118 - with a slash at the end


def folders_of(app: AppSettings) -> tuple[str, ...]:
    """Return the application's folders, where they are now: a link may lead to the next release a moment later.

    The last one is its home, the working directory.
    """
    home = app.chdir if app.chdir is not None else str(working_folder())
    return tuple(os.path.realpath(folder) for folder in (*app.pythonpath, *app.search_first, home))


def surroundings_of(app: AppSettings) -> dict[str, str | None]:
    """Return what the application is to find in its environment: name → value, None for what it is not to find."""
    return {**dict.fromkeys(app.unset_env), **app.env}


def prepare_hooks(app: AppSettings, folders: Sequence[str]) -> None:
    """Have the operator's code, and nobody else, find the application's modules and environment: we may be root.

    `folders` are the application's (`folders_of`), where they were when the generation began.
    """
    search_behind((*folders, *app.search_last), surroundings_of(app))


def settle_in(app: AppSettings, folders: Sequence[str]) -> None:
    """Take on environment and import path for good: in the process that runs the application, as its user."""
    _set(surroundings_of(app))
    search_first(folders)
    sys.path += app.search_last


@contextmanager
def kept_environment(app: AppSettings) -> Iterator[None]:
    """Keep the environment that was taken on, while a gunicorn.conf.py is run again for its hooks: it may set it anew."""
    kept = {name: os.environ.get(name) for name in surroundings_of(app)}
    yield
    _set(kept)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "TZ" in variables:
        time.tzset()


def search_behind(folders: Sequence[str], surroundings: Mapping[str, str | None] | None = None) -> None:
    """Have the operator's code, and nobody else, find modules in these folders, and these environment variables."""
    _forget()
    sys.meta_path.append(ApplicationFinder(folders, surroundings))


def search_first(folders: Sequence[str]) -> None:
    """Have everybody look in these folders first."""
    _forget()
    sys.path[:0] = folders


@contextmanager
def on_behalf() -> Iterator[None]:
    """Let the operator's code find the application's modules and environment meanwhile, whoever imports it."""
    finder = _finder()
    if finder is None:
        yield
        return
    finder.enter()
    try:
        yield
    finally:
        finder.leave()


def _finder() -> ApplicationFinder | None:
    return next((each for each in sys.meta_path if isinstance(each, ApplicationFinder)), None)


def _forget() -> None:
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, ApplicationFinder)]
