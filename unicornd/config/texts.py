"""The types of settings that are written as text, as pydantic validates them and as the JSON Schema tells them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, WithJsonSchema

from unicornd.config.amounts import DURATION, MODE, SIZE, parse_duration, parse_mode, parse_size
from unicornd.config.conversions import known_kind
from unicornd.config.kinds import NAMES, entry_point_of, is_custom
from unicornd.config.problems import suggestion
from unicornd.config.values import Address, ImportString, Statsd, parse_statsd, quoted


def _text(value: str | dict[str, object]) -> str:
    """Refuse a table, which pydantic would take for the fields of a value."""
    if isinstance(value, dict):
        raise ValueError(f"expected text in quotes, got {quoted(value)}")  # noqa: TRY004 - told like every other value
    return value


def _parse_address(value: object) -> object:
    return Address.parse(_text(value)) if isinstance(value, str | dict) else value


def _parse_import(value: object) -> object:
    return ImportString.parse(_text(value)) if isinstance(value, str | dict) else value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": f"^{DURATION.pattern}$", "x-form": "text with a unit"},
            ],
            "examples": [30, "500ms", "5m"],
        }
    ),
]
"""Seconds; 0 means no limit wherever a limit is meant."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{SIZE.pattern}$", "x-form": "text with a unit"},
            ],
            "examples": [65536, "64KiB", "1GiB"],
        }
    ),
]
"""Bytes; 0 means no limit wherever a limit is meant."""

Mode = Annotated[
    int,
    BeforeValidator(parse_mode),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{MODE.pattern}$", "x-form": "octal mode", "examples": ["0660"]}
    ),
]
"""Permission bits."""

AddressText = Annotated[
    InstanceOf[Address],
    BeforeValidator(_parse_address),
    WithJsonSchema({"type": "string", "x-form": "address", "examples": ["127.0.0.1:8000"]}),
]
ImportText = Annotated[
    InstanceOf[ImportString],
    BeforeValidator(_parse_import),
    WithJsonSchema({"type": "string", "x-form": "import string", "examples": ["shop.wsgi:application"]}),
]


def _parse_path(value: object) -> object:
    if value == "":
        raise ValueError('expected a path, got ""')
    return value


PathText = Annotated[Path, BeforeValidator(_parse_path)]
"""A path; an empty one would be the working directory."""


def _parse_networks(value: object) -> object:
    """Check addresses and networks; a text is a list with commas, as gunicorn has it."""
    texts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f'expected addresses and networks such as ["127.0.0.1", "10.0.0.0/8"], got {quoted(value)}'
        )
    for text in texts:
        _check_network(text)
    return tuple(texts)


def _check_network(text: str) -> None:
    if text == "*":
        return
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected an address, a network or "*": {error}') from None


Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_networks),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string", "x-form": "addresses and networks"}},
                {"type": "string", "x-form": "text with commas"},
            ]
        }
    ),
]
"""IP addresses and networks, or `*`."""


def _parse_statsd(value: object) -> object:
    return parse_statsd(_text(value)) if isinstance(value, str | dict) else value


StatsdText = Annotated[
    InstanceOf[Statsd],
    BeforeValidator(_parse_statsd),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8125"]}),
]


def parse_kind(value: object) -> object:
    """Return the name of a kind of ours, of an entry point, or the text that says where a kind is.

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(value, str):
        return value
    name = known_kind(value)
    if name in NAMES:
        return name
    if value.startswith(("egg:", "gunicorn.")):
        raise ValueError(f"{quoted(value)} is a worker class of gunicorn; kinds are {_listed()}")
    if is_custom(name):
        _check_import(name)
    elif entry_point_of(name) is None:
        raise ValueError(f"{quoted(name)} is no kind{suggestion(name, NAMES)}; kinds are {_listed()}")
    return name


def _check_import(name: str) -> None:
    try:
        ImportString.parse(name)
    except ValueError:
        what = f'expected a kind ({_listed()}) or "module:Class", got {quoted(name)}'
        raise ValueError(what) from None


def _listed() -> str:
    return ", ".join(NAMES)


KindText = Annotated[str, BeforeValidator(parse_kind)]
"""What `workers.kind` may say. Names of gunicorn's and uvicorn's worker classes mean the kind that does the same here."""
