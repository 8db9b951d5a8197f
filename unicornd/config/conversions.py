"""gunicorn's values → ours, one function for each form: numbers, switches, lists, names of workers and of hooks.

Pure. A conversion takes what Python code or a command line says, and returns what unicornd.toml would say; `None` says
nothing. It changes the form only: whether the value is right is for the models to say, with all other errors. It
raises ValueError, with a sentence, for what has no form here.
"""

from __future__ import annotations

import os
import re

from unicornd.config.instance import fitting_name
from unicornd.config.kinds import ASGI, EVENTLET, GEVENT, GEVENT_PYWSGI, NAMES, SYNC, THREADS, TORNADO
from unicornd.config.values import quoted

KIND_ALIASES = {
    "gthread": THREADS,
    "gevent_wsgi": GEVENT_PYWSGI,
    "uvicorn": ASGI,
    "gunicorn.workers.sync.SyncWorker": SYNC,
    "gunicorn.workers.gthread.ThreadWorker": THREADS,
    "gunicorn.workers.ggevent.GeventWorker": GEVENT,
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": GEVENT_PYWSGI,
    "gunicorn.workers.geventlet.EventletWorker": EVENTLET,
    "gunicorn.workers.gtornado.TornadoWorker": TORNADO,
    "gunicorn.workers.gasgi.ASGIWorker": ASGI,
    "geventwebsocket.gunicorn.workers.GeventWebSocketWorker": GEVENT_PYWSGI,
    "uvicorn.workers.UvicornWorker": ASGI,
    "uvicorn.workers.UvicornH11Worker": ASGI,
    "uvicorn_worker.UvicornWorker": ASGI,
    "uvicorn_worker.UvicornH11Worker": ASGI,
}
"""Names of gunicorn's and uvicorn's worker classes, and the kind that does the same here."""
_OWN_LOGGERS = frozenset(
    {
        "",
        "simple",
        "gunicorn.glogging.Logger",
        "gunicorn.glogging:Logger",
        "gunicorn.instrument.statsd.Statsd",
        "gunicorn.instrument.statsd:Statsd",
        "egg:gunicorn#simple",
    }
)
"""What gunicorn's own loggers do, unicornd does by itself."""

AT_ONCE = 0.1
"""Seconds; gunicorn looks ten times a second whether its workers have ended."""

_CERT_REQS = {0: "none", 1: "optional", 2: "required"}
_PROXY_MODES = {
    "0": "off", "false": "off", "off": "off", "none": "off", "": "off", "1": "auto", "true": "auto", "auto": "auto",
}  # fmt: skip
PROXY_WORDS = frozenset({*_PROXY_MODES, "v1", "v2"}) - {""}
"""What may stand behind `--proxy-protocol`."""

_BOOLEANS = {"true": True, "false": False}
_OCTAL = re.compile(r"0o?([0-7]+)|0x[0-9a-fA-F]+")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


def known_kind(name: str) -> str:
    """Return the kind that a name of gunicorn's or uvicorn's means; any other name stays as it is."""
    own = SYNC if name == "egg:gunicorn" else name.removeprefix("egg:gunicorn#")
    own = KIND_ALIASES.get(own.replace(":", "."), own)
    return own if own in NAMES else name


def kind_of(name: str) -> str:
    """Return our name for a `worker_class` of gunicorn's.

    A class of somebody else's, `pkg.mod.Class`, becomes `pkg.mod:Class`.

    Raises:
        ValueError: it names an entry point, which says no more here.
    """
    kind = known_kind(name.strip())
    if kind.startswith("egg:"):
        raise _unexpected(name, 'a kind or a class such as "pkg.mod:Class"')
    return import_of(kind)


def import_of(name: str) -> str:
    """Return `pkg.mod.attribute` as `pkg.mod:attribute`; what is no dotted name stays as it is."""
    if not _DOTTED.fullmatch(name):
        return name
    module, _, attribute = name.rpartition(".")
    return f"{module}:{attribute}"


def plain(value: object) -> object:
    """Texts lose the blanks around them, everything else stays."""
    return value.strip() if isinstance(value, str) else value


