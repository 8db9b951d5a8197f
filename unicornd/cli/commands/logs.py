"""`unicornctl logs`: show the error log or the access log, wherever it goes.

Runs in the command's process and reads the file itself: whoever may not read it is told so.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicornd.cli.instances import find_client, log_beside
from unicornd.cli.session import EPILOG, Session, session_of
from unicornd.cli.streams import Stream, journal_command, stream_of
from unicornd.cli.tail import follow_lines, last_lines
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.control.client import ControlError
from unicornd.errors import CtlExit
from unicornd.escaping import json_text, lines

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer()

STANDARD_STREAM = "-"
OWN_LOGGING = (
    "logging.config",
    "logging.config_file",
    "logging.config_json",
    "logging.config_object",
    "logging.logger_class",
)


@app.command(epilog=EPILOG, short_help="Show the log, wherever it goes.")
def logs(
    context: typer.Context,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, also after a rotation.")
    ] = False,
    number: Annotated[
        int, typer.Option("--number", "-n", metavar="NUMBER", min=0, help="How many past lines.")
    ] = 20,
    access: Annotated[bool, typer.Option("--access", help="The access log, not the error log.")] = False,
) -> int:
    """Show the last lines of the error log: of its file, or by journalctl(1) what a unit has said.

    If the fleet does not run, the log of its last run is shown.
    """
    session = session_of(context)
    place = _place(session, is_access=access)
    if place.kind == "journal":
        return _show_journal(session, place, number=number, is_followed=follow)
    try:
        return _show_file(session, place.name, number=number, is_followed=follow)
    except PermissionError as error:
        hint = "its owner and root may; with `logging.syslog` or a unit of systemd, others may get it, too"
        raise ControlError(f"{place.name}: permission denied", code=CtlExit.PERMISSION, hint=hint) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ControlError(
            f"{place.name}: {reason}", code=CtlExit.FAILED, hint="nothing has been logged yet?"
        ) from error


# Where it goes.


def _place(session: Session, *, is_access: bool) -> Stream:
    """Return the file, or the unit whose journal has the lines.

    Raises:
        ControlError: the lines go where they cannot be read again.
    """
    key = "logging.access.file" if is_access else "logging.error"
    try:
        client = find_client(session.choice)
        values = _values(client.get("/v1/config")["values"])
        pid = int(client.get("/v1/status")["arbiter"]["pid"])
    except ControlError as error:
        if error.code is not CtlExit.NOT_RUNNING:
            raise
        return _place_of_last_run(session, error, key=key)
    if (where := values[key]) is None:
        raise _refusal("there is no access log", 'logging.access.file names one: a path, or "-"')
    if where != STANDARD_STREAM:
        return Stream("file", str(where))
    stream = stream_of(pid, 1 if is_access else 2)
    if stream.kind not in {"file", "journal"}:
        raise _out_of_reach(stream, pid=pid, key=key, values=values)
    return stream


def _out_of_reach(stream: Stream, *, pid: int, key: str, values: Mapping[str, Any]) -> ControlError:
    log, name = (
        ("error log", "standard error") if key == "logging.error" else ("access log", "standard output")
    )
    at = {"pipe": ", a pipe", "nothing": ", which is /dev/null", "terminal": f", {stream.name}"}.get(
        stream.kind, ""
    )
    reader = "its reader has the lines (docker logs, kubectl logs, …)" if stream.kind == "pipe" else ""
    own = [f"{setting} may send lines elsewhere" for setting in OWN_LOGGING if values.get(setting)]
    own += ["syslog gets them, too"] if values.get("logging.syslog.enabled") else []
    hint = "; ".join(filter(None, [reader, *own, f"{key} names a file"]))
    return _refusal(f"the {log} is the {name} of pid {pid}{at}", hint)


def _place_of_last_run(session: Session, error: ControlError, *, key: str) -> Stream:
    file = session.choice.config_file()
    where = None
    if file is not None:
        where = _values(load(Sources(config_file=file, environ=dict(os.environ))).rows)[key]
    if where in {None, STANDARD_STREAM}:
        where = log_beside(session.choice) if key == "logging.error" else None
    if where is None:
        raise error
    sys.stderr.write("it is not running; this is what its last run has left\n")
    return Stream("file", str(where))


def _values(rows: Any) -> Mapping[str, Any]:  # noqa: ANN401 - rows of a document, or of a configuration
    pairs = ((row["key"], row["value"]) if isinstance(row, dict) else (row.key, row.value) for row in rows)
    return dict(pairs)


def _refusal(message: str, hint: str) -> ControlError:
    return ControlError(message, code=CtlExit.FAILED, hint=hint)


# What it says.


def _show_journal(session: Session, stream: Stream, *, number: int, is_followed: bool) -> int:
    command = journal_command(stream, number=number, is_followed=is_followed)
    if session.is_json:
        session.print_json({"schema": 1, "goes_to": "journal", "unit": stream.name, "command": command})
        return CtlExit.DONE
    if shutil.which(command[0]) is not None:
        os.execvp(command[0], command)  # noqa: S606 - no shell wanted
    raise _refusal(
        f"the log is in the journal of {stream.name}, and there is no journalctl here", shlex.join(command)
    )


def _show_file(session: Session, path: str, *, number: int, is_followed: bool) -> int:
    found, place = last_lines(path, number)
    if session.is_json and not is_followed:
        texts = [line.decode(errors="replace") for line in found]
        session.print_json({"schema": 1, "goes_to": "file", "path": path, "lines": texts})
        return CtlExit.DONE
    for line in found:
        _print(session, line)
    sys.stdout.flush()
    for new in follow_lines(path, place) if is_followed else ():
        if new is None:
            sys.stdout.flush()
        else:
            _print(session, new)
    return CtlExit.DONE


def _print(session: Session, line: bytes) -> None:
    text = line.decode(errors="replace")
    if session.is_json:
        sys.stdout.write(json_text(json.dumps({"line": text}, ensure_ascii=False)) + "\n")
    else:
        sys.stdout.write(f"{lines(text)}\n")
