"""What a gunicorn.conf.py says, in our words: each name that it sets, and what becomes of it.

Pure: reads a `PythonFile`, which has been run already. Nothing is dropped in silence: every name that is a setting, or
looks as if it was meant to be one, is an item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, assert_never

from unicornd.config.draft import PATH_KEYS, Key, anchored
from unicornd.config.effects import PATCHED
from unicornd.config.exposed import WORKER_HOOKS
from unicornd.config.given import Origin
from unicornd.config.gunicorn import BY_NAME, says_nothing
from unicornd.config.kinds import GREEN, SYNC
from unicornd.config.problems import FREE_TABLES
from unicornd.dataclass import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from unicornd.config.draft import Draft
    from unicornd.config.gunicorn import Row
    from unicornd.config.pyfile import PythonFile

Fate = Literal["setting", "needless", "refused", "wrong", "unknown", "lost"]
NEAR = 0.75
"""How alike a name must be to a setting's to be taken for a slip (`log_level`, `wrokers`)."""

_CHDIR: Key = ("app", "chdir")
_KIND: Key = ("workers", "kind")
_THREADS: Key = ("workers", "threads")
_CERTIFICATE = frozenset({("tls", "certfile"), ("tls", "keyfile")})
_CONFIG_OBJECT: Key = ("logging", "config_object")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One name of the file.

    Attributes:
        name: as in the file.
        where: the file and the line.
        fate: `setting`: taken over; `needless`: does nothing here; `refused`: there is nothing like it yet; `wrong`: no
            value that a setting can have; `unknown`: no setting of gunicorn's; `lost`: the file has done it to its process,
            and no other one gets it.
        value: the value, for a person; a function by its name.
        ours: key → value, paths as they are written.
        note: why, or what to do.
        is_environmental: the value depends on environment variables.
        is_read: the value was read by code that the file calls, out of a .env file most often.
    """

    name: str
    where: str
    fate: Fate
    value: object = None
    ours: tuple[tuple[Key, Any], ...] = ()
    note: str = ""
    is_environmental: bool = False
    is_read: bool = False


def translated(file: PythonFile, *, reference: str = "") -> list[Item]:
    """Return what becomes of every name, in the order of the file's lines.

    Args:
        file: has been run.
        reference: how import strings name the file; by default by its absolute path.
    """
    reference = reference or file.reference
    found = [_item(name, told, file=file, reference=reference) for name, told in file.values.items()]
    items = [item for item in found if item is not None]
    kinds = (value for item in items for key, value in item.ours if key == _KIND)
    kind = next((kind for kind in kinds if isinstance(kind, str)), "")
    if not any(key in _CERTIFICATE for item in items for key, _ in item.ours):
        items = [_without_certificate(item) for item in items]
    # What the file has done comes first: raw_env and pythonpath win over it, as in gunicorn.
    done = [*_variables(file), *_folders(file), *_lost(file, items, kind=kind)]
    return done + sorted(items, key=lambda item: (file.source.lines.get(item.name, 0), item.name))


def _variables(file: PythonFile) -> Iterable[Item]:
    """Yield an item for each environment variable that the file has set, and one for those that it has removed."""
    removed = [each for each in file.effects.environ if each.value is None]
    for each in file.effects.environ:
        if each.value is not None:
            yield Item(
                name=f"os.environ[{each.name!r}]",
                where=file.at(each.line),
                fate="setting",
                value=each.value,
                ours=((("app", "env", each.name), each.value),),
                is_read=not each.is_direct,
            )
    if removed:
        names = [each.name for each in removed]
        yield Item(
            name="del os.environ",
            where=file.at(removed[0].line),
            fate="setting",
            value=names,
            ours=((("app", "unset_env"), names),),
        )


def _folders(file: PythonFile) -> Iterable[Item]:
    """Yield an item for what the file has put in front of the import path, and one for what is behind it."""
    for key, folders in (("search_first", file.effects.first), ("search_last", file.effects.last)):
        if folders:
            yield Item(
                name="sys.path",
                where=file.at(file.source.path_line),
                fate="setting",
                value=list(folders),
                ours=((("app", key), list(folders)),),
            )


def _lost(file: PythonFile, items: list[Item], *, kind: str) -> Iterable[Item]:
    """Yield an item for what only this process has: unless its workers run the file, too, for a hook that is theirs."""
    keys = {key for item in items for key, _ in item.ours}
    if not keys.isdisjoint(_RUN_BY_WORKERS) and _PRELOAD not in keys:
        return
    for what in file.effects.others:
        if what != PATCHED or kind not in GREEN:
            yield Item(name=what, where=file.shown, fate="lost", note=_NOT_CARRIED)


_RUN_BY_WORKERS = frozenset(("hooks", name) for name in WORKER_HOOKS)
_PRELOAD: Key = ("app", "preload")
_NOT_CARRIED = "the file changes it for its own process only, and no worker gets it: do that in post_fork, or in the application"


def _without_certificate(item: Item) -> Item:
    """Return the hook that gunicorn never calls without a certificate as needless: here it would ask for TLS."""
    if item.name != "ssl_context":
        return item
    return replace(item, fate="needless", ours=(), note="gunicorn calls it only with certfile or keyfile")


def settings_of(items: Iterable[Item], *, folder: Path) -> list[tuple[Key, Any, Item]]:
    """Return the keys that are said, with paths made absolute.

    Args:
        items: of one file.
        folder: the working directory, which relative paths start at; gunicorn's `chdir` changes it for all others.
    """
    said = [(key, value, item) for item in items for key, value in item.ours]
    chdir = next((anchored(key, value, folder=folder) for key, value, _ in said if key == _CHDIR), None)
    start = folder / chdir if isinstance(chdir, str) else folder
    kept = {key: value for key, value, _ in said}
    return [
        (
            key,
            anchored(key, value, folder=folder if key == _CHDIR else start) if key in PATH_KEYS else value,
            item,
        )
        for key, value, item in said
        if not (key == _KIND and value == SYNC and kept.get(_THREADS, 1) != 1)  # as gunicorn: threads, then
    ]


def lay(draft: Draft, items: list[Item], *, folder: Path) -> list[str]:
    """Lay what is taken over into a draft; return a line for everything that is wrong."""
    for key, value, item in settings_of(items, folder=folder):
        if key != _KIND or value != SYNC:  # the default anyway, and a flag may still ask for threads
            draft.put(key, value, origin=Origin(layer="file", where=item.where))
    return [
        f"{item.where}: {item.name}: {item.note}"
        for item in items
        if item.fate in {"refused", "wrong", "unknown"}
    ]


def notes_of(items: Iterable[Item]) -> list[str]:
    """Return a line for everything that does nothing here."""
    return [
        f"{item.where}: {item.name}: not needed: {item.note}" for item in items if item.fate == "needless"
    ]


def losses_of(items: Iterable[Item]) -> list[str]:
    """Return a line for everything that the file has done and no worker gets."""
    return [f"{item.where}: {item.name}: {item.note}" for item in items if item.fate == "lost"]


def _item(name: str, told: Mapping[str, Any], *, file: PythonFile, reference: str) -> Item | None:
    row = BY_NAME.get(name)
    if row is None:
        return _unknown(name, told, file=file)
    value = told.get("plain", told.get("other", f"{name}()"))
    if value is None or (row.fate == "command" and not value):
        return None
    fate, ours, note = _verdict(row, told, reference=reference)
    if not ours and not note:
        return None
    return Item(
        name=name,
        where=file.place(name),
        fate=fate,
        value=value,
        ours=ours,
        note=note,
        is_environmental="plain" in told and name in file.source.environmental,
    )


def _verdict(
    row: Row, told: Mapping[str, Any], *, reference: str
) -> tuple[Fate, tuple[tuple[Key, Any], ...], str]:
    """Return what becomes of a setting; nothing at all for one that asks for nothing."""
    match row.fate:
        case "needless":
            return "needless", (), row.reason
        case "command":
            return "refused", (), row.reason
        case "refused":
            return "refused", (), "" if says_nothing(row, told.get("plain", told)) else row.reason
        case "setting" if row.name == "logconfig_dict" and _is_odd(told):
            return "setting", ((_CONFIG_OBJECT, f"{reference}:{row.name}"),), ""
        case "setting":
            try:
                converted = row.convert(_value(row, told, reference=reference))
            except ValueError as error:
                return "wrong", (), str(error)
            if converted is None:
                return "needless", (), "it is what unicornd does anyway" if told.get("plain") else ""
            return "setting", tuple(_spread(row, converted)), ""
        case _:
            assert_never(row.fate)


def _is_odd(told: Mapping[str, Any]) -> bool:
    """Whether there is more in a logging configuration than TOML has: a formatter's class, None."""
    return "other" in told or _has_null(told.get("plain"))


