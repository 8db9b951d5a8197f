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
    on_change: bool = Field(
        default=False,
        description="Reload when a file of the application changes; for development.",
        json_schema_extra=LIVE,
    )
    engine: Literal["auto", "poll", "inotify"] = Field(
        default="auto",
        description="How changes are noticed: by looking once a second, or by inotify (needs watchfiles).",
        json_schema_extra=LIVE,
    )
    extra_files: tuple[str, ...] = Field(
        default=(),
        description="Further files and patterns that on_change watches.",
        json_schema_extra=LIVE,
    )
    watch: tuple[str, ...] = Field(
        default=(),
        description="Files and symbolic links whose change starts a reload, such as /srv/shop/current.",
        json_schema_extra=LIVE,
    )
