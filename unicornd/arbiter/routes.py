"""Requests to the control socket → answers, through `ControlPort`.

Run by the arbiter's loop, from `control.server`. Here a request becomes a wish, and what became of the wish becomes a
document; nothing is decided here and nothing waits. `[admin] bind` gets the read-only part of the same table.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.arbiter import view
from unicornd.arbiter.operations import Outcome
from unicornd.arbiter.requests import (
    Recycle,
    Refusal,
    Reload,
    Reopen,
    Scale,
    Stop,
    Upgrade,
    decide,
    only_pool,
    refused_as,
    rehearse,
)
from unicornd.arbiter.stacks import StacksOf
from unicornd.arbiter.state import Halt
from unicornd.control import protocol
from unicornd.control.documents import BadRequestError, parse_body, parse_number, refuse, reply_with
from unicornd.control.endpoints import HTML, JSON_LINES, METRICS, READ_ONLY, Endpoint, NoMatch, find_endpoint
from unicornd.control.exchange import LongPoll, Reply, Stream
from unicornd.control.page import status_page
from unicornd.dataclass import dataclass
from unicornd.errors import CtlExit
from unicornd.units import Monotonic, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from unicornd.arbiter.operations import Operation
    from unicornd.arbiter.requests import ControlPort, Wish
    from unicornd.control.exchange import Answer, Request

MAX_WAIT = 60.0
"""Seconds that a long poll may take; a client asks again."""

ANSWER_SECONDS = 2.0
"""After so long an operation is shown as it is, although it is not known yet whether it may happen: somebody looks on."""
PREVIEW_SECONDS = 20.0
"""How long a dry run may take: clients wait 25 s."""
LATE = Refusal(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    exit_code=CtlExit.UNREACHABLE,
    message=f"what would happen is not known after {PREVIEW_SECONDS:g} s",
    hint="something that has to be read or run for it may hang: a file system, a Python or a logging configuration",
)

MAX_STREAM_ENTRIES = 200
"""Events sent at once: a client that comes back after long gets them in pieces, each after the one before is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request on its way to an answer."""

    port: ControlPort
    request: Request
    variables: Mapping[str, str]


def make_route(port: ControlPort, *, among: Collection[Endpoint]) -> Callable[[Request], Answer]:
    """Return what answers requests with the endpoints `among`."""

    def route(request: Request) -> Answer:
        match find_endpoint(request.method, request.path, among=among):
            case NoMatch(allowed=()):
                return refuse(HTTPStatus.NOT_FOUND, f"there is nothing at {request.path}")
            case NoMatch(allowed=allowed):
                reply = refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} knows {', '.join(allowed)}")
                return Reply(status=reply.status, body=reply.body, headers={"Allow": ", ".join(allowed)})
            case match:
                call = _Call(port=port, request=request, variables=match.variables)
        try:
            _check_parameters(request, match.endpoint)
            return ANSWERS[match.endpoint](call)
        except BadRequestError as error:
            return refuse(HTTPStatus.BAD_REQUEST, error.message, exit_code=CtlExit.USAGE)

    return route


def _check_parameters(request: Request, endpoint: Endpoint) -> None:
    """Refuse parameters that do not exist: a `dryrun=1` that is passed over would do it in earnest.

    Not of probes and pages, which anybody's tool may ask for.

    Raises:
        BadRequestError: there is one.
    """
    known = [parameter.name for parameter in endpoint.value.parameters]
    unknown = [name for name in request.query if name not in known]
    if unknown and endpoint not in READ_ONLY:
        there = f"; there are {', '.join(known)}" if known else "; there are none here"
        raise BadRequestError(f"there is no parameter {', '.join(unknown)}{there}")


# Reports.


def _status(call: _Call) -> Answer:
    port = call.port
    return reply_with(
        view.status(port.state, port.facts(), pool=only_pool(port.state), running=port.operations.running)
    )


def _workers(call: _Call) -> Answer:
    return reply_with(protocol.Workers(workers=view.workers(call.port.state, call.port.facts())))


def _config(call: _Call) -> Answer:
    return reply_with(call.port.config())


def _metrics(call: _Call) -> Answer:
    return Reply(status=HTTPStatus.OK, body=call.port.metrics(), content_type=METRICS)


def _page(call: _Call) -> Answer:
    port = call.port
    page = status_page(
        view.status(port.state, port.facts(), pool=only_pool(port.state), running=port.operations.running)
    )
    headers = {"Refresh": "5", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Reply(status=HTTPStatus.OK, body=page.encode(), content_type=HTML, headers=headers)


def _health(_call: _Call) -> Answer:
    return _probe(protocol.Health(ok=True, reason="the arbiter answers"))


def _readiness(call: _Call) -> Answer:
    return _probe(view.readiness(call.port.state, pool=only_pool(call.port.state)))


def _startup(call: _Call) -> Answer:
    pool = only_pool(call.port.state)
    has_served = pool.name in call.port.state.served
    reason = "the fleet has been ready" if has_served else "no worker has been ready yet"
    return _probe(protocol.Health(ok=has_served, reason=reason))


def _probe(health: protocol.Health) -> Reply:
    return reply_with(health, status=HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE)


def _events(call: _Call) -> Answer:
    journal = call.port.journal
    seen = parse_number("since", call.request, default=journal.last)
    if not parse_number("follow", call.request, default=1):
        lines = view.event_lines(journal.since(int(seen)))
        return Reply(status=HTTPStatus.OK, body=lines, content_type=JSON_LINES)

    def pull() -> bytes:
        nonlocal seen
        entries = journal.since(int(seen))[:MAX_STREAM_ENTRIES]
        seen = entries[-1].seq if entries else seen
        return view.event_lines(entries)

    return Stream(content_type=JSON_LINES, pull=pull)


# Operations.


def _operation(call: _Call) -> Answer:
    port, operation_id = call.port, call.variables["id"]
    after = int(parse_number("after", call.request, default=0))
    wait = min(parse_number("wait", call.request, default=0), MAX_WAIT)
    operation = port.operations.find(operation_id)
    if operation is None:
        return refuse(HTTPStatus.NOT_FOUND, f"there is no operation {operation_id}, or it is forgotten")
    if not wait or _has_news(operation, after=after):
        return _show(port, operation, after=after)

    def poll() -> Reply | None:
        current = port.operations.find(operation_id) or operation
        return _show(port, current, after=after) if _has_news(current, after=after) else None

    def expire() -> Reply:
        return _show(port, port.operations.find(operation_id) or operation, after=after)

    return LongPoll(poll=poll, until=Monotonic(port.now() + wait), expire=expire)


def _has_news(operation: Operation, *, after: int) -> bool:
    return operation.state is not Outcome.RUNNING or len(operation.steps) > after


def _show(
    port: ControlPort, operation: Operation, *, after: int = 0, status: HTTPStatus = HTTPStatus.OK
) -> Reply:
    document = view.operation(operation, port.state, facts=port.facts(is_brief=True), after=after)
    return reply_with(document, status=status)


def _reload(call: _Call) -> Answer:
    parse_body(protocol.NoParameters, call.request)
    return _grant(call, Reload())


def _scale(call: _Call) -> Answer:
    asked = parse_body(protocol.ScaleRequest, call.request)
    is_relative = isinstance(asked.count, str) and asked.count[0] in "+-"
    return _grant(call, Scale(count=int(asked.count), is_relative=is_relative, save=asked.save))


def _stop(call: _Call) -> Answer:
    asked = parse_body(protocol.StopRequest, call.request)
    return _grant(call, Stop(halt=Halt(asked.mode)))


def _reopen(call: _Call) -> Answer:
    parse_body(protocol.NoParameters, call.request)
    return _grant(call, Reopen())


def _upgrade(call: _Call) -> Answer:
    asked = parse_body(protocol.UpgradeRequest, call.request)
    return _grant(call, Upgrade(executable=asked.executable))


def _recycle(call: _Call) -> Answer:
    parse_body(protocol.NoParameters, call.request)
    return _grant(call, Recycle(slot=_slot(call)))


def _stacks(call: _Call) -> Answer:
    parse_body(protocol.NoParameters, call.request)
    slot = _slot(call)
    pid = call.port.ask_stacks(slot)
    return _refuse(pid) if isinstance(pid, Refusal) else StacksOf(pid, slot, port=call.port).wait()


def _postmortems(call: _Call) -> Answer:
    found = [view.postmortem(each) for each in call.port.postmortems()]
    return reply_with(protocol.Postmortems(postmortems=found))


def _slot(call: _Call) -> Slot:
    slot = call.variables["slot"]
    if not slot.isascii() or not slot.isdigit() or len(slot) > len("1024"):
        raise BadRequestError(f"{slot!r} is not the number of a worker's slot")
    return Slot(int(slot))


def _grant(call: _Call, wish: Wish) -> Answer:
    if parse_number("dry_run", call.request, default=0):
        return _rehearse(call.port, wish)
    result = call.port.submit(wish)
    return _refuse(result) if isinstance(result, Refusal) else _accept(call.port, result)


def _accept(port: ControlPort, accepted: Operation) -> Answer:
    """Show an operation when it is known whether it may happen, and after a while in any case."""

    def current() -> Operation:
        return port.operations.find(accepted.id) or accepted

    def show() -> Reply:
        refusal = refused_as(current())
        return _refuse(refusal) if refusal else _show(port, current(), status=HTTPStatus.ACCEPTED)

    if not current().asking:
        return show()
    until = Monotonic(port.now() + ANSWER_SECONDS)
    return LongPoll(poll=lambda: None if current().asking else show(), until=until, expire=show)


def _rehearse(port: ControlPort, wish: Wish) -> Answer:
    decision = decide(wish, state=port.state, running=port.operations.running, now=port.now())
    if isinstance(decision, Refusal):
        return _refuse(decision)
    if isinstance(wish, Reload):
        pool = only_pool(port.state)
        then = (
            f"boot a new generation, and let go of generation {pool.generation} as its workers become ready"
        )
        return _preview(port, decision.title, look=port.preview_reload, then=then)
    if isinstance(wish, Upgrade):
        then = "leave as soon as the new one serves"
        return _preview(port, decision.title, look=partial(port.preview_upgrade, wish), then=then)
    actions = rehearse(decision, state=port.state, now=port.now())
    return reply_with(protocol.Plan(title=decision.title, actions=list(actions)))


def _preview(
    port: ControlPort,
    title: str,
    *,
    look: Callable[[Callable[[Sequence[str] | Refusal], None]], None],
    then: str,
) -> Answer:
    """Have another process look what would happen; `then`: what follows from that."""
    found: list[Sequence[str] | Refusal] = []
    look(found.append)

    def show() -> Reply | None:
        match found:
            case [Refusal() as refusal]:
                return _refuse(refusal)
            case [[*changes]]:
                return reply_with(
                    protocol.Plan(title=title, actions=[*(changes or ("no setting changes",)), then])
                )
            case _:
                return None

    until = Monotonic(port.now() + PREVIEW_SECONDS)
    return show() or LongPoll(poll=show, until=until, expire=lambda: _refuse(LATE))


def _refuse(refusal: Refusal) -> Reply:
    failure = protocol.Failure(
        message=refusal.message,
        hint=refusal.hint,
        detail=refusal.detail,
        exit_code=refusal.exit_code,
        operation=refusal.operation,
    )
    return reply_with(protocol.Problem(error=failure), status=refusal.status)


ANSWERS: Mapping[Endpoint, Callable[[_Call], Answer]] = {
    Endpoint.STATUS: _status,
    Endpoint.WORKERS: _workers,
    Endpoint.CONFIG: _config,
    Endpoint.EVENTS: _events,
    Endpoint.OPERATION: _operation,
    Endpoint.RELOAD: _reload,
    Endpoint.SCALE: _scale,
    Endpoint.STOP: _stop,
    Endpoint.REOPEN: _reopen,
    Endpoint.UPGRADE: _upgrade,
    Endpoint.RECYCLE: _recycle,
    Endpoint.STACKS: _stacks,
    Endpoint.POSTMORTEMS: _postmortems,
    Endpoint.METRICS: _metrics,
    Endpoint.HEALTHZ: _health,
    Endpoint.READYZ: _readiness,
    Endpoint.STARTUPZ: _startup,
    Endpoint.PAGE: _page,
}
