"""The control language: the JSON that goes over the control socket, as models.

Made by the arbiter (`arbiter.view`), described by `schemas/control.openapi.json` (generated from here). Every answer
carries `schema`: within one number fields are only added. Durations are seconds; points in time are ISO 8601, UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1

Schema = Annotated[
    int, Field(description="version of this document's shape; fields are only added within it")
]
Seconds = Annotated[float, Field(ge=0)]
Time = Annotated[str, Field(description="ISO 8601, UTC", json_schema_extra={"format": "date-time"})]
Fact = str | int | float | bool | None


class Document(BaseModel):
    """Frozen, strict, and closed: what is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# What is asked.


class ScaleRequest(Document):
    """How many workers are wanted: `8`, or `"+2"`, `"-1"` relative to the current size."""

    count: int | Annotated[str, Field(pattern=r"^[+-]?[0-9]{1,9}$")]
    save: bool = Field(default=False, description="write it to a drop-in, so that it outlives a restart")


class StopRequest(Document):
    """How to stop: finish requests in flight (graceful), or not (quick)."""

    mode: Literal["graceful", "quick"] = "graceful"


class NoParameters(Document):
    """Nothing: an empty body, or `{}`."""


# What is answered.


class Failure(Document):
    """What went wrong: `message` says what and where, `hint` what to do, `detail` has further lines."""

    message: str
    hint: str = ""
    detail: str = ""
    exit_code: int = Field(description="the exit code that unicornctl ends with")
    operation: str = Field(default="", description="id of the operation that is in the way")


class Problem(Document):
    """The answer to a request that was refused; nothing was changed."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    error: Failure


class ArbiterFacts(Document):
    """The supervising process."""

    pid: int
    version: str
    started_at: Time
    uptime: Seconds
    memory: int | None = Field(description="bytes; null where the kernel does not tell")


class Listener(Document):
    """A listening socket."""

    address: str
    queue: int | None = Field(description="connections that wait to be accepted; null if unknown")
    backlog: int | None


class Wanted(Document):
    """What the fleet should be."""

    count: int
    file_count: int = Field(description="what the configuration says; `scale` makes the two differ")
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
    is_retiring: bool = Field(description="it serves until its replacement is ready")
    generation: int
    age: Seconds
    phase_age: Seconds
    heartbeat_age: Seconds
    requests: int
    errors: int = Field(description="answers with status 500 and above")
    connections: int
    busy: int = Field(description="threads inside the application")
    threads: int
    memory: int | None = Field(description="bytes; null where the kernel does not tell")
    now: list[InFlight]
    failure: str = Field(default="", description="what it said when it failed to boot")


class Mold(Document):
    """The process that has loaded the application and forks the workers (`app.preload`)."""

    pid: int
    phase: Literal["booting", "ready", "draining", "dying"]
    generation: int
    age: Seconds
    memory: int | None = Field(description="bytes; null where the kernel does not tell")


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
    restarts: int = Field(description="workers that died without having been told to")


class Event(Document):
    """One entry of the journal."""

    seq: int
    at: Time
    kind: str
    text: str
    facts: dict[str, Fact] = {}


class Step(Document):
    """One step of an operation."""

    at: Seconds = Field(description="seconds after the start of the operation")
    text: str


class Operation(Document):
    """Something that the fleet was asked to do."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    id: str
    kind: Literal["reload", "scale", "stop", "reopen", "recycle", "upgrade"]
    title: str
    state: Literal["running", "done", "failed", "rolled_back"]
    seconds: Seconds = Field(description="how long it has been running, or ran")
    steps: list[Step] = Field(description="the steps after `after`")
    step_count: int = Field(description="how many there are altogether; the `after` of the next question")
    waiting_for: list[str] = Field(description="what it waits for, while it runs")
    result: str
    detail: str
    exit_code: int = Field(description="the exit code that unicornctl ends with, once it is over")


class Plan(Document):
    """What a request would do (`?dry_run=1`); nothing was changed."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    title: str
    actions: list[str]


class Status(Document):
    """The fleet on one page."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    state: Literal["starting", "ready", "degraded", "reloading", "scaling", "stopping", "empty"]
    reason: str = Field(description="why the state is not `ready`, or empty")
    since: Seconds = Field(description="how long it has been serving; 0 before it first did")
    instance: str
    target: str
    config_file: str | None
    control: str | None = Field(description="address of the control socket; `@name` if it is abstract")
    generation: int
    arbiter: ArbiterFacts
    wanted: Wanted
    rollout: Rollout | None
    operation: Operation | None
    listeners: list[Listener]
    workers: list[Worker]
    mold: Mold | None = Field(default=None, description="of the generation that is wanted, or null")
    totals: Totals
    latency: Latency
    events: list[Event]


class Stacks(Document):
    """What the threads of a worker are doing."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    slot: int
    pid: int
    now: list[InFlight]
    stacks: str = Field(description="of all threads, the innermost call first")


class Postmortem(Document):
    """A worker that has died, or had to be ended."""

    at: Time
    name: str = Field(description="worker 3, or the mold")
    slot: int
    pid: int
    generation: int
    code: int | None = Field(description="exit code, or null")
    signal: int | None = Field(description="number of the signal that killed it, or null")
    told: str = Field(description="what the arbiter had told it to: abort, expire, kill …, or empty")
    lived: Seconds
    requests: int
    peak_memory: int = Field(description="bytes, the most it ever had")
    was_oom: bool = Field(description="the kernel killed for lack of memory")
    lost: list[InFlight] = Field(description="the requests that it had")
    failure: str = Field(description="what it said when it could not boot")


class Postmortems(Document):
    """The last ones, newest first."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    postmortems: list[Postmortem]


class Workers(Document):
    """The workers alone."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    workers: list[Worker]


class ConfigValue(Document):
    """One setting in effect, and who said so."""

    key: str
    value: object
    layer: str = Field(description="defaults, file, drop-in, environment or command line")
    where: str = Field(description="`unicornd.toml:12`, a variable or a flag; empty for a default")


class ConfigReport(Document):
    """The configuration that the running generation was started with; secrets are `***`."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    config_file: str | None
    values: list[ConfigValue]


class Health(Document):
    """The answer of a probe; the status code says the same."""

    schema_: Schema = Field(default=SCHEMA, serialization_alias="schema")
    ok: bool
    reason: str
