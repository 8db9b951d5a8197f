"""The text of `unicornd --help`: the flags by section, in 80 columns. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from unicornd.config.gunicorn import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unicornd.config.gunicorn import Row

COLUMNS = 79
_INDENT = 30

TITLES = {
    "app": "Application", "server": "Listening", "workers": "Workers", "timeouts": "Timeouts", "reload": "Reload",
    "http": "HTTP", "proxy": "Proxies in front", "tls": "TLS", "asgi": "ASGI", "process": "Process", "logging": "Logs",
    "metrics": "Metrics", "control": "Control",
}  # fmt: skip

USAGE = """\
Usage: unicornd [OPTIONS] [APPLICATION]

Supervise a fleet of workers that serve APPLICATION ("module:attribute"), as
unicornd.toml (or gunicorn.conf.py) declares it. Flags win over the file, and
are gunicorn's, so are $GUNICORN_CMD_ARGS, $WEB_CONCURRENCY and $PORT.

"""


def help_text() -> str:
    """Return the help."""
    parts = [USAGE]
    parts += [_line(row) for row in ROWS if row.fate == "command"]
    parts += [
        _entry("--set KEY=VALUE", "Any setting, such as --set reload.surge=2."),
        _entry("-h, --help", "Show this, and exit."),
        _entry("-v, --version", "Show the version, and exit."),
    ]
    for section, title in TITLES.items():
        parts.append(f"\n{title}:\n")
        parts += [_line(row) for row in _rows_of(section)]
    needless = ", ".join(flag for row in ROWS if row.fate == "needless" for flag in row.flags)
    parts.append(f"\nTaken, and not needed here:\n{_wrapped(needless, indent=2)}\n")
    return "".join(parts)


def _rows_of(section: str) -> Iterator[Row]:
    return (row for row in ROWS if row.flags and row.keys and row.keys[0].partition(".")[0] == section)


def _line(row: Row) -> str:
    return _entry(f"{', '.join(row.flags)} {row.metavar}".rstrip(), row.about)


def _entry(names: str, about: str) -> str:
    wrapped = _wrapped(about, indent=_INDENT)
    head = f"  {names}"
    return f"{head:<{_INDENT}}{wrapped.lstrip()}\n" if len(head) < _INDENT else f"{head}\n{wrapped}\n"


def _wrapped(text: str, *, indent: int) -> str:
    blank = " " * indent
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=blank,
        subsequent_indent=blank,
        break_on_hyphens=False,
        break_long_words=False,
    )
