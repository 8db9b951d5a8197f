"""`unicornctl config explain NAME` and `config diff`: what a setting means, and what a reload would change.

Run in the command's process. `explain` reads the configuration here; `diff` asks the running fleet for its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from unicornd.cli.commands.config_file import File, Instance, Json, Socket, file_meant
from unicornd.cli.instances import Choice, find_client
from unicornd.cli.session import data_console, print_screen
from unicornd.config.explain import APPLIES, Explanation, about_table, explain, table_of, why_idle
from unicornd.config.layers import load
from unicornd.config.loaded import Loaded, Sources
from unicornd.config.show import apply_of
from unicornd.control.client import ControlError
from unicornd.dataclass import asdict
from unicornd.errors import ConfigError, CtlExit
from unicornd.escaping import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from unicornd.config.draft import Key
    from unicornd.config.loaded import Row

STARTED_WITH = frozenset({"command line", "environment", "environment default"})
"""Layers that a reload does not change: they belong to the process that runs."""

VARIABLES = ("UNICORND_", "GUNICORN_CMD_ARGS", "PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE")


def explain_setting(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="workers.count, or gunicorn's workers; a flag behind --; a table: [workers]."
        ),
    ],
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    as_json: Json = False,
) -> int:
    """Say what a setting means, what it is here and why, and what a change of it needs; of a table, what it has."""
    try:
        found = explain(name)
    except ConfigError as error:  # the question is wrong, not the configuration
        raise ControlError(error.message, code=CtlExit.USAGE, hint=error.hint) from error
    loaded, trouble = _loaded(file_meant(config, instance=instance, socket=socket))
    if as_json:
        values = [{**asdict(each), "present": _present_json(each, loaded)} for each in found]
        sys.stdout.write(
            json_text(json.dumps({"schema": 1, "settings": values}, ensure_ascii=False, default=str)) + "\n"
        )
        return 0
    console = data_console()
    if (table := table_of(name)) is not None:
        _print_table(table, found, loaded=loaded, trouble=trouble, console=console)
        return 0
    for number, each in enumerate(found):
        if number:
            console.print()
        _print(each, loaded, trouble=trouble, console=console)
    return 0


def _loaded(config: Path | None) -> tuple[Loaded | None, str]:
    """Return the configuration here, or why there is none: to explain a setting nothing has to be right."""
    try:
        return load(Sources(config_file=config, environ=dict(os.environ))), ""
    except ConfigError as error:
        return None, error.message


def _print_table(
    table: Key, found: Sequence[Explanation], *, loaded: Loaded | None, trouble: str, console: Console
) -> None:
    """One setting after the other: what it is here, and in one sentence what for."""
    console.print(Text.assemble((f"[{'.'.join(table)}]", "bold"), "  ", (about_table(table), "dim")))
    if trouble:
        console.print(Text(f"  values are not known here: {one_line(trouble)}"), soft_wrap=True)
    for each in found:
        name = Text(each.key.removeprefix(f"{'.'.join(table)}."), style="bold")
        values = [_value(row, each) for row in _present(each, loaded)]
        shown = (
            ", ".join(values) if values else _json(each.default) if each.default is not None else "not set"
        )
        console.print(Text.assemble("  ", name, f" = {one_line(shown)}"), soft_wrap=True)
        about, _, _ = each.about.partition(". ")
        print_screen(console, Padding(Text(about.removesuffix("."), style="dim"), (0, 0, 0, 6)))
    first = found[0].key
    console.print(
        Text(f"`unicornctl config explain {first}` says all of a setting", style="dim"), soft_wrap=True
    )


def _value(row: Row, each: Explanation) -> str:
    shown = _json(row.value) if row.value is not None else "not set"
    shown = f"{row.key.removeprefix(f'{each.key}.')} = {shown}" if row.key != each.key else shown
    return shown if row.layer == "default" else f"{shown}  ({row.where})"


def _print(each: Explanation, loaded: Loaded | None, *, trouble: str, console: Console) -> None:
    key = Text(each.key or each.gunicorn, style="bold")
    names = Text(_names(each) if each.key else "of gunicorn's; there is none here", style="dim")
    if len(key) + 2 + len(names) <= console.width:
        console.print(Text.assemble(key, "  ", names))
    else:
        console.print(key)
        print_screen(console, Padding(names, (0, 0, 0, 2)))
    print_screen(console, Padding(Text(each.about), (0, 0, 0, 2)))
    for title, text in _facts(each, loaded, trouble=trouble):
        console.print(Text.assemble((f"  {title:<9}", "dim"), one_line(text)), soft_wrap=True)


def _names(each: Explanation) -> str:
    names = [f"gunicorn: {each.gunicorn}"] if each.gunicorn else []
    return ", ".join([*names, *each.flags, f"${each.variable}"])


def _facts(each: Explanation, loaded: Loaded | None, *, trouble: str) -> Iterator[tuple[str, str]]:
    if not each.key:
        return
    yield "type", each.form
    yield "default", _json(each.default) if each.default is not None else "not set"
    if each.examples:
        yield "examples", ", ".join(_json(example) for example in each.examples)
    for row in _present(each, loaded):
        is_below = row.key != each.key
        shown = f"{row.key} = {_json(row.value)}" if is_below else _json(row.value)
        yield "here", f"{shown if row.value is not None else 'not set'}  ({row.where or 'default'})"
    if trouble:
        yield "here", f"not known: {trouble}"
    idle = why_idle(each.key, loaded.settings) if loaded is not None else ""
    if idle:
        yield "effect", f"none here: {idle}"
    yield "change", f"{each.apply}: {APPLIES[each.apply]}"


def _present(each: Explanation, loaded: Loaded | None) -> list[Row]:
    rows = loaded.rows if loaded is not None else ()
    return (
        [row for row in rows if row.key == each.key or row.key.startswith(f"{each.key}.")] if each.key else []
    )


def _present_json(each: Explanation, loaded: Loaded | None) -> list[dict[str, object]]:
    return [
        {name: getattr(row, name) for name in ("key", "value", "layer", "where")}
        for row in _present(each, loaded)
    ]


def _json(value: object) -> str:
    return json_text(json.dumps(value, ensure_ascii=False))


def diff_config(
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    as_json: Json = False,
) -> int:
    """Say what a reload would change in the running fleet, and how each change is applied."""
    choice = Choice(config=str(config) if config is not None else "", socket=socket, instance=instance)
    report = find_client(choice).get("/v1/config")
    changes = list(_changes(report["values"], _wanted(config, report).rows))
    if as_json:
        sys.stdout.write(_json({"schema": 1, "changes": changes}) + "\n")
        return 0
    console = data_console()
    for change in changes:
        line = f"{change['key']}: {_json(change['from'])} → {_json(change['to'])}  ({change['apply']}, {change['where']})"
        console.print(Text(one_line(line)), soft_wrap=True)
    console.print(Text(_summary(changes)), soft_wrap=not console.is_terminal)
    return 0


def _wanted(config: Path | None, report: Mapping[str, Any]) -> Loaded:
    """Return the configuration that a reload would read, without what only its process knows.

    Raises:
        ConfigError: it is wrong: a reload would be refused.
    """
    file = config.resolve() if config is not None else Path(str(report["config_file"] or ""))
    if not file.name:
        raise ConfigError("the fleet runs without a configuration file: a reload changes no setting")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(VARIABLES)}
    try:
        return load(Sources(config_file=file, environ=environ, folder=file.parent))
    except ConfigError as error:
        hint = error.hint or "a reload would be refused"
        raise ConfigError(error.message, hint=hint, detail=error.detail) from error


def _changes(present: Sequence[Mapping[str, Any]], wanted: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield what differs; what the running process was started with stays."""
    before = {row["key"]: row for row in present}
    after = {row.key: row for row in wanted}
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if old is not None and (old["layer"] in STARTED_WITH or key == "app.env"):
            continue
        if old is not None and new is not None and old["layer"] == new.layer == "default":
            continue  # a daemon without a log file has one of its own
        was, becomes = old["value"] if old is not None else None, new.value if new is not None else None
        if was != becomes:
            yield {
                "key": key,
                "from": was,
                "to": becomes,
                "apply": apply_of(tuple(key.split("."))),
                "where": (new.where if new is not None else "") or "default",
            }


def _summary(changes: Sequence[Mapping[str, Any]]) -> str:
    if not changes:
        return "nothing would change: the fleet runs with what the file says (code is not compared)"
    kinds = {change["apply"] for change in changes}
    if "restart" in kinds:
        return "`unicornctl restart` applies all of this; a reload all but the ones marked restart"
    return "`unicornctl reload` applies this"
