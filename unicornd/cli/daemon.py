"""`unicornd`: the command that becomes the arbiter.

Reads its arguments with the table in `config/flags.py` and nothing else: no typer and no rich, which would cost more
than the whole rest of the start, and stay in the memory of every worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd import __version__
from unicornd.config.flags import FlagError, read_command_line
from unicornd.errors import DaemonExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.flags import CommandLine
    from unicornd.config.layers import Sources


def main() -> None:
    """Run `unicornd` with the arguments of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `unicornd` and return its exit code."""
    try:
        command = read_command_line(arguments)
    except FlagError as error:
        return _fail(error)
    if "help" in command.actions:
        from unicornd.config.usage import help_text  # noqa: PLC0415 - the daemon needs none of it

        sys.stdout.write(help_text())
        return DaemonExit.OK
    if "version" in command.actions:
        sys.stdout.write(f"unicornd {__version__}\n")
        return DaemonExit.OK
    return _run(command)


def _run(command: CommandLine) -> int:
    from unicornd.config.layers import Sources  # noqa: PLC0415 - --help needs none of it
    from unicornd.daemon import run_daemon  # noqa: PLC0415 - likewise

    sources = Sources(
        config_file=Path(command.config) if command.config else None,
        environ=dict(os.environ),
        given=command.given,
        folder=Path.cwd(),
    )
    try:
        if command.actions:
            return _tell_somebody(command, sources)
        return run_daemon(sources)
    except UnicorndError as error:
        return _fail(error)


def _tell_somebody(command: CommandLine, sources: Sources) -> int:
    from unicornd.cli.exits import end_of_pipe  # noqa: PLC0415 - the daemon needs none of it

    try:
        code = _tell(command, sources)
        sys.stdout.flush()
    except BrokenPipeError:
        return end_of_pipe()
    return code


def _tell(command: CommandLine, sources: Sources) -> int:
    """Show the settings, if that is asked for; then say whether they are right.

    Raises:
        UnicorndError: they are not.
    """
    from unicornd.config.layers import load  # noqa: PLC0415 - likewise
    from unicornd.config.show import print_lines  # noqa: PLC0415 - the daemon needs none of it
    from unicornd.daemon import check_config  # noqa: PLC0415 - likewise

    loaded = load(sources)
    if "print-config" in command.actions:
        sys.stdout.write("".join(f"{line}\n" for line in print_lines(loaded)))
    for note in (*loaded.notes, *command.notes):
        sys.stderr.write(f"{note}\n")
    check_config(sources)
    sys.stdout.write("the configuration is right\n")
    return DaemonExit.OK


def _fail(error: UnicorndError) -> int:
    from unicornd.daemon import describe  # noqa: PLC0415 - only when something is wrong

    sys.stderr.write(describe(error) + "\n")
    return error.exit_code
