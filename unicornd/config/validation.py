"""Raw values → settings, or all errors at once: what pydantic finds, and the rules that span several keys.

pydantic checks a model as a whole only when each of its fields is right; so rules are functions of our own
(`config.rules`), and when fields are wrong they look at the rest: a rule is asked unless one of its own keys is wrong.
Pure.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unicornd.config.problems import Fault, find_faults
from unicornd.config.rules import RULES
from unicornd.config.sections.section import Section
from unicornd.config.settings import Settings
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unicornd.config.draft import Draft, Key
    from unicornd.config.given import Origin
    from unicornd.config.rules import Rule

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

    try:
        settings = _validate(draft.values)
    except ValidationError as error:
        faults = find_faults(error.errors(), origin=origin, fields=fields_of)
        wrong = {_plain(fault.key) for fault in faults}
        with suppress(
            ValidationError
        ):  # where the rest is not right by itself either, there is enough to tell
            rest = _validate(_without(draft.values, [fault.key for fault in faults]))
            faults += _broken_rules(rules, rest, draft=draft, wrong=wrong)
        return None, sorted(faults, key=lambda fault: fault.origin.order)
    return settings, _broken_rules(rules, settings, draft=draft, wrong=set())


def fields_of(key: Key) -> Mapping[str, Any]:
    """Return the names that exist in a table; nothing for a key that is no table with fixed names."""
    model: type[Section] = Settings
    for name in key:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return {}
        model = annotation
    return model.model_fields


def _validate(values: Mapping[str, Any]) -> Settings:
    return Settings.model_validate_json(json.dumps(values, default=str), strict=True)


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
