"""The flags of `unicornd`: gunicorn's everyday ones, as a table, and what each says in our words.

A flag with several keys sets all of them (gunicorn's one `--timeout` is two limits here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unicornd.config.layers import Given
from unicornd.errors import DaemonExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class FlagError(UnicorndError):
    """The command line is wrong."""

    exit_code = DaemonExit.USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        names: short first.
        keys: dotted keys that it sets; `*` for the key that the value itself names (`--set`, `--env`).
        form: `text` takes a value, `switch` says true, `list` may be repeated, `pair` takes KEY=VALUE.
        about: a line for the help.
        metavar: what the value is called there.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    form: Literal["text", "switch", "list", "pair"] = "text"
    about: str
    metavar: str = "TEXT"


FLAGS = (
    Flag(
        names=("-b", "--bind"),
        keys=("server.bind",),
        form="list",
        metavar="ADDRESS",
        about="Address to listen on.",
    ),
    Flag(
        names=("--backlog",),
        keys=("server.backlog",),
        metavar="N",
        about="Connections that the kernel queues.",
    ),
    Flag(names=("-w", "--workers"), keys=("workers.count",), metavar="N", about="Worker processes, or auto."),
    Flag(
        names=("-k", "--worker-class"),
        keys=("workers.kind",),
        metavar="KIND",
        about="sync, threads (gthread), asgi, …",
    ),
    Flag(names=("--threads",), keys=("workers.threads",), metavar="N", about="Threads of each worker."),
    Flag(
        names=("--worker-connections",),
        keys=("workers.connections",),
        metavar="N",
        about="Open connections a worker.",
    ),
    Flag(
        names=("--max-requests",),
        keys=("workers.max_requests",),
        metavar="N",
        about="Replace a worker after N requests.",
    ),
    Flag(
        names=("--max-requests-jitter",),
        keys=("workers.max_requests_jitter",),
        metavar="N",
        about="Spread of that.",
    ),
    Flag(
        names=("-t", "--timeout"),
        keys=("timeouts.request", "timeouts.heartbeat"),
        metavar="SECONDS",
        about="Longest request.",
    ),
    Flag(
        names=("--graceful-timeout",), keys=("timeouts.graceful",), metavar="SECONDS", about="Longest drain."
    ),
    Flag(
        names=("--keep-alive",),
        keys=("timeouts.keepalive",),
        metavar="SECONDS",
        about="Idle connections are kept.",
    ),
    Flag(
        names=("--limit-request-line",),
        keys=("http.max_request_line",),
        metavar="BYTES",
        about="Longest request line.",
    ),
    Flag(
        names=("--limit-request-fields",),
        keys=("http.max_headers",),
        metavar="N",
        about="Most header fields.",
    ),
    Flag(
        names=("--limit-request-field_size", "--limit-request-field-size"),
        keys=("http.max_header_size",),
        metavar="BYTES",
        about="Longest header field.",
    ),
    Flag(names=("-D", "--daemon"), keys=("process.daemon",), form="switch", about="Go to the background."),
    Flag(names=("-p", "--pid"), keys=("process.pidfile",), metavar="FILE", about="File for the process id."),
    Flag(names=("-n", "--name"), keys=("process.name",), metavar="NAME", about="Name of the instance."),
    Flag(names=("-u", "--user"), keys=("process.user",), metavar="USER", about="User of the workers."),
    Flag(names=("-g", "--group"), keys=("process.group",), metavar="GROUP", about="Group of the workers."),
    Flag(
        names=("--initgroups",),
        keys=("process.initgroups",),
        form="switch",
        about="The user's other groups, too.",
    ),
    Flag(names=("-m", "--umask"), keys=("process.umask",), metavar="MODE", about="File mode creation mask."),
    Flag(names=("--chdir",), keys=("app.chdir",), metavar="DIR", about="Working directory of the workers."),
    Flag(
        names=("-e", "--env"),
        keys=("app.env.*",),
        form="pair",
        metavar="KEY=VALUE",
        about="Environment variable.",
    ),
    Flag(
        names=("--pythonpath",),
        keys=("app.pythonpath",),
        form="list",
        metavar="DIR",
        about="Put on the import path.",
    ),
    Flag(
        names=("--preload",),
        keys=("app.preload",),
        form="switch",
        about="Load the application before the fork.",
    ),
    Flag(
        names=("--log-level",),
        keys=("logging.level",),
        metavar="LEVEL",
        about="debug, info, warning, error, critical.",
    ),
    Flag(
        names=("--error-logfile", "--log-file"),
        keys=("logging.error",),
        metavar="FILE",
        about="Error log, - is stderr.",
    ),
    Flag(
        names=("--access-logfile",),
        keys=("logging.access.file",),
        metavar="FILE",
        about="Access log, - is stdout.",
    ),
    Flag(
        names=("--access-logformat",),
        keys=("logging.access.format",),
        metavar="TEXT",
        about="Format of its lines.",
    ),
    Flag(
        names=("--set",),
        keys=("*",),
        form="pair",
        metavar="KEY=VALUE",
        about="Any setting: workers.threads=4.",
    ),
)
"""What `unicornd` takes beside -c, --check-config, --help and --version."""

RAW_TEXT_KEYS = frozenset({"app.env.*"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a command line says.

    Attributes:
        given: settings, in order.
        config: `--config`, or empty.
        actions: `help`, `version`, `check-config`, if asked for.
    """

    given: tuple[Given, ...]
    config: str
    actions: frozenset[str]


