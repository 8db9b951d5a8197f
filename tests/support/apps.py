"""Applications that tests run in workers, and a body that tells how often it was closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

TEXT = [("Content-Type", "text/plain")]


class Body:
    """A body that counts how often it is closed; shared with the test by a file."""

    def __init__(self, parts: Iterable[bytes], closings: Path, *, error: Exception | None = None) -> None:
        self._parts = parts
        self._closings = closings
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        with self._closings.open("a") as file:
            file.write("x")
        if self._error is not None:
            raise self._error


def app_of(
    *parts: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None
) -> Callable[..., Iterable[bytes]]:
    """Return an application that answers every request alike."""

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, list(TEXT if headers is None else headers))
        return iter(parts)

    return app


def sized(size: int) -> list[tuple[str, str]]:
    return [*TEXT, ("Content-Length", str(size))]
