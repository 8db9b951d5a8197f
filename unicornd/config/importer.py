"""A gunicorn.conf.py and a gunicorn command line → an unicornd.toml, and what is to be told about it.

Run by `unicornctl config import`. Reads and runs the file, writes nothing. What the models refuse is left out of the
configuration and told, so what is made can be used.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal, assert_never

from unicornd.config.ancestry import foreign
from unicornd.config.draft import PATH_KEYS, Draft, Key, import_relative_to, relative_to
from unicornd.config.flags import FlagError, read_command_line
from unicornd.config.given import Origin
from unicornd.config.idle import drop_idle
from unicornd.config.instance import named_file
from unicornd.config.kinds import SYNC
from unicornd.config.layers import add_given
from unicornd.config.problems import FREE_TABLES
from unicornd.config.pyfile import run_python
from unicornd.config.secrets import masked
from unicornd.config.settings import Settings
from unicornd.config.translate import Item, settings_of, translated
from unicornd.config.validation import examined
from unicornd.config.values import quoted
from unicornd.dataclass import dataclass, replace
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from unicornd.config.flags import CommandLine

Outcome = Literal["taken", "changed", "needless", "by hand", "unknown"]
"""What has become of a setting: the same value; the value in another form; nothing, its need is gone; a person has to
look at it; it is no setting."""

_KIND: Key = ("workers", "kind")
IMPORT_KEYS = frozenset({_KIND, ("logging", "logger_class"), ("logging", "config_object")})
"""Import strings beside the hooks."""

OUTCOMES: tuple[Outcome, ...] = ("taken", "changed", "needless", "by hand", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One line of the report.

    Attributes:
        outcome: the group that it belongs to.
        name: gunicorn's name of the setting, or the flag.
        value: as it was said; empty where `ours` says everything.
        where: the file and line, or the flag.
        ours: `workers.count = 4`, one for each key.
        note: why, or what to do.
        is_environmental: the value depends on environment variables, and is the one of now.
    """

    outcome: Outcome
    name: str
    value: str
    where: str
    ours: tuple[str, ...] = ()
    note: str = ""
    is_environmental: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The configuration, as TOML has it, the report, and the file that was read, if there was one."""

    table: Mapping[str, Any]
    report: tuple[Told, ...]
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be imported.

    Attributes:
        file: a Python file of gunicorn's, or None for the one that the arguments name, else `default`.
        arguments: of gunicorn's command line.
        folder: the working directory of gunicorn.
        environ: environment variables that the file may read.
        target: folder of the unicornd.toml that is made: paths in it start there.
        default: the file that gunicorn would find, if nobody names one.
    """

    file: Path | None
    arguments: Sequence[str]
    folder: Path
    environ: Mapping[str, str]
    target: Path
    default: Path | None = None


def import_gunicorn(wanted: Wanted) -> Imported:
    """Translate a file and a command line, the latter above the former.

    Raises:
        ConfigError: the file cannot be run.
        FlagError: the command line is wrong.
    """
    line = read_command_line(wanted.arguments)
    if line.actions:
        flag = f"--{min(line.actions)}"
        raise FlagError(f"{flag} is no setting", hint=f"leave out {flag}")
    items: list[Item] = []
    said = named_file(line.config, folder=wanted.folder) if line.config else None
    file = wanted.file or said or wanted.default
    if file is not None:
        shown = os.path.relpath(file, wanted.folder) if file.is_absolute() else str(file)
        found = run_python(file, folder=wanted.folder, environ=wanted.environ, shown=shown)
        items = _without_secrets(translated(found))
    made = combine(items, line, folder=wanted.folder, target=wanted.target)
    return replace(made, file=file)


def _without_secrets(items: list[Item]) -> list[Item]:
    """Leave out what the file has read from somewhere else: a .env file stays where it is, and may change."""
    read: dict[str, list[Item]] = {}
    for item in items:
        if item.is_read:
            read.setdefault(item.where, []).append(item)
    told = [
        Item(
            name="os.environ",
            where=where,
            fate="refused",
            value=sorted(item.ours[0][0][-1] for item in group),
            note=_READ,
        )
        for where, group in read.items()
    ]
    return told + [item for item in items if not item.is_read]


_READ = (
    "these environment variables are read there: have what starts unicornd set them (EnvironmentFile= in a systemd unit), or "
    "write them under [app.env]"
)


