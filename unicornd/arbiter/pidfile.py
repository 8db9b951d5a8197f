"""The pidfile: written whole, taken over only from a process that is gone, removed only if it is ours.

Run by the arbiter. A pid that runs proves nothing: it may have been given to another program since. So the file says
when its process started, too (field 22 of /proc/PID/stat), and only if both agree somebody is there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.errors import AlreadyRunningError, ConfigError

if TYPE_CHECKING:
    from typing import Self

START_TIME_FIELD = 22
MOST_WORDS = 3
"""Of a command line, in which the program is named: `python -m unicornd`, `python /opt/bin/gunicorn`."""


class Pidfile:
    """A pidfile that is ours.

    Args:
        path: absolute.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def write(cls, path: Path, pid: int, *, predecessor: int | None = None) -> Self:
        """Write `pid` to `path`; the first line is the pid, as everybody expects, the second its start time.

        While the predecessor of an upgrade has the file, it is `path` with `.2` behind it, as in gunicorn.

        Raises:
            AlreadyRunningError: the process that the file names is there.
            ConfigError: the file cannot be written.
        """
        path = path.absolute()
        owner = owner_of(path)
        if owner is not None and owner == predecessor:
            path = path.with_name(f"{path.name}.2")
        elif owner is not None and owner != pid:
            raise AlreadyRunningError(
                f"already running: {path} names process {owner}, which is there",
                hint="`unicornctl ls` shows the fleets that run; each needs a process.pidfile of its own",
            )
        draft = path.with_name(f".{path.name}.{pid}")
        try:
            draft.write_text(f"{pid}\n{start_time_of(pid)}\n", encoding="ascii")
            draft.chmod(0o644)
            draft.rename(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise ConfigError(f"process.pidfile: cannot write {path}: {error.strerror}") from error
        return cls(path)

    def promote(self, path: Path) -> None:
        """Take the predecessor's file over."""
        path = path.absolute()
        if self._path != path:
            with suppress(OSError):
                self._path.rename(path)
                self._path = path

    def remove(self) -> None:
        """Remove the file if it still names this process."""
        with suppress(OSError):
            if self._path.read_text(encoding="ascii").split()[:1] == [str(os.getpid())]:
                self._path.unlink()


def owner_of(path: Path) -> int | None:
    """Return the pid in the file if that very process is there; None if the file is stale, empty or no pidfile.

    A file with one line (gunicorn's, or somebody's own) is believed if the process is unicornd or gunicorn.
    """
    try:
        fields = path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return None
    if not fields or not fields[0].isdigit():
        return None
    pid = int(fields[0])
    started = start_time_of(pid)
    if not started:
        return None
    if len(fields) > 1:
        return pid if fields[1] == started else None
    return pid if _is_server(pid) else None


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
