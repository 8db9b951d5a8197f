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
from unicornd.config.flags import FLAGS, FlagError, read_command_line
from unicornd.config.layers import Sources
from unicornd.errors import DaemonExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.config.flags import CommandLine

USAGE = """\
Usage: unicornd [OPTIONS] [APPLICATION]

Supervise a fleet of workers that serve APPLICATION ("module:attribute"), as unicornd.toml declares it.

  -c, --config FILE            Configuration file. Default: ./unicornd.toml, if it is there.
  --check-config               Say whether the configuration is right, and exit.
  -h, --help                   Show this, and exit.
  -v, --version                Show the version, and exit.
"""


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
        sys.stdout.write(USAGE + _flags_help())
        return DaemonExit.OK
    if "version" in command.actions:
        sys.stdout.write(f"unicornd {__version__}\n")
        return DaemonExit.OK
    return _run(command)


def _run(command: CommandLine) -> int:
    from unicornd.daemon import check_config, run_daemon  # noqa: PLC0415 - --help needs none of it

    sources = Sources(
        config_file=Path(command.config) if command.config else None,
        environ=dict(os.environ),
        given=command.given,
        folder=Path.cwd(),
    )
    try:
        if "check-config" in command.actions:
            check_config(sources)
            sys.stdout.write("the configuration is right\n")
            return DaemonExit.OK
        return run_daemon(sources)
    except UnicorndError as error:
        return _fail(error)


def _fail(error: UnicorndError) -> int:
    from unicornd.daemon import describe  # noqa: PLC0415 - only when something is wrong

    sys.stderr.write(describe(error) + "\n")
    return error.exit_code


def _flags_help() -> str:
    lines = []
    for flag in FLAGS:
        names = ", ".join(flag.names) + ("" if flag.form == "switch" else f" {flag.metavar}")
        name_width = 27
        separator = " " if len(names) <= name_width else "\n" + " " * 30
        lines.append(f"  {names:<{name_width}} {separator.strip(' ')}{flag.about}")
    return "\n".join(lines) + "\n"
