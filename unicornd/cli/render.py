"""The status of a fleet on one screen: a status document → what rich draws.

Runs in the command's process; pure, so the golden screens in `tests/golden` are made from a fixed document. Nothing
is said by colour alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unicornd.control.wording import duration, percent, plural, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

Document = dict[str, Any]

MAX_ROWS = 20
"""Workers on the status screen; those that something is up with come first. `unicornctl workers` shows all."""

ROOMY = 100
"""Columns from which there is room for wide gaps between columns."""

SLOW_REQUEST = 10.0
"""Seconds from which a running request is shown as remarkable."""

STATE_STYLES: Mapping[str, str] = {
    "ready": "bold green",
    "starting": "bold yellow",
    "reloading": "bold cyan",
    "scaling": "bold cyan",
    "saturated": "bold yellow",
    "degraded": "bold red",
    "crash-looping": "bold red",
    "stopping": "bold yellow",
    "empty": "bold red",
}
PHASE_STYLES: Mapping[str, str] = {
    "ready": "green",
    "booting": "cyan",
    "retiring": "yellow",
    "draining": "yellow",
    "dying": "red",
}


def status_screen(status: Document, *, width: int, now: datetime) -> RenderableType:
    """The whole screen; `now` is aware of the time zone that times are shown in."""
    return Group(
        _title(status, width=width, now=now),
        _facts(status, now=now),
        Text(),
        workers_table(select_workers(status["workers"]), width=width),
        *_more_workers(status["workers"]),
        Text(),
        events_table(status["events"], now=now),
    )


def _title(status: Document, *, width: int, now: datetime) -> RenderableType:
    style = STATE_STYLES.get(status["state"], "bold")
    left = Text.assemble(("● ", style), (status["instance"], "bold"), "  ", (status["state"], style))
    arbiter = status["arbiter"]
    up = f"up {duration(arbiter['uptime'])}, since {local_time(arbiter['started_at'], now=now)}"
    title = Table.grid(expand=True)
    title.add_column(ratio=1, overflow="fold")
    title.add_column(justify="right", style="dim", no_wrap=True)
    title.add_row(left, up)
    title.width = width
    if not status["reason"]:
        return title
    return Group(title, Padding(Text(status["reason"], style.removeprefix("bold ")), (0, 0, 0, 2)))


def _facts(status: Document, *, now: datetime) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=10)
    grid.add_column(overflow="fold")
    for label, value in _fact_rows(status, now=now):
        grid.add_row(f"  {label}", value)
    return grid


def _fact_rows(status: Document, *, now: datetime) -> list[tuple[str, Text]]:
    arbiter, totals = status["arbiter"], status["totals"]
    rows = [("app", Text(f"{status['target']}, generation {status['generation']}"))]
    rows += [("config", Text(status["config_file"]))] if status["config_file"] else []
    rows += [
        ("listen" if index == 0 else "", _listener(each)) for index, each in enumerate(status["listeners"])
    ]
    rows.append(("workers", _wanted(status)))
    rows.append(("traffic", _traffic(totals)))
    rows += [("", trouble)] if (trouble := _trouble(totals)) else []
    if status["latency"]["p50"] is not None:
        parts = (f"{name} {duration(status['latency'][name])}" for name in ("p50", "p95", "p99"))
        rows.append(("latency", Text(", ".join(parts))))
    if (last := status.get("last_reload")) is not None and last["state"] != "done":
        rows.append(("reload", _last_reload(last, now=now)))
    if (mold := status.get("mold")) is not None:
        is_serving = mold["phase"] == "ready"
        told = f"pid {mold['pid']}, generation {mold['generation']}" + (
            "" if is_serving else f", {mold['phase']}"
        )
        rows.append(("mold", Text(told, style="" if is_serving else "yellow")))
    rows.append(("arbiter", Text(f"pid {arbiter['pid']}, unicornd {arbiter['version']}{_memory(status)}")))
    if (operation := status["operation"]) is not None:
        rows.append(("doing", Text(f"{operation['id']}: {operation['title']}", style="cyan")))
    return rows


def _listener(listener: Document) -> Text:
    queue, backlog = listener["queue"], listener["backlog"]
    text = Text(listener["address"])
    if queue is not None:
        of = "" if backlog is None else f" of {backlog}"
        text.append(f"  queue {queue}{of}", style="yellow" if queue else "dim")
    return text


def _wanted(status: Document) -> Text:
    wanted = status["wanted"]
    ready = sum(worker["phase"] == "ready" for worker in status["workers"])
    kind = wanted["kind"] if wanted["threads"] == 1 else f"{wanted['kind']}, {wanted['threads']} each"
    lock = ", gil: off" if status.get("gil") == "off" else ""
    text = Text(f"{ready} of {wanted['count']} ready ({kind}{lock})")
    if wanted["file_count"] != wanted["count"]:
        text.append(f"; the file says {wanted['file_count']}", style="yellow")
    return text


def _memory(status: Document) -> str:
    """What all processes use together; of a shared page each counts its share."""
    molds = [status["mold"]] if status.get("mold") is not None else []
    everybody = (status["arbiter"], *molds, *status["workers"])
    known = [each["memory"] for each in everybody if each["memory"] is not None]
    return f", {size(sum(known))} of memory with its workers" if known else ""


def _traffic(totals: Document) -> Text:
    text = Text(plural(totals["requests"], "request"))
    if totals["errors"]:
        share = percent(totals["errors"], totals["requests"])
        text.append(f", {plural(totals['errors'], 'error')} ({share})", style="yellow")
    if totals["restarts"]:
        text.append(f", {plural(totals['restarts'], 'worker')} died", style="yellow")
    return text


def _trouble(totals: Document) -> Text | None:
    """What went wrong with requests and workers, if anything did."""
    told = (
        ("timeouts", "timeout", "timeouts"),
        ("lost", "request lost", "requests lost"),
        ("disconnects", "client left early", "clients left early"),
        ("boot_failures", "failure to boot", "failures to boot"),
    )
    parts = [
        f"{count:,} {one if count == 1 else many}"
        for name, one, many in told
        if (count := totals.get(name, 0))
    ]
    return Text(", ".join(parts), style="yellow") if parts else None


def _last_reload(last: Document, *, now: datetime) -> Text:
    text = f"{last['state'].replace('_', ' ')} at {local_time(last['at'], now=now)}: {last['reason']}"
    return Text(text, style="red" if last["state"] == "rolled_back" else "yellow")


# Workers.


def select_workers(workers: Sequence[Document]) -> list[Document]:
    """The workers for one screen, by slot: if there are too many, those that something is up with, and the busiest."""
    if len(workers) <= MAX_ROWS:
        return list(workers)
    interest = sorted(
        workers,
        key=lambda worker: (worker["phase"] == "ready", -_oldest_age(worker), worker["slot"]),
    )
    return sorted(interest[:MAX_ROWS], key=lambda worker: (worker["slot"], -worker["age"]))


def _more_workers(workers: Sequence[Document]) -> list[Text]:
    more = len(workers) - MAX_ROWS
    return [Text(f"  … and {more} more: `unicornctl workers`", style="dim")] if more > 0 else []


def workers_table(workers: Sequence[Document], *, width: int) -> RenderableType:
    """One row a worker; what does not fit is cut at the right, where the request is."""
    if not workers:
        return Text("  no workers", style="dim")
    gap = 2 if width >= ROOMY else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim", width=width)
    table.add_column("  SLOT", justify="right", no_wrap=True)
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("PHASE", no_wrap=True)
    table.add_column("GEN", justify="right", no_wrap=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    table.add_column("REQUESTS", justify="right", no_wrap=True)
    table.add_column("BUSY", justify="right", no_wrap=True)
    table.add_column("MEMORY", justify="right", no_wrap=True)
    table.add_column("NOW", no_wrap=True, overflow="ellipsis", ratio=1, min_width=8)
    for worker in workers:
        table.add_row(*_worker_row(worker))
    return table


def _worker_row(worker: Document) -> list[Text]:
    is_leaving = worker["is_retiring"] and worker["phase"] == "ready"
    phase = "retiring" if is_leaving else worker["phase"]
    return [
        Text(str(worker["slot"])),
        Text(str(worker["pid"]), style="dim"),
        Text(phase, style=PHASE_STYLES.get(phase, "")),
        Text(str(worker["generation"])),
        Text(duration(worker["age"])),
        Text(f"{worker['requests']:,}"),
        Text(f"{worker['busy']}/{worker['threads']}", style="" if worker["busy"] else "dim"),
        Text("" if worker["memory"] is None else size(worker["memory"])),
        _now(worker),
    ]


def _now(worker: Document) -> Text:
    if worker["failure"]:
        return Text(worker["failure"].partition("\n")[0], style="red")
    if not worker["now"]:
        return Text("idle" if worker["phase"] == "ready" else "", style="dim")
    oldest = worker["now"][0]
    style = "yellow" if oldest["age"] >= SLOW_REQUEST else ""
    return Text(f"{duration(oldest['age'])} {oldest['request']}", style=style)


def _oldest_age(worker: Document) -> float:
    return max((each["age"] for each in worker["now"]), default=0.0)


# Events and fleets.


def events_table(events: Sequence[Document], *, now: datetime) -> RenderableType:
    """One row an event, oldest first."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for event in events:
        grid.add_row(f"  {local_time(event['at'], now=now)}", event_text(event))
    return grid


