"""A document of the control socket → the same with texts that a terminal can be shown.

Pure. Run in the command's process, wherever a document becomes text; with `--json` it stays as it is. What is made of it
goes to rich as `Text` or to a console without markup, so `[bold]` and `[link=…]` are shown as they are written.
"""

from __future__ import annotations

from typing import Any

from unicornd.escaping import lines, one_line

_OF_LINES = frozenset({"detail", "failure", "stacks"})
"""Names of texts that have several lines."""


def printable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document in which no text has control characters, but for the line feeds of a traceback."""
    return {one_line(name): _printable(value, name=name) for name, value in document.items()}


def _printable(value: Any, *, name: str = "") -> Any:  # noqa: ANN401 - whatever JSON has
    match value:
        case str():
            return lines(value) if name in _OF_LINES else one_line(value)
        case dict():
            return printable(value)
        case list():
            return [_printable(each, name=name) for each in value]
        case _:
            return value
