"""[logging]: what is written down, where, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section

GUNICORN_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
Level = Literal["debug", "info", "warning", "error", "critical"]


class AccessSettings(Section):
    """[logging.access]: one line a request."""

    file: str | None = Field(
        default=None,
        description='Path, or "-" for standard output. Default: no access log.',
        json_schema_extra=ROLLING,
    )
    format: str = Field(
        default=GUNICORN_FORMAT, description="The line, with gunicorn's atoms.", json_schema_extra=ROLLING
    )


class LoggingSettings(Section):
    """[logging]: the error log."""

    level: Level = Field(
        default="info", description="The least important lines that are written.", json_schema_extra=ROLLING
    )
    error: str = Field(default="-", description='Path, or "-" for standard error.', json_schema_extra=ROLLING)
    format: Literal["console", "json"] = Field(
        default="console",
        description="Lines for people, or one JSON object a line.",
        json_schema_extra=ROLLING,
    )
    access: AccessSettings = Field(default_factory=AccessSettings, description="The access log.")
