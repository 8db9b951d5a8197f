"""[admin]: read-only answers for probes and for metrics."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.section import RESTART, Section
from unicornd.config.texts import AddressText


class AdminSettings(Section):
    """A read-only listener of the arbiter: /healthz, /readyz, /startupz, /metrics and a page for a browser."""

    bind: AddressText | None = Field(
        default=None,
        description="Address to listen on. Default: none.",
        examples=["127.0.0.1:9000"],
        json_schema_extra=RESTART,
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names that it answers to, beside localhost, the one in bind, and every numeric address; "
        'others get 421, so that no web page reads it by DNS rebinding. "*": any.',
        examples=[["metrics.internal"]],
        json_schema_extra=RESTART,
    )
