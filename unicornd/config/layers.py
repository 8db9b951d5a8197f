"""Who said what: defaults < environment defaults < unicornd.toml < drop-ins < environment < command line.

Every value remembers where it came from. Text (environment, command line) is read as a TOML value first, else as a
string; then everything is validated at once, and all errors are told at once. A gunicorn.conf.py may stand in the
place of unicornd.toml. Reads files, changes nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicornd.config.conversions import comma_list
from unicornd.config.draft import PATH_KEYS, Draft, Key, anchor_paths, anchored
from unicornd.config.flags import CommandLine, FlagError, read_command_line
from unicornd.config.given import Given, Origin
from unicornd.config.idle import drop_idle
from unicornd.config.instance import FILE_PREFIX, drop_ins, is_python, named_file, working_folder
from unicornd.config.kinds import is_custom
from unicornd.config.loaded import Loaded
from unicornd.config.locate import locate_keys, unended_line
from unicornd.config.problems import FREE_TABLES
from unicornd.config.record import plain
from unicornd.config.shortcut import is_plain, settings_of
from unicornd.config.show import rows_of
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unicornd.config.loaded import Sources
    from unicornd.config.settings import Settings

DEFAULT_FILE = "unicornd.toml"
GUNICORN_FILE = "gunicorn.conf.py"
ENVIRONMENT_PREFIX = "UNICORND_"
ARGUMENTS = "GUNICORN_CMD_ARGS"

_SENDFILE = {
    **dict.fromkeys(("y", "1", "yes", "true"), True),
    **dict.fromkeys(("n", "0", "no", "false", ""), False),
}
"""What `$SENDFILE` may say; gunicorn takes everything else for no."""


def load(sources: Sources) -> Loaded:
    """Read all layers and validate them together.

    Raises:
        ConfigError: `detail` has a line for everything that is wrong.
    """
    draft = Draft()
    arguments = _arguments(sources.environ)
    _add_environment_defaults(draft, sources.environ)
    file = _config_file(sources, arguments.config)
    problems: list[str] = []
    notes = list(arguments.notes)
    losses: list[str] = []
    if file is not None:
        if is_python(file):
            wrong, idle, losses = _add_python(draft, file, sources=sources)
            problems += wrong
            notes += idle
        else:
            _add_file(draft, file, layer="file", folder=file.resolve().parent)
        for drop_in in drop_ins(file):
            _add_file(draft, drop_in, layer="drop-in", folder=file.resolve().parent)
    spoken = (*arguments.given, *_environment(sources.environ))
    problems += add_given(draft, spoken, layer="environment", folder=sources.folder)
    problems += add_given(draft, sources.given, layer="command line", folder=sources.folder)
    _add_paste_logging(draft)
    problems += _foreign(draft)
    notes += _drop_idle(draft, python=file is not None and is_python(file))
    settings = _settled(draft, problems)
    rows = rows_of(settings, draft.origins)
    return Loaded(
        settings=settings,
        origins=draft.origins,
        config_file=file,
        rows=rows,
        notes=tuple(notes),
        losses=tuple(losses),
    )


def _settled(draft: Draft, problems: list[str]) -> Settings:
    """Return the settings of everything that was said.

    Raises:
        ConfigError: something of it is wrong.
    """
    found = None if problems else settings_of(draft.values)
    if found is not None:
        return found
    from unicornd.config.validation import validated  # noqa: PLC0415 - the models: what is plainly right needs none

    return plain(validated(draft, problems))


def _drop_idle(draft: Draft, *, python: bool) -> list[str]:
    """Leave out what gunicorn does not heed for the kind that is set; return a line for each."""
    origins = dict(draft.origins)
    return [
        f"{origins[key].where}: {'.'.join(key)}: not needed: {why}"
        for key, why in drop_idle(draft, python=python).items()
    ]


def _foreign(draft: Draft) -> list[str]:
    """Return a line for a worker class that only gunicorn can run."""
    kind = draft.said("workers", "kind")
    if not isinstance(kind, str) or not is_custom(kind):
        return []
    from unicornd.config.ancestry import foreign  # noqa: PLC0415 - few name a class

    why = foreign(kind, app=draft)
    return [f"{draft.origins['workers', 'kind'].where}: workers.kind: {why}"] if why else []


def _arguments(environ: Mapping[str, str]) -> CommandLine:
    """Return what `$GUNICORN_CMD_ARGS` says.

    Raises:
        ConfigError: it is no command line.
    """
    source = f"${ARGUMENTS}"
    words: list[str] = []
    try:
        if text := environ.get(ARGUMENTS, ""):
            import shlex  # noqa: PLC0415 - most environments have no such variable

            words = shlex.split(text)
        line = read_command_line(words, source=source)
    except FlagError as error:
        raise ConfigError(f"{source}: {error.message}", hint=error.hint) from error
    except ValueError as error:
        raise ConfigError(f"{source}: {str(error).lower()}", hint="it is read as a shell would") from error
    if line.actions:
        flag = f"--{min(line.actions)}"
        raise ConfigError(f"{source}: {flag} is for the command line", hint=f"leave out {flag}")
    return line


def _config_file(sources: Sources, argument: str) -> Path | None:
    named = sources.config_file or (Path(argument) if argument else None)
    if named is not None:
        return named_file(str(named), folder=sources.folder)
    found = (sources.folder / name for name in (DEFAULT_FILE, GUNICORN_FILE))
    return next((file for file in found if file.exists()), None)


def _add_python(draft: Draft, file: Path, *, sources: Sources) -> tuple[list[str], list[str], list[str]]:
    """Lay what a gunicorn.conf.py says over the draft.

    Returns:
        Lines for what is wrong in it, for what does nothing, and for what it has done and no worker gets.
    """
    from unicornd.config.pyfile import run_python  # noqa: PLC0415 - most files are TOML
    from unicornd.config.translate import lay, losses_of, notes_of, translated  # noqa: PLC0415 - likewise

    found = run_python(file, folder=sources.folder, environ=sources.environ, shown=_shown_path(file))
    items = translated(found)
    return lay(draft, items, folder=sources.folder), notes_of(items), losses_of(items)


def _add_environment_defaults(draft: Draft, environ: Mapping[str, str]) -> None:
    """PORT and such change defaults, as in gunicorn; whatever is said elsewhere wins."""
    if port := environ.get("PORT"):
        draft.put(
            ("server", "bind"), [f"0.0.0.0:{port}"], origin=Origin(layer="environment default", where="$PORT")
        )
    if count := environ.get("WEB_CONCURRENCY"):
        origin = Origin(layer="environment default", where="$WEB_CONCURRENCY")
        draft.put(("workers", "count"), read_value(("workers", "count"), count), origin=origin)
    if (peers := environ.get("FORWARDED_ALLOW_IPS")) is not None:
        origin = Origin(layer="environment default", where="$FORWARDED_ALLOW_IPS")
        draft.put(("proxy", "forwarded_allow_ips"), comma_list(peers), origin=origin)
    if (word := environ.get("SENDFILE")) is not None:
        origin = Origin(layer="environment default", where="$SENDFILE")
        draft.put(("http", "sendfile"), _SENDFILE.get(word.lower(), word), origin=origin)


def _add_paste_logging(draft: Draft) -> None:
    """Take the logging configuration that a PasteDeploy file has in it, as gunicorn does, if no other is said."""
    app = draft.values.get("app")
    spec = app.get("paste") if isinstance(app, dict) else None
    is_said = any(key[:1] == ("logging",) and not _CONFIGURES.isdisjoint(key[1:2]) for key in draft.origins)
    if not isinstance(spec, str) or is_said:
        return
    import configparser  # noqa: PLC0415 - few have such a file

    file = spec.partition("#")[0]
    parser = configparser.RawConfigParser(strict=False)
    with suppress(OSError, ValueError, configparser.Error):  # PasteDeploy will say what is wrong
        parser.read(file, encoding="utf-8")
    if parser.has_section("loggers"):
        draft.put(
            ("logging", "config_file"), file, origin=Origin(layer="file", where=_shown_path(Path(file)))
        )


_CONFIGURES = frozenset({"config", "config_file", "config_json", "config_object"})
"""Settings of [logging] that configure Python's."""


