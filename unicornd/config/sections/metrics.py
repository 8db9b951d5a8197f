"""[metrics]: numbers that are sent to somebody."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import StatsdText


class MetricsSettings(Section):
    """Numbers for statsd, with gunicorn's names. Prometheus asks for its own at /metrics, see [admin]."""

    statsd: StatsdText | None = Field(
        default=None,
        description='Where metrics are sent: "HOST:PORT" (UDP) or "unix:PATH" (datagrams). Default: nowhere.',
        examples=["127.0.0.1:8125"],
        json_schema_extra=ROLLING,
    )
    statsd_prefix: str = Field(
        default="", description="Put in front of every metric's name, with a dot.", json_schema_extra=ROLLING
    )
    dogstatsd_tags: str = Field(
        default="", description='Tags of every metric: "env:prod,region:eu".', json_schema_extra=ROLLING
    )
    backlog: bool = Field(
        default=False,
        description="Send the length of the accept queues (gunicorn.backlog).",
        json_schema_extra=ROLLING,
    )
