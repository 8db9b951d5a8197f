"""Why a head is refused: the slow path, taken only when the grammar has said no.

It looks for the first fault in reading order, so that the answer names what a person would see first.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.grammar import FIELD_LINE, TCHAR

if TYPE_CHECKING:
    from unicornd.http.limits import Limits

_BARE = re.compile(r"(?<!\r)\n|\r(?!\n)")
_METHOD = re.compile(rf"{TCHAR}++")
_TARGET = re.compile(r"[\x21-\x7e]++")
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
_BLANK_BEFORE_COLON = re.compile(rf"{TCHAR}++[ \t]++:")
REQUEST_LINE_PARTS = 3


def fault_of(text: str, limits: Limits) -> Refusal:
    """Return why `text`, which `grammar.HEAD` does not match, is refused."""
    if _BARE.search(text):
        return bad_request("a line ends with a bare CR or LF", "RFC 9112 section 2.2")
    request_line, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
    if len(request_line) > limits.request_line:
        return Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long", section="RFC 9112 section 3"
        )
    return _fault_of_request_line(request_line) or _fault_of_fields(lines)


def _fault_of_request_line(line: str) -> Refusal | None:
    parts = line.split(" ")
    if len(parts) != REQUEST_LINE_PARTS:
        return bad_request("the request line has not three parts", "RFC 9112 section 3")
    method, target, version = parts
    if not _METHOD.fullmatch(method):
        return bad_request("the method is not a token", "RFC 9110 section 9.1")
    if not _TARGET.fullmatch(target):
        return bad_request("the request target has a forbidden character", "RFC 9112 section 3.2")
    if not _VERSION.fullmatch(version):
        return bad_request("the version is not HTTP/digit.digit", "RFC 9112 section 2.3")
    return None


def _fault_of_fields(lines: list[str]) -> Refusal:
    for line in lines:
        if FIELD_LINE.fullmatch(line):
            continue
        if line[:1] in {" ", "\t"}:
            return bad_request("a header field is folded", "RFC 9112 section 5.2")
        if _BLANK_BEFORE_COLON.match(line):
            return bad_request("there is white space before a colon", "RFC 9112 section 5.1")
        name, colon, _value = line.partition(":")
        if not colon:
            return bad_request("a header field has no colon", "RFC 9112 section 5")
        if not _METHOD.fullmatch(name):
            return bad_request("a header field's name is not a token", "RFC 9110 section 5.1")
        return bad_request("a header field's value has a control character", "RFC 9110 section 5.5")
    return bad_request("the head is not one", "RFC 9112 section 2.1")
