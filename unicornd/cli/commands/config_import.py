"""`unicornctl config import`: an unicornd.toml out of a gunicorn.conf.py and a gunicorn command line, and a report.

Runs in the command's process; the Python file runs in one of its own. The report says of every setting what has become
of it: nothing is dropped in silence.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from unicornd.cli.session import data_console, note_console, print_screen
from unicornd.config.importer import IMPORT_KEYS, OUTCOMES, Imported, Told, Wanted, import_gunicorn
from unicornd.config.layers import DEFAULT_FILE, GUNICORN_FILE
from unicornd.config.write import config_text, write_config
from unicornd.dataclass import asdict
from unicornd.errors import ConfigError
from unicornd.escaping import json_text, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from unicornd.config.importer import Outcome

STDOUT = "-"
ARGUMENTS_VARIABLE = "GUNICORN_CMD_ARGS"

PYTHON = ("hooks.", *(f"{'.'.join(key)} " for key in IMPORT_KEYS))
"""How lines of the report begin whose values may name a file of Python's."""

TITLES: Mapping[Outcome, tuple[str, str]] = {
    "taken": ("Taken over as it is", "green"),
    "changed": ("Taken over in another form", "green"),
    "needless": ("Not needed any more", "dim"),
    "by hand": ("To do by hand: left out of the configuration", "yellow"),
    "unknown": ("No settings", "yellow"),
}


def import_config(
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]", help=f"gunicorn's file, or python:MODULE. Default: ./{GUNICORN_FILE}."
        ),
    ] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- FLAGS]", help="gunicorn's flags, and the application.")
    ] = None,
    *,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="- is standard output.")
    ] = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, for programs.")] = False,
) -> int:
    """Make an unicornd.toml of a gunicorn.conf.py and gunicorn's flags, and say what became of each setting."""
    target = Path.cwd() if output == STDOUT else Path(output).resolve().parent
    imported = _imported(*_source(file, arguments or []), target=target)
    text = _text(imported)
    if output == STDOUT:
        sys.stdout.write(text)
    else:
        write_config(Path(output), text, is_forced=force)
    if as_json:
        report = [asdict(told) for told in imported.report]
        stream = sys.stderr if output == STDOUT else sys.stdout
        document = {"schema": 1, "output": output, "report": report}
        stream.write(json_text(json.dumps(document, ensure_ascii=False)) + "\n")
    else:
        _print_report(imported, output, console=note_console() if output == STDOUT else data_console())
    return 0


def _imported(source: Path | None, flags: Sequence[str], *, target: Path) -> Imported:
    """Read the file and the flags.

    Raises:
        ConfigError: there is neither.
    """
    default = Path(GUNICORN_FILE) if Path(GUNICORN_FILE).is_file() else None
    if (source or default) is None and not flags and not os.environ.get(ARGUMENTS_VARIABLE):
        raise ConfigError(
            f"there is no {GUNICORN_FILE} here",
            hint="name another file, or flags: config import -- -w 4 shop:app",
        )
    return import_gunicorn(
        Wanted(
            file=source,
            arguments=flags,
            folder=Path.cwd(),
            environ=dict(os.environ),
            target=target,
            default=default,
        )
    )


def _source(file: str, arguments: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """Return the file, if one is named, and the flags: a first word that is no file is a flag's or the application."""
    if file.startswith("-") or (file and not file.startswith("python:") and not _is_file(file)):
        if file.endswith((".py", ".conf")):
            raise ConfigError(f"there is no {file}")
        return None, [file, *arguments]
    return (Path(file) if file else None), arguments


def _is_file(file: str) -> bool:
    return Path(file.removeprefix("file:")).is_file()


MOUNT = (
    "a header SCRIPT_NAME is not believed, which gunicorn does by default: if your proxy sets it, and drops what clients "
    'send, say forwarder_headers = ["SCRIPT_NAME"] under [proxy]'
)


def _text(imported: Imported) -> str:
    made = f"Made from {imported.file or 'gunicorn flags'} by `unicornctl config import`; see `config show --all`, `config explain NAME`."
    left = [told for told in imported.report if told.outcome in {"by hand", "unknown"}]
    below = [f"  {told.name} ({told.where or 'flag'}): {told.note}" for told in left]
    return config_text(imported.table, above=[made], below=["To do by hand:", *below] if below else [])


def _print_report(imported: Imported, output: str, *, console: Console) -> None:
    for outcome in OUTCOMES:
        rows = [told for told in imported.report if told.outcome == outcome]
        if rows:
            title, style = TITLES[outcome]
            console.print(Text(f"{title}:", style=f"bold {style}"))
            print_screen(console, _table(rows))
    if any(told.is_environmental for told in imported.report):
        console.print(
            Text(
                "* comes from environment variables: written down as it is now. To have it read at every start, leave "
                "it out of the file and set UNICORND_<SECTION>__<KEY>."
            )
        )
    if not _says_mount(imported.table):
        console.print(Text(MOUNT), soft_wrap=True)
    if output != STDOUT:
        of = "" if output == DEFAULT_FILE else f" -c {output}"
        console.print(
            Text(f"wrote {output}; then: unicornctl config check{of}, unicornctl start{of}"), soft_wrap=True
        )
        if any("./" in ours for told in imported.report for ours in told.ours if ours.startswith(PYTHON)):
            console.print(Text("what is Python stays in gunicorn's file: keep it"), soft_wrap=True)


def _says_mount(table: Mapping[str, Any]) -> bool:
    """Return whether it was said what is believed of a header SCRIPT_NAME; in ASGI there is none."""
    return "forwarder_headers" in table.get("proxy", {}) or table.get("workers", {}).get("kind") == "asgi"


def _table(rows: Sequence[Told]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for told in rows:
        table.add_row(
            Text(one_line(told.name) + ("*" if told.is_environmental else "")), Text(one_line(_line(told)))
        )
    return table


def _line(told: Told) -> str:
    """Return what is said beside the name: the value, what it became, why."""
    became = ", ".join(told.ours)
    value = told.value if told.outcome != "taken" else ""
    arrow = " → ".join(part for part in (value, became) if part)
    return ": ".join(part for part in (arrow, told.note) if part)
