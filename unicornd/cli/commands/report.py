"""`unicornctl status|workers|events|ls|version`: look, and change nothing.

Runs in the command's process. They end with 0 when they could look, whatever they saw: predicates judge.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from unicornd import __version__
from unicornd.cli.instances import running_addresses
from unicornd.cli.plain import printable
from unicornd.cli.render import event_text, fleets_table, local_time, status_screen, workers_table
from unicornd.cli.session import EPILOG, Session, data_console, print_screen, session_of
from unicornd.control.client import PATIENCE, Client, ControlError, StrangerError
from unicornd.control.wording import duration
from unicornd.errors import CtlExit
from unicornd.escaping import json_text, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer()

STRANGE_PATIENCE = 2.0
"""Seconds that `ls` gives an abstract name, which anybody may hold who never answers."""

WATCH_PAUSE = 1.0
"""Seconds between two looks with `--watch`."""


@app.command(epilog=EPILOG)
def status(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on looking, every second.")] = False,
) -> int:
    """Show the fleet on one screen."""
    session = session_of(context)
    client = session.client()
    console = data_console()

    def look() -> RenderableType:
        return status_screen(printable(client.get("/v1/status")), width=console.width, now=_now())

    if session.is_json:
        session.print_json(client.get("/v1/status"))
    elif watch and console.is_terminal:
        _watch(client, width=console.width)
    else:
        print_screen(console, look())
    return CtlExit.DONE


def _now() -> datetime:
    return datetime.now().astimezone()


def _watch(client: Client, *, width: int) -> None:
    with Live(console=data_console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(
                status_screen(printable(client.get("/v1/status")), width=width, now=_now()), refresh=True
            )
            time.sleep(WATCH_PAUSE)


@app.command(epilog=EPILOG)
def workers(context: typer.Context) -> int:
    """Show all workers."""
    session = session_of(context)
    document = session.client().get("/v1/workers")
    if session.is_json:
        session.print_json(document)
    else:
        console = data_console()
        print_screen(console, workers_table(printable(document)["workers"], width=console.width))
    return CtlExit.DONE


@app.command(epilog=EPILOG, short_help="Show what has happened: starts, deaths, scales, reloads.")
def events(
    context: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="How many past events.")] = 20,
) -> int:
    """Show what has happened: starts, deaths, scales, reloads; with --follow --json, one object a line."""
    session = session_of(context)
    client = session.client()
    lines = client.ask("GET", "/v1/events?since=0&follow=0").body.splitlines()
    last = json.loads(lines[-1])["seq"] if lines else 0
    past = lines[-number:] if number else []
    if session.is_json and not follow:
        session.print_json({"schema": 1, "events": [json.loads(line) for line in past]})
        return CtlExit.DONE
    for line in past:
        _print_event(session, line)
    if follow:
        for line in client.lines(f"/v1/events?since={last}"):
            _print_event(session, line)
    return CtlExit.DONE


def _print_event(session: Session, line: bytes) -> None:
    if session.is_json:
        sys.stdout.write(json_text(line.decode()) + "\n")
        sys.stdout.flush()
        return
    event = printable(json.loads(line))
    at = Text(f"{local_time(event['at'], now=_now())}  ", style="dim")
    data_console().print(Text.assemble(at, event_text(event)), soft_wrap=True)


@app.command(epilog=EPILOG)
def ls(context: typer.Context) -> int:
    """List the fleets that run on this machine and may be looked at."""
    session = session_of(context)
    fleets = [_fleet(address) for address in running_addresses(with_strangers=True)]
    if session.is_json:
        session.print_json({"schema": 1, "fleets": fleets})
    elif fleets:
        console = data_console()
        rows = [_fleet_row(printable(fleet)) for fleet in fleets]
        print_screen(console, fleets_table(rows))
    else:
        sys.stderr.write("nothing is running\n")
    return CtlExit.DONE


def _fleet(address: str) -> dict[str, Any]:
    """Return what `ls` shows of a fleet; of one that does not answer, why; of a stranger's socket, who it is."""
    is_foreign, error_text = False, ""
    try:
        patience = STRANGE_PATIENCE if address.startswith("@") else PATIENCE
        status = Client(address=address).get("/v1/status", patience=patience)
        if "arbiter" in status:
            return {"socket": address, "is_foreign": False, "error": "", "status": status}
        error_text = "what answers there is not unicornd"
    except StrangerError as error:
        is_foreign, error_text = True, error.message
    except ControlError as error:
        error_text = error.message
    return {"socket": address, "is_foreign": is_foreign, "error": error_text, "status": None}


def _fleet_row(fleet: dict[str, Any]) -> dict[str, str]:
    status = fleet["status"]
    if status is None:
        unknown = {"pid": "", "workers": "", "up": "", "listens": fleet["error"]}
        return {
            "instance": fleet["socket"],
            "state": "foreign" if fleet["is_foreign"] else "unknown",
            **unknown,
        }
    ready = sum(worker["phase"] == "ready" for worker in status["workers"])
    return {
        "instance": status["instance"],
        "state": status["state"],
        "pid": str(status["arbiter"]["pid"]),
        "workers": f"{ready}/{status['wanted']['count']}",
        "up": duration(status["arbiter"]["uptime"]),
        "listens": "  ".join(listener["address"] for listener in status["listeners"]),
    }


@app.command(epilog=EPILOG)
def version(context: typer.Context) -> int:
    """Show the version of unicornctl, and of the fleet if it runs."""
    session = session_of(context)
    try:
        running = session.client().get("/v1/status")["arbiter"]["version"]
    except ControlError:
        running = None
    if session.is_json:
        session.print_json({"schema": 1, "unicornctl": __version__, "unicornd": running})
    else:
        other = f" (the running unicornd: {one_line(running)})" if running not in {None, __version__} else ""
        sys.stdout.write(f"unicornd {__version__}{other}\n")
    return CtlExit.DONE
