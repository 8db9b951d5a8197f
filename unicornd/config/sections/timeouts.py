"""[timeouts]: how long to wait for what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from unicornd.config.sections.section import LIVE, ROLLING, Section
from unicornd.config.texts import Duration


class TimeoutsSettings(Section):
    """How long to wait for what: seconds, or text with a unit ("30s", "5m"); 0 is no limit."""

    boot: Duration = Field(
        default=60.0, description="From the fork of a worker until it is ready.", json_schema_extra=LIVE
    )
    request: Duration = Field(
        default=30.0,
        description="Seconds from a complete request to the beginning of its response, or else its client gets 504, and the "
        "stacks are logged; `sync` and `threads` then end the worker, whose thread is stuck. A response that has begun may "
        "take as long as it likes: in `sync` and `threads` it is cut when no further part comes for so long (it holds a "
        "thread), in the other kinds never.",
        json_schema_extra=LIVE,
    )
    heartbeat: Duration = Field(
        default=30.0,
        description="An idle worker that gives no sign of life is ended.",
        json_schema_extra=LIVE,
    )
    keepalive: Duration = Field(
        default=2.0,
        description="An idle connection that is kept for a further request; 0: none is kept.",
        json_schema_extra=ROLLING,
    )
    head: Duration = Field(
        default=10.0,
        description="A request's head, from the connection or its first byte on.",
        json_schema_extra=ROLLING,
    )
    body: Duration = Field(
        default=30.0, description="The next piece of a request's body.", json_schema_extra=ROLLING
    )
    write: Duration = Field(
        default=60.0, description="A client taking the next piece of its response.", json_schema_extra=ROLLING
    )
    drain: Duration = Field(
        default=0.0,
        description="After a stop was asked for: everything is still accepted and answered (with Connection: close), "
        "while /readyz says no, so that whoever balances the load can take notice.",
        json_schema_extra=LIVE,
    )
    graceful: Duration = Field(
        default=30.0, description="Requests in flight when a worker is told to leave.", json_schema_extra=LIVE
    )
    kill: Annotated[Duration, Field(ge=0.1)] = Field(
        default=5.0,
        description="A worker that was told to end at once, before it is killed.",
        json_schema_extra=LIVE,
    )
