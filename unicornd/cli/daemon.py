"""`unicornd`: the command that becomes the arbiter.

Reads its arguments with the table in `config/flags.py` and nothing else: no typer and no rich, which would cost more
than the whole rest of the start, and stay in the memory of every worker.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.apart import Apart
from unicornd.errors import DaemonExit, UnicorndError
from unicornd.escaping import one_line
from unicornd.inherited import settle_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.flags import CommandLine
    from unicornd.config.loaded import Loaded, Sources

    Asked = tuple[Sources, Loaded]

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a program that Ctrl-C has ended."""

TOLD = frozenset({"-h", "--help", "-v", "--version", "--check-config", "--print-config"})
"""Flags after which nothing is served, most of the time."""


def main() -> None:
    """Run `unicornd` with the arguments of this process."""
    settle_process()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `unicornd` and return its exit code.

    What is asked for is read in a process of its own, and meanwhile this one imports what the arbiter needs.
    """
    try:
        gc.disable()  # until the fleet is put together: what is imported stays
        reading = Apart(partial(_read, arguments))
        is_told = bool(TOLD.intersection(arguments))
        if not is_told:
            from unicornd.daemon import settle  # noqa: PLC0415 - takes as long as the reading

            settle()
        asked = reading.result(is_reaped=is_told)  # else by the arbiter: its memory takes a while to be freed
        if isinstance(asked, int):
            return asked
        return _serve(asked)
    except UnicorndError as error:
        return _fail(error)
    except (
        KeyboardInterrupt
    ):  # before there is a fleet to stop, or while a daemon is waited for, which goes on
        return INTERRUPTED


def _serve(asked: Asked | UnicorndError) -> int:
    from unicornd.daemon import run_daemon  # noqa: PLC0415 - not for those who only ask

    def first() -> tuple[Sources, Loaded]:
        if isinstance(asked, UnicorndError):
            raise asked
        return asked

    return run_daemon(first)


def _read(arguments: Sequence[str]) -> int | Asked | UnicorndError:
    """Read the command line; tell what it asks for and return the exit code, or what is to be served.

    What is wrong with the configuration is returned: in an upgrade, the predecessor has to be told.

    Raises:
        FlagError: it is no command line of ours.
    """
    from unicornd.config.flags import read_command_line  # noqa: PLC0415 - not in the arbiter
    from unicornd.config.instance import working_folder  # noqa: PLC0415 - likewise
    from unicornd.config.loaded import Sources  # noqa: PLC0415 - likewise

    command = read_command_line(arguments)
    if "help" in command.actions:
        from unicornd.config.usage import help_text  # noqa: PLC0415 - the daemon needs none of it

        sys.stdout.write(help_text())
        return DaemonExit.OK
    if "version" in command.actions:
        from unicornd.arbiter.upgrade.candidate import version_line  # noqa: PLC0415 - the daemon needs none of it

        sys.stdout.write(f"{version_line()}\n")
        return DaemonExit.OK
    sources = Sources(
        config_file=Path(command.config) if command.config else None,
        environ=dict(os.environ),
        given=command.given,
        folder=working_folder(),
    )
    if command.actions:
        return _tell_somebody(command, sources)
    from unicornd.arbiter.reading import read  # noqa: PLC0415 - not in the arbiter

    try:
        return sources, read(sources)
    except UnicorndError as error:
        return error


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
    from unicornd.arbiter.preflight import check  # noqa: PLC0415 - likewise
    from unicornd.config.exposed import exposed  # noqa: PLC0415 - likewise
    from unicornd.config.layers import load  # noqa: PLC0415 - likewise
    from unicornd.config.show import print_lines  # noqa: PLC0415 - the daemon needs none of it

    loaded = load(sources)
    if "print-config" in command.actions:
        sys.stdout.write("".join(f"{one_line(line)}\n" for line in print_lines(loaded)))
    for note in (*loaded.notes, *loaded.losses, *command.notes):
        sys.stderr.write(f"{one_line(note)}\n")
    check(loaded)
    for line in exposed(loaded.settings, uid=os.geteuid()):
        sys.stderr.write(f"warning: {one_line(line)}\n")
    if "check-config" in command.actions:
        from unicornd.arbiter.rehearsal import rehearse  # noqa: PLC0415 - likewise

        rehearse(loaded)
    sys.stdout.write("the configuration is right\n")
    return DaemonExit.OK


def _fail(error: UnicorndError) -> int:
    from unicornd.daemon import describe  # noqa: PLC0415 - only when something is wrong

    sys.stderr.write(describe(error) + "\n")
    return error.exit_code
