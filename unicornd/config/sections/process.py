"""[process]: what kind of process unicornd is."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.section import RESTART, Section
from unicornd.config.texts import Mode, PathText


class ProcessSettings(Section):
    """What kind of process unicornd is, and as whom its workers run."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of this instance, for unicornctl and the control socket. Default: from the file's folder.",
        json_schema_extra={
            **RESTART,
            "x-form": "up to 64 letters, digits, dots, hyphens and underscores, a letter or digit first",
        },
    )
    daemon: bool = Field(
        default=False,
        description="Go to the background; the command returns when the fleet is ready, or says why not.",
        json_schema_extra=RESTART,
    )
    pidfile: PathText | None = Field(
        default=None, description="File with the arbiter's process id.", json_schema_extra=RESTART
    )
    user: str | None = Field(
        default=None,
        description="User (name or number) that the workers run as, with HOME, USER and LOGNAME. Needs root.",
        json_schema_extra=RESTART,
    )
    group: str | None = Field(
        default=None,
        description="Group (name or number) of the workers. Default: the user's; a number without an entry has none.",
        json_schema_extra=RESTART,
    )
    initgroups: bool = Field(
        default=False,
        description="Give the workers the user's supplementary groups. Without it, process.group is their only one.",
        json_schema_extra=RESTART,
    )
    umask: Mode | None = Field(
        default=None,
        description="File mode creation mask of the workers, and of Unix sockets that are listened on.",
        json_schema_extra=RESTART,
    )
    inherit_stdio: bool = Field(
        default=False,
        description="A daemon keeps standard output and error, unless they are terminals.",
        json_schema_extra=RESTART,
    )
