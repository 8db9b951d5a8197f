"""Which configuration file a command of `unicornctl config` is about: named, here, or that of a fleet that runs.

Runs in the command's process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicornd.cli.instances import Choice, find_client
from unicornd.config.layers import DEFAULT_FILE, load
from unicornd.config.loaded import Sources
from unicornd.control.client import ControlError
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from unicornd.config.loaded import Loaded

File = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help=f"Default: ./{DEFAULT_FILE}.")
]
Instance = Annotated[
    str, typer.Option("--instance", metavar="NAME", help="The file of the fleet of this name, which runs.")
]
Socket = Annotated[
    str, typer.Option("--socket", metavar="PATH", help="The file of the fleet at this control socket.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def file_meant(config: Path | None, *, instance: str, socket: str) -> Path | None:
    """Return the file that is named, or that a named fleet runs with; None: the one in this directory, if there is one.

    Raises:
        ControlError: the fleet does not run, or has no file.
    """
    if config is not None or not (instance or socket):
        return config
    status = find_client(Choice(instance=instance, socket=socket)).get("/v1/status")
    if not status["config_file"]:
        raise ControlError(f"{status['instance']} runs without a configuration file", code=CtlExit.FAILED)
    return Path(status["config_file"])


def load_meant(config: Path | None, *, instance: str = "", socket: str = "") -> Loaded:
    """Read the configuration that is meant as `unicornd` would.

    Raises:
        ConfigError: it is wrong, or there is none.
        ControlError: see `file_meant`.
    """
    file = file_meant(config, instance=instance, socket=socket)
    loaded = load(Sources(config_file=file, environ=dict(os.environ)))
    if loaded.config_file is None:
        raise ConfigError(
            f"there is no {DEFAULT_FILE} here", hint="`unicornctl config init` writes one; -c names another"
        )
    return loaded
