"""What pydantic has found wrong → lines for a person: where, which key, what was expected.

Pure. One line for each key, however many alternatives its type has; in the order of the layers and of their lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.config.secrets import HIDDEN, masked
from unicornd.config.values import quoted
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic_core import ErrorDetails

    from unicornd.config.given import Origin

Key = tuple[str, ...]

FREE_TABLES = frozenset(
    {("app", "env"), ("app", "paste_global"), ("logging", "config"), ("proxy", "secure_scheme_headers")}
)
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
    "too_short": "a list of {min_length} or more",
    "string_pattern_mismatch": "text that matches {pattern}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a key, and who said it."""

    key: Key
    origin: Origin
    sentence: str

    @property
    def line(self) -> str:
        """The line for a person."""
        return f"{self.origin.where}: {'.'.join(self.key)}: {self.sentence}"


def find_faults(
    errors: Iterable[ErrorDetails],
    *,
    origin: Callable[[Key], Origin],
    fields: Callable[[Key], Mapping[str, object]],
) -> list[Fault]:
    """Return one fault for every key that is wrong.

    Args:
        errors: of pydantic's ValidationError.
        origin: of a key.
        fields: names that exist in a table.
    """
    grouped: dict[Key, list[ErrorDetails]] = {}
    for error in errors:
        grouped.setdefault(_key_of(error, fields), []).append(error)
    return [
        Fault(key=key, origin=origin(key), sentence=_sentence(key, found, fields=fields))
        for key, found in grouped.items()
    ]


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


def _sentence(key: Key, found: list[ErrorDetails], *, fields: Callable[[Key], Mapping[str, object]]) -> str:
    error = found[0]
    if error["type"] == "extra_forbidden":
        return "unknown key" + (_namesake(key, fields) or suggestion(key[-1], fields(key[:-1])))
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    form = _form(fields(key[:-1]).get(key[-1]))
    expected = dict.fromkeys(form or _expectation(each) for each in found)
    return f"expected {' or '.join(expected)}, got {_shown(key, error['input'])}"


def _form(field: object) -> str:
    """Return what a text has to look like, where a setting says it in words."""
    extra = getattr(field, "json_schema_extra", None)
    return str(extra.get("x-form", "")) if isinstance(extra, dict) else ""


def _namesake(key: Key, fields: Callable[[Key], Mapping[str, object]]) -> str:
    """Return where a key of that name is, in another table or as a setting of gunicorn's; empty if nowhere."""
    from unicornd.config.gunicorn import BY_NAME  # noqa: PLC0415 - a long table, only needed for the message

    name = key[-1]
    places = [f"{section}.{name}" for section in fields(()) if name in fields((section,))]
    if places:
        return f" (it is {' or '.join(places)})"
    row = BY_NAME.get(name)
    return f" (gunicorn's {name} is {' and '.join(row.keys)} here)" if row is not None and row.keys else ""


def _expectation(error: ErrorDetails) -> str:
    text = _EXPECTED.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    return text.replace("'", '"') if error["type"] == "literal_error" else text


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "count"?)`, or an empty string if nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - for a mistake

    near = get_close_matches(name, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _shown(key: Key, value: object) -> str:
    text = quoted(value)
    is_hidden = key[:-1] in FREE_TABLES and masked(key[-1], text) != text
    return HIDDEN if is_hidden else text
