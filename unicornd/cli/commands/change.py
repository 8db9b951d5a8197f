"""`unicornctl reload|scale|recycle|reopen`: have the fleet changed, and tell how it went.

Runs in the command's process. Each waits for the end of the operation, not for its acceptance.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from unicornd.cli.plain import printable
from unicornd.cli.progress import conclude, detach, follow, interrupted
from unicornd.cli.session import EPILOG, DryRun, Session, Timeout, Wait, data_console, session_of
from unicornd.config.instance import as_said
from unicornd.control.client import ControlError
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.control.client import Client

app = typer.Typer()

COUNT = re.compile(r"[+-]?[0-9]{1,9}")


@app.command(epilog=EPILOG, short_help="Take new code and configuration, without a gap.")
def reload(
    context: typer.Context, *, wait: Wait = True, timeout: Timeout = 0, dry_run: DryRun = False
) -> int:
    """Read configuration and code anew; the running workers serve until the new ones are ready.

    If the new ones cannot boot, they are dropped and the old ones stay: exit code 5, with the reason.
    """
    return change(session_of(context), "/v1/reload", dry_run=dry_run, wait=wait, timeout=timeout)


@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True})
def scale(
    context: typer.Context,
    count: Annotated[str, typer.Argument(help="8, or relative to now: +2, -1", metavar="COUNT")],
    *,
    save: Annotated[bool, typer.Option("--save", help="Keep it over a restart, in unicornd.d/.")] = False,
    wait: Wait = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Change the number of workers.

    It outlives a reload, unless workers.count in the file has changed; it outlives a restart only with --save.
    """
    if not COUNT.fullmatch(count):
        raise ControlError(
            f"{count!r} is not a number of workers",
            code=CtlExit.USAGE,
            hint="for example: scale 8, scale +2, scale -1",
        )
    body = {"count": count if count[0] in "+-" else int(count), "save": save}
    session = session_of(context)
    code = change(session, "/v1/scale", body=body, dry_run=dry_run, wait=wait, timeout=timeout)
    if save and not dry_run and not session.is_json and code == CtlExit.DONE:
        data_console().print(Text("saved to unicornd.d/: a restart keeps it"))
    return code


@app.command(epilog=EPILOG)
def recycle(
    context: typer.Context,
    slot: Annotated[
        int, typer.Argument(help="the worker's slot, as in `unicornctl workers`", metavar="SLOT", min=0)
    ],
    *,
    wait: Wait = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Replace one worker; it serves until its replacement is ready."""
    return change(
        session_of(context), f"/v1/workers/{slot}/recycle", dry_run=dry_run, wait=wait, timeout=timeout
    )


@app.command(epilog=EPILOG, short_help="Take a new unicornd, Python or environment, without a gap.")
def upgrade(
    context: typer.Context,
    *,
    executable: Annotated[
        str | None,
        typer.Option(
            help="An interpreter that has unicornd, or the program unicornd. Default: those of this unicornctl.",
            metavar="PATH",
        ),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Execute unicornd anew: another release of it, another interpreter, another virtual environment.

    The new one boots beside the running one and takes over when it serves; listeners, kept connections, the number of
    workers, events and counters go on. Before that it is asked for its version. If it does not become ready, it is ended and
    nothing has changed: exit code 5, with the reason.
    """
    session = session_of(context)

    def body(client: Client) -> Mapping[str, object]:
        if executable is None and os.geteuid() not in {0, client.answerer().uid}:
            return {}  # only these two may name a program
        return {"executable": _program(executable) if executable is not None else _own_program()}

    return change(session, "/v1/upgrade", body=body, dry_run=dry_run, wait=wait, timeout=timeout)


def _own_program() -> str:
    """Return the unicornd beside this unicornctl, by the path as it was said; else our interpreter.

    A symbolic link in the path may lead to another release when the fleet is upgraded the next time.
    """
    beside = as_said(Path(sys.argv[0])).with_name("unicornd")
    return str(beside) if beside.is_file() and os.access(beside, os.X_OK) else sys.executable


def _program(said: str) -> str:
    """Return the absolute path of a program, with its symbolic links; a bare name is looked for in PATH."""
    found = shutil.which(said) if "/" not in said else None
    return str(as_said(Path(found or said)))


@app.command(epilog=EPILOG)
def reopen(
    context: typer.Context, *, wait: Wait = True, timeout: Timeout = 0, dry_run: DryRun = False
) -> int:
    """Open the log files anew (after logrotate)."""
    return change(session_of(context), "/v1/reopen", dry_run=dry_run, wait=wait, timeout=timeout)


def change(
    session: Session,
    path: str,
    *,
    dry_run: bool,
    wait: bool,
    timeout: float,
    body: Mapping[str, object] | Callable[[Client], Mapping[str, object]] | None = None,
) -> int:
    """Have something done, and return the exit code that says how it ended; `body` may depend on who is asked."""
    client = session.client() if dry_run else session.client_to_change(path.rpartition("/")[2])
    asked = body(client) if callable(body) else body
    if dry_run:
        return show_plan(session, client.post(f"{path}?dry_run=1", asked))
    try:
        operation = client.post(path, asked)
    except KeyboardInterrupt:
        return interrupted()
    if not wait:
        return show_accepted(session, operation)
    try:
        return conclude(session, follow(client, operation, timeout=timeout))
    except KeyboardInterrupt:
        return detach(operation)


def show_plan(session: Session, plan: dict[str, Any]) -> int:
    """Print what would be done."""
    if session.is_json:
        session.print_json(plan)
        return CtlExit.DONE
    console, plan = data_console(), printable(plan)
    console.print(Text.assemble(("would ", "bold"), plan["title"]))
    for action in plan["actions"]:
        console.print(Text(f"  {action}"), soft_wrap=True)
    return CtlExit.DONE


def show_accepted(session: Session, operation: dict[str, Any]) -> int:
    """Print what has been set going."""
    if session.is_json:
        session.print_json(operation)
    else:
        operation = printable(operation)
        data_console().print(Text(f"{operation['id']}: {operation['title']}"))
    return CtlExit.DONE