def combine(items: list[Item], line: CommandLine, *, folder: Path, target: Path) -> Imported:
    """Lay a command line over what a file says, and see what of it can be a configuration.

    Raises:
        ConfigError: the command line is wrong.
    """
    draft = Draft()
    for key, value, item in settings_of(items, folder=folder):
        draft.put(key, value, origin=Origin(layer="file", where=item.where))
    problems = add_given(draft, line.given, layer="command line", folder=folder)
    if problems:
        raise ConfigError("the command line is wrong", detail="\n".join(problems))
    said = _said(draft)
    idle = drop_idle(draft, python=True)
    refused = _weed(draft)
    chdir = said.get(("app", "chdir"), (str(folder), None))[0]
    start = folder / str(chdir)
    written = {
        key: _written(key, value, target=target, start=start) for key, (value, _) in _said(draft).items()
    }
    result = _Result(said=said, idle=idle, refused=refused, written=written)
    report = [_told(item, result) for item in items]
    report += _flags_told(result)
    report += [_note_told(note) for note in line.notes]
    return Imported(table=_table(written), report=tuple(report))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What the report is made of.

    Attributes:
        said: key → value and who said it, before anything was left out.
        idle: key → why it does nothing.
        refused: key → why it was left out.
        written: key → value as it stands in the new file.
    """

    said: Mapping[Key, tuple[Any, Origin]]
    idle: Mapping[Key, str]
    refused: Mapping[Key, str]
    written: Mapping[Key, Any]

    def reasons(self, keys: Iterable[Key]) -> list[str]:
        """Return why keys, or else the tables that they are in, were left out."""
        parts = [*keys]
        parts += [key[:2] for key in parts]
        return [self.refused[part] for part in parts if part in self.refused]

    def lines(self, keys: Iterable[Key]) -> tuple[str, ...]:
        """Return what is written for keys; secrets are hidden."""
        return tuple(
            f"{'.'.join(key)} = {_shown(key, self.written[key])}" for key in keys if key in self.written
        )


def _said(draft: Draft) -> dict[Key, tuple[Any, Origin]]:
    """Return every value that was put into a draft, by its whole key, with who said it."""
    above = {key[:length] for key in draft.origins for length in range(1, len(key))}
    found: dict[Key, tuple[Any, Origin]] = {}
    for key, origin in draft.origins.items():
        place: Any = draft.values
        for part in key[:-1]:
            place = place[part]
        if key not in above:
            found[key] = (place[key[-1]], origin)
    return found


def _weed(draft: Draft) -> dict[Key, str]:
    """Take out of a draft what cannot be in a configuration; return it with the reasons."""
    refused: dict[Key, str] = {}
    workers = draft.values.get("workers", {})
    if workers.get("kind") == SYNC and workers.get("threads", 1) != 1:
        draft.drop(_KIND)  # as gunicorn: threads, then
    if why := foreign(draft.said("workers", "kind"), app=draft):
        refused[_KIND] = why
        draft.drop(_KIND)
    while faults := examined(draft)[1]:
        for fault in faults:
            key = tuple(part.partition("[")[0] for part in fault.key)
            refused.setdefault(key, fault.sentence)
            draft.drop(key)
    return refused


def _written(key: Key, value: Any, *, target: Path, start: Path) -> Any:  # noqa: ANN401 - of any setting
    """Return a value as the new file has it: its paths start at the file's folder, import strings where workers do."""
    if key in PATH_KEYS:
        return relative_to(key, value, folder=target)
    is_import = key[0] == "hooks" or key in IMPORT_KEYS
    return (
        import_relative_to(value, start=start, home=target) if is_import and isinstance(value, str) else value
    )


def _table(written: Mapping[Key, Any]) -> dict[str, Any]:
    """Return the values as nested tables, in the order of the sections; plain values come before tables."""
    order = list(Settings.model_fields)
    table: dict[str, Any] = {}
    for key in sorted(written, key=lambda key: (order.index(key[0]), len(key))):
        place = table
        for part in key[:-1]:
            place = place.setdefault(part, {})
        place[key[-1]] = written[key]
    return table


def _told(item: Item, result: _Result) -> Told:
    keys = [key for key, _ in item.ours]
    outcome, note = _outcome(item, result)
    return Told(
        outcome=outcome,
        name=item.name,
        value="" if any(key[:2] in FREE_TABLES for key in keys) else quoted(item.value),
        where=item.where,
        ours=result.lines(keys),
        note=note,
        is_environmental=item.is_environmental,
    )


def _outcome(item: Item, result: _Result) -> tuple[Outcome, str]:
    keys = [key for key, _ in item.ours]
    others = [result.said[key][1].where for key in keys if key in result.said]
    match item.fate:
        case "needless" | "unknown":
            return item.fate, item.note
        case "refused" | "wrong" | "lost":
            return "by hand", item.note
        case "setting" if keys[0] in result.idle:
            return "needless", result.idle[keys[0]]
        case "setting" if reasons := result.reasons(keys):
            return "by hand", reasons[0]
        case "setting" if not others or (keys == [_KIND] and _KIND not in result.written):
            return "changed", 'several threads make it "threads"'
        case "setting" if others[0] != item.where:
            return "changed", f"{others[0]} says otherwise"
        case "setting":
            is_same = len(keys) == 1 and result.written[keys[0]] == item.value
            return "taken" if is_same else "changed", ""
        case _:
            assert_never(item.fate)


def _flags_told(result: _Result) -> list[Told]:
    keys_of: dict[str, list[Key]] = {}
    for key, (_, origin) in result.said.items():
        if origin.layer == "command line":
            keys_of.setdefault(origin.where, []).append(key)
    return [_flag_told(where, keys, result=result) for where, keys in keys_of.items()]


def _flag_told(where: str, keys: list[Key], *, result: _Result) -> Told:
    idle = [result.idle[key] for key in keys if key in result.idle]
    reasons = result.reasons(keys)
    return Told(
        outcome="needless" if idle else "by hand" if reasons else "taken",
        name=where,
        value=_shown(keys[0], result.said[keys[0]][0]) if idle or reasons else "",
        where="",
        ours=result.lines(keys),
        note=next(iter((*idle, *reasons)), ""),
    )


def _note_told(note: str) -> Told:
    name, _, why = note.partition(": not needed: ")
    return Told(outcome="needless", name=name, value="", where="", note=why)


def _shown(key: Key, value: object) -> str:
    is_free = key[:-1] in FREE_TABLES
    shown = masked(key[-1], value) if is_free and isinstance(value, str) else value
    return json.dumps(shown, ensure_ascii=False)
