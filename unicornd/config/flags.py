"""The command line of `unicornd`: gunicorn's, out of the table in `config.gunicorn`, and `--set` for everything else.

Pure. A flag whose setting has several keys sets all of them (gunicorn's one `--timeout` is two limits here).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from unicornd.config.conversions import NUMBERS, PROXY_WORDS
from unicornd.config.given import Given
from unicornd.config.gunicorn import ROWS, Row, says_nothing
from unicornd.dataclass import dataclass
from unicornd.errors import DaemonExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FlagError(UnicorndError):
    """The command line is wrong."""

    exit_code = DaemonExit.USAGE


FLAGS: Mapping[str, Row] = {flag: row for row in ROWS for flag in row.flags}
"""Flag → row. `--set`, `-h` and `-v` are ours alone."""

SET = "--set"
_ACTIONS = {"-h": "help", "--help": "help", "-v": "version", "--version": "version"}
_WITH_VALUE = frozenset({SET}) | {flag for flag, row in FLAGS.items() if row.form in {"text", "list"}}
_LONG = tuple(flag for flag in (SET, *_ACTIONS, *FLAGS) if flag.startswith("--"))
_END = "--"
"""Behind it no word is a flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a command line says.

    Attributes:
        given: settings, in order.
        config: `--config`, or empty.
        actions: `help`, `version`, `check-config`, `print-config`, if asked for.
        notes: flags that do nothing here, and why.
    """

    given: tuple[Given, ...]
    config: str
    actions: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    words: deque[str]
    given: list[Given]
    actions: set[str]
    notes: list[str]
    config: str = ""
    target: str = ""


def read_command_line(arguments: Sequence[str], *, source: str = "") -> CommandLine:
    """Read the arguments of `unicornd`.

    Args:
        arguments: words, without the program's name.
        source: put in front of the flags' names in the origins, such as `$GUNICORN_CMD_ARGS`.

    Raises:
        FlagError: an unknown flag, a missing value, a second application.
    """
    reading = _Reading(words=_split_words(arguments), given=[], actions=set(), notes=[])
    prefix = f"{source} " if source else ""
    is_over = False
    while reading.words:
        word = reading.words.popleft()
        if word == _END and not is_over:
            is_over = True
        elif word.startswith("-") and word != "-" and not is_over:
            _take_flag(reading, word, prefix=prefix)
        elif reading.target:
            raise FlagError(
                f"two applications: {reading.target} and {word}",
                hint="options stand before or behind, not twice",
            )
        else:
            reading.target = word
            where = source or "the command line"
            reading.given.append(Given(key="app.target", text=word, where=where))
    return CommandLine(
        given=tuple(_with_threads(reading.given)),
        config=reading.config,
        actions=frozenset(reading.actions),
        notes=tuple(reading.notes),
    )


def _take_flag(reading: _Reading, word: str, *, prefix: str) -> None:
    name, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
    name = _whole(name)
    row = FLAGS.get(name)
    if equals and (name in _ACTIONS or (row is not None and row.form == "switch")):
        raise FlagError(f"{name} takes no value, got {text!r}", hint=f"leave out ={text}")
    if name in _ACTIONS:
        reading.actions.add(_ACTIONS[name])
    elif name == SET:
        reading.given.append(_any_setting(text if equals else _next(name, reading.words), f"{prefix}{name}"))
    elif row is None:
        raise FlagError(f"unknown flag {word}{_near(name)}", hint="`unicornd --help` lists the flags")
    else:
        value = text if equals else _value_of(row, name, words=reading.words)
        _take_row(reading, row, value=value, name=name, where=f"{prefix}{name}")


def _take_row(reading: _Reading, row: Row, *, value: object, name: str, where: str) -> None:
    match row.fate:
        case "setting":
            reading.given += _given(row, value, where=where)
        case "command" if row.name == "config":
            reading.config = str(value)
        case "command":
            reading.actions.add(row.name.replace("_", "-"))
        case "needless":
            reading.notes.append(f"{where}: not needed: {row.reason}")
        case "refused":
            if not says_nothing(row, value):
                raise FlagError(f"{name}: {row.reason}", hint=f"leave out {name}")
        case _:
            assert_never(row.fate)


def _given(row: Row, value: object, *, where: str) -> list[Given]:
    try:
        converted = row.convert(value)
    except ValueError as error:
        raise FlagError(f"{where}: {error}") from error
    is_list = row.form == "list"
    match converted:
        case None:
            return []
        case dict():
            return [
                Given(key=f"{key}.{name}", text=text, where=where, is_raw=True)
                for key in row.keys
                for name, text in converted.items()
            ]
        case list() if is_list:
            return [
                Given(key=key, text=item, where=where, is_list=True) for key in row.keys for item in converted
            ]
        case _:
            is_raw = row.convert not in NUMBERS  # as gunicorn takes it: quotes are part of a text
            return [Given(key=key, text=converted, where=where, is_raw=is_raw) for key in row.keys]


def _any_setting(text: str, where: str) -> Given:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise FlagError(f"{where} needs KEY=VALUE, got {text!r}")
    return Given(key=key, text=value, where=where)


def _value_of(row: Row, name: str, *, words: deque[str]) -> object:
    match row.form:
        case "switch":
            return row.stores
        case "optional":
            # argparse would take any word; `--proxy-protocol shop:app` means the application here.
            return words.popleft() if words and words[0].lower() in PROXY_WORDS else row.stores
        case "text" | "list":
            return _next(name, words)
        case _:
            assert_never(row.form)


def _next(name: str, words: deque[str]) -> str:
    if not words:
        raise FlagError(f"{name} needs a value")
    return words.popleft()


def _split_words(arguments: Sequence[str]) -> deque[str]:
    """Part flags from values that are joined to them."""
    words: deque[str] = deque()
    expects_value = is_over = False
    for argument in arguments:
        is_over = is_over or (argument == _END and not expects_value)
        pieces = [argument] if expects_value or is_over else _pieces(argument)
        expects_value = not (expects_value or is_over) and _ends_with_flag(pieces)
        words.extend(pieces)
    return words


def _pieces(argument: str) -> list[str]:
    """Split `-w4`, `-w=4` and `-Dw4`, as argparse does."""
    flag, rest = argument[:2], argument[2:]
    if not rest or flag[0] != "-" or flag == _END:
        return [argument]
    if flag in _WITH_VALUE:
        return [flag, rest.removeprefix("=")]
    return [flag, *_pieces(f"-{rest}")]


def _ends_with_flag(pieces: list[str]) -> bool:
    """Whether the next word is the value of the last piece, whatever it looks like."""
    is_value = len(pieces) > 1 and pieces[-2] in _WITH_VALUE
    return not is_value and _whole(pieces[-1]) in _WITH_VALUE


def _whole(name: str) -> str:
    """Return the flag that a long name is the beginning of, as argparse takes them; else the name itself.

    Raises:
        FlagError: several flags begin so.
    """
    if name in FLAGS or name == _END or not name.startswith(_END):
        return name
    found = {FLAGS[flag].name if flag in FLAGS else flag: flag for flag in _LONG if flag.startswith(name)}
    if len(found) > 1 and name not in _LONG:
        raise FlagError(f"{name} may be {', '.join(found.values())}", hint="write it in full")
    return name if name in _LONG else next(iter(found.values()), name)


def _with_threads(given: list[Given]) -> list[Given]:
    """`-k sync --threads 4` means threads, as in gunicorn: leave the kind to the number of threads."""
    said = {item.key: item.text for item in given}
    if said.get("workers.kind") == "sync" and said.get("workers.threads", 1) != 1:
        return [item for item in given if item.key != "workers.kind"]
    return given


def _near(name: str) -> str:
    from unicornd.config.problems import suggestion  # noqa: PLC0415 - difflib is only needed for the message

    return suggestion(name, [flag for flag in FLAGS if flag.startswith("--")])
