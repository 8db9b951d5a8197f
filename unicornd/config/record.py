"""A table of settings once it has been validated: plain values under their names, and nothing that validates.

The models stay in the process that reads the configuration (`config.layers`); what it tells the others has their shape
and this form, so no process of a fleet carries pydantic. In every process of a fleet: as little as can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from unicornd.config.sections.section import Section

S = TypeVar("S", bound="Section")


class Record:
    """The values of a table as attributes, which do not change; two with the same values are equal.

    Args:
        values: by name.
        said: the names whose values are no defaults of ours.
    """

    said: frozenset[str]

    def __init__(self, values: Mapping[str, Any], said: AbstractSet[str]) -> None:
        self.__dict__.update(values, said=frozenset(said))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings do not change: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment] # it may have dictionaries

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return (pair for pair in self.__dict__.items() if pair[0] != "said")

    def __repr__(self) -> str:
        return f"Record({dict(self)!r})"


def plain(section: S) -> S:
    """Return the values of a table, and of the tables in it, as a record; to the type checker it is what it was."""
    values = {name: plain(value) if hasattr(value, "said") else value for name, value in section}
    return cast("S", Record(values, section.said))


def replaced(record: S, **values: object) -> S:
    """Return a record with other values under some names."""
    return cast("S", Record({**dict(record), **values}, record.said | values.keys()))


def leaves(record: Section, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every setting with its key; of a table with the operator's own names, each of these."""
    for name, value in record:
        key = (*above, name)
        if hasattr(value, "said"):
            yield from leaves(value, key)
        elif isinstance(value, dict) and value:
            yield from (((*key, each), text) for each, text in value.items())
        else:
            yield key, value
