"""Values that the operator writes as text: addresses and import strings.

Pure: text ↔ value, and in every process of a fleet: as little as can be. Every parser raises ValueError with a sentence that says what was expected; `str()` of a value is
text that parses to the same value.
"""

from __future__ import annotations

import json
import re
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Literal

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    import ast

DEFAULT_PORT = 8000
MAX_PORT = 65535

_TCP = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>(?!-)[\w.-]*))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_NAMES = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
"""What most import strings have behind the colon; whatever else is a name, or a call, Python's parser says."""
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
    import ipaddress  # noqa: PLC0415 - most addresses are not asked for

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


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
    if _NAMES.fullmatch(expression) and not any(map(iskeyword, expression.split("."))):
        return ImportString(module=module, attribute=expression)
    import ast  # noqa: PLC0415 - the fleet gets what has been parsed

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
    import ast  # noqa: PLC0415 - as above

    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError


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
