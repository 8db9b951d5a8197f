"""What has been read so far: raw values, and who said each; paths are made absolute on their way in.

Pure. Used by `config.layers`, and by the importer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from unicornd.dataclass import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from unicornd.config.given import Origin

Key = tuple[str, ...]

# Keys with paths: in a file they are relative to its folder, on the command line to the working directory.
PATH_KEYS = frozenset(
    {
        ("app", "chdir"),
        ("app", "paste"),
        ("app", "pythonpath"),
        ("app", "search_first"),
        ("app", "search_last"),
        ("process", "pidfile"),
        ("http", "tmp_upload_dir"),
        ("control", "socket"),
        ("logging", "error"),
        ("logging", "access", "file"),
        ("logging", "config_file"),
        ("logging", "config_json"),
        ("metrics", "statsd"),
        ("reload", "extra_files"),
        ("reload", "watch"),
        ("server", "bind"),
        ("admin", "bind"),
        ("tls", "ca_certs"),
        ("tls", "certfile"),
        ("tls", "keyfile"),
    }
)
ADDRESS_KEYS = frozenset({("server", "bind"), ("admin", "bind"), ("metrics", "statsd")})
"""Of these only Unix sockets have paths."""


@dataclass(slots=True)
class Draft:
    """What has been read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)

    def merge(self, table: Mapping[str, Any], origin_of: Mapping[Key, Origin], *, above: Key = ()) -> None:
        """Lay a table over what is there; tables are merged, everything else is replaced."""
        for name, value in table.items():
            key = (*above, name)
            if isinstance(value, dict):
                self._table(key)
                self.origins.setdefault(key, origin_of[key])
                self.merge(value, origin_of, above=key)
            else:
                self.put(key, value, origin=origin_of[key])

    def put(self, key: Key, value: object, *, origin: Origin) -> None:
        """Lay one value over what is there."""
        self._table(key[:-1])[key[-1]] = value
        for length in range(1, len(key)):
            self.origins.setdefault(key[:length], origin)
        self.origins[key] = origin

    def said(self, table: str, name: str) -> object:
        """Return what was said for a key of a section, right or wrong; None if nothing was."""
        found = self.values.get(table)
        return found.get(name) if isinstance(found, dict) else None

    def drop(self, key: Key) -> None:
        """Forget one value or table, and the tables around it that have no other."""
        table = self._table(key[:-1])
        table.pop(key[-1], None)
        for known in [known for known in self.origins if known[: len(key)] == key]:
            del self.origins[known]
        if not table and key[:-1]:
            self.drop(key[:-1])

    def _table(self, key: Key) -> dict[str, Any]:
        table = self.values
        for name in key:
            below = table.setdefault(name, {})
            if not isinstance(below, dict):
                below = table[name] = {}
            table = below
        return table


def anchor_paths(table: dict[str, Any], folder: Path, *, above: Key = ()) -> None:
    """Make the paths of a file relative to the file's folder."""
    for name, value in table.items():
        key = (*above, name)
        if isinstance(value, dict):
            anchor_paths(value, folder, above=key)
        elif key in PATH_KEYS:
            table[name] = anchored(key, value, folder=folder)


def anchored(key: Key, value: Any, *, folder: Path) -> Any:  # noqa: ANN401 - not validated yet
    """Make a path absolute; `-` is a stream and `@…` an abstract name, and a TCP address has no path."""
    match value:
        case list():
            return [anchored(key, item, folder=folder) for item in value]
        case str() if key in ADDRESS_KEYS:
            scheme, path = ("unix:", value.removeprefix("unix:").removeprefix("//"))
            is_path = value.startswith(scheme) and path[:1] not in {"", "@"}
            return f"{scheme}{os.path.normpath(folder / path)}" if is_path else value
        case str() if value not in {"-", ""} and not value.startswith("@"):
            return os.path.normpath(folder / value)
        case _:
            return value


def relative_to(key: Key, value: Any, *, folder: Path) -> Any:  # noqa: ANN401 - as `anchored`
    """Undo `anchored`: paths below the folder are written from there, all others stay absolute."""
    match value:
        case list():
            return [relative_to(key, item, folder=folder) for item in value]
        case str() if key in ADDRESS_KEYS:
            below = _below(value.removeprefix("unix:"), folder) if value.startswith("unix:") else ""
            return f"unix:{below}" if below else value
        case _:
            return _below(value, folder) or value


def import_relative_to(value: str, *, start: Path, home: Path) -> str:
    """Write an import string whose file is at home as workers find it: `./gunicorn.conf.py:post_fork`.

    Args:
        value: with an absolute path.
        start: the working directory of the workers.
        home: files below it move with the configuration, all others stay where they are.
    """
    module, colon, rest = value.partition(":")
    if not module.endswith(".py") or not (_below(module, home) or _below(module, start)):
        return value
    relative = os.path.relpath(module, start)
    return f"{'' if relative.startswith('../') else './'}{relative}{colon}{rest}"


def _below(path: str, folder: Path) -> str:
    if not os.path.isabs(path):  # noqa: PTH117 - it may be "-" or "@name"
        return ""
    relative = os.path.relpath(path, folder)
    return "" if relative == ".." or relative.startswith("../") else relative
