"""Who said what: defaults < environment defaults < unicornd.toml < drop-ins < environment < command line.

Every value remembers where it came from. Text (environment, command line) is read as a TOML value first, else as a
string; then everything is validated at once, and all errors are told at once. Reads files, changes nothing.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unicornd.config.locate import locate_keys
from unicornd.config.problems import FREE_TABLES, describe_errors
from unicornd.config.sections.section import Section
from unicornd.config.settings import Settings
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_FILE = "unicornd.toml"
ENVIRONMENT_PREFIX = "UNICORND_"

# Keys with paths: in a file they are relative to its folder, on the command line to the working directory.
PATH_KEYS = frozenset(
    {
        ("app", "chdir"),
        ("app", "pythonpath"),
        ("process", "pidfile"),
        ("http", "tmp_upload_dir"),
        ("control", "socket"),
        ("logging", "error"),
        ("logging", "access", "file"),
    }
)

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from: the layer, and the place in it (`unicornd.toml:12`, `--workers`)."""

    layer: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value as text, from the environment or the command line.

    Attributes:
        key: dotted.
        text: the value.
        where: name of the variable or flag.
        is_list: a further one is added to it, instead of taking its place.
        is_raw: it is text, even if it looks like a TOML value.
    """

    key: str
    text: str
    where: str
    is_list: bool = False
    is_raw: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where to look.

    Attributes:
        config_file: as named, or None for `unicornd.toml` in `folder` if there is one.
        environ: environment variables.
        given: of the command line.
        folder: the working directory.
    """

    config_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    given: tuple[Given, ...] = ()
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Validated settings, and where each value that is not a default came from."""

    settings: Settings
    origins: Mapping[Key, Origin]
    config_file: Path | None


@dataclass(slots=True)
class _Draft:
    """What has been read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)

    def merge(self, table: Mapping[str, Any], origin_of: Mapping[Key, Origin], *, above: Key = ()) -> None:
        """Lay a table over what is there; tables are merged, everything else is replaced."""
        for name, value in table.items():
            key = (*above, name)
            if isinstance(value, dict):
                self._table(key)
                self.origins.setdefault(key, origin_of[key])
                self.merge(value, origin_of, above=key)
            else:
                self.put(key, value, origin=origin_of[key])

    def put(self, key: Key, value: object, *, origin: Origin) -> None:
        self._table(key[:-1])[key[-1]] = value
        self.origins[key] = origin

    def _table(self, key: Key) -> dict[str, Any]:
        table = self.values
        for name in key:
            below = table.setdefault(name, {})
            if not isinstance(below, dict):
                below = table[name] = {}
            table = below
        return table


def load(sources: Sources) -> Loaded:
    """Read all layers and validate them together.

    Raises:
        ConfigError: `detail` has a line for everything that is wrong.
    """
    draft = _Draft()
    _add_environment_defaults(draft, sources.environ)
    file = _config_file(sources)
    if file is not None:
        _add_file(draft, file, layer="file")
        for drop_in in drop_ins(file):
            _add_file(draft, drop_in, layer="drop-in")
    unknown = _add_given(draft, _environment(sources.environ), layer="environment", folder=sources.folder)
    unknown += _add_given(draft, sources.given, layer="command line", folder=sources.folder)
    return Loaded(settings=_validated(draft, unknown), origins=draft.origins, config_file=file)


def drop_ins(file: Path) -> list[Path]:
    """Return the files that are read after `file`: `unicornd.d/*.toml` beside `unicornd.toml`, by name."""
    return sorted(file.with_suffix(".d").glob("*.toml"))


def fields_of(key: Key) -> Mapping[str, Any]:
    """Return the names that exist in a table; nothing for a key that is no table with fixed names."""
    model: type[Section] = Settings
    for name in key:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return {}
        model = annotation
    return model.model_fields


def _config_file(sources: Sources) -> Path | None:
    if sources.config_file is not None:
        return sources.folder / sources.config_file
    default = sources.folder / DEFAULT_FILE
    return default if default.exists() else None


def _add_environment_defaults(draft: _Draft, environ: Mapping[str, str]) -> None:
    """PORT and WEB_CONCURRENCY change defaults, as in gunicorn; whatever is said elsewhere wins."""
    if port := environ.get("PORT"):
        draft.put(
            ("server", "bind"), [f"0.0.0.0:{port}"], origin=Origin(layer="environment default", where="$PORT")
        )
    if count := environ.get("WEB_CONCURRENCY"):
        origin = Origin(layer="environment default", where="$WEB_CONCURRENCY")
        draft.put(("workers", "count"), int(count) if count.isdigit() else count, origin=origin)


