"""Files that are made of the models: the JSON Schema of unicornd.toml, docs/settings.md, and `config.table`.

Run by hand and by the tests: `python -m unicornd.config.generate write | check [FOLDER]`; `check` fails if a file in the
repository is not what the models say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicornd.config.draft import ADDRESS_KEYS, PATH_KEYS
from unicornd.config.explain import schema_of, schema_of_table
from unicornd.config.gunicorn import ROWS, row_of_key
from unicornd.config.sections.section import Section
from unicornd.config.settings import Settings
from unicornd.config.show import apply_of, shown_value
from unicornd.config.tabulate import table_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unicornd.config.draft import Key

ROOT = Path(__file__).parents[2]
SCHEMA = Path("schemas/unicornd.schema.json")
SETTINGS = Path("docs/settings.md")
TABLE = Path("unicornd/config/table.py")
DIALECT = "http://json-schema.org/draft-07/schema#"
"""The dialect that TOML editors (Taplo, Even Better TOML) read."""

INTRODUCTION = """\
# Settings

Every setting of `unicornd.toml`; this file is made of the models (`make generate`).

A value may also come from a drop-in (`unicornd.d/*.toml` beside the file), from the environment
(`UNICORND_<SECTION>__<KEY>`) or from the command line (a flag, or `--set section.key=value`); later ones win.
`unicornctl config show --origin` tells who said what, `unicornctl config explain NAME` the same as here, with the
present value. *gunicorn* is gunicorn's name: `unicornctl config import` translates a gunicorn.conf.py, which unicornd
also takes as it is; what has no counterpart stands at the end. *Change* says what a changed value needs: **live**: a reload
applies it to the arbiter; **rolling**: the workers that a reload boots have it; **restart**: unicornd has to be restarted.
(Every reload replaces the workers: they take new code.)
Durations are seconds or text with a unit (`"500ms"`, `"30s"`, `"5m"`), sizes bytes or text (`"64KiB"`, `"1GiB"`).
Paths are relative to the file's folder.
"""


def main(arguments: Sequence[str]) -> int:
    """Write or check the files; return the exit code."""
    match list(arguments):
        case ["write", *folder]:
            for file, text in made_files().items():
                path = Path(*folder or [str(ROOT)], file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return 0
        case ["check", *folder]:
            stale = [
                file
                for file, text in made_files().items()
                if _present(Path(*folder or [str(ROOT)], file)) != text
            ]
            for file in stale:
                sys.stderr.write(f"{file} is not what the models say; run `make generate`\n")
            return 1 if stale else 0
        case _:
            sys.stderr.write("usage: python -m unicornd.config.generate write | check [FOLDER]\n")
            return 2


def made_files() -> Mapping[Path, str]:
    """Return the files and what they have to say."""
    return {TABLE: table_text(), SCHEMA: schema_text(), SETTINGS: settings_text()}


def schema_text() -> str:
    """Return the JSON Schema."""
    schema = {
        "$schema": DIALECT,
        "title": "unicornd.toml",
        **_for_editors(_explained(schema_of_table(Settings))),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_text() -> str:
    """Return the reference of all settings."""
    flags = {
        key: ", ".join(f"`{name}`" for name in row.flags) for row in ROWS for key in row.keys if row.flags
    }
    lines = [INTRODUCTION, *_sections(Settings, (), flags=flags), *_without_counterpart()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _explained(schema: dict[str, Any]) -> dict[str, Any]:
    """Write defaults as the operator would, and say in each description what a change needs."""
    for model, key in _keys(Settings, ()):
        place = schema["$defs"][model.__name__]["properties"][key[-1]]
        row = row_of_key(".".join(key))
        known = f" gunicorn: {row.name}." if row is not None else ""
        place["description"] = f"{place.get('description', '')} Change: {apply_of(key)}.{known}".strip()
        place["default"] = schema_of(key).get("default")
    return schema


def _keys(model: type[Section], above: Key) -> Iterator[tuple[type[Section], Key]]:
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _keys(annotation, (*above, name))
        else:
            yield model, (*above, name)


def _without_counterpart() -> Iterator[str]:
    yield "## Settings of gunicorn's without a counterpart\n"
    yield "| gunicorn | here | why, and what to do instead |\n|---|---|---|"
    words = {"needless": "taken, and not needed", "refused": "refused", "command": "on the command line only"}
    for row in ROWS:
        if row.fate in words:
            retired = " (gone from gunicorn, too)" if row.is_retired else ""
            yield f"| `{row.name}` | {words[row.fate]}{retired} | {row.reason} |"
    yield ""


def _sections(model: type[Section], above: Key, *, flags: Mapping[str, str]) -> Iterator[str]:
    plain, inner = [], []
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            inner.append((annotation, (*above, name)))
        else:
            plain.append(name)
    if above:
        yield f"## [{'.'.join(above)}]\n\n{(model.__doc__ or '').strip()}\n"
        yield "| key | default | change | gunicorn | flag | what |\n|---|---|---|---|---|---|"
        yield from (_line(model, (*above, name), flags=flags) for name in plain)
        yield ""
    for annotation, key in inner:
        yield from _sections(annotation, key, flags=flags)


def _line(model: type[Section], key: Key, *, flags: Mapping[str, str]) -> str:
    info = model.model_fields[key[-1]]
    default = shown_value(key, info.get_default(call_default_factory=True))
    empty = {"None": "not set", "{}": "empty", "[]": "empty"}.get(str(default))
    shown = empty or f"`{json.dumps(default, ensure_ascii=False)}`"
    flag = flags.get(".".join(key), "")
    about = (info.description or "").replace("|", "\\|")
    path = " A path." if key in PATH_KEYS - ADDRESS_KEYS and "path" not in about.lower() else ""
    row = row_of_key(".".join(key))
    known = f"`{row.name}`" if row is not None else ""
    return f"| `{key[-1]}` | {shown} | {apply_of(key)} | {known} | {flag} | {about}{path} |"


def _for_editors(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Leave out what says nothing to an editor: the titles that pydantic makes of names, and null, which TOML lacks."""
    match schema:
        case {"anyOf": [*choices], **rest} if {"type": "null"} in choices:
            kept = [choice for choice in choices if choice != {"type": "null"}]
            merged = {**kept[0], **rest} if len(kept) == 1 else {**rest, "anyOf": kept}
            return _for_editors(
                {key: value for key, value in merged.items() if not (key == "default" and value is None)}
            )
        case dict():
            return {
                key: _for_editors(value)
                for key, value in schema.items()
                if not (key == "title" and isinstance(value, str))
                and not (key == "default" and value is None)
            }
        case list():
            return [_for_editors(item) for item in schema]
        case _:
            return schema


def _present(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
