"""`unicornctl`: the command line that a person runs a fleet with.

Runs in the command's process; talks to the control socket like anybody else. `main` answers predicates before it
imports typer, and of the commands it imports only the module that is needed, so `status` does not pay for `start`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from unicornd.cli import predicates
from unicornd.cli.exits import INTERRUPTED, end_of_pipe, report, system_error
from unicornd.control.client import ControlError
from unicornd.errors import CtlExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GLOBAL_OPTIONS: Mapping[str, str] = {
    "-c": "-c",
    "--config": "-c",
    "--socket": "--socket",
    "--instance": "--instance",
}
"""Options with a value that may stand anywhere; `--json` may too."""

COMPLETE = "__complete"
"""What the scripts of `unicornctl completion` ask."""

COMMANDS: Mapping[str, str] = {
    "start": "lifecycle",
    "stop": "lifecycle",
    "restart": "lifecycle",
    "reload": "change",
    "scale": "change",
    "recycle": "change",
    "reopen": "change",
    "upgrade": "change",
    "status": "report",
    "workers": "report",
    "top": "look",
    "stacks": "look",
    "postmortem": "look",
    "events": "report",
    "logs": "logs",
    "ls": "report",
    "version": "report",
    "config": "config",
    "completion": "completion",
}
"""Which module of `cli.commands` has which command, in the order of the help."""


def main() -> None:
    """Run `unicornctl` with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the terminal lacks becomes "?", not a traceback
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if arguments[:1] == [COMPLETE]:
        from unicornd.cli import complete  # noqa: PLC0415 - of no use to any command

        return complete.main(arguments[1:])
    arguments = gather_options(arguments)
    is_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    name = command_of(arguments)
    if not name and "--version" in arguments:
        name, arguments = "version", [*(word for word in arguments if word != "--version"), "version"]
    try:
        if is_json and "--help" in arguments:
            raise ControlError("there is no --help as JSON", code=CtlExit.USAGE, hint="leave out --json")
        check_values(arguments)
        if name in predicates.ABOUT:
            options = arguments[: arguments.index(name)]
            return predicates.main([name, *options, *arguments[len(options) + 1 :]])
        return _run_command(name, arguments, is_json=is_json)
    except UnicorndError as error:
        return report(error, is_json=is_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return end_of_pipe()
    except OSError as error:
        return report(system_error(error), is_json=is_json)


def _run_command(name: str, arguments: Sequence[str], *, is_json: bool) -> int:
    from unicornd.cli.frame import run_app  # noqa: PLC0415 - typer costs more time than a predicate may take

    modules = dict.fromkeys([COMMANDS[name]] if name in COMMANDS else COMMANDS.values())
    parts = {module: import_module(f"unicornd.cli.commands.{module}").app for module in modules}
    return run_app(parts, arguments, is_json=is_json)


def command_of(arguments: Sequence[str]) -> str:
    """Return the name of the command, or an empty string."""
    words = iter(arguments)
    for word in words:
        if word in GLOBAL_OPTIONS:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def gather_options(arguments: Sequence[str]) -> list[str]:
    """Put the options that every command has before the command, wherever they stand.

    The commands of `config` have their own, behind their names: there they are put at the end of the options.
    """
    found: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in GLOBAL_OPTIONS:
            found += [GLOBAL_OPTIONS[name], value if equals else next(words, "")]
        elif word == "--json":
            found.append(word)
        else:
            rest.append(word)
    if command_of(rest) != "config":
        return [*found, *rest]
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *found, *rest[end:]]


def check_values(arguments: Sequence[str]) -> None:
    """Refuse `-c` and the like without a value: an unset variable of a script must not mean another fleet.

    Raises:
        ControlError: there is one.
    """
    words = iter(arguments)
    for word in words:
        if word == "--":
            return
        if word in GLOBAL_OPTIONS and not next(words, ""):
            raise ControlError(f"{word} has no value: which fleet is meant?", code=CtlExit.USAGE)


if __name__ == "__main__":
    main()
