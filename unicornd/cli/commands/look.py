"""`unicornctl top|stacks|postmortem`: look closer, at what workers do and at how they ended.

Runs in the command's process.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from unicornd.cli.plain import printable
from unicornd.cli.render import local_time, workers_table
from unicornd.cli.session import EPILOG, data_console, print_screen, session_of
from unicornd.control.client import ControlError
from unicornd.control.wording import duration, plural, size
from unicornd.errors import CtlExit
from unicornd.frames import without_ours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from unicornd.control.client import Client

app = typer.Typer()

PAUSE = 1.0
"""Seconds between two looks of `top`."""


@app.command(epilog=EPILOG)
def top(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look for one second, print, and end.")] = False,
) -> int:
    """Watch the workers, the busiest first."""
    session = session_of(context)
    client = session.client()
    before = client.get("/v1/status")
    console = data_console()
    if once or not console.is_terminal:
        after = _later(client)
        if session.is_json:
            session.print_json({"schema": 1, "requests_per_second": _rate(before, after), "status": after})
        else:
            print_screen(console, _screen(before, printable(after), width=console.width))
        return CtlExit.DONE
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            after = _later(client)
            live.update(_screen(before, printable(after), width=console.width), refresh=True)
            before = after


def _later(client: Client) -> dict[str, Any]:
    time.sleep(PAUSE)
    return client.get("/v1/status")


def _rate(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    seconds = after["arbiter"]["uptime"] - before["arbiter"]["uptime"]
    answered = after["totals"]["requests"] - before["totals"]["requests"]
    return round(answered / seconds, 1) if seconds > 0 else 0.0


def _screen(before: Mapping[str, Any], after: Mapping[str, Any], *, width: int) -> RenderableType:
    earlier = {worker["pid"]: worker["requests"] for worker in before["workers"]}
    busiest = sorted(
        after["workers"],
        key=lambda worker: (
            -worker["busy"],
            -(worker["requests"] - earlier.get(worker["pid"], 0)),
            worker["slot"],
        ),
    )
    busy = sum(worker["busy"] for worker in busiest)
    connections = sum(worker["connections"] for worker in busiest)
    queued = sum(listener["queue"] or 0 for listener in after["listeners"])
    facts = f"{_rate(before, after):,.0f} requests/s, {busy} running, {queued} waiting, {plural(connections, 'connection')}"
    title = Text.assemble((after["instance"], "bold"), f"  {after['state']}  ", (facts, "dim"))
    return Group(title, Text(), workers_table(busiest, width=width))


@app.command(epilog=EPILOG, short_help="Show what the threads of a worker are doing.")
def stacks(
    context: typer.Context,
    slot: Annotated[int, typer.Argument(metavar="SLOT", help="The worker's slot.", min=1)],
    *,
    everything: Annotated[
        bool,
        typer.Option("--all", help="With unicornd's own frames, and the threads that wait for requests."),
    ] = False,
) -> int:
    """Show what the threads of a worker are doing, even if it is stuck."""
    session = session_of(context)
    found = session.client().post(f"/v1/workers/{slot}/stacks")
    if session.is_json:
        session.print_json(found)
        return CtlExit.DONE
    if not found["stacks"]:
        raise ControlError(
            f"worker {slot} (pid {found['pid']}) has not written its stacks",
            code=CtlExit.FAILED,
            hint="it is booting, or stopped by a signal",
        )
    found = printable(found)
    for request in found["now"]:
        sys.stdout.write(f"{duration(request['age'])} {request['request']}\n")
    sys.stdout.write(
        found["stacks"] if everything else without_ours(found["stacks"], hint=": --all shows them")
    )
    return CtlExit.DONE


@app.command(epilog=EPILOG, short_help="Show how workers died, and what they were serving.")
def postmortem(
    context: typer.Context,
    slot: Annotated[int | None, typer.Argument(metavar="[SLOT]", help="Only of this slot.", min=1)] = None,
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many.")] = 5,
) -> int:
    """Show how workers ended that died, or had to be ended: by what, and what they were serving."""
    session = session_of(context)
    document = session.client().get("/v1/postmortems")
    kept = [each for each in document["postmortems"] if slot in {None, each["slot"]}][:number]
    if session.is_json:
        session.print_json({**document, "postmortems": kept})
    elif kept:
        now = datetime.now().astimezone()
        sys.stdout.write("\n".join(line for each in kept for line in _told(printable(each), now=now)) + "\n")
    else:
        sys.stderr.write("no worker has died\n")
    return CtlExit.DONE


def _told(died: Mapping[str, Any], *, now: datetime) -> Sequence[str]:
    how = _signal(died["signal"]) if died["signal"] is not None else f"exit code {died['code']}"
    told = f", after it was told to {died['told']}" if died["told"] else ""
    oom = ", out of memory" if died["was_oom"] else ""
    lines = [
        (
            f"{local_time(died['at'], now=now)}  {died['name']} (pid {died['pid']}, generation {died['generation']}): "
            f"{how}{told}{oom}"
        ),
        f"  lived {duration(died['lived'])}, answered {died['requests']:,}, had {size(died['peak_memory'])} at most",
    ]
    lines += [f"  lost {duration(each['age'])} {each['request']}" for each in died["lost"]]
    lines += [
        f"  answered 504 after {duration(each['age'])}: {each['request']}"
        for each in died.get("timed_out", ())
    ]
    if died.get("count", 1) > 1:
        first = local_time(died["first_at"], now=now)
        lines.append(f"  the same failure {died['count']} times since {first}; this is the last one")
    lines += [f"  {died['failure'].partition(chr(10))[0]}"] if died["failure"] else []
    return lines + [f"  {line}" for line in died.get("stacks", "").splitlines()]


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