def _add_file(draft: _Draft, file: Path, *, layer: str) -> None:
    shown = _shown_path(file)
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read {shown}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 text at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{shown}: not TOML: {error}", hint="see https://toml.io") from error
    origins = {key: Origin(layer=layer, where=f"{shown}:{line}") for key, line in locate_keys(text).items()}
    _anchor_paths(table, file.resolve().parent if layer == "file" else file.resolve().parent.parent)
    draft.merge(table, _Covering(origins, Origin(layer=layer, where=shown)))


class _Covering(dict[Key, Origin]):
    """Origins by key; a key that is not located has the origin of the table around it."""

    def __init__(self, origins: Mapping[Key, Origin], default: Origin) -> None:
        super().__init__(origins)
        self._default = default

    def __missing__(self, key: Key) -> Origin:
        return self[key[:-1]] if key else self._default


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Make the paths of a file relative to the file's folder."""
    for *above, name in PATH_KEYS:
        inner: Any = table
        for part in above:
            inner = inner.get(part, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict) and name in inner:
            inner[name] = _anchored(inner[name], folder)


def _anchored(value: Any, folder: Path) -> Any:  # noqa: ANN401 - not validated yet
    match value:
        case str() if value not in {"-", ""} and not value.startswith("@"):
            return os.path.normpath(folder / value)
        case list():
            return [_anchored(item, folder) for item in value]
        case _:
            return value


def _environment(environ: Mapping[str, str]) -> list[Given]:
    """Return what `UNICORND_<SECTION>__<KEY>` variables say; names in a free table keep their case."""
    given = []
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, _, rest = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
            key, _, below = rest.partition("__")
            above = (section.lower(), key.lower())
            inner = below if above in FREE_TABLES else below.lower().replace("__", ".")
            given.append(
                Given(key=".".join((*above, *([inner] if inner else ()))), text=text, where=f"${name}")
            )
    return given


def _add_given(draft: _Draft, given: Iterable[Given], *, layer: str, folder: Path) -> list[str]:
    """Lay texts over the draft; return lines for those that are not even keys."""
    lists: dict[Key, list[Any]] = {}
    unknown = []
    for item in given:
        key = tuple(item.key.split("."))
        if len(key) == 1:
            unknown.append(
                f"{item.where}: {item.key}: expected a key with its section, such as workers.count"
            )
            continue
        value = item.text if item.is_raw or key[:-1] in FREE_TABLES else _read_text(key, item.text)
        if key in PATH_KEYS:
            value = _anchored(value, folder)
        if item.is_list:
            value = lists.setdefault(key, [])
            value.append(_anchored(item.text, folder) if key in PATH_KEYS else item.text)
        draft.put(key, value, origin=Origin(layer=layer, where=item.where))
    return unknown


def _read_text(key: Key, text: str) -> Any:  # noqa: ANN401 - validated later
    """Return `text` as a TOML value if the setting takes that, else as the string that it is."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        json.dumps(value)  # no dates: no setting has one
    except (tomllib.TOMLDecodeError, TypeError, KeyError):
        return text
    info = fields_of(key[:-1]).get(key[-1])
    if info is not None and not isinstance(value, str):
        adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
        if not _takes(adapter, value) and _takes(adapter, text):
            return text
    return value


def _takes(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def _validated(draft: _Draft, unknown: list[str]) -> Settings:
    def where(key: Key) -> str:
        plain = tuple(part.partition("[")[0] for part in key)
        known = (plain[:length] for length in range(len(plain), 0, -1))
        return next((draft.origins[above].where for above in known if above in draft.origins), "the settings")

    lines = list(unknown)
    try:
        settings = Settings.model_validate_json(json.dumps(draft.values, default=str), strict=True)
    except ValidationError as error:
        lines += describe_errors(error.errors(), where=where, fields=fields_of)
    else:
        if not lines:
            return settings
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    raise ConfigError(f"the configuration is wrong: {count}", detail="\n".join(lines))


def _shown_path(path: Path) -> str:
    """Return a path as a person would name it: relative to the working directory if it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