def _add_file(draft: Draft, file: Path, *, layer: str, folder: Path) -> None:
    shown = _shown_path(file)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {shown}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 text at byte {error.start}") from error
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # not TOML, or a number of more digits than Python reads
        hint = f"a Python file is named {FILE_PREFIX}{shown}"
        if file.suffix == ".toml":
            hint = "text stands in quotes, a table's name in brackets; see https://toml.io"
        if str(error).startswith(_SAID_TWICE):
            hint = "each [table], and each key in it, may stand once in a file: look further up for the other one"
        raise ConfigError(_not_toml(shown, str(error), text=text), hint=hint) from error
    origins = {key: Origin(layer=layer, where=f"{shown}:{line}") for key, line in locate_keys(text).items()}
    anchor_paths(table, folder)
    draft.merge(table, origins)


def _not_toml(shown: str, complaint: str, *, text: str) -> str:
    """Put the line where all other errors have it: of what does not end, the line where it begins."""
    found = _AT_LINE.search(complaint)
    if found is not None:
        return f"{shown}:{found['line']}: not TOML: {complaint[: found.start()]} at column {found['column']}"
    line = (
        unended_line(text) or text.count("\n") + 1
    )  # what is wrong with the last statement has no line of tomllib's
    return f"{shown}:{line}: not TOML: {complaint}"


_SAID_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate")
"""How tomllib's complaints begin where something is there already."""

_AT_LINE = re.compile(r" \(at line (?P<line>[0-9]+), column (?P<column>[0-9]+)\)$")


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


def add_given(draft: Draft, given: Iterable[Given], *, layer: str, folder: Path) -> list[str]:
    """Lay values over the draft; return lines for those that are not even keys."""
    lists: dict[Key, list[Any]] = {}
    unknown = []
    for item in given:
        key = split_key(item.key)
        if len(key) == 1:
            unknown.append(
                f"{item.where}: {item.key}: expected a key with its section, such as workers.count"
            )
            continue
        if isinstance(item.text, str) and _is_cut(item.text):
            unknown.append(f"{item.where}: {item.key}: expected UTF-8 text")
            continue
        is_value = item.is_raw or item.is_list or not isinstance(item.text, str)
        value = item.text if is_value else read_value(key, str(item.text))
        value = anchored(key, value, folder=folder) if key in PATH_KEYS else value
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
    if isinstance(value, str) or is_plain(key, value):
        return value
    from unicornd.config.validation import is_rather_text  # noqa: PLC0415 - likewise

    return text if is_rather_text(key, value, text=text) else value


def _shown_path(path: Path) -> str:
    """Return a path as a person would name it: relative to the working directory if it is below that."""
    try:
        return str(path.relative_to(working_folder()))
    except ValueError:
        return str(path)
