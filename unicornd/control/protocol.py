"""The control language: the JSON that goes over the control socket.

Made by the arbiter (`arbiter.view`), described by `schemas/control.openapi.json` (generated from here). Every answer
carries `schema`: within one number fields are only added. Durations are seconds; points in time are ISO 8601, UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from unicornd.control.document import About, Document

SCHEMA = 1

Schema = Annotated[int, About("version of this document's shape; fields are only added within it")]
Seconds = Annotated[float, About(minimum=0)]
Time = Annotated[str, About("ISO 8601, UTC", format="date-time")]
Fact = str | int | float | bool | None
Forms = dict[str, tuple[Callable[[Any], bool], str]]
"""Of what is asked: name → whether a value may stand there, and what is expected, in words."""

COUNT = r"^[+-]?[0-9]{1,9}$"
PATH = r"^/"


# What is asked.


def _is_count(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(COUNT.strip("^$"), value, re.ASCII) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_mode(value: object) -> bool:
    return value in {"graceful", "quick"} if isinstance(value, str) else False


class ScaleRequest(Document):
    """How many workers are wanted: `8`, or `"+2"`, `"-1"` relative to the current size."""

    count: int | Annotated[str, About(pattern=COUNT)]
    save: Annotated[bool, About("write it to a drop-in, so that it outlives a restart")] = False

    FORMS: ClassVar[Forms] = {
        "count": (_is_count, 'a whole number, or a text such as "8", "+2", "-1"'),
        "save": (_is_bool, "true or false"),
    }


class StopRequest(Document):
    """How to stop: finish requests in flight (graceful), or not (quick)."""

    mode: Literal["graceful", "quick"] = "graceful"

    FORMS: ClassVar[Forms] = {"mode": (_is_mode, '"graceful" or "quick"')}


def _is_path(value: object) -> bool:
    return value is None or (isinstance(value, str) and re.match(PATH, value) is not None)


class UpgradeRequest(Document):
    """What to execute: an interpreter that has unicornd, or the program `unicornd`; null: what the fleet was started with.

    Only root and the arbiter's own user may name one.
    """

    executable: Annotated[str, About("absolute path, kept as it is said", pattern=PATH)] | None = None

    FORMS: ClassVar[Forms] = {"executable": (_is_path, "an absolute path, or null")}


class NoParameters(Document):
    """Nothing: an empty body, or `{}`."""

    FORMS: ClassVar[Forms] = {}


# What is answered.


class Failure(Document):
    """What went wrong: `message` says what and where, `hint` what to do, `detail` has further lines."""

    message: str
    hint: str = ""
    detail: str = ""
    exit_code: Annotated[int, About("the exit code that unicornctl ends with")]
    operation: Annotated[str, About("id of the operation that is in the way")] = ""


class Problem(Document):
    """The answer to a request that was refused; nothing was changed."""

    schema_: Schema = SCHEMA
    error: Failure


class ArbiterFacts(Document):
    """The supervising process."""

    pid: int
    version: str
    python: Annotated[str, About("version of its interpreter")] = ""
    prefix: Annotated[str, About("folder of its environment (sys.prefix)")] = ""
    started_at: Time
    uptime: Seconds
    memory: Annotated[int | None, About("bytes; null where the kernel does not tell")]


class Listener(Document):
    """A listening socket."""

    address: str
    queue: Annotated[int | None, About("connections that wait to be accepted; null if unknown")]
    backlog: int | None


class Wanted(Document):
    """What the fleet should be."""

    count: int
    file_count: Annotated[int, About("what the configuration says; `scale` makes the two differ")]
    kind: str
    threads: int


class InFlight(Document):
    """A request inside the application."""

    request: str
    age: Seconds


class Latency(Document):
    """Durations inside the application, estimated from the running workers' histograms; null without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


class Worker(Document):
    """One worker process."""

    slot: int
    pid: int
    phase: Literal["booting", "ready", "draining", "dying"]
    is_retiring: Annotated[bool, About("it serves until its replacement is ready")]
    generation: int
    age: Seconds
    phase_age: Seconds
    heartbeat_age: Seconds
    requests: int
    errors: Annotated[int, About("answers with status 500 and above")]
    connections: int
    waiting: Annotated[int, About("complete requests that no thread runs yet")] = 0
    busy: Annotated[int, About("threads inside the application")]
    threads: int
    memory: Annotated[int | None, About("bytes; null where the kernel does not tell")]
    now: list[InFlight]
    failure: Annotated[str, About("what it said when it failed to boot")] = ""


class Mold(Document):
    """The process that has loaded the application and forks the workers (`app.preload`)."""

    pid: int
    phase: Literal["booting", "ready", "draining", "dying"]
    generation: int
    age: Seconds
    memory: Annotated[int | None, About("bytes; null where the kernel does not tell")]


class Rollout(Document):
    """A new generation on its way to replace the old one."""

    generation: int
    previous: int
    ready: int
    failures: int
    age: Seconds
    reason: str


class Totals(Document):
    """Counters since the arbiter started; workers that are gone are included."""

    requests: int
    errors: int
    restarts: Annotated[int, About("workers that died, or had to be ended, after they had been ready")]
    timeouts: Annotated[int, About("requests that ran into timeouts.request")] = 0
    lost: Annotated[int, About("requests whose worker died with them, without an answer")] = 0
    disconnects: Annotated[int, About("clients that left before the end of their request or its answer")] = 0
    boot_failures: Annotated[int, About("workers and molds that did not become ready")] = 0


