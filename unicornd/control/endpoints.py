"""What can be asked at the control socket: the one table that routing and the OpenAPI document are made from.

Read by the arbiter's loop. A member of `Endpoint` is a method and a path; `arbiter.routes` has an answer for each.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.control import protocol
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unicornd.control.document import Document

JSON = "application/json"
JSON_LINES = "application/jsonl"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter."""

    name: str
    about: str
    type: str


DRY_RUN = Parameter(name="dry_run", about="1: say what would be done, and do nothing", type="integer")
SINCE = Parameter(
    name="since", about="number of the last event already seen; without it, only new ones", type="integer"
)
FOLLOW = Parameter(
    name="follow", about="0: end after the events there are; 1 (default): go on", type="integer"
)
WAIT = Parameter(
    name="wait", about="seconds to wait at most (up to 60) until there is something new to say", type="number"
)
AFTER = Parameter(name="after", about="number of steps already seen", type="integer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An endpoint, as documented and routed."""

    method: str
    path: str
    summary: str
    answer: type[Document] | None
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = JSON
    body: type[Document] | None = None
    parameters: tuple[Parameter, ...] = ()


class Endpoint(Enum):
    """All endpoints."""

    STATUS = Description(
        method="GET", path="/v1/status", summary="the fleet on one page", answer=protocol.Status
    )
    WORKERS = Description(
        method="GET", path="/v1/workers", summary="the workers alone", answer=protocol.Workers
    )
    CONFIG = Description(
        method="GET",
        path="/v1/config",
        summary="the settings in effect and where each comes from; secrets are ***",
        answer=protocol.ConfigReport,
    )
    EVENTS = Description(
        method="GET",
        path="/v1/events",
        summary="what happens, one JSON object a line; stays open",
        answer=protocol.Event,
        content_type=JSON_LINES,
        parameters=(SINCE, FOLLOW),
    )
    OPERATION = Description(
        method="GET",
        path="/v1/operations/{id}",
        summary="how far an operation is; with wait, answers when there is news",
        answer=protocol.Operation,
        parameters=(WAIT, AFTER),
    )
    RELOAD = Description(
        method="POST",
        path="/v1/reload",
        summary="boot a new generation beside the old and replace it once it is ready",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.NoParameters,
        parameters=(DRY_RUN,),
    )
    SCALE = Description(
        method="POST",
        path="/v1/scale",
        summary="change the number of workers",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.ScaleRequest,
        parameters=(DRY_RUN,),
    )
    STOP = Description(
        method="POST",
        path="/v1/stop",
        summary="end everything; allowed while another operation runs",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.StopRequest,
        parameters=(DRY_RUN,),
    )
    REOPEN = Description(
        method="POST",
        path="/v1/reopen",
        summary="open the log files anew",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.NoParameters,
        parameters=(DRY_RUN,),
    )
    UPGRADE = Description(
        method="POST",
        path="/v1/upgrade",
        summary="execute unicornd anew beside this one, and leave to it once it serves",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.UpgradeRequest,
        parameters=(DRY_RUN,),
    )
    RECYCLE = Description(
        method="POST",
        path="/v1/workers/{slot}/recycle",
        summary="replace one worker; it serves until its replacement is ready",
        answer=protocol.Operation,
        status=HTTPStatus.ACCEPTED,
        body=protocol.NoParameters,
        parameters=(DRY_RUN,),
    )
    STACKS = Description(
        method="POST",
        path="/v1/workers/{slot}/stacks",
        summary="what the threads of a worker are doing",
        answer=protocol.Stacks,
        body=protocol.NoParameters,
    )
    POSTMORTEMS = Description(
        method="GET",
        path="/v1/postmortems",
        summary="the workers that have died, or had to be ended, newest first",
        answer=protocol.Postmortems,
    )
    METRICS = Description(
        method="GET", path="/metrics", summary="Prometheus text", answer=None, content_type=METRICS
    )
    HEALTHZ = Description(
        method="GET", path="/healthz", summary="200: the supervisor works", answer=protocol.Health
    )
    READYZ = Description(
        method="GET",
        path="/readyz",
        summary="200: requests are served; 503: not (yet, or any more)",
        answer=protocol.Health,
    )
    STARTUPZ = Description(
        method="GET",
        path="/startupz",
        summary="200: the fleet has been ready once",
        answer=protocol.Health,
    )
    PAGE = Description(
        method="GET", path="/", summary="a status page for a browser", answer=None, content_type=HTML
    )


READ_ONLY = frozenset({Endpoint.METRICS, Endpoint.HEALTHZ, Endpoint.READYZ, Endpoint.STARTUPZ, Endpoint.PAGE})
"""What `[admin] bind` offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An endpoint and the values of its path's `{variables}`."""

    endpoint: Endpoint
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMatch:
    """Nothing answers: `allowed` has the methods that the path knows (405), or is empty (404)."""

    allowed: tuple[str, ...]


def find_endpoint(method: str, path: str, *, among: Iterable[Endpoint]) -> Match | NoMatch:
    """Find the endpoint for a request; HEAD is answered where GET is."""
    allowed: set[str] = set()
    for endpoint in among:
        variables = _match_path(endpoint.value.path, path)
        if variables is None:
            continue
        if endpoint.value.method == ("GET" if method == "HEAD" else method):
            return Match(endpoint=endpoint, variables=variables)
        allowed |= (
            {endpoint.value.method, "HEAD"} if endpoint.value.method == "GET" else {endpoint.value.method}
        )
    return NoMatch(allowed=tuple(sorted(allowed)))


def _match_path(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    variables: dict[str, str] = {}
    for want, have in zip(wanted, given, strict=True):
        if want.startswith("{") and have:
            variables[want.strip("{}")] = have
        elif want != have:
            return None
    return variables
