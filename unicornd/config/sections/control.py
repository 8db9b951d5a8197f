"""[control]: who may give orders, and where."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.section import RESTART, Section
from unicornd.config.texts import Mode


class ControlSettings(Section):
    """The control socket, on which unicornctl talks to the arbiter."""

    enabled: bool = Field(
        default=True, description="Whether there is a control socket.", json_schema_extra=RESTART
    )
    socket: str | None = Field(
        default=None,
        description='Path, or "@name" for an abstract socket. Default: in $RUNTIME_DIRECTORY, '
        "$XDG_RUNTIME_DIR/unicornd/ or /run/unicornd/, else abstract.",
        json_schema_extra=RESTART,
    )
    mode: Mode = Field(default=0o600, description="Permission bits of the socket.", json_schema_extra=RESTART)
    allow_users: tuple[str, ...] = Field(
        default=(),
        description="Users who may look and change (as good as root for what is served: stop, upgrade, scale), "
        "beside root and the arbiter's own.",
        json_schema_extra=RESTART,
    )
    allow_groups: tuple[str, ...] = Field(
        default=(), description="Groups whose members may look and change.", json_schema_extra=RESTART
    )
    view_users: tuple[str, ...] = Field(
        default=(),
        description="Users who may only look: status, events, metrics, settings in effect without secrets. "
        "A change is refused.",
        json_schema_extra=RESTART,
    )
    view_groups: tuple[str, ...] = Field(
        default=(), description="Groups whose members may only look.", json_schema_extra=RESTART
    )
