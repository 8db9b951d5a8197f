"""What may stand at a place of a command line: `unicornctl __complete SHELL WORDS…`, which the shells' scripts run.

Runs in the command's process each time that somebody presses Tab: standard library only. It never fails and never says
anything but candidates, one a line: the word, a tab, a line about it. `:files` asks the shell for its file names.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from unicornd.cli.instances import Choice, find_fleet, known_names, running_addresses
from unicornd.cli.table import COMMANDS, FLAGS, GLOBAL, KEYS
from unicornd.errors import UnicorndError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unicornd.cli.table import Option
    from unicornd.config.table import Entry, Table

FILES = ":files"
SHELLS = ("bash", "zsh", "fish")
PATIENCE = 0.2
"""Seconds that a fleet has to say which workers it has."""


class Candidate(NamedTuple):
    """A word that may stand there, and a line about it."""

    word: str
    about: str = ""


class Line(NamedTuple):
    """A command line up to the cursor: its command, the words behind it, and the one that is being written."""

    command: str
    words: tuple[str, ...]
    current: str
    choice: Choice


def main(arguments: Sequence[str]) -> int:
    """Print the candidates; `arguments` are the shell and its words, or bash's whole line and its last part."""
    try:
        shell, *words = arguments
        cut = 0
        if shell == "bash":
            words, cut = _words_of_bash(*words)
        found = list(dict.fromkeys(candidates(words)))
    except (UnicorndError, OSError, ValueError, TypeError, IndexError):
        return 0
    for each in found:
        about = "" if shell == "bash" else f"\t{each.about}"
        sys.stdout.write(f"{each.word if each.word == FILES else each.word[cut:]}{about}\n")
    return 0


