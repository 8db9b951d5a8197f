"""A configuration that has been read: where from, what it says, and what a change of it needs.

In every process of a fleet: as little as can be. Made by `config.layers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from unicornd.config.given import Given, Origin  # noqa: TC001 - comes with it from the process that reads
from unicornd.config.record import leaves, replaced
from unicornd.dataclass import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unicornd.config.draft import Key
    from unicornd.config.sections.section import Section
    from unicornd.config.settings import Settings

S = TypeVar("S", bound="Section")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where to look.

    Attributes:
        config_file: as named, or None for `unicornd.toml`, else `gunicorn.conf.py`, in `folder` if there is one.
        environ: environment variables.
        given: of the command line.
        folder: the working directory.
    """

    config_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    given: tuple[Given, ...] = ()
    folder: Path = field(default_factory=Path.cwd)


class Row(NamedTuple):
    """One setting as it may be shown.

    Attributes:
        key: dotted.
        value: as JSON would have it; None if it is not set; what looks like a secret is `***`.
        layer: `default`, or who said it; `where`: the place, empty for a default.
        apply: what a change needs: `live`, `rolling` or `restart`.
    """

    key: str
    value: object
    layer: str
    where: str
    apply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Validated settings, and where each value that is not a default came from.

    Attributes:
        settings: the settings (as a `record.Record`).
        origins: key → who said its value.
        config_file: the file that was read, or None.
        rows: every setting as it may be shown, in the order of the sections.
        notes: what was said and does nothing here, a line each.
        losses: what a Python file has done to its process and no worker gets, a line each.
    """

    settings: Settings
    origins: Mapping[Key, Origin]
    config_file: Path | None
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def differences(present: Loaded, wanted: Loaded) -> list[str]:
    """Return a line for every setting that differs, with what it needs to take effect.

    Compared are the values themselves, so that a changed secret is a difference.
    """
    return [line for _, line in _differences(present, wanted)]


def _differences(present: Loaded, wanted: Loaded) -> Iterator[tuple[str, str]]:
    """Yield what a change needs, and the line that tells it."""
    before, after = dict(leaves(present.settings)), dict(leaves(wanted.settings))
    shown_before, shown_after = _by_key(present), _by_key(wanted)
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            name = ".".join(key)
            old, new = shown_before.get(name), shown_after.get(name)
            apply = next(row.apply for row in (new, old) if row is not None)
            yield apply, f"{name}: {old and old.value} → {new and new.value} ({apply})"


def needing_restart(present: Loaded, wanted: Loaded) -> list[str]:
    """Return the differences that only a restart applies."""
    return [line for apply, line in _differences(present, wanted) if apply == "restart"]


def in_force(present: Loaded, wanted: Loaded) -> Loaded:
    """Return what a reload to `wanted` puts in force: what only a restart applies stays as it is in `present`."""
    before = {row.key: row for row in present.rows if row.apply == "restart"}
    settings = wanted.settings
    for key, value in leaves(present.settings):
        if ".".join(key) in before:
            settings = _with(settings, key, value=value)
    rows = tuple(before.get(row.key, row) for row in wanted.rows)
    return replace(wanted, settings=settings, rows=rows)


def _with(record: S, key: Sequence[str], *, value: object) -> S:
    name, *below = key
    old = getattr(record, name)
    new = _with(old, below, value=value) if below else value
    return record if new == old else replaced(record, **{name: new})


def _by_key(loaded: Loaded) -> dict[str, Row]:
    return {row.key: row for row in loaded.rows}
