"""Amounts that the operator writes as text: durations, sizes, permission bits.

Pure: text ↔ value. Every parser raises ValueError with a sentence that says what was expected; what a formatter writes
is text that parses to the same value.
"""

from __future__ import annotations

import re
from math import inf

from unicornd.config.values import quoted

MAX_SECONDS = 1000 * 365 * 86400
"""A duration beyond is a slip, and beyond what clocks and kernels count."""
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""In milliseconds."""
_PLAIN_DIGITS = 15
"""Of a number that a float counts exactly."""
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
SIZE = re.compile(r"([0-9]+)\s?(B|KiB|MiB|GiB|KB|MB|GB|)")
MODE = re.compile(r"(?:0o?)?([0-7]{3,4})")


def parse_duration(value: object) -> float:
    """Read seconds: a number, or text with a unit (`500ms`, `30s`, `5m`, `1h`, `1d`).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and (match := DURATION.fullmatch(value)):
        seconds = _seconds(match[1], _UNITS[match[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < MAX_SECONDS else inf
    else:
        raise ValueError(f'expected a duration such as 30 or "30s", got {quoted(value)}')
    if not 0 <= seconds < MAX_SECONDS:
        raise ValueError(f"expected a duration of 0 or more, and less than 1000 years, got {quoted(value)}")
    return seconds


def _seconds(count: str, unit: int) -> float:
    """Return how long so many units are, exactly: what is written is read back as it was."""
    if count.isdecimal() and len(count) <= _PLAIN_DIGITS:
        return int(count) * unit / 1000
    from decimal import Decimal  # noqa: PLC0415 - few write so, and it takes longer to import than all else here

    return float(Decimal(count) * unit / 1000)


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that divides them; the text is read back as the same number."""
    if not float(seconds).is_integer():
        from decimal import Decimal  # noqa: PLC0415 - likewise

        return f"{(Decimal(repr(seconds)) * 1000).normalize():f}ms"
    whole = int(seconds)
    fitting = (unit for unit in ("d", "h", "m") if whole and not whole * 1000 % _UNITS[unit])
    unit = next(fitting, "s")
    return f"{whole * 1000 // _UNITS[unit]}{unit}"


def parse_size(value: object) -> int:
    """Read bytes: a whole number, or text with a unit (`64KiB`, `1GiB`, `10MB`).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := SIZE.fullmatch(value)):
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
    if isinstance(value, str) and (match := MODE.fullmatch(value)):
        return int(match[1], 8)
    raise ValueError(f'expected an octal mode in quotes, such as "0600", got {quoted(value)}')


def format_mode(mode: int) -> str:
    """Write permission bits as octal text."""
    return f"{mode:04o}"
