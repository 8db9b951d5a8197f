"""Settings as rows: key, value as text, and where it came from. For people.

Pure. Values that look like secrets are `***`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from unicornd.config.amounts import format_duration, format_mode, format_size
from unicornd.config.loaded import Row
from unicornd.config.problems import FREE_TABLES
from unicornd.config.record import leaves
from unicornd.config.secrets import masked
from unicornd.config.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.config.draft import Key
    from unicornd.config.given import Origin
    from unicornd.config.loaded import Loaded
    from unicornd.config.settings import Settings
    from unicornd.config.table import Entry, Table

_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "duration": format_duration,
    "size": format_size,
    "mode": format_mode,
}
"""Form of a setting → how a value is written."""


def rows_of(settings: Settings, origins: Mapping[Key, Origin]) -> tuple[Row, ...]:
    """Return every setting with its origin, in the order of the sections."""
    return tuple(_row(key, _presented(key, value), origins=origins) for key, value in leaves(settings))


def print_lines(loaded: Loaded) -> list[str]:
    """Return a line for every setting, with who said it: `workers.count = 4  # gunicorn.conf.py:3`."""
    return [
        f"{row.key} = {'(not set)' if row.value is None else json.dumps(row.value, ensure_ascii=False)}"
        f"  # {row.where or row.layer}"
        for row in loaded.rows
    ]


def apply_of(key: Key) -> str:
    """Return what a change of a setting needs: `live`, `rolling` or `restart`."""
    entry = _entry(key)
    return "rolling" if entry is None else entry[1]


def _entry(key: Key) -> Entry | None:
    """Return what is known of a setting, or of the table of free keys that it is in; None for no setting."""
    found: Entry | Table = TABLE
    for name in key:
        if isinstance(found, dict):
            found = found[name]
    return None if isinstance(found, dict) else found


def _row(key: Key, value: object, *, origins: Mapping[Key, Origin]) -> Row:
    origin = origins.get(key)
    return Row(
        key=".".join(key),
        value=value,
        layer=origin.layer if origin is not None else "default",
        where=origin.where if origin is not None else "",
        apply=apply_of(key),
    )


def _presented(key: Key, value: object) -> object:
    """Return what may be shown."""
    return (
        masked(key[-1], value)
        if key[:-1] in FREE_TABLES and isinstance(value, str)
        else shown_value(key, value)
    )


def shown_value(key: Key, value: object) -> object:
    """Return a value as JSON has it, in the words that the operator would use."""
    match value:
        case None | bool():
            return value
        case int() | float() if (form := _form(key)) in _FORMATS:
            return _FORMATS[form](value)
        case tuple():
            return [shown_value((), item) for item in value]
        case str() | int() | float() | dict():
            return value
        case _:
            return str(value)


def _form(key: Key) -> str:
    entry = _entry(key)
    return str(entry[2][0][0]) if entry is not None and entry[2] else ""
