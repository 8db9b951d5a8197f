"""Why a line of a head is refused: the slow path, taken only when the grammar has said no.

It looks for the fault that a person would see first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unicornd.http.errors import bad_request
from unicornd.http.grammar import TOKEN

if TYPE_CHECKING:
    from unicornd.http.errors import Refusal

_TARGET = re.compile(r"[\x21-\x7e]++")
REQUEST_LINE_PARTS = 3


def fault_of_request_line(line: str) -> Refusal:
    """Return why `line`, which `grammar.REQUEST_LINE` does not match, is refused."""
    if "\r" in line or "\n" in line:
        return _bare()
    parts = line.split(" ")
    if len(parts) != REQUEST_LINE_PARTS:
        return bad_request("the request line has not three parts", "RFC 9112 section 3")
    method, target, _version = parts
    if not TOKEN.fullmatch(method):
        return bad_request("the method is not a token", "RFC 9110 section 9.1")
    if not _TARGET.fullmatch(target):
        return bad_request("the request target has a forbidden character", "RFC 9112 section 3.2")
    return bad_request("the version is not HTTP/digit.digit", "RFC 9112 section 2.3")


def fault_of_field(line: str) -> Refusal:
    """Return why `line`, which `grammar.FIELD_LINE` does not match, is refused."""
    if "\r" in line or "\n" in line:
        return _bare()
    if line[:1] in {" ", "\t"}:
        return bad_request("a header field is folded", "RFC 9112 section 5.2")
    name, colon, _value = line.partition(":")
    if not colon:
        return bad_request("a header field has no colon", "RFC 9112 section 5")
    if TOKEN.fullmatch(name):
        return bad_request("a header field's value has a control character", "RFC 9110 section 5.5")
    if TOKEN.fullmatch(name.rstrip("\t ")):
        return bad_request("there is white space before a colon", "RFC 9112 section 5.1")
    return bad_request("a header field's name is not a token", "RFC 9110 section 5.1")


def _bare() -> Refusal:
    return bad_request("a line ends with a bare CR or LF", "RFC 9112 section 2.2")
