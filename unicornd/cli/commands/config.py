"""`unicornctl config …`: look at a configuration, check it, begin one, change one value of it.

Runs in the command's process and reads files only; no fleet has to run. Errors leave as `ConfigError`: `cli.exits` prints
them, all at once, and ends with exit code 78.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from unicornd.cli.commands.config_deploy import make_logrotate, make_unit
from unicornd.cli.commands.config_explain import diff_config, explain_setting
from unicornd.cli.commands.config_file import File, Instance, Json, Socket, file_meant, load_meant
from unicornd.cli.commands.config_import import import_config
from unicornd.cli.session import data_console
from unicornd.cli.target import why_not_found
from unicornd.config.exposed import exposed
from unicornd.config.generate import schema_text
from unicornd.config.given import Given
from unicornd.config.instance import working_folder
from unicornd.config.layers import DEFAULT_FILE, GUNICORN_FILE, load, read_value, split_key
from unicornd.config.loaded import Loaded, Sources
from unicornd.config.show import apply_of
from unicornd.config.starter import starter_for
from unicornd.config.write import save_drop_in, write_config
from unicornd.control.client import ControlError
from unicornd.errors import ConfigError, CtlExit
from unicornd.escaping import json_text, one_line
from unicornd.shipped import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_BESIDE = "unicornd.schema.json"

app = typer.Typer(
    help="Look at a configuration, check it, begin one, import gunicorn's, change one.",
    short_help="Look at a configuration, check, begin, import, change one.",
    no_args_is_help=True,
)
app.command(name="import", short_help="Make an unicornd.toml of gunicorn's file and flags.")(import_config)
app.command(name="explain", short_help="Say what a setting means, and what it is here.")(explain_setting)
app.command(name="unit", short_help="Print a unit of systemd for this configuration.")(make_unit)
app.command(name="logrotate", short_help="Print what logrotate has to know of its log files.")(make_logrotate)
app.command(name="diff", short_help="Say what a reload would change in the running fleet.")(diff_config)


@app.command()
def check(*, config: File = None, instance: Instance = "", socket: Socket = "", as_json: Json = False) -> int:
    """Say whether the configuration is right; all errors at once."""
    loaded = load_meant(config, instance=instance, socket=socket)
    _check_target(loaded)
    warnings = (*exposed(loaded.settings, uid=os.geteuid()), *_absent_folders(loaded))
    for note in (*loaded.notes, *loaded.losses, *warnings):
        sys.stderr.write(f"{one_line(note)}\n")
    if as_json:
        _print_json({"schema": 1, "ok": True, "config_file": str(loaded.config_file)})
    else:
        data_console().print(Text(f"{_shown(loaded.config_file)} is right"), soft_wrap=True)
    return 0


def _absent_folders(loaded: Loaded) -> Iterator[str]:
    """Yield a line for each folder that a start would miss here; the file may be meant for another machine."""
    settings = loaded.settings
    files = {
        "logging.error": settings.logging.error,
        "logging.access.file": settings.logging.access.file,
        "process.pidfile": settings.process.pidfile,
    }
    folders = {key: Path(file).parent for key, file in files.items() if file is not None and str(file) != "-"}
    given = {"app.chdir": settings.app.chdir, "http.tmp_upload_dir": settings.http.tmp_upload_dir}
    folders |= {key: Path(folder) for key, folder in given.items() if folder is not None}
    for key, folder in folders.items():
        if not folder.is_dir():
            yield f"{key}: there is no folder {folder} here; where it is missing, unicornd does not start"


def _check_target(loaded: Loaded) -> None:
    """Look whether there is something to serve.

    Raises:
        ConfigError: there is not.
    """
    app = loaded.settings.app
    if app.paste is not None:
        return
    if app.target is None:
        raise ConfigError(
            "app.target is not set: there is nothing to serve", hint='target = "module:application"'
        )
    # Without app.chdir it is looked for where unicornd is started: here, or beside the file.
    beside = [loaded.config_file.resolve().parent] if loaded.config_file is not None else []
    home = [Path(app.chdir)] if app.chdir is not None else [working_folder(), *beside]
    if reason := why_not_found(app.target, [*home, *map(Path, app.pythonpath)]):
        where = next((row.where for row in loaded.rows if row.key == "app.target"), "")
        hint = "app.chdir and app.pythonpath say where else; `unicornd --check-config` loads the application"
        raise ConfigError(f"{where}: app.target: {reason}", hint=hint)


@app.command(short_help="Show the settings in effect.")
def show(
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Defaults, too.")] = False,
    as_json: Json = False,
) -> int:
    """Show the settings in effect: file, drop-ins and environment together."""
    loaded = load_meant(config, instance=instance, socket=socket)
    rows = loaded.rows
    if as_json:
        values = [
            {"key": row.key, "value": row.value, "layer": row.layer, "where": row.where} for row in rows
        ]
        _print_json({"schema": 1, "config_file": str(loaded.config_file or ""), "values": values})
        return 0
    said = [row for row in rows if everything or row.layer != "default"]
    width = max((len(row.key) for row in said), default=0)
    console = data_console()
    for row in said:
        value = json_text(json.dumps(row.value, ensure_ascii=False))
        line = Text.assemble((f"{one_line(row.key):<{width}}", "bold"), " = ", value)
        if origin:
            line.append(f"  {one_line(row.where or 'default')}", style="dim")
        console.print(line, soft_wrap=True)
    if not everything:
        sys.stderr.write(f"{len(rows) - len(said)} more have their defaults: --all shows them\n")
    return 0


@app.command(short_help="Write an unicornd.toml to begin with.")
def init(
    *,
    config: File = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    as_json: Json = False,
) -> int:
    """Write an unicornd.toml to begin with; a Django project or an application here is found."""
    path = config or Path(DEFAULT_FILE)
    folder = path.resolve().parent
    starter = starter_for(folder, schema=_schema_for(folder))
    write_config(path, starter.text, is_forced=force)
    for note in _notes_on_others(path, folder):
        sys.stderr.write(f"{one_line(note)}\n")
    if as_json:
        _print_json({"schema": 1, "written": str(path), "target": starter.target})
        return 0
    of = "" if config is None or str(config) == DEFAULT_FILE else f" -c {config}"
    found = (
        f"it serves {starter.target}"
        if starter.target
        else "no application was found here: say in app.target which one"
    )
    data_console().print(
        Text(f"wrote {path}; {found}; then: unicornctl config check{of}, unicornctl start{of}"),
        soft_wrap=True,
    )
    return 0


def _notes_on_others(path: Path, folder: Path) -> Iterator[str]:
    """Say which other configuration of this folder is not read any more, or is read instead of this one."""
    if path.name != DEFAULT_FILE and (folder / DEFAULT_FILE).exists():
        yield f"without -c {path}, unicornd reads {DEFAULT_FILE} in this folder"
    elif path.name == DEFAULT_FILE and (folder / GUNICORN_FILE).exists():
        yield (
            f"{GUNICORN_FILE} is here, too, and is not read any more: {DEFAULT_FILE} comes first; "
            f"`unicornctl config import {GUNICORN_FILE} -o -` shows what it says in this form"
        )
    if said := sorted(name for name in os.environ if name.startswith(("UNICORND_", "GUNICORN_CMD_ARGS"))):
        yield f"the environment is laid over the file: {', '.join(said)}"


def _schema_for(folder: Path) -> str:
    """Return where editors find the schema, as a path from the file; empty if it is in no place that others have, too.

    The file is for a repository: the path of one environment would be wrong in all others.
    """
    if (folder / SCHEMA_BESIDE).exists():
        return f"./{SCHEMA_BESIDE}"
    schema = shipped("schemas/unicornd.schema.json")
    return f"./{schema.relative_to(folder)}" if schema.is_relative_to(folder) else ""


@app.command()
def schema(*, as_json: Json = False) -> int:  # noqa: ARG001 - it is JSON in any case
    """Print the JSON Schema of unicornd.toml, for editors."""
    sys.stdout.write(schema_text())
    return 0


@app.command(name="set", short_help="Save one value; a reload applies it.")
def set_value(
    assignment: Annotated[str, typer.Argument(metavar="KEY=VALUE", help="workers.threads=8")],
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    as_json: Json = False,
) -> int:
    """Save one value to a drop-in beside the file (its comments stay); a reload applies it."""
    key, equals, text = assignment.partition("=")
    if not equals or "." not in key:
        raise ControlError(f"expected SECTION.KEY=VALUE, got {assignment!r}", code=CtlExit.USAGE)
    file = file_meant(config, instance=instance, socket=socket) or Path(DEFAULT_FILE)
    if not file.exists():
        raise ConfigError(f"there is no {file}", hint="`unicornctl config init` writes one")
    given = Given(key=key, text=text, where="KEY=VALUE")
    load(Sources(config_file=file, given=(given,)))  # wrong: nothing is written
    parts = split_key(key)
    path = save_drop_in(file, {key: read_value(parts, text)})
    command = "restart" if apply_of(parts) == "restart" else "reload"
    if as_json:
        _print_json({"schema": 1, "written": str(path), "key": key, "apply": apply_of(parts)})
        return 0
    data_console().print(Text(f"saved to {_shown(path)}; `unicornctl {command}` applies it"), soft_wrap=True)
    return 0


def _shown(path: Path | None) -> str:
    return one_line(os.path.relpath(path)) if path is not None else "the configuration"


def _print_json(document: dict[str, Any]) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write(json_text(text) + "\n")
