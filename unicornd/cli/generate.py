"""Files that are made of the command lines and the models: `cli.table` for completion, and the manual pages.

Run by hand and by the tests: `python -m unicornd.cli.generate write | check [FOLDER]`; `check` fails if a file in the
repository is not what the commands and the models say.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.cli import inventory
from unicornd.cli.manual import pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
TABLE = Path("unicornd/cli/table.py")
MANUAL = Path("docs/man")

HEAD = '''\
"""What can be said on the command lines of `unicornctl` and `unicornd`: for completion, which has no time to ask typer.

Made of the commands by `make generate`.
"""

from __future__ import annotations

# fmt: off
Option = tuple[tuple[str, ...], str, str]
"""Names, what the value is called (empty: it has none), and a line about it."""
Command = tuple[str, tuple[str, ...], tuple[Option, ...]]
"""A line about it, what its arguments are called, and its options."""

'''


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
            made = made_files()
            stale = [
                file for file, text in made.items() if _present(Path(*folder or [str(ROOT)], file)) != text
            ]
            for file in stale:
                sys.stderr.write(f"{file} is not what the commands say; run `make generate`\n")
            return 1 if stale else 0
        case _:
            sys.stderr.write("usage: python -m unicornd.cli.generate write | check [FOLDER]\n")
            return 2


def made_files() -> Mapping[Path, str]:
    """Return the files and what they have to say."""
    return {TABLE: table_text(), **{MANUAL / name: text for name, text in pages().items()}}


def table_text() -> str:
    """Return the table of completion."""
    return HEAD + "\n".join(_table_lines()) + "\n"


def _table_lines() -> Iterator[str]:
    yield "GLOBAL: tuple[Option, ...] = ("
    yield from (f"    {_option(each)}," for each in inventory.global_options())
    yield ")\n\nCOMMANDS: dict[str, Command] = {"
    for command in inventory.commands():
        names = tuple(name for name, _ in command.arguments)
        yield f"    {_quoted(command.name)}: ({_quoted(command.about)}, {_names(names)}, ("
        yield from (f"        {_option(each)}," for each in command.options if "--json" not in each.names)
        yield "    )),"
    yield "}\n\nFLAGS: tuple[Option, ...] = ("
    yield from (f"    {_option(each)}," for each in inventory.flags())
    yield ")\n\nKEYS: dict[str, str] = {"
    for each in inventory.flags():
        if each.keys and each.form == "value":
            yield f"    {_quoted(each.names[-1])}: {_quoted(each.keys[0])},"
    yield '}\n"""The setting that a flag of `unicornd` says: what its values may be stands there."""'


def _option(option: inventory.Option) -> str:
    metavar = option.metavar if option.form == "value" else ""
    return f"({_names(option.names)}, {_quoted(metavar)}, {_quoted(option.about)})"


def _names(names: Sequence[str]) -> str:
    return f"({', '.join(map(_quoted, names))}{',' if len(names) == 1 else ''})"


def _quoted(text: str) -> str:
    """Return a string literal as the formatter would write it."""
    return (
        repr(text)
        if '"' in text and "'" not in text
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


def _present(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