def _words_of_bash(line: str, part: str) -> tuple[list[str], int]:
    """Return the words of a line, and how much of the last one bash keeps: for it, `=` and `:` end a word."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # in the middle of a quoted word
        words.append(lexer.token)
    if not line or line[-1].isspace() or not words:
        words.append("")
    is_part = words[-1].endswith(part)
    return words, len(words[-1]) - len(part) if is_part else 0


def candidates(words: Sequence[str]) -> Iterator[Candidate]:
    """Yield what the last of the words may be; the first one is the program."""
    program, *before = words
    current = before.pop()
    if program.rpartition("/")[2] == "unicornd":
        yield from _of_daemon(before, current)
        return
    line = _read(before, current)
    options = (*(COMMANDS[line.command][2] if line.command in COMMANDS else ()), *GLOBAL)
    name, equals, value = current.partition("=")
    owner = before[-1] if before else ""
    if (option := _with_value(owner, options)) is not None:
        yield from _matching(_values(option[1], line, current=current, owner=owner), current)
    elif current.startswith("--") and equals and (option := _with_value(name, options)) is not None:
        for each in _matching(_values(option[1], line, current=value, owner=name), value):
            yield each if each.word == FILES else Candidate(f"{name}={each.word}", each.about)
    elif current.startswith("-"):
        yield from _options(current, options)
    else:
        yield from _matching(_arguments(line), current)


def _read(before: Sequence[str], current: str) -> Line:
    """Find the command, and which fleet is meant."""
    said = {"-c": "", "--socket": "", "--instance": ""}
    command, rest = "", []
    words = iter(before)
    for word in words:
        name, equals, value = word.partition("=")
        name = "-c" if name == "--config" else name
        if name in said:
            said[name] = value if equals else next(words, "")
        elif not command and not word.startswith("-"):
            command = word
        elif f"{command} {word}" in COMMANDS:
            command = f"{command} {word}"
        elif not word.startswith("-"):
            rest.append(word)
        elif _with_value(word, COMMANDS[command][2] if command in COMMANDS else ()) is not None:
            next(words, "")
    choice = Choice(config=said["-c"], socket=said["--socket"], instance=said["--instance"])
    return Line(command, tuple(rest), current, choice)


def _with_value(name: str, options: Iterable[Option]) -> Option | None:
    """Return the option of this name, if its value comes next."""
    return next((option for option in options if name in option[0] and option[1]), None)


def _options(current: str, options: Iterable[Option]) -> Iterator[Candidate]:
    long = (Candidate(each, option[2]) for option in options for each in option[0] if each.startswith("--"))
    return _matching(long, current)


def _matching(found: Iterable[Candidate], current: str) -> Iterator[Candidate]:
    return (each for each in found if each.word == FILES or each.word.startswith(current))


def _arguments(line: Line) -> Iterator[Candidate]:
    """Yield what the next argument of the command may be."""
    below = f"{line.command} " if line.command else ""
    inner = [name for name in COMMANDS if name.startswith(below) and " " not in name[len(below) :]]
    for name in inner:
        yield Candidate(name[len(below) :], COMMANDS[name][0])
    names = COMMANDS[line.command][1] if line.command in COMMANDS else ()
    if len(line.words) < len(names):
        yield from _values(names[len(line.words)].strip("[]"), line, current=line.current)


def _values(called: str, line: Line, *, current: str, owner: str = "") -> Iterator[Candidate]:
    """Yield what stands for a value that is called so."""
    match called:
        case "SLOT":
            yield from _slots(line.choice)
        case "NAME" if owner == "--instance":
            yield from (Candidate(name, address) for name, address in known_names().items())
        case "NAME":
            yield from _settings()
        case "KEY=VALUE":
            yield from _assignments(current)
        case "SHELL":
            yield from (Candidate(shell) for shell in SHELLS)
        case "PATH":
            yield from (Candidate(address) for address in running_addresses())
            yield Candidate(FILES)
        case "FILE" | "FOLDER":
            yield Candidate(FILES)
        case _:
            return


def _slots(choice: Choice) -> Iterator[Candidate]:
    status = find_fleet(choice).client.get("/v1/workers", patience=PATIENCE)
    for worker in status["workers"]:
        yield Candidate(
            str(worker["slot"]), f"pid {worker['pid']}, {worker['phase']}, {worker['requests']} requests"
        )


def _settings() -> Iterator[Candidate]:
    for key, (default, _, _) in _leaves():
        yield Candidate(key, "" if default in (None, (), {}) else f"default: {default}")


def _assignments(current: str) -> Iterator[Candidate]:
    key, equals, _ = current.partition("=")
    if not equals:
        yield from (Candidate(f"{each.word}=", each.about) for each in _settings())
        return
    yield from (Candidate(f"{key}={word}") for word in _choices(key))


def _choices(key: str) -> Iterator[str]:
    """Yield the words that a setting may be, if it is one of several."""
    for form in dict(_leaves()).get(key, (None, "", ()))[2]:
        if form[0] == "choice":
            yield from map(str, form[1:])
        elif form[0] == "bool":
            yield from ("true", "false")
        elif form[0] == "kind":
            from unicornd.config.kinds import NAMES  # noqa: PLC0415 - for this one setting

            yield from NAMES


def _leaves() -> Iterator[tuple[str, Entry]]:
    from unicornd.config.table import TABLE  # noqa: PLC0415 - most completions are of commands

    def walk(table: Table, above: str) -> Iterator[tuple[str, Entry]]:
        for name, inner in table.items():
            if isinstance(inner, dict):
                yield from walk(inner, f"{above}{name}.")
            else:
                yield f"{above}{name}", inner

    return walk(TABLE, "")


def _of_daemon(before: Sequence[str], current: str) -> Iterator[Candidate]:
    name, equals, value = current.partition("=")
    owner = before[-1] if before else ""
    if (option := _with_value(owner, FLAGS)) is not None:
        yield from _matching(_of_flag(option, current), current)
    elif current.startswith("--") and equals and (option := _with_value(name, FLAGS)) is not None:
        found = _matching(_of_flag(option, value), value)
        yield from (each if each.word == FILES else Candidate(f"{name}={each.word}") for each in found)
    elif current.startswith("-"):
        yield from _options(current, FLAGS)
    else:
        yield Candidate(FILES)


def _of_flag(option: Option, current: str) -> Iterator[Candidate]:
    if "--set" in option[0]:
        yield from _assignments(current)
    elif option[1] in {"FILE", "DIR", "PATH"}:
        yield Candidate(FILES)
    else:
        yield from (Candidate(word) for word in _choices(KEYS.get(option[0][-1], "")))
