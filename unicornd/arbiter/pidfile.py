"""The pidfile: one number, written whole, taken over only from a process that is gone, removed only if it is ours.

Run by the arbiter. A pid that runs proves nothing: it may have been given to another program since. So the arbiter keeps
its pidfile open for as long as it lives, and whoever finds the file looks whether that process has it open.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.errors import AlreadyRunningError, ConfigError
from unicornd.files import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from unicornd.accounts import Account

START_TIME_FIELD = 22
MOST_WORDS = 3
"""Of a command line, in which the program is named: `python -m unicornd`, `python /opt/bin/gunicorn`."""


SLACK_SECONDS = 5.0
"""By which a file may seem older than the process that it names: both times are rounded, and clocks are set."""
MAX_BYTES = 64


class Pidfile:
    """A pidfile that is ours.

    Args:
        path: absolute.
        fd: of the file, kept open while it is ours.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def write(
        cls, path: Path, pid: int, *, predecessor: int | None = None, writer: Account | None = None
    ) -> Self:
        """Write `pid` to `path`, and nothing else: `kill -HUP $(cat FILE)` is what it is for.

        While the predecessor of an upgrade has the file, it is `path` with `.2` behind it, as in gunicorn.

        Args:
            path: where to.
            pid: ours.
            predecessor: the pid of the arbiter that is to be replaced.
            writer: whom the workers run as, if not as we.

        Raises:
            AlreadyRunningError: the process that the file names is there.
            ConfigError: the file cannot be written.
        """
        path = path.absolute()
        try:
            with Folder.open(path.parent, writer=writer) as folder:
                owner = owner_of(folder, path.name)
                if owner is not None and owner == predecessor:
                    path = path.with_name(f"{path.name}.2")
                elif owner is not None and owner != pid:
                    raise AlreadyRunningError(
                        f"already running: {path} names process {owner}, which is there",
                        hint="`unicornctl ls` shows the fleets that run; each needs a process.pidfile of its own",
                    )
                return cls(path, folder.put(path.name, f"{pid}\n".encode()))
        except OSError as error:
            raise ConfigError(f"process.pidfile: cannot write {path}: {error.strerror}") from error

    def promote(self, path: Path) -> None:
        """Take the predecessor's file over."""
        path = path.absolute()
        if self._path == path:
            return
        with suppress(OSError), Folder.open(path.parent) as folder:
            os.rename(self._path.name, path.name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
            self._path = path

    def remove(self) -> None:
        """Remove the file if it is still the one that we have written."""
        with suppress(OSError), Folder.open(self._path.parent) as folder:
            found = os.fstat(self._fd)
            folder.remove(self._path.name, inode=(found.st_dev, found.st_ino))
        self.close()

    def close(self) -> None:
        """Let go of it: at the end, or in a forked child."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def owner_of(folder: Folder, name: str) -> int | None:
    """Return the pid in the file if that very process is there; None if the file is stale, empty or no pidfile.

    A file that nobody has open (gunicorn's, or somebody's own) is believed if the process is unicornd or gunicorn, and is
    not younger than the file. A second number is that of releases before: when the process was started.
    """
    try:
        content = folder.read(name, limit=MAX_BYTES)
    except OSError:
        return None
    fields = (content or b"").decode("ascii", "replace").split()
    if not fields or not fields[0].isdigit():
        return None
    pid = int(fields[0])
    started = start_time_of(pid)
    if not started:
        return None
    if len(fields) > 1:
        return pid if fields[1] == started else None
    status = folder.status(name)
    if status is None:
        return None
    if any(os.path.samestat(status, each) for each in _open_files(pid)):
        return pid
    return pid if _is_server(pid) and _wall_clock(started) <= status.st_mtime + SLACK_SECONDS else None


def _open_files(pid: int) -> Iterator[os.stat_result]:
    """Yield what a process has open, as far as we may see it."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield link.stat()


def _wall_clock(ticks: str) -> float:
    """Return when a process started, in seconds since 1970, if nobody has set the clock meanwhile."""
    since_boot = int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def start_time_of(pid: int) -> str:
    """Return when a process started, in clock ticks since boot (proc(5)); empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in parentheses, with whatever is in it.
    return text.rpartition(")")[2].split()[START_TIME_FIELD - 3]


def _is_server(pid: int) -> bool:
    """Whether the program is one of the two; an editor of unicornd.toml is not."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if words[0].startswith((b"unicornd: ", b"gunicorn: ")):  # a title of setproctitle
        return True
    programs = {word.rpartition(b"/")[2] for word in words[:MOST_WORDS]}
    is_python = words[0].rpartition(b"/")[2].startswith((b"python", b"unicornd", b"gunicorn"))
    return is_python and not programs.isdisjoint({b"unicornd", b"gunicorn"})
