"""Errors → what a person is told, and the exit code: the last border of `unicornctl`.

Runs in the command's process, for predicates too: standard library only. Text goes to stderr; stdout is for data: with
`--json` it gets the error as a document of the shape that the arbiter gives a refusal (`control.protocol.Problem`).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from unicornd.control.client import ControlError
from unicornd.control.wording import condensed
from unicornd.errors import ConfigError, CtlExit, FileError
from unicornd.escaping import json_text, one_line
from unicornd.escaping import lines as plain_lines

if TYPE_CHECKING:
    from typing import TextIO

    from unicornd.errors import UnicorndError

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a program that Ctrl-C has ended."""

PIPE_CLOSED = 141
"""128 + SIGPIPE, what a shell sees of a program whose reader (`head`) has gone."""

_RED, _DIM, _RESET = "\x1b[1;31m", "\x1b[2m", "\x1b[0m"


def report(
    error: UnicorndError, *, stream: TextIO | None = None, is_json: bool = False, is_quiet: bool = False
) -> int:
    """Tell a person what went wrong, and with `is_json` a program; return the exit code."""
    if is_json:
        print_error(error)
    if is_quiet:
        return exit_code(error)
    stream = stream or sys.stderr
    red, dim, reset = (_RED, _DIM, _RESET) if may_colour(stream) else ("", "", "")
    lines = [f"{red}unicornctl:{reset} {one_line(error.message)}"]
    lines += [f"  {line}" if line else "" for line in plain_lines(condensed(error.detail)).splitlines()]
    if error.hint:
        lines.append(f"  {dim}{one_line(error.hint)}{reset}")
    stream.write("\n".join(lines) + "\n")
    return exit_code(error)


def print_error(error: UnicorndError) -> None:
    """Print the document of an error on stdout."""
    problem = {
        "message": error.message,
        "hint": error.hint,
        "detail": error.detail,
        "exit_code": int(exit_code(error)),
        "operation": error.operation if isinstance(error, ControlError) else "",
    }
    sys.stdout.write(json_text(json.dumps({"schema": 1, "error": problem}, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def end_of_pipe() -> int:
    """Whoever read our output has gone: have the rest of it go nowhere, and return the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return PIPE_CLOSED


def system_error(error: OSError) -> ControlError:
    """Return what a person is told of a file or folder that nobody has expected to be out of reach."""
    code = CtlExit.PERMISSION if isinstance(error, PermissionError) else CtlExit.FAILED
    where = error.filename or "the working directory"  # getcwd(2) names none
    return ControlError(f"{where}: {(error.strerror or str(error)).lower()}", code=code)


def exit_code(error: UnicorndError) -> int:
    """Return the exit code of unicornctl for an error."""
    match error:
        case ControlError():
            return error.code
        case ConfigError():
            return CtlExit.CONFIG
        case FileError(is_denied=True):
            return CtlExit.PERMISSION
        case _:
            return CtlExit.FAILED


def may_colour(stream: TextIO) -> bool:
    """Whether colour is welcome there: a terminal, and nobody said no (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
