"""The manual pages unicornctl(1), unicornd(1) and unicornd.toml(5), made of the command lines and the models.

Run by `cli.generate`. In the macros of man(7), which man-db, mandoc and groff read; nothing but a few of them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from unicornd import __version__
from unicornd.cli import inventory
from unicornd.config.explain import APPLIES, about_table, all_keys, explain
from unicornd.config.usage import TITLES
from unicornd.errors import CtlExit, DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from unicornd.config.explain import Explanation

CODES_OF_CTL: Mapping[CtlExit, str] = {
    CtlExit.DONE: "Done; for a question: yes.",
    CtlExit.FAILED: "Failed; for a question: no.",
    CtlExit.USAGE: "Wrong usage.",
    CtlExit.NOT_RUNNING: "Nothing is running.",
    CtlExit.UNREACHABLE: "It cannot be reached, or the time is up; what the fleet does is not known.",
    CtlExit.ROLLED_BACK: "The operation failed, and what was before goes on.",
    CtlExit.PERMISSION: "Not allowed.",
    CtlExit.BUSY: "Another operation is in progress.",
    CtlExit.CONFIG: "The configuration is wrong; nothing has been changed.",
}

CODES_OF_DAEMON: Mapping[DaemonExit, str] = {
    DaemonExit.OK: "It was stopped; or it has told what was asked for.",
    DaemonExit.FAILED: "Failed: an address is in use, a file cannot be opened, it is running already.",
    DaemonExit.USAGE: "Wrong usage.",
    DaemonExit.BOOT: "A worker cannot boot.",
    DaemonExit.APP: "The application cannot be loaded.",
    DaemonExit.CONFIG: "The configuration is wrong.",
}

SIGNALS = (
    ("TERM", "Stop gracefully."),
    ("INT, QUIT", "Stop at once."),
    ("HUP", "Reload."),
    ("TTIN, TTOU", "One worker more, one fewer."),
    ("USR1", "Open the log files anew."),
    ("USR2", "Boot a new unicornd beside this one."),
    ("WINCH", "A daemon: let all workers go, and stay."),
)

FILES = (
    ("./unicornd.toml", "What should run; see unicornd.toml(5). Else ./gunicorn.conf.py."),
    (
        "./unicornd.d/*.toml",
        "Read after it, by name: later ones win. `unicornctl scale --save` and `config set` write here.",
    ),
    ("/run/unicornd/NAME.sock", "The control socket; a user's own is in $XDG_RUNTIME_DIR/unicornd/."),
    ("/run/unicornd/NAME.log", "The log of a daemon that has no log file of its own."),
)

SEE_ALSO = {
    "unicornctl.1": ("unicornd(1)", "unicornd.toml(5)"),
    "unicornd.1": ("unicornctl(1)", "unicornd.toml(5)", "systemd.service(5)"),
    "unicornd.toml.5": ("unicornd(1)", "unicornctl(1)"),
}


def pages() -> Mapping[str, str]:
    """Return the pages by their names."""
    made = {"unicornctl.1": _of_ctl(), "unicornd.1": _of_daemon(), "unicornd.toml.5": _of_settings()}
    return {name: _page(name, lines) for name, lines in made.items()}


def _page(name: str, lines: Iterable[str]) -> str:
    title, _, section = name.rpartition(".")
    head = f'.TH {title.upper()} {section} "" "unicornd {__version__}" "unicornd"'
    also = ", ".join(SEE_ALSO[name])
    note = '.\\" Made of the commands and the models by `make generate`.'
    return "\n".join([note, head, ".nh", ".ad l", *lines, ".SH SEE ALSO", _text(also)]) + "\n"


# The pages.


def _of_ctl() -> Iterator[str]:
    yield from (".SH NAME", r"unicornctl \- start, look at, change and stop a fleet of Python web workers")
    yield from (
        ".SH SYNOPSIS",
        ".B unicornctl",
        r"[\fB\-c\fR \fIFILE\fR | \fB\-\-socket\fR \fIPATH\fR | \fB\-\-instance\fR \fINAME\fR]",
    )
    yield from (r"[\fB\-\-json\fR]", r"\fICOMMAND\fR [\fIARGUMENTS\fR]", ".SH DESCRIPTION")
    yield _text(
        "It speaks to the arbiter of a running unicornd(1) at its control socket, and says by its exit code how it went."
    )
    yield ".PP"
    yield _text(
        "Which fleet: the options below, anywhere on the line; else ./unicornd.toml or ./gunicorn.conf.py; to look, also the "
        "only one that runs; to change it, that one is asked about first."
    )
    yield from (".SH OPTIONS", *_options(inventory.global_options()), ".SH COMMANDS")
    for command in inventory.commands():
        if command.arguments or command.options or " " in command.name or command.name != "config":
            yield from _command(command)
    yield from (".SH EXIT STATUS", *_entries((str(int(code)), about) for code, about in CODES_OF_CTL.items()))
    yield from (".SH ENVIRONMENT", *_entries(_VARIABLES), ".SH FILES", *_entries(FILES))


_VARIABLES = (
    (
        "UNICORND_CONTROL__SOCKET, UNICORND_PROCESS__NAME",
        "Which fleet a configuration file means, where unicornd has them, too.",
    ),
    ("XDG_RUNTIME_DIR, RUNTIME_DIRECTORY", "Where control sockets are looked for, beside /run/unicornd."),
    ("NO_COLOR, COLUMNS", "No colours; how wide the terminal is."),
)


_OF_ENVIRONMENT = (
    "A setting; it wins over the file. UNICORND_WORKERS__COUNT=4, UNICORND_LOGGING__ACCESS__FILE=-, "
    "UNICORND_APP__ENV__DEBUG=1."
)


def _of_daemon() -> Iterator[str]:
    yield from (".SH NAME", r"unicornd \- supervise and serve Python web applications")
    yield from (".SH SYNOPSIS", ".B unicornd", r"[\fIOPTIONS\fR] [\fIAPPLICATION\fR]", ".SH DESCRIPTION")
    yield _text(
        "It forks and supervises workers that serve APPLICATION (module:attribute), as unicornd.toml(5) or a gunicorn.conf.py "
        "declares it; unicornctl(1) looks at it and changes it. Flags win over the file, and are gunicorn's; so are "
        "$GUNICORN_CMD_ARGS, $WEB_CONCURRENCY and $PORT."
    )
    flags = inventory.flags()
    yield from (".SH OPTIONS", *_options(flag for flag in flags if not flag.keys))
    for section, title in TITLES.items():
        found = [flag for flag in flags if flag.keys and flag.keys[0].partition(".")[0] == section]
        yield from ((f".SS {_text(title)}", *_options(found)) if found else ())
    yield from (
        ".SH EXIT STATUS",
        *_entries((str(int(code)), about) for code, about in CODES_OF_DAEMON.items()),
    )
    yield from (".SH SIGNALS", *_entries(SIGNALS), ".SH ENVIRONMENT")
    yield from _entries([("UNICORND_<SECTION>__<KEY>", _OF_ENVIRONMENT)])
    yield from (".SH FILES", *_entries(FILES))


def _of_settings() -> Iterator[str]:
    yield from (".SH NAME", r"unicornd.toml \- what unicornd(1) should run", ".SH SYNOPSIS")
    yield from (".nf", "[app]", 'target = "shop.wsgi:application"', "[server]", 'bind = "127.0.0.1:8000"')
    yield from ("[workers]", "count = 2", 'kind = "threads"', "threads = 4", ".fi", ".SH DESCRIPTION")
    yield _text(
        "A file of TOML (https://toml.io). A key that does not exist is an error. `unicornctl config init` writes one to begin "
        "with, `config check` says whether it is right, `config show --origin` what is in force and who has said it, `config "
        "explain NAME` what one setting means here."
    )
    yield ".PP"
    yield _text(
        "Later ones win: the file, drop-ins (unicornd.d/*.toml beside it), the environment (UNICORND_<SECTION>__<KEY>), the "
        "command line. Durations are seconds or text with a unit (500ms, 30s, 5m), sizes bytes or text (64KiB, 1GiB); paths "
        "are relative to the file's folder."
    )
    yield from (".PP", "What a changed value needs:", *_entries(APPLIES.items()))
    for above in dict.fromkeys(key[:-1] for key in all_keys()):
        yield from (f".SH [{'.'.join(above)}]", _text(about_table(above)))
        for key in all_keys():
            if key[:-1] == above:
                yield from _setting(explain(".".join(key))[0])


def _setting(each: Explanation) -> Iterator[str]:
    yield from (
        ".TP",
        rf"\fB{_text(each.key.rpartition('.')[2])}\fR = \fI{_text(each.form)}\fR",
        _text(each.about),
    )
    default = "not set" if each.default in (None, {}, []) else json.dumps(each.default, ensure_ascii=False)
    facts = [f"Default: {default}", f"change: {each.apply}"]
    facts += [f"gunicorn: {each.gunicorn}"] if each.gunicorn else []
    facts += [f"flag: {', '.join(each.flags)}"] if each.flags else []
    yield from (".br", _text("; ".join(facts) + "."))


def _command(command: inventory.Command) -> Iterator[str]:
    names = " ".join(rf"\fI{_text(name)}\fR" for name, _ in command.arguments)
    yield f".SS {_text(command.name)} {names}".rstrip()
    for number, part in enumerate(command.text.split("\n\n")):
        yield from ((".PP",) if number else ())
        yield _text(" ".join(part.split()))
    yield from _entries((name, about) for name, about in command.arguments if about)
    yield from _options(option for option in command.options if "--json" not in option.names)


def _options(options: Iterable[inventory.Option]) -> Iterator[str]:
    forms = {"value": r" \fI{}\fR", "optional": r" [\fI{}\fR]", "switch": ""}
    for option in options:
        names = ", ".join(rf"\fB{_text(name)}\fR" for name in option.names)
        yield from (".TP", names + forms[option.form].format(_text(option.metavar)), _text(option.about))


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, about in entries:
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(about))


# Text.


def _text(text: str) -> str:
    """Return text as roff (groff_char(7), man(7)): spans of code are bold, a hyphen is the one that is typed."""
    plain = (
        text.replace("…", "...")
        .replace("\\", r"\e")
        .replace("-", r"\-")
        .replace("~", r"\(ti")
        .replace("^", r"\(ha")
        .replace("'", r"\(aq")
    )
    shown = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", plain)
    return rf"\&{shown}" if shown.startswith((".", "'")) else shown
