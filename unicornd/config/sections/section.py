"""What the sections share: strictness, and what a changed value needs to take effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pydantic.config import JsonDict

LIVE: JsonDict = {"x-apply": "live"}
"""A reload applies it without replacing workers."""
ROLLING: JsonDict = {"x-apply": "rolling"}
"""A reload applies it to the new workers that it boots."""
RESTART: JsonDict = {"x-apply": "restart"}
"""Only a restart of unicornd applies it."""


class Section(BaseModel):
    """One table of unicornd.toml: unknown keys are errors, types are taken literally, nothing changes afterwards.

    Its validator is built when it is first asked: at a start that is for the tables of which something is said.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=False, defer_build=True
    )

    @classmethod
    def untouched(cls) -> Self:
        """Return the table of which nothing is said: our defaults, which need no validation."""
        return cls.model_construct()

    @classmethod
    def table(cls, name: str) -> type[Section] | None:
        """Return the model of a table in this one; None if there is no table of that name."""
        annotation = cls.model_fields[name].annotation if name in cls.model_fields else None
        return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None

    @property
    def said(self) -> frozenset[str]:
        """The names whose values are no defaults of ours."""
        return frozenset(self.model_fields_set)
