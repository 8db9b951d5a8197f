"""Raw values → settings, or all errors at once: what pydantic finds, and the rules that span several keys.

pydantic checks a model as a whole only when each of its fields is right; so rules are functions of our own
(`config.rules`), and when fields are wrong they look at the rest: a rule is asked unless one of its own keys is wrong.
Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unicornd.config.problems import Fault, find_faults
from unicornd.config.rules import RULES
from unicornd.config.settings import Settings
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from unicornd.config.draft import Draft, Key
    from unicornd.config.given import Origin
    from unicornd.config.rules import Rule
    from unicornd.config.sections.section import Section

_INDEX = re.compile(r"(\[[0-9]+\])+\Z")


def validated(draft: Draft, problems: Iterable[str] = ()) -> Settings:
    """Return the settings of a draft.

    Args:
        draft: everything that was said.
        problems: lines about what could not even get into it.

    Raises:
        ConfigError: `detail` has a line for everything that is wrong.
    """
    settings, faults = examined(draft)
    lines = [*problems, *(fault.line for fault in faults)]
    if settings is not None and not lines:
        return settings
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    raise ConfigError(f"the configuration is wrong: {count}", detail="\n".join(lines))


def examined(draft: Draft, *, rules: Iterable[Rule] = RULES) -> tuple[Settings | None, list[Fault]]:
    """Return the settings, if every value is right, and everything that is wrong, in the order of its places."""

    def origin(key: Key) -> Origin:
        return _origin(draft, key)

    settings, errors = _validate(draft.values)
    if settings is not None:
        return settings, _broken_rules(rules, settings, draft=draft, wrong=set())
    faults = find_faults(errors, origin=origin, fields=fields_of)
    wrong = {_plain(fault.key) for fault in faults}
    # Where the rest is not right by itself either, there is enough to tell: no rule is broken by our defaults.
    rest = _validate(_without(draft.values, [fault.key for fault in faults]))[0] or Settings.untouched()
    faults += _broken_rules(rules, rest, draft=draft, wrong=wrong)
    return None, sorted(faults, key=lambda fault: fault.origin.order)


def fields_of(key: Key) -> Mapping[str, Any]:
    """Return the names that exist in a table; nothing for a key that is no table with fixed names."""
    model: type[Section] = Settings
    for name in key:
        found = model.table(name)
        if found is None:
            return {}
        model = found
    return model.model_fields


def is_rather_text(key: Key, value: object, *, text: str) -> bool:
    """Return whether a setting takes a text, and not the TOML value that it might be read as."""
    info = fields_of(key[:-1]).get(key[-1])
    if info is None:
        return False
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    return not _takes(adapter, value) and _takes(adapter, text)


def _takes(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def _validate(values: Mapping[str, Any]) -> tuple[Settings | None, list[ErrorDetails]]:
    """Return the settings, or pydantic's errors; table by table, so that only what is said of needs a validator."""
    tables: dict[str, Any] = {}
    errors: list[ErrorDetails] = []
    for name, table in values.items():
        errors += _nuls(table, (name,))
        model = Settings.table(name)
        if model is None:
            errors.append({"type": "extra_forbidden", "loc": (name,), "msg": "", "input": table})
            continue
        try:
            tables[name] = model.model_validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            errors += [{**each, "loc": (name, *each["loc"])} for each in error.errors()]
    return (None if errors else Settings.model_construct(**tables)), errors


def _nuls(value: object, place: tuple[int | str, ...]) -> Iterator[ErrorDetails]:
    """Yield an error for each text with a NUL in it: it would end, or fail, wherever the kernel is given it."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _nuls(inner, (*place, name))
        case list():
            for number, inner in enumerate(value):
                yield from _nuls(inner, (*place, number))
        case str() if "\0" in value:
            why = ValueError("expected text without a NUL")
            yield {"type": "value_error", "loc": place, "msg": "", "input": value, "ctx": {"error": why}}
        case _:
            pass


def _broken_rules(rules: Iterable[Rule], settings: Settings, *, draft: Draft, wrong: set[Key]) -> list[Fault]:
    faults = []
    for rule in rules:
        is_doubtful = any(key[: len(bad)] == bad[: len(key)] for key in rule.keys for bad in wrong)
        sentence = "" if is_doubtful else rule.check(settings)
        if sentence:
            faults.append(Fault(key=rule.keys[0], origin=_origin(draft, rule.keys[0]), sentence=sentence))
    return sorted(faults, key=lambda fault: fault.origin.order)


def _origin(draft: Draft, key: Key) -> Origin:
    plain = tuple(_INDEX.sub("", part) for part in key)
    known = (each[:length] for length in range(len(key), 0, -1) for each in (key, plain))
    return next(draft.origins[above] for above in known if above in draft.origins)


def _plain(key: Key) -> Key:
    return tuple(_INDEX.sub("", part) for part in key)


def _without(values: Mapping[str, Any], wrong: Iterable[Key]) -> dict[str, Any]:
    """Return a copy without the wrong keys: what is left is right."""
    kept: dict[str, Any] = json.loads(json.dumps(values, default=str))
    for key in wrong:
        for parts in (key, _plain(key)):
            place: Any = kept
            for part in parts[:-1]:
                place = place.get(part, {})
            place.pop(parts[-1], None)
    return kept
