"""What running a gunicorn.conf.py has done to its process, beside setting names: environment, import path, the rest.

Under gunicorn the workers inherit all of that from the master that has run the file. Here the file is run in a process of
its own (`config.evaluate`), so environment and import path are carried as data, and what cannot be is told. Standard
library only.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from unicornd.config.instance import working_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

PATCHED = "the standard library, by a monkey patch"
"""What kinds that patch it themselves do not miss."""

_ENVIRONMENT_CODE = frozenset({"<frozen os>", "<frozen _collections_abc>", os.__file__})
"""Where `os.environ` is made of."""


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _of(module: str, ask: Callable[[Any], object], *, unset: object) -> object:
    """Ask a module that has been imported; nobody has changed anything in one that has not."""
    found = sys.modules.get(module)
    return unset if found is None else ask(found)


_PROBES: Mapping[str, Callable[[], object]] = {
    "the umask": _umask,
    "resource limits": lambda: [
        resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
    ],
    "priority or processors": lambda: (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)),
    "the root logger": lambda: _of(
        "logging", lambda found: (found.root.level, len(found.root.handlers)), unset=(30, 0)
    ),
    "the garbage collector": lambda: (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0),
    "recursion limit or switch interval": lambda: (sys.getrecursionlimit(), sys.getswitchinterval()),
    "sys.excepthook": lambda: sys.excepthook,
    "the default timeout of sockets": lambda: _of(
        "socket", lambda found: found.getdefaulttimeout(), unset=None
    ),
    "the start method of multiprocessing": lambda: _of(
        "multiprocessing", lambda found: found.get_start_method(allow_none=True), unset=None
    ),
    PATCHED: lambda: (time.sleep, os.fork),
}
"""What a process has that its children inherit."""


class Witness:
    """Sees what a file does to the process, from when this is made until it is asked.

    Only one looks at a time: an audit hook stays for good.
    """

    _present: Witness | None = None
    _is_hooked = False

    def __init__(self) -> None:
        self._folder = str(working_folder())
        self._environ = dict(os.environ)
        self._path = list(sys.path)
        self._state = {name: ask() for name, ask in _PROBES.items()}
        self._calls: dict[str, list[tuple[str, int]]] = {}
        Witness._present = self
        if not Witness._is_hooked:
            Witness._is_hooked = True
            sys.addaudithook(note_call)

    def note(self, name: str, frame: FrameType | None) -> None:
        """Note who has just set a variable: all callers, the innermost first."""
        calls = self._calls[name] = []
        while frame is not None:
            calls.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back

    def told(self, file: str) -> dict[str, Any]:
        """Return what has changed, as JSON has it, and stop looking.

        `{"environ": [{"name", "value", "line", "is_direct"}], "first": […], "last": […], "others": […]}`: a value is null if
        the variable was removed; it is direct if the file itself has set it, and not a library; folders are those put in
        front of the import path and behind it.
        """
        Witness._present = None
        now = dict(os.environ)
        names = [name for name in {**self._environ, **now} if self._environ.get(name) != now.get(name)]
        first, last = self._folders()
        others = [name for name, ask in _PROBES.items() if ask() != self._state[name]]
        environ = [self._variable(name, now.get(name), file=file) for name in sorted(names)]
        return {"environ": environ, "first": first, "last": last, "others": others}

    def _variable(self, name: str, value: str | None, *, file: str) -> dict[str, Any]:
        calls = self._calls.get(name, [])
        outer = [(caller, line) for caller, line in calls if caller not in _ENVIRONMENT_CODE]
        lines = [line for caller, line in outer if caller == file]
        is_direct = bool(outer) and outer[0][0] == file
        return {"name": name, "value": value, "line": lines[0] if lines else None, "is_direct": is_direct}

    def _folders(self) -> tuple[list[str], list[str]]:
        """Return what was put in front of the import path, and behind it; absolute."""
        path: Sequence[object] = sys.path  # it may have a Path, which importing passes over
        now = [each for each in path if isinstance(each, str)]
        front = now.index(self._path[0]) if self._path[0] in now else 0
        first = now[:front]
        last = [each for each in now[front:] if each not in self._path]
        return self._absolute(first), self._absolute(last)

    def _absolute(self, folders: list[str]) -> list[str]:
        return [os.path.normpath(os.path.join(self._folder, each)) for each in folders]  # noqa: PTH118 - as above


def note_call(event: str, arguments: tuple[Any, ...]) -> None:
    """Hear of an audited call (sys.addaudithook), and note it if it changes the environment."""
    witness = Witness._present  # noqa: SLF001 - its own hook
    if witness is not None and event in {"os.putenv", "os.unsetenv"}:
        witness.note(os.fsdecode(arguments[0]), sys._getframe(1))  # noqa: SLF001 - whose call it is