_ACTIONS = {
    "-h": "help",
    "--help": "help",
    "-v": "version",
    "--version": "version",
    "--check-config": "check-config",
}
_CONFIG = frozenset({"-c", "--config"})


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Read the arguments of `unicornd`.

    Raises:
        FlagError: an unknown flag, a missing value, a second application.
    """
    flags = {name: flag for flag in FLAGS for name in flag.names}
    given: list[Given] = []
    actions: set[str] = set()
    config = target = ""
    words = _split_words(arguments)
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if equals and (name in _ACTIONS or (name in flags and flags[name].form == "switch")):
            raise FlagError(f"{name} takes no value, got {value!r}", hint=f"leave out ={value}")
        if name in _ACTIONS:
            actions.add(_ACTIONS[name])
        elif name in _CONFIG:
            config = value if equals else _value_of(name, words)
        elif name in flags:
            flag = flags[name]
            text = "true" if flag.form == "switch" else value if equals else _value_of(name, words)
            given += _given(flag, name, text=text)
        elif word.startswith("-"):
            raise FlagError(
                f"unknown flag {word}{_near(name, flags)}", hint="`unicornd --help` lists the flags"
            )
        elif target:
            raise FlagError(
                f"two applications: {target} and {word}", hint="options stand before or behind, not twice"
            )
        else:
            target = word
            given.append(Given(key="app.target", text=word, where="the command line"))
    return CommandLine(given=tuple(_with_threads(given)), config=config, actions=frozenset(actions))


def _split_words(arguments: Sequence[str]) -> Iterator[str]:
    """Split `-w4` and `-Dw4` into flags and values, as getopt does."""
    with_value = {name for flag in FLAGS if flag.form != "switch" for name in flag.names} | _CONFIG
    words: list[str] = []
    expects_value = False
    for argument in arguments:
        rest = argument
        while not expects_value and len(rest) > 2 and rest[0] == "-" and rest[1] != "-":  # noqa: PLR2004 - "-x…"
            words.append(rest[:2])
            if rest[:2] in with_value:
                words.append(rest[2:])
                rest = ""
                break
            rest = f"-{rest[2:]}"
        if rest:
            words.append(rest)
            expects_value = not expects_value and rest in with_value
    return iter(words)


def _given(flag: Flag, name: str, *, text: str) -> list[Given]:
    if flag.form != "pair":
        is_list = flag.form == "list"
        return [Given(key=key, text=text, where=name, is_list=is_list) for key in flag.keys]
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise FlagError(f"{name} needs KEY=VALUE, got {text!r}")
    pattern = flag.keys[0]
    return [Given(key=pattern.replace("*", key), text=value, where=name, is_raw=pattern in RAW_TEXT_KEYS)]


def _with_threads(given: list[Given]) -> list[Given]:
    """`-k sync --threads 4` means threads, as in gunicorn: leave the kind to the number of threads."""
    said = {item.key: item.text for item in given}
    if said.get("workers.kind") == "sync" and said.get("workers.threads", "1") != "1":
        return [item for item in given if item.key != "workers.kind"]
    return given


def _value_of(name: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise FlagError(f"{name} needs a value")
    return value


def _near(name: str, flags: Mapping[str, Flag]) -> str:
    from unicornd.config.problems import suggestion  # noqa: PLC0415 - difflib is only needed for the message

    return suggestion(name, [flag for flag in flags if flag.startswith("--")])
