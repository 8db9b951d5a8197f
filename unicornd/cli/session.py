"""What all commands of `unicornctl` share: which fleet, what form of output, where it goes.

Runs in the command's process. Data goes to stdout, everything that is said about it to stderr; with `--json` stdout
has one JSON document (or one a line, for streams) and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from unicornd.cli.exits import may_colour
from unicornd.cli.instances import Choice, find_client, find_fleet, how_to_name
from unicornd.control.client import ControlError
from unicornd.dataclass import dataclass
from unicornd.errors import CtlExit
from unicornd.escaping import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from rich.console import RenderableType

    from unicornd.control.client import Client

EPILOG = "As with every command: -c FILE, --socket PATH or --instance NAME say which fleet, --json is for programs."

Wait = Annotated[bool, typer.Option(help="Wait for the end of the operation and show its steps.")]
Timeout = Annotated[
    float,
    typer.Option(
        help="Seconds to wait at most; the operation itself goes on. 0: no limit.", min=0, metavar="SECONDS"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of `unicornctl`."""

    choice: Choice
    is_json: bool

    def client(self) -> Client:
        """Return a client for the fleet that is to be looked at; one that was guessed is named on stderr.

        Raises:
            ControlError: it does not run, or it is not clear which one is meant.
        """
        return find_client(self.choice)

    def client_to_change(self, deed: str) -> Client:
        """Return a client for the fleet that `deed` (`stop`, `reload` …) is to be done to; it is never guessed.

        If nobody has named one and only one runs, somebody at a terminal is asked whether that is meant.

        Raises:
            ControlError: it does not run, or it is not clear which one is meant, or the answer was no.
        """
        found = find_fleet(self.choice)
        if found.is_guessed:
            _confirm(found.client, deed)
        return found.client

    def print_json(self, document: Mapping[str, Any]) -> None:
        """Print a document: indented for a person's eyes, on one line for a program's."""
        indent = 2 if sys.stdout.isatty() else None
        sys.stdout.write(json_text(json.dumps(document, indent=indent, ensure_ascii=False)) + "\n")
        sys.stdout.flush()


def _confirm(client: Client, deed: str) -> None:
    """Ask whether the only fleet that runs is the one that is meant.

    Raises:
        ControlError: nobody is there to be asked, or the answer was no.
    """
    status = client.get("/v1/status")
    which = f"{status['instance']} (pid {status['arbiter']['pid']}, {client.address})"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ControlError(
            f"{deed}: no fleet is named; the only one that runs is {which}",
            code=CtlExit.USAGE,
            hint=f"{how_to_name(client.address)} means it; so do -c FILE, --socket PATH, or its folder",
        )
    sys.stderr.write(f"{deed} {one_line(which)}, the only fleet that runs? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ControlError("nothing was done", code=CtlExit.FAILED)


def session_of(context: typer.Context) -> Session:
    """Return the session that `ctl.main` has put into the context."""
    session = context.find_root().obj
    assert isinstance(session, Session)  # noqa: S101 - set by our own callback; tells the type checker
    return session


def data_console() -> Console:
    """The console on stdout."""
    return _console(sys.stdout)


def note_console() -> Console:
    """The console on stderr: steps, hints, progress."""
    return _console(sys.stderr)


def print_screen(console: Console, screen: RenderableType) -> None:
    """Print something that fills lines with blanks; what is kept in a file or a pipe goes without them."""
    if console.is_terminal:
        console.print(screen)
        return
    with console.capture() as captured:
        console.print(screen)
    text = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    console.file.write(text)


def _console(stream: TextIO) -> Console:
    """A console that colours only what a person looks at, and knows how wide that is."""
    is_coloured = may_colour(stream)
    columns = os.environ.get("COLUMNS", "")
    return Console(
        file=stream,
        highlight=False,
        emoji=False,
        markup=False,
        no_color=not is_coloured,
        color_system="auto" if is_coloured else None,
        width=int(columns) if columns.isdigit() and int(columns) else None,
    )
