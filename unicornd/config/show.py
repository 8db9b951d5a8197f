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
from unicornd.config.sections.section import Section
from unicornd.config.sections.timeouts import TimeoutsSettings
from unicornd.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.config.draft import Key
    from unicornd.config.given import Origin
    from unicornd.config.loaded import Loaded

_FORMATS: Mapping[Key, Callable[[Any], str]] = {
    **{("timeouts", name): format_duration for name in TimeoutsSettings.model_fields},
    ("http", "max_body_size"): format_size,
    ("http", "body_memory"): format_size,
    ("http", "response_buffer"): format_size,
    ("asgi", "disconnect_grace_period"): format_duration,
    ("asgi", "websocket_max_message_size"): format_size,
    ("workers", "max_age"): format_duration,
    ("workers", "max_memory"): format_size,
    ("server", "socket_mode"): format_mode,
    ("process", "umask"): format_mode,
    ("control", "mode"): format_mode,
}


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
    model: type[Section] = Settings
    extra: object = None
    for name in key:
        if name not in model.model_fields:
            break  # below a table of free keys
        info = model.model_fields[name]
        extra = info.json_schema_extra
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            model = info.annotation
    return str(extra.get("x-apply", "rolling")) if isinstance(extra, dict) else "rolling"


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
        case _ if key in _FORMATS:
            return _FORMATS[key](value)
        case tuple():
            return [shown_value((), item) for item in value]
        case str() | int() | float() | dict():
            return value
        case _:
            return str(value)
