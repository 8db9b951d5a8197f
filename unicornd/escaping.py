"""Text of others (workers, clients, files, the kernel) → text that can end no line and drive no terminal.

Pure, standard library only; used by every process. Escaped are the control characters C0, DEL and C1 (ECMA-48 has each
of C1 begin or be a command, also when it comes as UTF-8), U+2028 and U+2029, which end lines for some readers, the
bidirectional overrides and isolates (Unicode TR36), which show text in another order than it has, and lone surrogates,
which cannot be encoded. Backslashes stay as they are, so what is escaped may be escaped again and does not change.
"""

from __future__ import annotations

import re

_BEYOND_ASCII = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
CONTROLS = rf"\x00-\x1f{_BEYOND_ASCII}"
"""The inside of a character class of `re`."""

_IN_A_LINE = re.compile(f"[{CONTROLS}]")
_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_BEYOND_ASCII}]")
_IN_JSON = re.compile(f"[{_BEYOND_ASCII}]")

INDENT = "  "
"""Stands in front of each further line of a record."""


def one_line(text: str) -> str:
    r"""Return `text` with `\xNN` or `\uNNNN` in the place of each control character: line feeds and tabs, too."""
    return text if text.isprintable() else _IN_A_LINE.sub(_code, text)


def lines(text: str) -> str:
    r"""Return `text` with its line feeds and tabs, and all other control characters escaped; `\r\n` is a line feed."""
    return text if text.isprintable() else _IN_LINES.sub(_code, text.replace("\r\n", "\n"))


def record(text: str) -> str:
    """Return `text` as one record of a log: its first line, and each further line behind an indent."""
    return text if text.isprintable() else lines(text).rstrip("\n").replace("\n", f"\n{INDENT}")


def json_text(text: str) -> str:
    """Return JSON (RFC 8259) with those control characters escaped that JSON allows inside of strings as they are."""
    if text.isascii() and "\x7f" not in text:  # once a request, where the access log is JSON
        return text
    return _IN_JSON.sub(_json_code, text)


def shortened(text: str, limit: int) -> str:
    """Return `text`, cut at the end if it has more characters than `limit`."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"  # noqa: PLR2004 - the last of two digits


def _json_code(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
