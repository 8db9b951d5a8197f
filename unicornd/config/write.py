"""Drop-ins: what a command saves, in a file of its own beside `unicornd.toml`, whose comments are never touched."""

from __future__ import annotations

import contextlib
import os
import tomllib
from typing import TYPE_CHECKING, Any

import tomli_w

from unicornd.config.layers import split_key
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DROP_IN = "50-unicornctl.toml"


def save_drop_in(config_file: Path, values: Mapping[str, object], *, name: str = DROP_IN) -> Path:
    """Lay dotted keys over what the drop-in says; the file appears whole or not at all.

    Args:
        config_file: the main file; the drop-in goes to `<stem>.d/` beside it.
        values: dotted key → value.
        name: of the drop-in.

    Returns:
        The path of the drop-in.

    Raises:
        ConfigError: it cannot be read or written.
    """
    folder = config_file.with_suffix(".d")
    path = folder / name
    draft = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key, value in values.items():
            _put(table, key, value=value)
        draft.write_text(tomli_w.dumps(table), encoding="utf-8")
        draft.rename(path)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):  # it may never have been made
            draft.unlink()
        raise ConfigError(
            f"cannot save {path}: {error}", hint="check that the folder can be written"
        ) from error
    return path


def _put(table: dict[str, Any], key: str, *, value: object) -> None:
    *above, name = split_key(key)
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"{part} is no table there")  # noqa: TRY004 - of the file, not of the program
    table[name] = value
