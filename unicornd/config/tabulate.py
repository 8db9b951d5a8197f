"""The models as a table of constants (`config.table`): what each setting takes plainly, its default, what a change needs.

The models say everything; the table is made of them, for those who only look up (`config.shortcut`, `config.show`) and
need not wait for pydantic. A type that this module does not know gets no form: of it nothing is plainly right, and the
models are asked.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic import BeforeValidator, InstanceOf, WithJsonSchema
from pydantic.fields import FieldInfo

from unicornd.config.amounts import parse_duration, parse_mode, parse_size
from unicornd.config.parsers import (
    as_tuple,
    parse_address,
    parse_import,
    parse_kind,
    parse_networks,
    parse_path,
    parse_statsd_address,
)
from unicornd.config.settings import Settings
from unicornd.config.values import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from unicornd.config.sections.section import Section
    from unicornd.config.table import Form

HEADING = '''\
"""Every setting: its default, what a change of it needs, and which values are plainly right; see `config.tabulate`.

Made of the models by `make generate`.
"""

from __future__ import annotations

from unicornd.config.values import Address

# fmt: off
Form = tuple[object, ...]
"""A name in `shortcut.READERS`, and its limits."""
Entry = tuple[object, str, tuple[Form, ...]]
"""Default, `live` or `rolling` or `restart`, and the forms that a value may have."""
Table = dict[str, "Entry | Table"]

TABLE: Table = {
'''

PARSERS: dict[Callable[..., Any], str] = {
    parse_duration: "duration",
    parse_size: "size",
    parse_mode: "mode",
    parse_kind: "kind",
    parse_networks: "networks",
    parse_path: "path",
    parse_address: "address",
    as_tuple: "addresses",
    parse_import: "import",
    parse_statsd_address: "statsd",
}
"""What the types of settings begin with → the form."""


def table_text() -> str:
    """Return the source of `config.table`."""
    return "".join(f"{line}\n" for line in (HEADING.rstrip("\n"), *_lines(Settings, depth=1), "}"))


def _lines(model: type[Section], *, depth: int) -> Iterator[str]:
    margin = "    " * depth
    for name, info in model.model_fields.items():
        inner = model.table(name)
        if inner is not None:
            yield f'{margin}"{name}": {{'
            yield from _lines(inner, depth=depth + 1)
            yield f"{margin}}},"
            continue
        default = info.get_default(call_default_factory=True)
        forms = tuple(forms_of(info.annotation, info.metadata))
        yield f'{margin}"{name}": ({_source(default)}, "{_apply(info)}", {_source(forms)}),'


def _apply(info: FieldInfo) -> str:
    extra = cast("dict[str, Any]", info.json_schema_extra)
    return str(extra["x-apply"])


def _source(value: object) -> str:
    """Write a value as the code has it: with double quotes."""
    match value:
        case str():
            return repr(value) if '"' in value else f'"{repr(value)[1:-1]}"'  # as ruff would have it
        case tuple():
            return f"({', '.join(map(_source, value))}{',' if len(value) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{_source(name)}: {_source(each)}' for name, each in value.items())}}}"
        case Address():
            return f"Address.parse({_source(str(value))})"
        case _:
            return repr(value)


def forms_of(annotation: object, metadata: Sequence[object] = ()) -> Iterator[Form]:
    """Yield the forms that a value of a type may have; none of a type, or with a constraint, that is not known here."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from forms_of(inner, [*more, *metadata])
    elif get_origin(annotation) in {Union, UnionType}:
        for choice in get_args(annotation):  # None is what is not said: no value of TOML
            yield from forms_of(choice, metadata)
    elif annotation is not NoneType:
        every = (
            each for item in metadata for each in (item.metadata if isinstance(item, FieldInfo) else [item])
        )
        told = [item for item in every if not isinstance(item, InstanceOf | WithJsonSchema)]
        form = _parsed(told) or _plain(annotation, told)
        if form is not None:
            yield form


def _parsed(told: Sequence[object]) -> Form | None:
    match told:
        case [BeforeValidator(func=parser), *limits] if parser in PARSERS:
            form = PARSERS[parser]
            if form == "addresses":  # one at least, as it says
                limits = [limit for limit in limits if limit != MinLen(1)]
            bounds = _bounds(limits)
            return None if bounds is None else (form, *(bound for bound in bounds if bound is not None))
        case _:
            return None


def _plain(annotation: object, told: Sequence[object]) -> Form | None:
    if annotation is int and (bounds := _bounds(told)) is not None:
        return ("int", *bounds)
    if annotation is str:
        patterns = [getattr(item, "pattern", None) for item in told]
        return ("text", *patterns) if all(patterns) and len(patterns) <= 1 else None
    if told:
        return None
    if get_origin(annotation) is Literal:
        return ("choice", *get_args(annotation))
    known: dict[object, str] = {bool: "bool", tuple[str, ...]: "texts", dict[str, str]: "names"}
    found = known.get(annotation)
    return None if found is None else (found,)


def _bounds(told: Iterable[object]) -> tuple[object, object] | None:
    """Return the least and the greatest value, None for one that is not limited; or None, if more is said."""
    least = greatest = None
    for item in told:
        match item:
            case Ge(ge=bound):
                least = bound
            case Le(le=bound):
                greatest = bound
            case _:
                return None
    return least, greatest
