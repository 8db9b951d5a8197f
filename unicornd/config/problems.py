"""What pydantic has found wrong → lines for a person: where, which key, what was expected.

Pure. One line for each key, however many alternatives its type has; in the order of the file.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic_core import ErrorDetails

Key = tuple[str, ...]

FREE_TABLES = frozenset({("app", "env")})
"""Tables whose keys are the operator's own."""

# What a kind of error expected; `{…}` is taken from the error's context.
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length}",
    "string_pattern_mismatch": "text that matches {pattern}",
}


def describe_errors(
    errors: Iterable[ErrorDetails],
    *,
    where: Callable[[Key], str],
    fields: Callable[[Key], Mapping[str, object]],
) -> list[str]:
    """Return one line for every key that is wrong.

    Args:
        errors: of pydantic's ValidationError.
        where: origin of a key, such as `unicornd.toml:7`.
        fields: names that exist in a table.
    """
    grouped: dict[Key, list[ErrorDetails]] = {}
    for error in errors:
        grouped.setdefault(_key_of(error, fields), []).append(error)
    return [_describe(key, found, where=where, fields=fields) for key, found in grouped.items()]


def _key_of(error: ErrorDetails, fields: Callable[[Key], Mapping[str, object]]) -> Key:
    """Return the key without pydantic's names for the alternatives of a union."""
    key: Key = ()
    for part in error["loc"]:
        if isinstance(part, int):
            key = (*key[:-1], f"{key[-1]}[{part}]")
        elif key and not fields(key) and key not in FREE_TABLES:
            break
        else:
            key = (*key, part)
    return key


def _describe(
    key: Key,
    found: list[ErrorDetails],
    *,
    where: Callable[[Key], str],
    fields: Callable[[Key], Mapping[str, object]],
) -> str:
    error = found[0]
    if error["type"] == "value_error" and not key:  # a rule across sections names its key itself
        sentence = str(error["ctx"]["error"])
        named = tuple(sentence.partition(":")[0].split("."))
        return f"{where(named)}: {sentence}"
    return f"{where(key)}: {'.'.join(key)}: {_sentence(key, found, fields=fields)}"


def _sentence(key: Key, found: list[ErrorDetails], *, fields: Callable[[Key], Mapping[str, object]]) -> str:
    error = found[0]
    if error["type"] == "extra_forbidden":
        return "unknown key" + suggestion(key[-1], fields(key[:-1]))
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    expected = [
        _EXPECTED[e["type"]].format(**e.get("ctx", {})) if e["type"] in _EXPECTED else e["msg"] for e in found
    ]
    return f"expected {' or '.join(dict.fromkeys(expected))}, got {_shown(error['input'])}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "count"?)`, or an empty string if nothing is near."""
    near = get_close_matches(name, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever was written
    """Return a value as TOML would write it, more or less."""
    text = json.dumps(value, ensure_ascii=False)
    limit = 60
    return text if len(text) <= limit else f"{text[:limit]}…"
