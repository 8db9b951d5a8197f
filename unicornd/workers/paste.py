"""Applications of PasteDeploy: `app.paste` names a file, and what it makes of it is served.

Run in the worker, or in the mold.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicornd.errors import BootError, ConfigError
from unicornd.workers.apploader import boot_error

if TYPE_CHECKING:
    from collections.abc import Mapping

MAIN = "main"


def check_paste(spec: str) -> None:
    """Look whether there is such a file, and PasteDeploy.

    Raises:
        ConfigError: one of them is not there.
    """
    file, _, _ = spec.partition("#")
    if not Path(file).is_file():
        raise ConfigError(
            f"app.paste: there is no file {file}", hint="relative paths start at the configuration"
        )
    if find_spec("paste") is None or find_spec("paste.deploy") is None:
        raise ConfigError("app.paste: PasteDeploy is not installed", hint="pip install 'unicornd[paste]'")


def load_paste(spec: str, global_conf: Mapping[str, str]) -> Any:  # noqa: ANN401 - whatever the file makes
    """Return the application.

    Args:
        spec: `FILE` or `FILE#NAME`.
        global_conf: `app.paste_global`.

    Raises:
        BootError: PasteDeploy, or what it calls, has raised.
    """
    from paste.deploy import loadapp  # type: ignore[import-untyped] # noqa: PLC0415 - only for those who use it

    file, _, name = spec.partition("#")
    uri = f"config:{Path(file).resolve()}#{name or MAIN}"
    try:
        return loadapp(uri, global_conf=dict(global_conf))
    except BootError:
        raise
    except BaseException as error:
        raise boot_error(f"app.paste: {spec} raised", error) from error
