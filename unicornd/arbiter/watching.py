"""A process that watches files for the arbiter, and says which one has changed.

The arbiter has one thread and waits in one place; to look through a project's files takes longer than it may. So a child
looks, once a second or by inotify (with watchfiles), and writes the changed path to a pipe. It ends with the arbiter.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.arbiter.snapshots import Look, Watched, changed_since, first_change, snapshot
from unicornd.forking import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.kernel import Kernel
    from unicornd.config.sections.app import AppSettings
    from unicornd.config.sections.reload import ReloadSettings
    from unicornd.units import Monotonic, Pid

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 0.2
"""An editor, or a deployment, writes several files: nothing may change for so long before it is told."""
MAX_PATH_BYTES = 4096


def watched_of(reload: ReloadSettings, app: AppSettings, *, folder: str) -> Watched:
    """Return what the settings want watched; `folder` is where the application lives if they do not say."""
    home = str(app.chdir) if app.chdir is not None else folder
    roots = tuple(dict.fromkeys((home, *app.pythonpath, *app.search_first))) if reload.on_change else ()
    return Watched(
        roots=roots,
        patterns=reload.extra_files if reload.on_change else (),
        paths=reload.watch,
        engine=engine_of(reload.engine) if reload.on_change else "poll",
    )


def engine_of(asked: str) -> str:
    """Return how changes are noticed."""
    if asked == "auto":
        return "inotify" if has_watchfiles() else "poll"
    return asked


def has_watchfiles() -> bool:
    """Return whether inotify can be used."""
    from importlib.util import find_spec  # noqa: PLC0415 - only for those who watch

    return find_spec("watchfiles") is not None


class Watching:
    """A ticker of the loop that keeps the watching process as the settings want it.

    Args:
        kernel: forks.
        selector: hears it.
        wanted: returns what is to be watched now.
        changed: called with the path that has changed.
    """

    def __init__(
        self,
        kernel: Kernel,
        selector: selectors.BaseSelector,
        *,
        wanted: Callable[[], Watched],
        changed: Callable[[str], None],
    ) -> None:
        self._kernel = kernel
        self._selector = selector
        self._wanted = wanted
        self._changed = changed
        self._watched = Watched()
        self._pid: Pid | None = None
        self._reader: OwnedFd | None = None

    def tick(self, _now: Monotonic) -> Monotonic | None:
        """Begin anew if something else is to be watched, or the process is gone."""
        wanted = self._wanted()
        if wanted != self._watched:
            self.end()
            self._watched = wanted
            if not wanted.is_empty:
                self._begin(wanted)
        return None

    def end(self) -> None:
        """End the process."""
        if self._pid is not None:
            self._kernel.kill(self._pid, signal.SIGKILL)
            self._pid = None
        if self._reader is not None:
            self._selector.unregister(self._reader)
            self._reader.close()
            self._reader = None

    def _begin(self, wanted: Watched) -> None:
        fd, writer = os.pipe()
        os.set_blocking(fd, False)
        reader = OwnedFd(fd)
        arbiter = os.getpid()
        began = time.time_ns()

        def watch() -> int:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            return _watch(wanted, writer, arbiter=arbiter, began=began)

        try:
            self._pid = self._kernel.fork(watch)
        except OSError:  # another time
            reader.close()
            self._watched = Watched()
            return
        finally:
            os.close(writer)
        self._reader = reader
        self._selector.register(reader, selectors.EVENT_READ, self._read)

    def _read(self, _mask: int) -> None:
        if self._reader is None:
            return
        try:
            said = os.read(self._reader.fileno(), MAX_PATH_BYTES)
        except BlockingIOError:
            return
        if said:
            self._changed(os.fsdecode(said.rpartition(b"\n")[0].rpartition(b"\n")[2]))
        else:  # it has died: a new one is begun by the next tick
            self.end()
            self._watched = Watched()


def _watch(watched: Watched, writer: int, *, arbiter: int, began: int) -> int:
    """The child: say what changes after `began`, until the arbiter is gone."""
    before = snapshot(watched)
    path = changed_since(before, began)
    while os.getppid() == arbiter:
        if not path:
            _wait(watched)
            after = snapshot(watched)
            path = first_change(before, after)
            before = after
        if path:
            before = _settled(watched, before)
            with suppress(BrokenPipeError):
                os.write(writer, os.fsencode(path)[: MAX_PATH_BYTES - 1] + b"\n")
            path = ""
    return 0


def _settled(watched: Watched, looks: dict[str, Look | None]) -> dict[str, Look | None]:
    """Wait until nothing changes any more; return how it looks then."""
    while True:
        time.sleep(SETTLE_SECONDS)
        later = snapshot(watched)
        if later == looks:
            return later
        looks = later


def _wait(watched: Watched) -> None:
    """Wait for a second; with inotify, until something happens, but look up now and then."""
    if watched.engine != "inotify":
        time.sleep(LOOK_SECONDS)
        return
    from watchfiles import watch  # noqa: PLC0415 - only for those who have it

    for _changes in watch(
        *watched.roots, rust_timeout=int(LOOK_SECONDS * 1000), yield_on_timeout=True, raise_interrupt=False
    ):
        return