def _has_null(value: object) -> bool:
    match value:
        case dict():
            return any(map(_has_null, value.values()))
        case list():
            return any(map(_has_null, value))
        case _:
            return value is None


def _value(row: Row, told: Mapping[str, Any], *, reference: str) -> object:
    """Return a plain value, or the import string of what the file has under that name.

    Raises:
        ValueError: it is neither, or no function can be meant.
    """
    if "plain" in told:
        return told["plain"]
    if "other" in told:
        raise ValueError(f"expected plain data, got {told['other']}")
    if row.name == "worker_class":
        return told["callable"] or f"{reference}:{row.name}"
    if row.name == "logger_class" or row.keys[0].startswith("hooks."):
        return f"{reference}:{row.name}"
    raise ValueError("expected plain data, got a function or class")


def _spread(row: Row, value: object) -> Iterable[tuple[Key, Any]]:
    """Yield a table's entries one by one: each has a place of its own in the configuration."""
    for dotted in row.keys:
        key = tuple(dotted.split("."))
        if isinstance(value, dict) and value and key in FREE_TABLES:
            yield from (((*key, name), entry) for name, entry in value.items())
        else:
            yield key, value


def _unknown(name: str, told: Mapping[str, Any], *, file: PythonFile) -> Item | None:
    """Return an item for what looks like a slip: a name near a setting's that nothing in the file uses."""
    from difflib import get_close_matches  # noqa: PLC0415 - for what may be a mistake

    is_imported = bool(told.get("callable"))
    near = get_close_matches(name, BY_NAME, n=1, cutoff=NEAR)
    if is_imported or not near or name in file.source.used:
        return None
    return Item(
        name=name,
        where=file.place(name),
        fate="unknown",
        value=told.get("plain", f"{name}()"),
        note=f'no setting of gunicorn, which ignores it (did you mean "{near[0]}"?)',
    )
