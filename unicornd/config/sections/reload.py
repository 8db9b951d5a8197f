"""[reload]: how a new generation replaces the old one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unicornd.config.sections.section import LIVE, Section


class ReloadSettings(Section):
    """How a new generation replaces the old one."""

    surge: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        default=1,
        description='How many workers more than workers.count may run meanwhile; 0: an old one leaves first; "all": as '
        "many as there are.",
        json_schema_extra=LIVE,
    )
    max_failures: int = Field(
        default=3,
        ge=1,
        description="After so many workers that failed to boot, the old generation stays.",
        json_schema_extra=LIVE,
    )
