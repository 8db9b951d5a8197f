"""[timeouts]: how long to wait for what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from unicornd.config.sections.section import LIVE, ROLLING, Section
from unicornd.config.texts import Duration


class TimeoutsSettings(Section):
    """How long to wait for what: seconds, or text with a unit ("30s", "5m"); 0 is no limit."""

    boot: Duration = Field(
        default=60.0,
        description="A worker that is not ready so long after its fork is killed, and counts as failed to boot; its stacks are logged.",
        json_schema_extra=LIVE,
    )
    request: Duration = Field(
        default=30.0,
        description="The longest time from a complete request to the first byte of its response. Then its client gets 504 and the "
        "stacks are logged; in `sync` and `threads` the worker is replaced, as its thread is stuck. A response that has begun may "
        "take as long as it likes: in `sync` and `threads` it is cut when no further part comes for so long (it holds a "
        "thread), in the other kinds never.",
        json_schema_extra=LIVE,
    )
    heartbeat: Duration = Field(
        default=30.0,
        description="A worker that serves no request and gives no sign of life for so long is taken to hang: it is ended (its stacks are "
        "logged) and replaced. gunicorn's `timeout` sets this and `request`.",
        json_schema_extra=LIVE,
    )
    keepalive: Duration = Field(
        default=2.0,
        description="How long an idle connection is kept open for a further request; 0: it is closed after each response.",
        json_schema_extra=ROLLING,
    )
    head: Duration = Field(
        default=10.0,
        description="The longest time for a request's head, from the connection on, or from its first byte on a kept connection. Then the "
        "client gets 408, or is cut off if it has sent nothing.",
        json_schema_extra=ROLLING,
    )
    body: Duration = Field(
        default=30.0,
        description="The longest wait for the next piece of a request's body. Then the client gets 408.",
        json_schema_extra=ROLLING,
    )
    write: Duration = Field(
        default=60.0,
        description="The longest wait for a client to read the next piece of its response. Then the connection is closed.",
        json_schema_extra=ROLLING,
    )
    drain: Duration = Field(
        default=0.0,
        description="How long a fleet that is told to stop goes on accepting: requests are answered with Connection: close and "
        "/readyz says 503, so that load balancers take notice before the listeners close.",
        json_schema_extra=LIVE,
    )
    graceful: Duration = Field(
        default=30.0,
        description="How long a worker that is told to leave (stop, reload, recycle) may finish its requests and its background threads. "
        "Then it is killed. gunicorn's `graceful_timeout`.",
        json_schema_extra=LIVE,
    )
    kill: Annotated[Duration, Field(ge=0.1)] = Field(
        default=5.0,
        description="How long a worker that is told to end at once (quick stop, hung, timed out) may take. Then it is killed.",
        json_schema_extra=LIVE,
    )
