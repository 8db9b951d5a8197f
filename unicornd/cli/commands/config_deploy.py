"""`unicornctl config unit` and `config logrotate`: what systemd and logrotate have to know of this configuration.

Runs in the command's process; prints texts, and says on stderr where they belong.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from unicornd.cli.commands.config_file import File, Instance, Json, Socket, load_meant
from unicornd.cli.deployment import logrotate_text, service_text, site_of, socket_text
from unicornd.config.instance import as_said
from unicornd.escaping import json_text, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from unicornd.cli.deployment import Site

User = Annotated[
    str,
    typer.Option(
        "--user", metavar="USER", help="Whom it runs as. Default: process.user, or the file's owner."
    ),
]
Name = Annotated[
    str, typer.Option("--name", metavar="UNIT", help="Default: process.name, or the file's folder.")
]


def make_unit(
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    user: User = "",
    name: Name = "",
    socket_unit: Annotated[
        bool,
        typer.Option("--socket-unit", help="Print the socket unit, which keeps the port open over restarts."),
    ] = False,
    with_socket: Annotated[
        bool, typer.Option("--with-socket", help="Have the service want its socket unit.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print a unit of systemd for this configuration: the hardened one that is shipped, with its paths, user and times."""
    site = _site(config, instance=instance, socket=socket, user=user, name=name)
    kind = "socket" if socket_unit else "service"
    text = socket_text(site) if socket_unit else service_text(site, has_socket=with_socket)
    place = f"/etc/systemd/system/{site.name}.{kind}"
    hint = f"to {place}, then: systemctl daemon-reload && systemctl enable --now {site.name}.{kind}"
    return _print(text, place=place, hint=hint, as_json=as_json)


def make_logrotate(
    *,
    config: File = None,
    instance: Instance = "",
    socket: Socket = "",
    user: User = "root",
    name: Name = "",
    as_json: Json = False,
) -> int:
    """Print a configuration of logrotate for the log files of this configuration."""
    site = _site(config, instance=instance, socket=socket, user=user, name=name)
    place = f"/etc/logrotate.d/{site.name}"
    hint = f"to {place}, then try it: logrotate --debug {place}"
    return _print(logrotate_text(site), place=place, hint=hint, as_json=as_json)


def _site(config: Path | None, *, instance: str, socket: str, user: str, name: str) -> Site:
    loaded = load_meant(config, instance=instance, socket=socket)
    assert loaded.config_file is not None  # noqa: S101 - `load_meant` has looked; tells the type checker
    return site_of(loaded, file=as_said(loaded.config_file), user=user, name=name)


def _print(text: str, *, place: str, hint: str, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(
            json_text(json.dumps({"schema": 1, "path": place, "text": text}, ensure_ascii=False)) + "\n"
        )
        return 0
    sys.stdout.write(text)
    sys.stderr.write(f"this belongs {one_line(hint)}\n")
    return 0
