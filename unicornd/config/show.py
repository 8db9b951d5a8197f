"""Settings as rows: key, value as text, and where it came from. For people, and for comparing two of them.

Pure. Values that look like secrets are `***`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unicornd.config.problems import FREE_TABLES
from unicornd.config.secrets import masked
from unicornd.config.sections.section import Section
from unicornd.config.sections.timeouts import TimeoutsSettings
from unicornd.config.settings import Settings
from unicornd.config.values import format_duration, format_mode, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unicornd.config.draft import Key
    from unicornd.config.given import Origin
    from unicornd.config.layers import Loaded

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting.

    Attributes:
        key: dotted.
        value: as JSON would have it; None if it is not set.
        layer: `default`, or who said it; `where`: the place, empty for a default.
    """

    key: str
    value: object
    layer: str
    where: str


def rows_of(loaded: Loaded) -> list[Row]:
    """Return every setting with its origin, in the order of the sections."""
    return [
        _row(key, _presented(key, value), origins=loaded.origins)
        for key, value in _leaves(loaded.settings, ())
    ]


def print_lines(loaded: Loaded) -> list[str]:
    """Return a line for every setting, with who said it: `workers.count = 4  # gunicorn.conf.py:3`."""
    rows = rows_of(loaded)
    return [
        f"{row.key} = {'(not set)' if row.value is None else json.dumps(row.value, ensure_ascii=False)}"
        f"  # {row.where or row.layer}"
        for row in rows
    ]


def differences(present: Settings, wanted: Settings) -> list[str]:
    """Return a line for every setting that differs, with what it needs to take effect."""
    before = dict(_leaves(present, ()))
    after = dict(_leaves(wanted, ()))
    return [
        f"{'.'.join(key)}: {_presented(key, before.get(key))} → {_presented(key, after.get(key))} ({apply_of(key)})"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def needing_restart(present: Settings, wanted: Settings) -> list[str]:
    """Return the differences that only a restart applies."""
    return [line for line in differences(present, wanted) if line.endswith("(restart)")]


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
    )


def _leaves(section: Section, above: Key) -> Iterator[tuple[Key, object]]:
    for name in type(section).model_fields:
        key = (*above, name)
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _leaves(value, key)
        elif isinstance(value, dict) and value:
            yield from (((*key, each), text) for each, text in value.items())
        else:
            yield key, value


def _presented(key: Key, value: object) -> object:
    """Return what may be shown; compared are the values themselves, so that a changed secret is a difference."""
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
