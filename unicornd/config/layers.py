"""Who said what: defaults < environment defaults < unicornd.toml < drop-ins < environment < command line.

Every value remembers where it came from. Text (environment, command line) is read as a TOML value first, else as a
string; then everything is validated at once, and all errors are told at once. Reads files, changes nothing.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unicornd.config.instance import drop_ins
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
        ("app", "paste"),
        ("app", "pythonpath"),
        ("process", "pidfile"),
        ("http", "tmp_upload_dir"),
        ("control", "socket"),
        ("logging", "error"),
        ("logging", "access", "file"),
        ("logging", "config_file"),
        ("logging", "config_json"),
        ("metrics", "statsd"),
        ("reload", "extra_files"),
        ("reload", "watch"),
        ("server", "bind"),
        ("admin", "bind"),
        ("tls", "ca_certs"),
        ("tls", "certfile"),
        ("tls", "keyfile"),
    }
)
ADDRESS_KEYS = frozenset({("server", "bind"), ("admin", "bind"), ("metrics", "statsd")})
"""Of these only Unix sockets have paths."""

LAYERS = ("environment default", "file", "drop-in", "environment", "command line")

Key = tuple[str, ...]

_INDEX = re.compile(r"(\[[0-9]+\])+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from: the layer, and the place in it (`unicornd.toml:12`, `--workers`)."""

    layer: str
    where: str

    @property
    def order(self) -> tuple[int, str, int]:
        """Sorts origins as they are read: by layer, by file, by line."""
        place, _, line = self.where.rpartition(":")
        is_line = line.isdecimal()
        return LAYERS.index(self.layer), place if is_line else self.where, int(line) if is_line else 0


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
        """Lay one value over what is there."""
        self._table(key[:-1])[key[-1]] = value
        for length in range(1, len(key)):
            self.origins.setdefault(key[:length], origin)
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
        folder = file.resolve().parent
        _add_file(draft, file, layer="file", folder=folder)
        for drop_in in drop_ins(file):
            _add_file(draft, drop_in, layer="drop-in", folder=folder)
    unknown = _add_given(draft, _environment(sources.environ), layer="environment", folder=sources.folder)
    unknown += _add_given(draft, sources.given, layer="command line", folder=sources.folder)
    return Loaded(settings=_validated(draft, unknown), origins=draft.origins, config_file=file)


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
        draft.put(("workers", "count"), read_value(("workers", "count"), count), origin=origin)


def _add_file(draft: _Draft, file: Path, *, layer: str, folder: Path) -> None:
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
    except ValueError as error:  # not TOML, or a number of more digits than Python reads
        raise ConfigError(f"{shown}: not TOML: {error}", hint="see https://toml.io") from error
    origins = {key: Origin(layer=layer, where=f"{shown}:{line}") for key, line in locate_keys(text).items()}
    _anchor_paths(table, folder)
    draft.merge(table, origins)


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Make the paths of a file relative to the file's folder."""
    for *above, name in PATH_KEYS:
        inner: Any = table
        for part in above:
            inner = inner.get(part, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict) and name in inner:
            inner[name] = _anchored((*above, name), inner[name], folder=folder)


def _anchored(key: Key, value: Any, *, folder: Path) -> Any:  # noqa: ANN401 - not validated yet
    """Make a path absolute; `-` is a stream and `@…` an abstract name, and a TCP address has no path."""
    match value:
        case list():
            return [_anchored(key, item, folder=folder) for item in value]
        case str() if key in ADDRESS_KEYS:
            scheme, path = ("unix:", value.removeprefix("unix:").removeprefix("//"))
            is_path = value.startswith(scheme) and path[:1] not in {"", "@"}
            return f"{scheme}{os.path.normpath(folder / path)}" if is_path else value
        case str() if value not in {"-", ""} and not value.startswith("@"):
            return os.path.normpath(folder / value)
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
        key = split_key(item.key)
        if len(key) == 1:
            unknown.append(
                f"{item.where}: {item.key}: expected a key with its section, such as workers.count"
            )
            continue
        if _is_cut(item.text):
            unknown.append(f"{item.where}: {item.key}: expected UTF-8 text")
            continue
        value = item.text if item.is_raw or item.is_list else read_value(key, item.text)
        value = _anchored(key, value, folder=folder) if key in PATH_KEYS else value
        if item.is_list:
            lists.setdefault(key, []).append(value)
            value = lists[key]
        draft.put(key, value, origin=Origin(layer=layer, where=item.where))
    return unknown


def _is_cut(text: str) -> bool:
    """Whether the text has bytes that are no UTF-8, which Python keeps as lone surrogates (PEP 383)."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def split_key(dotted: str) -> Key:
    """Split a dotted key; the names in a free table are the operator's own and may have dots."""
    parts = tuple(dotted.split("."))
    return (*parts[:2], ".".join(parts[2:])) if parts[2:] and parts[:2] in FREE_TABLES else parts


def read_value(key: Key, text: str) -> Any:  # noqa: ANN401 - validated later
    """Return `text` as a TOML value if the setting takes that, else as the string that it is."""
    if key[:-1] in FREE_TABLES:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        json.dumps(value)  # no dates: no setting has one
    except (ValueError, TypeError, KeyError):
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
    def origin(key: Key) -> Origin:
        plain = tuple(_INDEX.sub("", part) for part in key)
        known = (each[:length] for length in range(len(key), 0, -1) for each in (key, plain))
        return next(draft.origins[above] for above in known if above in draft.origins)

    lines = list(unknown)
    try:
        settings = Settings.model_validate_json(json.dumps(draft.values, default=str), strict=True)
    except ValidationError as error:
        lines += describe_errors(error.errors(), origin=origin, fields=fields_of)
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
