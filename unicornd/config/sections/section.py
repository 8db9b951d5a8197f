"""What the sections share: strictness, and what a changed value needs to take effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """One table of unicornd.toml: unknown keys are errors, types are taken literally, nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)

    @property
    def said(self) -> frozenset[str]:
        """The names whose values are no defaults of ours."""
        return frozenset(self.model_fields_set)
