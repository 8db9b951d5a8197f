"""The lines of a TOML file on which its keys stand, for error messages and `config show --origin`.

tomllib keeps no positions. This reads the file statement by statement: a statement is the fewest lines that tomllib
takes as a whole document, so strings, arrays and comments need no grammar of our own.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Key = tuple[str, ...]


def locate_keys(text: str) -> dict[Key, int]:
    """Return the line (from 1) of every table and key of a valid TOML document; a key's first line counts."""
    lines = _lines(text)
    found: dict[Key, int] = {}
    table: Key = ()
    start = 0
    while start < len(lines):
        end, document = _statement(lines, start)
        is_header = lines[start].lstrip().startswith("[")
        if is_header:
            table = _path_of_header(document)
            for length in range(1, len(table) + 1):  # [a.b] makes a, too
                found.setdefault(table[:length], start + 1)
        else:
            for key in _keys(document):
                found.setdefault((*table, *key), start + 1)
        start = end
    return found


def unended_line(text: str) -> int:
    """Return the line (from 1) where that begins which makes the rest of a document no TOML; 0 if there is no such line."""
    lines = _lines(text)
    start = 0
    while start < len(lines):
        end = next((end for end in range(start + 1, len(lines) + 1) if _is_whole(lines[start:end])), None)
        if end is None:
            return start + 1
        start = end
    return 0


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")  # not splitlines(): TOML knows no other line ends


def _is_whole(lines: list[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except ValueError:
        return False
    return True


def _statement(lines: list[str], start: int) -> tuple[int, Mapping[str, object]]:
    """Return where the statement at `start` ends, and what it says on its own."""
    for end in range(start + 1, len(lines) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), {}


def _path_of_header(document: Mapping[str, object]) -> Key:
    path: list[str] = []
    value: object = document
    while isinstance(value, dict) and value:
        [(name, value)] = value.items()
        path.append(name)
        if isinstance(value, list):
            value = value[0]
    return tuple(path)


def _keys(document: Mapping[str, object], above: Key = ()) -> Iterator[Key]:
    for name, value in document.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _keys(value, (*above, name))