def number(value: object) -> object:
    """Whole numbers, as text too: `10`, `0x10`; a switch is 0 or 1, as in Python."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            return value.strip()
    return value


def patience(value: object) -> object:
    """Seconds that gunicorn waits for something to end: 0 is "at once" there, and no limit here."""
    seconds = number(value)
    return AT_ONCE if seconds == 0 else seconds


def worker_count(value: object) -> object:
    """A number, but not 0, which gunicorn takes and serves nobody with."""
    count = number(value)
    if count == 0:
        raise ValueError("expected 1 or more: 0 workers answer nobody; `unicornctl stop` stops a fleet")
    return count


NUMBERS = (number, patience, worker_count)
"""What may leave a text that TOML reads as a number: `2.5`."""


def switch(value: object) -> object:
    """`true` and `false`, as text too, in any case."""
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value


def inverted(value: object) -> object:
    """The opposite of a switch."""
    said = switch(value)
    return not said if isinstance(said, bool) else said


def texts(value: object) -> list[object]:
    """A list of texts; one text is a list of one, an empty one too: `-b "$BIND"` must not fall back to our default."""
    if value is None or value in ([], ()):
        return []
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return [plain(value)]


def comma_list(value: object) -> object:
    """A list out of a text with commas."""
    if not isinstance(value, str):
        return texts(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def pairs(value: object) -> object:
    r"""A table out of texts with `KEY=VALUE`; a `\=` in the key is none of the parting kind."""
    if isinstance(value, dict):
        return {str(key): str(text) for key, text in value.items()} or None
    said: dict[str, str] = {}
    for item in texts(value):
        key, equals, text = re.sub(r"\\=", "\0", str(item)).partition("=")
        if not equals or not key:
            raise _unexpected(item, "KEY=VALUE")
        said[key.replace("\0", "=")] = text.replace("\0", "=")
    return said or None


def path(value: object) -> object:
    """A path as text; an empty one is none."""
    return plain(os.fspath(value)) or None if isinstance(value, str | os.PathLike) else value


def account(value: object) -> object:
    """A user or group: numbers as text."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else plain(value)


def mode(value: object) -> object:
    """Permission bits as octal text. A text that does not begin with 0 stays: gunicorn would read it as decimal."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:04o}"
    text = plain(value)
    if isinstance(text, str) and (match := _OCTAL.fullmatch(text)):
        return f"{int(match[1], 8) if match[1] else int(text, 16):04o}"
    return "0000" if text == "0" else text


def lower(value: object) -> object:
    """Texts in small letters."""
    return value.strip().lower() if isinstance(value, str) else value


def instance_name(value: object) -> object:
    """A name of ours out of any text."""
    if not isinstance(value, str):
        return value
    return fitting_name(value) or None


def worker_kind(value: object) -> object:
    """See `kind_of`."""
    return kind_of(value) if isinstance(value, str) else value


def import_string(value: object) -> object:
    """`pkg.mod.function` as `pkg.mod:function`."""
    return import_of(value.strip()) if isinstance(value, str) else value


def logger(value: object) -> object:
    """A class of somebody else's; gunicorn's own are what unicornd does anyway."""
    if isinstance(value, str) and value.strip() in _OWN_LOGGERS:
        return None
    return import_string(value)


def certificate_demand(value: object) -> object:
    """ssl.CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED as words."""
    said = number(value)
    return _CERT_REQS.get(said, said) if isinstance(said, int) else said


def proxy_mode(value: object) -> object:
    """What `proxy_protocol` may be, as one of our words."""
    word = str(value).strip().lower() if isinstance(value, str | int) else value
    return _PROXY_MODES.get(word, word) if isinstance(word, str) else word


def table(value: object) -> object:
    """A table; an empty one says nothing."""
    return value or None


def header_table(value: object) -> object:
    """Header names in upper case, as the settings have them."""
    return {str(name).upper(): text for name, text in value.items()} if isinstance(value, dict) else value


def _unexpected(value: object, what: str) -> ValueError:
    return ValueError(f"expected {what}, got {quoted(value)}")
