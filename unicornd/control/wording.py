"""Numbers for people: durations, sizes, counts. Pure; the status page and `unicornctl` use the same words."""

from __future__ import annotations

MOST_LINES, FIRST_LINES = 40, 4
"""Of a traceback that is shown, and how many of them are from its beginning."""
_SECONDS = (1, "s")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), _SECONDS)
_SIZES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def duration(seconds: float) -> str:
    """Return a duration in at most two units: `12ms`, `4.2s`, `48s`, `12m 5s`, `3d 4h`."""
    if seconds < 0.9995:  # noqa: PLR2004 - what rounds to less than 1000ms
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:  # noqa: PLR2004 - below ten seconds, tenths matter
        return f"{seconds:.1f}s"
    whole = int(seconds)
    index = next(index for index, (length, _) in enumerate(_UNITS) if whole >= length)
    length, unit = _UNITS[index]
    count, rest = divmod(whole, length)
    if unit == "s" or not (smaller := rest // _UNITS[index + 1][0]):
        return f"{count}{unit}"
    return f"{count}{unit} {smaller}{_UNITS[index + 1][1]}"


def size(count: int) -> str:
    """Return a number of bytes: `512 B`, `4.2 MB`, `98 MB`."""
    for length, unit in _SIZES:
        if count >= length:
            value = count / length
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004 - two digits do
    return f"{count} B"


def plural(count: int, noun: str) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(part: int, whole: int) -> str:
    """Return a share: `<0.1%`, `0.4%`, `12%`; it rounds neither to nothing nor to everything."""
    share = 100 * part / max(whole, 1)
    if not part or share >= 100:  # noqa: PLR2004 - as it is
        return f"{share:.0f}%"
    if share < 0.1:  # noqa: PLR2004 - nobody compares those
        return "<0.1%"
    return f"{share:.1f}%" if share < 9.95 else f"{min(share, 99):.0f}%"  # noqa: PLR2004 - two digits do


def condensed(detail: str) -> str:
    """Return a traceback without its middle if it is long: of a framework's, hundreds of lines lead to the last ones.

    Other texts, such as a list of errors, stay whole.
    """
    found = detail.rstrip().splitlines()
    left_out = len(found) - MOST_LINES
    if left_out <= 1 or not found[0].startswith("Traceback"):
        return detail
    first, last = found[:FIRST_LINES], found[FIRST_LINES - MOST_LINES :]
    return "\n".join([*first, f"  … {left_out} lines more, which the log has", *last]) + "\n"