class LastReload(Document):
    """How the last reload ended, whatever else has happened since then."""

    at: Time
    age: Seconds
    operation: Annotated[str, About("its id")]
    state: Literal["done", "failed", "rolled_back", "refused"]
    reason: Annotated[str, About("how it ended, and why, in a line")]
    hint: str = ""


class Event(Document):
    """One entry of the journal."""

    seq: int
    at: Time
    kind: str
    text: str
    facts: dict[str, Fact] = {}  # noqa: RUF012 - nothing changes it


class Step(Document):
    """One step of an operation."""

    at: Annotated[Seconds, About("seconds after the start of the operation")]
    text: str


class Operation(Document):
    """Something that the fleet was asked to do."""

    schema_: Schema = SCHEMA
    id: str
    kind: Literal["reload", "scale", "stop", "reopen", "recycle", "upgrade"]
    title: str
    state: Literal["running", "done", "failed", "rolled_back"]
    seconds: Annotated[Seconds, About("how long it has been running, or ran")]
    steps: Annotated[list[Step], About("the steps after `after`")]
    step_count: Annotated[int, About("how many there are altogether; the `after` of the next question")]
    waiting_for: Annotated[list[str], About("what it waits for, while it runs")]
    result: str
    detail: str
    hint: Annotated[str, About("what to do about a failure, or empty")]
    exit_code: Annotated[int, About("the exit code that unicornctl ends with, once it is over")]


class Plan(Document):
    """What a request would do (`?dry_run=1`); nothing was changed."""

    schema_: Schema = SCHEMA
    title: str
    actions: list[str]


class Status(Document):
    """The fleet on one page."""

    schema_: Schema = SCHEMA
    state: Literal[
        "starting",
        "ready",
        "saturated",
        "degraded",
        "crash-looping",
        "reloading",
        "scaling",
        "stopping",
        "empty",
    ]
    reason: Annotated[str, About("why the state is not `ready`, or what threatens it, or empty")]
    since: Annotated[Seconds, About("how long it has been serving; 0 before it first did")]
    instance: str
    target: str
    config_file: str | None
    control: Annotated[str | None, About("address of the control socket; `@name` if it is abstract")]
    gil: Annotated[
        Literal["on", "off"],
        About(
            "`off`: the workers' threads run Python at the same time (a free-threaded build, no extension against it)"
        ),
    ] = "on"
    generation: int
    arbiter: ArbiterFacts
    wanted: Wanted
    rollout: Rollout | None
    operation: Operation | None
    listeners: list[Listener]
    workers: list[Worker]
    mold: Annotated[Mold | None, About("of the generation that is wanted, or null")] = None
    totals: Totals
    latency: Latency
    last_reload: Annotated[LastReload | None, About("null before the first has ended")] = None
    events: list[Event]


class Stacks(Document):
    """What the threads of a worker are doing."""

    schema_: Schema = SCHEMA
    slot: int
    pid: int
    now: list[InFlight]
    stacks: Annotated[str, About("of all threads, the innermost call first")]


class Postmortem(Document):
    """A worker that has died, or had to be ended."""

    at: Time
    name: Annotated[str, About("worker 3, or the mold")]
    slot: int
    pid: int
    generation: int
    code: Annotated[int | None, About("exit code, or null")]
    signal: Annotated[int | None, About("number of the signal that killed it, or null")]
    told: Annotated[str, About("what the arbiter had told it to: abort, expire, kill …, or empty")]
    lived: Seconds
    requests: int
    peak_memory: Annotated[int, About("bytes, the most it ever had")]
    was_oom: Annotated[bool, About("the kernel killed for lack of memory")]
    lost: Annotated[list[InFlight], About("the requests that it had, whose clients got no answer")]
    failure: Annotated[str, About("what it said when it could not boot")]
    stacks: Annotated[
        str, About("where it was, if it was asked before it was killed: what of that is the application's")
    ] = ""
    timed_out: Annotated[
        list[InFlight], About("the requests that ran into timeouts.request: their clients got 504")
    ] = []  # noqa: RUF012 - a document's default
    count: Annotated[int, About("how often this failure has happened; it stands here once")] = 1
    first_at: Annotated[str, About("when it happened first", format="date-time")] = ""


class Postmortems(Document):
    """The last ones, newest first."""

    schema_: Schema = SCHEMA
    postmortems: list[Postmortem]


class Workers(Document):
    """The workers alone."""

    schema_: Schema = SCHEMA
    workers: list[Worker]


class ConfigValue(Document):
    """One setting in effect, and who said so."""

    key: str
    value: object
    layer: Annotated[str, About("defaults, file, drop-in, environment or command line")]
    where: Annotated[str, About("`unicornd.toml:12`, a variable or a flag; empty for a default")]


class ConfigReport(Document):
    """The configuration that the running generation was started with; secrets are `***`."""

    schema_: Schema = SCHEMA
    config_file: str | None
    values: list[ConfigValue]


class Health(Document):
    """The answer of a probe; the status code says the same."""

    schema_: Schema = SCHEMA
    ok: bool
    reason: str
