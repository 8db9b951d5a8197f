"""[workers]: how many serve, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unicornd.config.resolved import MAX_WORKERS
from unicornd.config.sections.section import LIVE, ROLLING, Section
from unicornd.config.texts import Duration, KindText, Size

MAX_THREADS = 512


class WorkersSettings(Section):
    """How many workers serve, and how."""

    count: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | Literal["auto"] = Field(
        default=1,
        description='Number of worker processes; "auto" is 2 × usable processors + 1.',
        examples=[4, "auto"],
        json_schema_extra=LIVE,
    )
    kind: KindText | None = Field(
        default=None,
        description='"sync": one request at a time, a new connection for each. "threads": several, connections kept. '
        '"gevent", "gevent_pywsgi", "eventlet", "tornado": the same by an event loop. "asgi": ASGI applications. '
        '"module:Class": one of your own. Default: "asgi" for an ASGI application, else "threads" if threads is more '
        'than 1, else "sync".',
        examples=["threads", "asgi", "shop.serving:Kind"],
        json_schema_extra=ROLLING,
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=MAX_THREADS,
        description="Requests that a worker runs at a time (kind threads); threads of the event loop's default executor "
        "(kind asgi).",
        json_schema_extra=ROLLING,
    )
    connections: int = Field(
        default=1000,
        ge=1,
        description="Connections that a worker keeps open at a time.",
        json_schema_extra=ROLLING,
    )
    max_requests: int = Field(
        default=0,
        ge=0,
        description="Requests after which a worker is replaced; 0: never.",
        json_schema_extra=ROLLING,
    )
    max_requests_jitter: int = Field(
        default=0,
        ge=0,
        description="Up to so many requests more, chosen by each worker, so that they are not all replaced at once.",
        json_schema_extra=ROLLING,
    )

    max_age: Duration = Field(
        default=0.0,
        description="How long a worker lives before it is replaced, and up to a tenth more by its slot; 0: for ever.",
        json_schema_extra=LIVE,
    )
    max_memory: Size = Field(
        default=0,
        description="Bytes of memory of its own (USS) above which a worker is replaced; 0: never.",
        json_schema_extra=LIVE,
    )
