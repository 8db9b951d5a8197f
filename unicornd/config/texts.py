"""The types of settings that are written as text, as pydantic validates them and as the JSON Schema tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, InstanceOf, WithJsonSchema

from unicornd.config.amounts import DURATION, MODE, SIZE, parse_duration, parse_mode, parse_size
from unicornd.config.parsers import (
    parse_address,
    parse_import,
    parse_kind,
    parse_networks,
    parse_path,
    parse_statsd_address,
)
from unicornd.config.values import Address, ImportString, Statsd

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
    BeforeValidator(parse_address),
    WithJsonSchema({"type": "string", "x-form": "address", "examples": ["127.0.0.1:8000"]}),
]
ImportText = Annotated[
    InstanceOf[ImportString],
    BeforeValidator(parse_import),
    WithJsonSchema({"type": "string", "x-form": "import string", "examples": ["shop.wsgi:application"]}),
]

PathText = Annotated[Path, BeforeValidator(parse_path)]
"""A path; an empty one would be the working directory."""

Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_networks),
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

StatsdText = Annotated[
    InstanceOf[Statsd],
    BeforeValidator(parse_statsd_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8125"]}),
]

KindText = Annotated[str, BeforeValidator(parse_kind)]
"""What `workers.kind` may say. Names of gunicorn's and uvicorn's worker classes mean the kind that does the same here."""
