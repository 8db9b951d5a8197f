"""The status page for a browser: one self-contained HTML document, no script, nothing fetched from elsewhere.

Made by the arbiter's loop for `[admin] bind`; pure. Everything that comes from outside is escaped, because request
lines and names of files are written by strangers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.control.wording import duration, size
from unicornd.escaping import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.control.protocol import Status, Worker

REFRESH = 5
"""Seconds after which a browser asks again."""

GOOD = frozenset({"ready", "reloading", "scaling"})

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #888; --good: #2a9d58; --bad: #d1495b; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .4rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; color: var(--dim); } .number { text-align: right; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
"""


def status_page(status: Status) -> str:
    """Return the page."""
    tone = "good" if status.state in GOOD else "bad"
    reason = f' <span class="dim">{_text(status.reason)}</span>' if status.reason else ""
    wanted = f"{_ready(status)} of {status.wanted.count} ready, {_text(status.wanted.kind)}, {status.wanted.threads} threads each"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH}">
<meta name="viewport" content="width=device-width">
<title>{_text(status.instance)}: {status.state}</title><style>{_STYLE}</style></head><body>
<h1>{_text(status.instance)} <span class="{tone}">{status.state}</span>{reason}</h1>
<p class="dim">{_text(status.target)} · generation {status.generation} · up {duration(status.arbiter.uptime)} ·
unicornd {status.arbiter.version} (pid {status.arbiter.pid})</p>
{_last_reload(status)}<h2>Listeners</h2>
<table><tr><th>address<th class="number">queue<th class="number">backlog</tr>{_listeners(status)}</table>
<h2>Workers <span class="dim">{wanted}</span></h2>
<table><tr><th>slot<th>pid<th>phase<th>generation<th class="number">age<th class="number">requests<th class="number">busy
<th class="number">memory<th>now</tr>{"".join(_worker(worker) for worker in status.workers)}</table>
<h2>Last events</h2>
<table>{_events(status)}</table>
</body></html>
"""


def _last_reload(status: Status) -> str:
    last = status.last_reload
    if last is None or last.state == "done":
        return ""
    told = f"last reload {last.state.replace('_', ' ')} {duration(last.age)} ago: {last.reason}"
    return f'<p class="bad">{_text(told)}</p>\n'


def _ready(status: Status) -> int:
    return sum(worker.phase == "ready" for worker in status.workers)


def _listeners(status: Status) -> str:
    return _rows(
        (
            f"<code>{_text(each.address)}</code>",
            _count("" if each.queue is None else each.queue),
            _count("" if each.backlog is None else each.backlog),
        )
        for each in status.listeners
    )


def _worker(worker: Worker) -> str:
    memory = "" if worker.memory is None else size(worker.memory)
    now = "<br>".join(f"<code>{_text(each.request)}</code> {duration(each.age)}" for each in worker.now)
    return _rows(
        [
            (
                str(worker.slot),
                str(worker.pid),
                worker.phase,
                str(worker.generation),
                _count(duration(worker.age)),
                _count(worker.requests),
                _count(f"{worker.busy}/{worker.threads}"),
                _count(memory),
                now,
            )
        ]
    )


def _events(status: Status) -> str:
    return _rows(
        (f'<span class="dim">{_text(each.at)}</span>', _text(each.text)) for each in reversed(status.events)
    )


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) + "</tr>" for row in rows)


def _count(value: object) -> str:
    return f'<div class="number">{value}</div>'


def _text(value: str) -> str:
    from html import escape  # noqa: PLC0415 - most fleets have no page; its table of entities stays in every worker

    return escape(one_line(value))
