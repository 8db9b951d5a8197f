"""The typer application of `unicornctl`, made of the commands that this run needs.

Runs in the command's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from unicornd.cli.instances import Choice
from unicornd.cli.session import Session
from unicornd.control.client import ControlError
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_USAGE_ERROR = typer.BadParameter.__mro__[1]
"""click's UsageError: newer releases of typer have a copy of click of their own."""

ABOUT = """Run a fleet of Python web workers: start it, look at it, change it, stop it.

Which fleet: -c FILE, --socket PATH or --instance NAME (anywhere on the line), else ./unicornd.toml or
./gunicorn.conf.py; to look, also the only one that runs; to change it, that one is asked about first.

Questions for scripts, answered by exit code: is-running, is-ready, health.

Exit codes: 0 done, 1 failed (or no), 2 usage, 3 nothing is running, 4 no answer or time is up, 5 rolled back, 7 no
permission, 8 another operation is in progress, 78 bad configuration."""


def make_app(parts: Mapping[str, typer.Typer]) -> typer.Typer:
    """Return the application that has the commands of these modules; `config` is a group of its own."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=ABOUT, result_callback=_exit)(_take_options)
    for name, part in parts.items():
        app.add_typer(part, name="config" if name == "config" else None)
    return app


def run_app(parts: Mapping[str, typer.Typer], arguments: Sequence[str], *, is_json: bool) -> int:
    """Run one command out of these modules and return its exit code; `is_json`: raise what was not understood.

    Raises:
        UnicorndError: what the command could not do.
    """
    app = make_app(parts)
    if is_json:
        return _run_for_program(app, arguments)
    try:
        app(list(arguments), prog_name="unicornctl")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _run_for_program(app: typer.Typer, arguments: Sequence[str]) -> int:
    try:
        code = app(list(arguments), prog_name="unicornctl", standalone_mode=False)
    except Exception as error:
        if not isinstance(error, _USAGE_ERROR):
            raise
        message = str(getattr(error, "message", "")) or "a command is missing"
        raise ControlError(message, code=CtlExit.USAGE, hint="--help says what there is") from error
    return code if isinstance(code, int) else 0


def _exit(code: object, **_options: object) -> None:
    """Make what a command returns the exit code."""
    raise typer.Exit(code if isinstance(code, int) else 0)


def _take_options(
    context: typer.Context,
    *,
    config: Annotated[
        str, typer.Option("-c", "--config", metavar="FILE", help="The fleet of this file.")
    ] = "",
    socket: Annotated[str, typer.Option(metavar="PATH", help="The fleet at this control socket.")] = "",
    instance: Annotated[str, typer.Option(metavar="NAME", help="The fleet of this name.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    context.obj = Session(choice=Choice(config=config, socket=socket, instance=instance), is_json=json)
