"""Tables whose rows are checked by one test: all rows that fail are told, not only the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = TypeVar("Row")


def check_rows(rows: Iterable[tuple[str, Row]], check: Callable[[Row], None]) -> None:
    """Check each row, by its name.

    Raises:
        AssertionError: with the names of all rows that fail, and why.
    """
    failed: dict[str, Exception] = {}
    for name, row in rows:
        try:
            check(row)
        except (AssertionError, OSError, EOFError, ValueError, LookupError) as error:
            failed[name] = error
    told = "\n".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed.items())
    assert not failed, f"{len(failed)} rows fail:\n{told}"
