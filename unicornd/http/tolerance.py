"""The operator's permission to accept what RFC 9112 forbids: heads made strict before they are read.

Pure. Each permission is a rewriting of the received head; what is left over is refused by the strict parser as always.
Workers whose operators permit nothing never come here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from unicornd.dataclass import dataclass
from unicornd.http.errors import bad_request
from unicornd.http.grammar import TOKEN
from unicornd.http.head import parse_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.http.limits import Limits
    from unicornd.http.messages import Head

    Parser = Callable[[bytes, Limits], Head]

_FOLD = re.compile(rb"\r\n[\t ]+(?=[^\t \r\n])")
_SPACED_NAME = re.compile(rb"(\r\n[^:\r\n\t ]+)[\t ]+:")
_NAME = re.compile(rb"(?<=\r\n)([^:\r\n]*_[^:\r\n]*)(?=:)")
_VERSION = re.compile(rb"HTTP/([0-9])\.[0-9]\Z")
_ANY_TOKEN = re.compile(TOKEN.pattern.encode())
STANDING_FOR = b"GET"
"""A method that the strict parser takes for one that it would not."""
KEPT = frozenset({b"CONNECT", b"OPTIONS"})
"""Methods that change how the target is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What is permitted, with gunicorn's names and meaning.

    Attributes:
        header_map: what becomes of names with an underscore.
        folding: permit_obsolete_folding; spaces: strip_header_spaces; methods: permit_unconventional_http_method;
            versions: permit_unconventional_http_version; casefold: casefold_http_method.
    """

    header_map: Literal["drop", "refuse", "dangerous"] = "drop"
    folding: bool = False
    spaces: bool = False
    methods: bool = False
    versions: bool = False
    casefold: bool = False


NONE = Tolerance()


def parser_for(tolerance: Tolerance) -> Parser:
    """Return what parses heads: the strict parser itself if nothing is permitted."""
    if tolerance == NONE:
        return parse_head

    def parse(block: bytes, limits: Limits) -> Head:
        line, end, fields = bytes(block).partition(b"\r\n")
        method, space, rest = line.partition(b" ")
        method, real = _tolerated_method(method, tolerance)
        rest = _tolerated_version(rest) if tolerance.versions else rest
        head = parse_head(method + space + rest + _tolerated_fields(end + fields, tolerance), limits)
        if real:
            head.method = real
        return head

    return parse


def _tolerated_method(method: bytes, tolerance: Tolerance) -> tuple[bytes, str]:
    """Return the method to parse with, and the real one if that is another."""
    if tolerance.casefold:
        method = method.upper()
    if not tolerance.methods or method in KEPT or _ANY_TOKEN.fullmatch(method) is None:
        return method, ""
    return STANDING_FOR, method.decode("latin-1")


def _tolerated_version(rest: bytes) -> bytes:
    """Return target and version with a version that we speak: an older one is answered as 1.0, a newer one as 1.1."""
    match = _VERSION.search(rest)
    if match is None or rest.endswith((b"HTTP/1.0", b"HTTP/1.1")):
        return rest
    return rest[: match.start()] + (b"HTTP/1.0" if match[1] == b"0" else b"HTTP/1.1")


def _tolerated_fields(fields: bytes, tolerance: Tolerance) -> bytes:
    if tolerance.folding and fields[2:3] not in {
        b" ",
        b"\t",
    }:  # what follows the request line cannot continue a field
        fields = _FOLD.sub(b" ", fields)
    if tolerance.spaces:
        fields = _SPACED_NAME.sub(rb"\1:", fields)
    if tolerance.header_map == "dangerous":
        return _NAME.sub(lambda match: match[0].replace(b"_", b"-"), fields)
    if tolerance.header_map == "refuse" and _NAME.search(fields) is not None:
        raise bad_request("a header field's name has an underscore", "RFC 3875 section 4.1.18")
    return fields
