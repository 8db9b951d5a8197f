"""The access log's line: gunicorn's format, compiled once into a list of functions; or named fields for JSON.

Everything that comes from the client is escaped: control characters, quotes and backslashes, so that no request can
end a line or forge another one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unicornd.dataclass import dataclass
from unicornd.errors import ConfigError
from unicornd.escaping import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable

_ATOM = re.compile(r"%(?:\((?:\{(?P<name>[^}]+)\}(?P<kind>[ioe])|(?P<atom>[A-Za-z]))\)[sd]|(?P<percent>%))")
_KEY = re.compile(r"\{(?P<name>[^}]+)\}(?P<kind>[ioe])")
_NUMBERS = frozenset("BTMD")
_QUERY_ATOM = re.compile(r"%\([rq]\)s")
_UNSAFE = re.compile(rf"[{CONTROLS}\"\\]")
MISSING = "-"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a line can say.

    Attributes:
        environ: the request's environ.
        status: `200 OK`.
        headers: response header name (lower case) → value.
        size: bytes of the body.
        seconds: how long it took.
    """

    environ: Mapping[str, Any]
    status: str
    headers: Mapping[str, str]
    size: int
    seconds: float


def compile_format(text: str) -> Callable[[Request], str]:
    """Return a function that makes the line.

    Raises:
        ConfigError: an atom is not known.
    """
    parts: list[str | Callable[[Request], str]] = []
    position = 0
    for match in _ATOM.finditer(text):
        parts += [_checked(text[position : match.start()]), _part_of(match)]
        position = match.end()
    parts.append(_checked(text[position:]))

    def line(request: Request) -> str:
        return "".join(part if isinstance(part, str) else part(request) for part in parts)

    return line


class Atoms(Mapping[str, "str | int"]):
    """A request's atoms by gunicorn's names: `h`, `{user-agent}i`; each made when it is asked for.

    Args:
        request: what they are of.
    """

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    def __getitem__(self, key: str) -> str | int:
        if key in _ATOMS:
            text = _ATOMS[key](self._request)
            return int(text) if key in _NUMBERS else text
        match = _KEY.fullmatch(key)
        return _named(match["name"], match["kind"])(self._request) if match is not None else MISSING

    def __iter__(self) -> Iterator[str]:
        return iter(_ATOMS)

    def __len__(self) -> int:
        return len(_ATOMS)


def shows_query(text: str) -> bool:
    """Whether a format shows query strings: who has taken them out of the line does not want them in JSON."""
    return _QUERY_ATOM.search(text) is not None


def fields_of(request: Request, *, slot: int, has_query: bool) -> dict[str, object]:
    """Return a request as named fields; those that it does not have are left out."""
    environ = request.environ
    optional = {
        "query": environ.get("QUERY_STRING") if has_query else None,
        "remote": environ.get("REMOTE_ADDR"),
        "user": None if (user := _user(request)) == MISSING else user,
        "referer": environ.get("HTTP_REFERER"),
        "user_agent": environ.get("HTTP_USER_AGENT"),
        "request_id": environ.get("HTTP_X_REQUEST_ID"),
    }
    if not has_query and optional["referer"]:
        optional["referer"] = str(optional["referer"]).partition("?")[0]
    return {
        "method": environ.get("REQUEST_METHOD"),
        "path": environ.get("PATH_INFO"),
        "protocol": environ.get("SERVER_PROTOCOL"),
        "status": int(request.status[:3] or 0),
        "bytes": request.size,
        "seconds": round(request.seconds, 6),
        "slot": slot,
        **{key: value for key, value in optional.items() if value},
    }


def _checked(literal: str) -> str:
    if "%" in literal:
        atom = literal[literal.index("%") :][:12]
        raise ConfigError(
            f"logging.access.format: {atom!r} is not an atom",
            hint="atoms look like %(h)s or %({user-agent}i)s; %% is %",
        )
    return literal


def _part_of(match: re.Match[str]) -> str | Callable[[Request], str]:
    if match["percent"]:
        return "%"
    if match["name"]:
        return _named(match["name"], match["kind"])
    if match["atom"] not in _ATOMS:
        raise ConfigError(
            f"logging.access.format: there is no atom {match[0]}", hint=f"atoms: {' '.join(sorted(_ATOMS))}"
        )
    return _ATOMS[match["atom"]]


def _named(name: str, kind: str) -> Callable[[Request], str]:
    match kind:
        case "i":
            key = "HTTP_" + name.upper().replace("-", "_")
            plain = key.removeprefix("HTTP_") if key in {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} else key
            return lambda request: _escaped(request.environ.get(plain))
        case "o":
            lower = name.lower()
            return lambda request: _escaped(request.headers.get(lower))
        case _:
            return lambda request: _escaped(request.environ.get(name))


def _escaped(value: object) -> str:
    """Return a text in which nothing can end a quoted string or a line; `-` for none.

    As JSON has it (RFC 8259, section 7): many formats are written as a JSON object.
    """
    if value is None or value == "":
        return MISSING
    return _UNSAFE.sub(_escape, str(value))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04x}"


def _user(request: Request) -> str:
    scheme, _, credentials = str(request.environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "basic":
        return MISSING
    import base64  # noqa: PLC0415 - few ask so

    try:
        return _escaped(base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")[0])
    except ValueError:  # no Base64, or no UTF-8 in it
        return MISSING


@lru_cache(maxsize=2)
def _moment(second: int) -> str:
    """Return the time in the common log format; once a second, it costs as much as the rest of the line."""
    return logged_time(time.localtime(second))


def logged_time(moment: time.struct_time) -> str:
    """Return a time in the common log format: its months are English, whatever `locale.setlocale` says."""
    return time.strftime(f"[%d/{MONTHS[moment.tm_mon - 1]}/%Y:%H:%M:%S %z]", moment)


def _request_line(request: Request) -> str:
    environ = request.environ
    line = f"{environ.get('REQUEST_METHOD')} {environ.get('RAW_URI')} {environ.get('SERVER_PROTOCOL')}"
    return _escaped(line)


def _status(request: Request) -> str:
    code = request.status[:3]
    return code if code.isdecimal() else _escaped(code)


_ATOMS: dict[str, Callable[[Request], str]] = {
    "h": lambda request: _escaped(request.environ.get("REMOTE_ADDR")),
    "l": lambda _: MISSING,
    "u": _user,
    "t": lambda _: _moment(int(time.time())),
    "r": _request_line,
    "m": lambda request: _escaped(request.environ.get("REQUEST_METHOD")),
    "U": lambda request: _escaped(request.environ.get("PATH_INFO")),
    "q": lambda request: _escaped(request.environ.get("QUERY_STRING")),
    "H": lambda request: _escaped(request.environ.get("SERVER_PROTOCOL")),
    "s": _status,
    "B": lambda request: str(request.size),
    "b": lambda request: str(request.size) if request.size else MISSING,
    "f": lambda request: _escaped(request.environ.get("HTTP_REFERER")),
    "a": lambda request: _escaped(request.environ.get("HTTP_USER_AGENT")),
    "T": lambda request: str(int(request.seconds)),
    "M": lambda request: str(int(request.seconds * 1000)),
    "D": lambda request: str(int(request.seconds * 1_000_000)),
    "L": lambda request: f"{request.seconds:.6f}",
    "p": lambda _: f"<{os.getpid()}>",
}
