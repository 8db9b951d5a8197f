"""The short way from raw values to settings: for those that are plainly right, without the models.

What pydantic is good at, saying exactly what is wrong, most starts do not need, and its import with the models took two
thirds of the time until a fleet serves. So values are held against `config.table` first, which is made of the models;
whatever is not plainly right there, wrong or only unusual, is left to them (`config.validation`). What is found here
and what they find is the same: `tests/property/test_config_shortcut.py`. Pure.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unicornd.config.amounts import parse_duration, parse_mode, parse_size
from unicornd.config.parsers import (
    parse_address,
    parse_import,
    parse_kind,
    parse_networks,
    parse_path,
    parse_statsd_address,
)
from unicornd.config.record import Record
from unicornd.config.rules import RULES
from unicornd.config.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.config.draft import Key
    from unicornd.config.settings import Settings
    from unicornd.config.table import Entry, Table


class DoubtError(ValueError):
    """It is not plainly right."""


def settings_of(values: Mapping[str, Any]) -> Settings | None:
    """Return the settings as a record, or None if anything is not plainly right.

    Args:
        values: raw, of all layers (`Draft.values`).
    """
    try:
        settings = cast("Settings", _record(TABLE, values))
    except ValueError:
        return None
    return None if any(rule.check(settings) for rule in RULES) else settings


def is_plain(key: Key, value: object) -> bool:
    """Return whether a value is plainly right for a setting."""
    entry: Entry | Table = TABLE
    for name in key:
        if not isinstance(entry, dict) or name not in entry:
            return False
        entry = entry[name]
    if isinstance(entry, dict):
        return False
    try:
        _value(entry, value)
    except ValueError:
        return False
    return True


def _record(table: Table, values: object) -> Record:
    if not isinstance(values, dict) or not values.keys() <= table.keys():
        raise DoubtError
    found: dict[str, object] = {}
    for name, entry in table.items():
        if isinstance(entry, dict):
            found[name] = _record(entry, values.get(name, {}))
        elif name in values:
            found[name] = _value(entry, values[name])
        else:
            found[name] = dict(entry[0]) if isinstance(entry[0], dict) else entry[0]
    return Record(found, values.keys())


def _value(entry: Entry, value: object) -> object:
    for form, *limits in entry[2]:
        try:
            return READERS[cast("str", form)](value, *limits)
        except ValueError:
            continue
    raise DoubtError


def _text(value: object, pattern: str = "") -> str:
    """Plain text: no control character, no lone surrogate."""
    if not isinstance(value, str) or not value.isprintable():
        raise DoubtError
    if pattern and not re.fullmatch(pattern, value):
        raise DoubtError
    return value


def _int(value: object, *bounds: int | None) -> int:
    least, greatest = bounds
    if type(value) is not int or not (least or 0) <= value <= (LARGEST if greatest is None else greatest):
        raise DoubtError
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise DoubtError
    return value


def _choice(value: object, *options: object) -> object:
    if not any(type(value) is type(option) and value == option for option in options):
        raise DoubtError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DoubtError
    return tuple(_text(each) for each in value)


def _names(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise DoubtError
    return {_text(name): _text(text) for name, text in value.items()}


def _amount(parse: Callable[[object], float]) -> Callable[..., float]:
    def read(value: object, least: float = 0) -> float:
        amount = parse(value)
        if not least <= amount <= LARGEST:
            raise DoubtError
        return amount

    return read


def _addresses(value: object) -> tuple[object, ...]:
    texts = value if isinstance(value, list) and value else [value]
    return tuple(parse_address(_text(text)) for text in texts)


def _path(value: object) -> Path:
    return Path(str(parse_path(_text(value))))


def _networks(value: object) -> tuple[str, ...]:
    return parse_networks(_texts(value) if isinstance(value, list) else _text(value))


LARGEST = 2**63 - 1
"""Larger numbers are left to the models."""

READERS: Mapping[str, Callable[..., Any]] = {
    "text": _text,
    "int": _int,
    "bool": _bool,
    "choice": _choice,
    "texts": _texts,
    "names": _names,
    "duration": _amount(parse_duration),
    "size": _amount(parse_size),
    "mode": parse_mode,
    "kind": lambda value: parse_kind(_text(value)),
    "path": _path,
    "networks": _networks,
    "address": lambda value: parse_address(_text(value)),
    "addresses": _addresses,
    "import": lambda value: parse_import(_text(value)),
    "statsd": lambda value: parse_statsd_address(_text(value)),
}
"""What reads a value of a form, or raises ValueError. No two forms of a setting take the same value."""
