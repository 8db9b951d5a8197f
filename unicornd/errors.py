"""The exception tree and the exit codes.

Every error that a person may see derives from `UnicorndError`: it says *what* is wrong and *where* (the
message), and *what to do* (the hint), and it knows the exit code it leads to. Exceptions are turned into text
at three borders only: `arbiter.perform` (an event), the connection (a response), `cli.exits` (a message).
"""

from __future__ import annotations

from enum import IntEnum


class DaemonExit(IntEnum):
    """Exit codes of `unicornd`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BOOT = 3
    """A worker cannot boot."""
    APP = 4
    """The application cannot be loaded."""
    CONFIG = 78
    """The configuration is wrong (EX_CONFIG of sysexits.h)."""


class CtlExit(IntEnum):
    """Exit codes of `unicornctl`."""

    DONE = 0
    FAILED = 1
    """Failed; for a predicate: the answer is no."""
    USAGE = 2
    NOT_RUNNING = 3
    UNREACHABLE = 4
    """Cannot be reached, or the time is up; what the fleet does is not known."""
    ROLLED_BACK = 5
    """The operation failed and the old state was kept."""
    PERMISSION = 7
    BUSY = 8
    """Another operation is in progress."""
    CONFIG = 78


class UnicorndError(Exception):
    """An error that a person is told about.

    Args:
        message: what is wrong and where, one sentence without a final full stop.
        hint: what to do about it, or empty.
        detail: further lines, such as a traceback, or empty.
    """

    exit_code: DaemonExit = DaemonExit.FAILED

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class ConfigError(UnicorndError):
    """The configuration is wrong; nothing was changed."""

    exit_code = DaemonExit.CONFIG


class FileError(UnicorndError):
    """A file cannot be written; `is_denied` if that is not allowed."""

    def __init__(self, message: str, *, hint: str = "", detail: str = "", is_denied: bool = False) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.is_denied = is_denied


class AppError(UnicorndError):
    """The application cannot be loaded: the module or the attribute is not there, or not callable."""

    exit_code = DaemonExit.APP


class BootError(UnicorndError):
    """A worker cannot boot: the application raised while it was imported, or its surroundings are wrong."""

    exit_code = DaemonExit.BOOT


class ListenError(UnicorndError):
    """An address cannot be listened on."""


class AlreadyRunningError(UnicorndError):
    """The same instance is running already."""
