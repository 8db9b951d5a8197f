"""Who said a value: the layer and the place in it; and what environment and command line say, as text.

Pure values, made by `config.flags` and `config.layers`.
"""

from __future__ import annotations

from unicornd.dataclass import dataclass

LAYERS = ("environment default", "file", "drop-in", "environment", "command line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from: the layer, and the place in it (`unicornd.toml:12`, `--workers`)."""

    layer: str
    where: str

    @property
    def order(self) -> tuple[int, str, int]:
        """Sorts origins as they are read: by layer, by file, by line."""
        place, _, line = self.where.rpartition(":")
        is_line = line.isdecimal()
        return LAYERS.index(self.layer), place if is_line else self.where, int(line) if is_line else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value from the environment or the command line.

    Attributes:
        key: dotted.
        text: the value as text, which may be that of a TOML value; anything else is the value itself.
        where: name of the variable or flag.
        is_list: a further one is added to it, instead of taking its place.
        is_raw: it is text, even if it looks like a TOML value.
    """

    key: str
    text: object
    where: str
    is_list: bool = False
    is_raw: bool = False
