"""Values that the operator writes as text: addresses, durations, sizes, modes, import strings.

Pure: text ↔ value. Every parser raises ValueError with a sentence that says what was expected; `str()` of a value is
text that parses to the same value.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

DEFAULT_PORT = 8000
MAX_PORT = 65535
MAX_SECONDS = 1000 * 365 * 86400
"""A duration beyond is a slip, and beyond what clocks and kernels count."""

_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
"""Decimal, so that what is written is read back exactly."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"([0-9]+)\s?(B|KiB|MiB|GiB|KB|MB|GB|)")
_MODE = re.compile(r"(?:0o?)?([0-7]{3,4})")
_TCP = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[\w.-]*))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_SCHEMES = frozenset({"tcp", "unix", "fd"})
"""No host is called so: `fd:3` is `fd://3` with a slip."""

MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def quoted(value: object) -> str:
    """Return a value as TOML would write it, more or less; on one line, and not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen.

    Attributes:
        kind: `tcp` (host and port), `unix` (path), `abstract` (path, without the `@`), `fd` (name: a number, a
            FileDescriptorName of systemd, or empty for all inherited ones).
        host: name or address, IPv6 without brackets.
        port: 0 for one that the kernel chooses.
        path: of a Unix socket.
        name: of an inherited descriptor.
    """

    kind: Literal["tcp", "unix", "abstract", "fd"]
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT`, `:PORT`, `HOST`, `[IPV6]:PORT`, `unix:PATH`, `unix:@NAME`, `fd://N`.

        Raises:
            ValueError: it is none of these.
        """
        if text.startswith("unix:"):
            return _parse_unix(text.removeprefix("unix:").removeprefix("//"))
        if text.startswith("fd://"):
            return cls(kind="fd", name=text.removeprefix("fd://"))
        return _parse_tcp(text.removeprefix("tcp://"))

    def __str__(self) -> str:
        match self.kind:
            case "unix":
                return f"unix:{self.path}"
            case "abstract":
                return f"unix:@{self.path}"
            case "fd":
                return f"fd://{self.name}"
            case _:
                return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_unix(path: str) -> Address:
    if path in {"", "@"} or "\0" in path:
        raise ValueError("expected a path behind 'unix:', such as unix:/run/web.sock")
    return Address(kind="abstract", path=path[1:]) if path[0] == "@" else Address(kind="unix", path=path)


def _parse_tcp(text: str) -> Address:
    match = _TCP.fullmatch(text)
    if match is None or not text or text.isdigit() or match["name"] in _SCHEMES:
        raise ValueError(_why_no_address(text))
    if match["v6"] and not _is_ipv6(match["v6"]):
        raise ValueError(f"expected an IPv6 address in brackets, got {quoted(text)}")
    port = int(match["port"] or DEFAULT_PORT)
    if port > MAX_PORT:
        raise ValueError(f"expected a port from 0 to {MAX_PORT} behind the last colon, got {port}")
    return Address(kind="tcp", host=(match["v6"] or match["name"]).lower() or "0.0.0.0", port=port)


def _why_no_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text.isdigit():
        return f'expected HOST:PORT, got the number {text}; did you mean ":{text}"?'
    if _is_ipv6(text):
        return f"expected an IPv6 address in brackets: [{text}]:{DEFAULT_PORT}"
    if host in _SCHEMES:
        return f'expected HOST:PORT, got {quoted(text)}; did you mean "{host}://{port}"?'
    if host and "/" not in text and _TCP.fullmatch(host):
        return f"expected a port from 0 to {MAX_PORT} behind the last colon, got {quoted(port)}"
    return f"expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N, got {quoted(text)}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def parse_duration(value: object) -> float:
    """Read seconds: a number, or text with a unit (`500ms`, `30s`, `5m`, `1h`, `1d`).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(Decimal(match[1]) * _UNITS[match[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < MAX_SECONDS else inf
    else:
        raise ValueError(f'expected a duration such as 30 or "30s", got {quoted(value)}')
    if not 0 <= seconds < MAX_SECONDS:
        raise ValueError(f"expected a duration of 0 or more, and less than 1000 years, got {quoted(value)}")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that divides them; the text is read back as the same number."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m", "s"):
        if exact and not exact % _UNITS[unit]:
            return f"{int(exact / _UNITS[unit])}{unit}"
    return f"{(exact / _UNITS['ms']).normalize():f}ms" if exact else "0s"


def parse_size(value: object) -> int:
    """Read bytes: a whole number, or text with a unit (`64KiB`, `1GiB`, `10MB`).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZES[match[2]]
    raise ValueError(f'expected a size such as 65536 or "64KiB", got {quoted(value)}')


def format_size(size: int) -> str:
    """Write bytes in the largest binary unit that divides them."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return str(size)


def parse_mode(value: object) -> int:
    """Read permission bits from octal text: `0600`, `0o660`, `666`.

    Raises:
        ValueError: it is not octal text; a bare TOML number would be read as decimal, so it is refused too.
    """
    if isinstance(value, str) and (match := _MODE.fullmatch(value)):
        return int(match[1], 8)
    raise ValueError(f'expected an octal mode in quotes, such as "0600", got {quoted(value)}')


def format_mode(mode: int) -> str:
    """Write permission bits as octal text."""
    return f"{mode:04o}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportString:
    """A Python object by name.

    Attributes:
        module: dotted name of a module, or path of a file that ends in `.py`.
        attribute: dotted name in it, or empty.
        arguments: literals to call it with; None if it is not called.
        keywords: literals by name.
    """

    module: str
    attribute: str = ""
    arguments: tuple[Any, ...] | None = None
    keywords: tuple[tuple[str, Any], ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether `module` is a path."""
        return self.module.endswith(".py")

    @classmethod
    def parse(cls, text: str) -> ImportString:
        """Read `pkg.mod`, `pkg.mod:attribute`, `pkg.mod:factory("literal", key=1)` or `./file.py:attribute`.

        Raises:
            ValueError: it is none of these.
        """
        module, _, expression = text.partition(":")
        names = [] if module.endswith(".py") else module.split(".")
        if not module or not all(name.isidentifier() for name in names):
            raise ValueError(f'expected "module:attribute" or "./file.py:attribute", got {quoted(text)}')
        if not expression:
            return cls(module=module)
        return _parse_expression(module, expression)

    def __str__(self) -> str:
        if not self.attribute:
            return self.module
        if self.arguments is None:
            return f"{self.module}:{self.attribute}"
        given = [repr(value) for value in self.arguments] + [
            f"{key}={value!r}" for key, value in self.keywords
        ]
        return f"{self.module}:{self.attribute}({', '.join(given)})"


def _parse_expression(module: str, expression: str) -> ImportString:
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        if not isinstance(node, ast.Call):
            return ImportString(module=module, attribute=_dotted(node))
        arguments = tuple(ast.literal_eval(argument) for argument in node.args)
        keywords = tuple(
            (str(keyword.arg), ast.literal_eval(keyword.value)) for keyword in node.keywords if keyword.arg
        )
        if len(keywords) != len(node.keywords):
            raise ValueError  # noqa: TRY301 - **mapping: no literal
        return ImportString(
            module=module, attribute=_dotted(node.func), arguments=arguments, keywords=keywords
        )
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        what = f'expected an attribute or a call with literal arguments behind ":", got {quoted(expression)}'
        raise ValueError(what) from None


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError


def _text(value: str | dict[str, object]) -> str:
    """Refuse a table, which pydantic would take for the fields of a value."""
    if isinstance(value, dict):
        raise ValueError(f"expected text in quotes, got {quoted(value)}")  # noqa: TRY004 - told like every other value
    return value


def _parse_address(value: object) -> object:
    return Address.parse(_text(value)) if isinstance(value, str | dict) else value


def _parse_import(value: object) -> object:
    return ImportString.parse(_text(value)) if isinstance(value, str | dict) else value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": f"^{_DURATION.pattern}$", "x-form": "text with a unit"},
            ],
            "examples": [30, "500ms", "5m"],
        }
    ),
]
"""Seconds; 0 means no limit wherever a limit is meant."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{_SIZE.pattern}$", "x-form": "text with a unit"},
            ],
            "examples": [65536, "64KiB", "1GiB"],
        }
    ),
]
"""Bytes; 0 means no limit wherever a limit is meant."""

