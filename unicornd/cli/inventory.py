"""What `unicornctl` and `unicornd` take on their command lines, as values: for completion and for the manual pages.

Run by `cli.generate` and by the tests only: it builds the whole typer application, which takes longer than a completion may.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import typer

from unicornd.cli import predicates
from unicornd.cli.ctl import COMMANDS
from unicornd.cli.frame import make_app
from unicornd.config.gunicorn import ROWS
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        names: all of them, those that switch it off, too.
        metavar: what its value is called; empty for one without a value.
        form: whether a value has to follow, may follow, or never does.
        about: one line.
        keys: the settings that a flag of `unicornd` says.
    """

    names: tuple[str, ...]
    metavar: str = ""
    form: Literal["value", "optional", "switch"] = "switch"
    about: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: its words (`config check`), what it is for, in a line and in full, and what it takes."""

    name: str
    about: str
    text: str
    arguments: tuple[tuple[str, str], ...] = ()
    options: tuple[Option, ...] = ()


def commands() -> list[Command]:
    """Return all commands of `unicornctl`, in the order of its help; the questions of scripts stand last."""
    modules = dict.fromkeys(COMMANDS.values())
    parts = {module: import_module(f"unicornd.cli.commands.{module}").app for module in modules}
    made = typer.main.get_command(make_app(parts))
    found = {command.name: command for command in _commands_of(made, above="")}
    order = [name for top in COMMANDS for name in found if name.split()[0] == top]
    return [*(found[name] for name in order), *_questions()]


def global_options() -> tuple[Option, ...]:
    """Return the options that every command of `unicornctl` takes."""
    return (
        *_options(typer.main.get_command(make_app({}))),
        Option(names=("-h", "--help"), about="Show the help."),
    )


def flags() -> list[Option]:
    """Return the flags of `unicornd`."""
    kinds: dict[str, Literal["value", "optional", "switch"]] = {"switch": "switch", "optional": "optional"}
    found = [
        Option(
            names=row.flags,
            metavar=row.metavar,
            form=kinds.get(row.form, "value"),
            about=row.about,
            keys=row.keys,
        )
        for row in ROWS
        if row.flags and row.fate in {"setting", "command"}
    ]
    return [
        *found,
        Option(
            names=("--set",),
            metavar="KEY=VALUE",
            form="value",
            about="Any setting, such as --set reload.surge=2.",
        ),
        Option(names=("-h", "--help"), about="Show the help."),
        Option(names=("-v", "--version"), about="Show the version."),
    ]


def _commands_of(group: Any, *, above: str) -> Iterator[Command]:  # noqa: ANN401 - click's or typer's copy of it
    for name, command in group.commands.items():
        words = f"{above} {name}".strip()
        if hasattr(command, "commands"):
            yield Command(name=words, about=_line(command), text=command.help or "")
            yield from _commands_of(command, above=words)
            continue
        arguments = tuple(
            (each.metavar or each.name.upper(), getattr(each, "help", "") or "")
            for each in command.params
            if not each.opts[0].startswith("-")
        )
        yield Command(
            name=words,
            about=_line(command),
            text=command.help or "",
            arguments=arguments,
            options=tuple(_options(command)),
        )


def _options(command: Any) -> Iterator[Option]:  # noqa: ANN401 - likewise
    for each in command.params:
        if each.opts[0].startswith("-") and not each.hidden:
            yield Option(
                names=(*each.opts, *each.secondary_opts),
                metavar="" if each.is_flag else each.metavar or "NUMBER",
                form="switch" if each.is_flag else "value",
                about=each.help or "",
            )


def _line(command: Any) -> str:  # noqa: ANN401 - likewise
    return str(command.short_help or (command.help or "").partition("\n")[0])


def _questions() -> Sequence[Command]:
    options = (
        Option(names=("--wait",), metavar="SECONDS", form="value", about="Ask until the answer is yes."),
        Option(names=("-q", "--quiet"), about="Say nothing: the exit code answers."),
    )
    return [
        Command(
            name=name,
            about=about.partition("?")[0] + "?",
            text=f"{about}\n\nExit code 0 is yes, 1 is no.",
            options=options,
        )
        for name, about in predicates.ABOUT.items()
    ]
