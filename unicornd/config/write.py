"""What commands write: drop-ins beside `unicornd.toml`, whose comments are never touched, and imported configurations.

A file appears whole or not at all; none is overwritten unasked.
"""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import tomli_w

from unicornd.config.layers import split_key
from unicornd.errors import FileError
from unicornd.files import Folder, open_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
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
        FileError: it cannot be read or written.
    """
    path = config_file.with_suffix(".d") / name
    try:
        with Folder.open(path.parent.parent) as above, suppress(FileExistsError):
            os.mkdir(path.parent.name, dir_fd=above.fd)
        with Folder.open(path.parent) as folder:
            text = (folder.read(name) or b"").decode()
            table: dict[str, Any] = tomllib.loads(text)
            for key, value in values.items():
                _put(table, key, value=value)
            os.close(folder.put(name, tomli_w.dumps(table).encode(), mode=0o666 & ~_umask()))
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot save {path}: {_why(error)}",
            hint="check that the folder can be written",
            is_denied=isinstance(error, PermissionError),
        ) from error
    return path


def config_text(table: Mapping[str, Any], *, above: Iterable[str], below: Iterable[str] = ()) -> str:
    """Return a configuration as TOML, with lines of comments above and below.

    A line that is a comment holds no control characters (TOML 1.0, Comment).
    """
    parts = [_comments(above), tomli_w.dumps(table), _comments(below)]
    return "\n".join(part for part in parts if part)


def _comments(lines: Iterable[str]) -> str:
    plain = ("".join(character if character.isprintable() else " " for character in line) for line in lines)
    return "".join(f"# {line}".rstrip() + "\n" for line in plain)


def write_config(path: Path, text: str, *, is_forced: bool) -> None:
    """Write a configuration file.

    Raises:
        FileError: it is there already, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_forced else os.O_EXCL)
    try:
        with open(open_file(str(path), flags, mode=0o666), "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
            file.write(text)
    except FileExistsError:
        raise FileError(f"{path} is there already", hint="--force overwrites it") from None
    except OSError as error:
        is_denied = isinstance(error, PermissionError)
        raise FileError(f"cannot write {path}: {error.strerror}", is_denied=is_denied) from error


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _umask() -> int:
    """Return the file mode creation mask, which can only be read by setting it (umask(2))."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _put(table: dict[str, Any], key: str, *, value: object) -> None:
    *above, name = split_key(key)
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"{part} is no table there")  # noqa: TRY004 - of the file, not of the program
    table[name] = value