Mode = Annotated[
    int,
    BeforeValidator(parse_mode),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{_MODE.pattern}$", "x-form": "octal mode", "examples": ["0660"]}
    ),
]
"""Permission bits."""

AddressText = Annotated[
    Address,
    BeforeValidator(_parse_address),
    WithJsonSchema({"type": "string", "x-form": "address", "examples": ["127.0.0.1:8000"]}),
]
ImportText = Annotated[
    ImportString,
    BeforeValidator(_parse_import),
    WithJsonSchema({"type": "string", "x-form": "import string", "examples": ["shop.wsgi:application"]}),
]


def _parse_networks(value: object) -> object:
    """Check addresses and networks; a text is a list with commas, as gunicorn has it."""
    texts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f'expected addresses and networks such as ["127.0.0.1", "10.0.0.0/8"], got {quoted(value)}'
        )
    for text in texts:
        _check_network(text)
    return tuple(texts)


def _check_network(text: str) -> None:
    if text == "*":
        return
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected an address, a network or "*": {error}') from None


Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_networks),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string", "x-form": "addresses and networks"}},
                {"type": "string", "x-form": "text with commas"},
            ]
        }
    ),
]
"""IP addresses and networks, or `*`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statsd:
    """Where metrics are sent: host and port for UDP, or the path of a Unix datagram socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


STATSD_PORT = 8125


def parse_statsd(text: str) -> Statsd:
    """Read `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `unix://PATH`.

    Raises:
        ValueError: it is none of these.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError("expected a path behind 'unix:'")
        return Statsd(path=path)
    match = _TCP.fullmatch(text)
    port = int(match["port"] or STATSD_PORT) if match is not None else 0
    if match is None or not (match["v6"] or match["name"]) or not 0 < port <= MAX_PORT:
        raise ValueError(f"expected HOST:PORT or unix:PATH, got {quoted(text)}")
    return Statsd(host=match["v6"] or match["name"], port=port)


def _parse_statsd(value: object) -> object:
    return parse_statsd(_text(value)) if isinstance(value, str | dict) else value


StatsdText = Annotated[
    Statsd,
    BeforeValidator(_parse_statsd),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8125"]}),
]