def event_text(event: Document) -> Text:
    """An event's line, with its colour."""
    kind = str(event["kind"])
    bad = kind.endswith(("died", "failed", "rolled_back", "killed"))
    return Text(event["text"], style="red" if bad else "")


def local_time(text: str, *, now: datetime) -> str:
    """Return an ISO 8601 time as a clock on the wall shows it, with the date if it is not today's."""
    at = datetime.fromisoformat(text).astimezone(now.tzinfo)
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def fleets_table(fleets: Sequence[Document]) -> RenderableType:
    """One row a running fleet; below them those that cannot be looked at, with the reason."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("INSTANCE", overflow="fold")  # a name is never cut: commands take it
    table.add_column("STATE", no_wrap=True)
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("WORKERS", justify="right", no_wrap=True)
    table.add_column("UP", justify="right", no_wrap=True)
    table.add_column("LISTENS ON", overflow="fold")
    known = [fleet for fleet in fleets if fleet["pid"]]
    for fleet in known:
        state = Text(fleet["state"], style=STATE_STYLES.get(fleet["state"], "dim"))
        table.add_row(
            Text(fleet["instance"], style="bold"),
            state,
            *(Text(fleet[key]) for key in ("pid", "workers", "up", "listens")),
        )
    others = [part for fleet in fleets if not fleet["pid"] for part in _unknown_fleet(fleet)]
    return Group(*([table] if known else []), *others)


def _unknown_fleet(fleet: Mapping[str, str]) -> list[RenderableType]:
    title = Text.assemble((fleet["instance"], "bold"), f"  {fleet['state']}")
    return [title, Padding(Text(fleet["listens"], style="dim"), (0, 0, 0, 2))]
