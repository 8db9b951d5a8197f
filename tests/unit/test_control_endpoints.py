from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.support.control_port import CONFIG_REFUSAL, FakePort, make_child, make_facts, make_state
from unicornd.arbiter.kernel import Death
from unicornd.arbiter.postmortems import Ended, examine
from unicornd.arbiter.routes import ANSWER_SECONDS, ANSWERS, MAX_WAIT, PREVIEW_SECONDS, make_route
from unicornd.arbiter.state import Role
from unicornd.arbiter.view import ListenerFacts
from unicornd.control.endpoints import READ_ONLY, Endpoint, Match, NoMatch, find_endpoint
from unicornd.control.exchange import LongPoll, Reply, Request
from unicornd.control.openapi import make_document, run
from unicornd.dataclass import replace
from unicornd.errors import CtlExit
from unicornd.observe.scoreboard import InFlight, Reading
from unicornd.units import Generation, Monotonic, Pid, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from unicornd.control.exchange import Answer


def ask(
    port: FakePort, method: str, path: str, *, body: bytes = b"", query: Mapping[str, str] | None = None
) -> Reply:
    route = make_route(port, among=tuple(Endpoint))
    answer = route(Request(method=method, path=path, query=query or {}, body=body))
    assert isinstance(answer, Reply)
    return answer


def check(reply: Reply, model: str) -> dict[str, object]:
    """Demand that a reply is what the OpenAPI document says."""
    found = json.loads(reply.body)
    document = make_document()
    schema = {"$ref": f"#/components/schemas/{model}", "components": document["components"]}
    jsonschema.validate(found, schema)
    assert isinstance(found, dict)
    return found


def test_there_is_an_answer_for_each_endpoint() -> None:
    assert set(ANSWERS) == set(Endpoint)


def test_paths_are_found_with_their_variables() -> None:
    assert find_endpoint("POST", "/v1/workers/3/recycle", among=Endpoint) == Match(
        endpoint=Endpoint.RECYCLE, variables={"slot": "3"}
    )
    assert find_endpoint("HEAD", "/metrics", among=Endpoint) == Match(endpoint=Endpoint.METRICS, variables={})


@pytest.mark.parametrize("path", ["/v1", "/v1/status/", "/v1/workers//recycle", "//", "/v2/status", "*", ""])
def test_what_is_not_there_is_404(path: str) -> None:
    assert find_endpoint("GET", path, among=Endpoint) == NoMatch(allowed=())
    assert ask(FakePort(make_state(2)), "GET", path).status == 404


def test_a_wrong_method_is_405_and_says_which_are_right() -> None:
    reply = ask(FakePort(make_state(2)), "DELETE", "/v1/status")
    assert (reply.status, reply.headers) == (405, {"Allow": "GET, HEAD"})


def test_the_admin_listener_offers_nothing_that_changes_or_tells_the_configuration() -> None:
    assert all(endpoint.value.method == "GET" for endpoint in READ_ONLY)
    route = make_route(FakePort(make_state(2)), among=READ_ONLY)
    for endpoint in set(Endpoint) - READ_ONLY:
        answer = route(Request(method=endpoint.value.method, path=endpoint.value.path, query={}, body=b""))
        assert isinstance(answer, Reply)
        assert answer.status == 404


@pytest.mark.parametrize(
    ("path", "model"),
    [("/v1/status", "Status"), ("/v1/workers", "Workers"), ("/v1/config", "ConfigReport"), ("/healthz", "Health"),
     ("/readyz", "Health"), ("/startupz", "Health")],
)  # fmt: skip
def test_reports_are_what_the_openapi_document_says(path: str, model: str) -> None:
    reply = ask(FakePort(make_state(2)), "GET", path)
    assert reply.status == 200
    assert check(reply, model)["schema"] == 1


def test_probes_say_no_with_503() -> None:
    port = FakePort(make_state(2, make_child(1)))
    port.state = type(port.state)(pools=port.state.pools)
    assert ask(port, "GET", "/readyz").status == 503
    assert ask(port, "GET", "/startupz").status == 503
    assert ask(port, "GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b'{"count": true}', b'{"count": 2.5}', b'{"count": "many"}', b'{"count": "++1"}', b"{}",
     b'{"count": 2, "extra": 1}', b'{"count": 2, "save": "yes"}', b"\xff", b'{"count": "1e3"}'],
)  # fmt: skip
def test_a_body_that_is_not_understood_is_400_and_changes_nothing(body: bytes) -> None:
    port = FakePort(make_state(2))
    before = port.state
    reply = ask(port, "POST", "/v1/scale", body=body)
    assert reply.status == 400
    assert check(reply, "Problem")["error"]["exit_code"] == CtlExit.USAGE  # type: ignore[index]
    assert port.state is before


@pytest.mark.parametrize(("count", "size"), [(b"8", 8), (b'"8"', 8), (b'"+2"', 4), (b'"-1"', 1)])
def test_a_scale_is_accepted_with_the_operation(count: bytes, size: int) -> None:
    port = FakePort(make_state(2))
    reply = ask(port, "POST", "/v1/scale", body=b'{"count": ' + count + b"}")
    assert reply.status == 202
    assert check(reply, "Operation")["id"] == "scale-1"
    assert port.state.pools["web"].size == size


def test_a_second_change_is_409_with_the_id_of_the_first_and_a_stop_is_not() -> None:
    port = FakePort(make_state(2))
    assert ask(port, "POST", "/v1/reload").status == 202
    reply = ask(port, "POST", "/v1/scale", body=b'{"count": 3}')
    assert reply.status == 409
    assert check(reply, "Problem")["error"]["operation"] == "reload-1"  # type: ignore[index]
    assert ask(port, "POST", "/v1/stop", body=b'{"mode": "quick"}').status == 202


@pytest.mark.parametrize("slot", ["x", "-1", "99999", "1.0", "\u0661"])
def test_a_slot_that_is_no_number_is_400(slot: str) -> None:
    assert ask(FakePort(make_state(2)), "POST", f"/v1/workers/{slot}/recycle").status == 400


def test_a_refused_reload_has_the_errors_and_the_exit_code_of_a_bad_configuration() -> None:
    port = FakePort(make_state(2))
    port.reload_refusal = CONFIG_REFUSAL
    for query in ({}, {"dry_run": "1"}):
        reply = ask(port, "POST", "/v1/reload", query=query)
        assert reply.status == 422
        error = check(reply, "Problem")["error"]
        assert isinstance(error, dict)
        assert error["exit_code"] == CtlExit.CONFIG
        assert "workers.cuont" in error["detail"]


def test_a_reload_is_answered_when_the_configuration_has_been_read() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    port.asking = "the configuration is being read"
    waiting = route_of(port)(posted("/v1/reload"))
    assert isinstance(waiting, LongPoll)
    assert waiting.until == 1.0 + ANSWER_SECONDS
    assert waiting.poll() is None
    status = check(ask(port, "GET", "/v1/status"), "Status")
    assert (status["state"], status["reason"]) == (
        "reloading", "the configuration is being read; 2 of 2 workers are ready",
    )  # fmt: skip
    assert ask(port, "POST", "/v1/scale", body=b'{"count": 3}').status == 409
    port.answer()
    reply = waiting.poll()
    assert reply is not None
    assert reply.status == 202
    assert check(reply, "Operation")["state"] == "running"


def test_a_reload_is_refused_when_the_configuration_that_was_waited_for_is_wrong() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    port.asking = "the configuration is being read"
    port.reload_refusal = CONFIG_REFUSAL
    waiting = route_of(port)(posted("/v1/reload"))
    assert isinstance(waiting, LongPoll)
    port.answer()
    reply = waiting.poll()
    assert reply is not None
    assert reply.status == 422
    shown = check(ask(port, "GET", "/v1/operations/reload-1"), "Operation")
    assert (shown["state"], shown["exit_code"]) == ("failed", CtlExit.CONFIG)
    assert shown["result"] == CONFIG_REFUSAL.message
    assert shown["detail"] == CONFIG_REFUSAL.detail
    assert ask(port, "POST", "/v1/scale", body=b'{"count": 3}').status == 202


def test_a_reload_whose_reading_takes_long_is_shown_as_accepted() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    port.asking = "the configuration is being read"
    waiting = route_of(port)(posted("/v1/reload"))
    assert isinstance(waiting, LongPoll)
    late = waiting.expire()
    assert isinstance(late, Reply)
    assert late.status == 202
    shown = check(late, "Operation")
    assert (shown["state"], shown["waiting_for"]) == ("running", ["the configuration is being read, 0 s"])


def test_a_dry_run_whose_reading_takes_long_says_so() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    port.asking = "the configuration is being read"
    waiting = route_of(port)(posted("/v1/reload", dry_run="1"))
    assert isinstance(waiting, LongPoll)
    assert waiting.poll() is None
    assert waiting.until == 1.0 + PREVIEW_SECONDS
    late = waiting.expire()
    assert isinstance(late, Reply)
    assert late.status == 503
    assert port.operations.running is None
    port.answer()
    reply = waiting.poll()
    assert reply is not None
    assert check(reply, "Plan")["actions"][0] == "workers.count: 2 → 4"  # type: ignore[index]


def route_of(port: FakePort) -> Callable[[Request], Answer]:
    return make_route(port, among=tuple(Endpoint))


def posted(path: str, **query: str) -> Request:
    return Request(method="POST", path=path, query=query, body=b"{}")


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    before = port.state
    plan = check(ask(port, "POST", "/v1/reload", query={"dry_run": "1"}), "Plan")
    assert plan["actions"] == [
        "workers.count: 2 → 4",
        "boot a new generation, and let go of generation 1 as its workers become ready",
    ]
    plan = check(ask(port, "POST", "/v1/scale", body=b'{"count": 3}', query={"dry_run": "1"}), "Plan")
    assert plan["actions"] == ["boot worker 3 (generation 1)"]
    assert port.state is before
    assert port.operations.running is None


def test_an_operation_without_news_is_waited_for_and_at_last_shown_as_it_is() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    ask(port, "POST", "/v1/reload")
    route = make_route(port, among=tuple(Endpoint))
    request = Request(
        method="GET", path="/v1/operations/reload-1", query={"wait": "1000", "after": "0"}, body=b""
    )
    waiting = route(request)
    assert isinstance(waiting, LongPoll)
    assert waiting.until == 1.0 + MAX_WAIT
    assert waiting.poll() is None
    late = waiting.expire()
    assert isinstance(late, Reply)
    assert json.loads(late.body)["state"] == "running"
    port.operations.note("the configuration is valid", now=Monotonic(1.0))
    news = waiting.poll()
    assert news is not None
    assert check(news, "Operation")["step_count"] == 1


def test_a_recycle_and_reopened_logs_are_accepted() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    assert check(ask(port, "POST", "/v1/reopen"), "Operation")["state"] == "done"
    assert check(ask(port, "POST", "/v1/workers/2/recycle", body=b"{}"), "Operation")["kind"] == "recycle"
    assert ask(port, "POST", "/v1/workers/9/recycle", query={"dry_run": "1"}).status == 409


def test_a_reload_without_changes_says_that_no_setting_changes() -> None:
    port = FakePort(make_state(2), clock=lambda: 1.0)
    port.changes = ()
    assert (
        json.loads(ask(port, "POST", "/v1/reload", query={"dry_run": "1"}).body)["actions"][0]
        == "no setting changes"
    )


def test_an_unknown_operation_is_404() -> None:
    assert ask(FakePort(make_state(2)), "GET", "/v1/operations/reload-7").status == 404


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf", "1e300"])
def test_a_number_that_is_none_is_400(value: str) -> None:
    assert ask(FakePort(make_state(2)), "GET", "/v1/events", query={"since": value}).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/stop"), ("POST", "/v1/workers/1/stacks"), ("GET", "/v1/status"), ("GET", "/v1/events")],
)
def test_a_misspelt_parameter_is_400_and_changes_nothing(method: str, path: str) -> None:
    port = FakePort(make_state(2))
    before = port.state
    reply = ask(port, method, path, query={"dryrun": "1"})
    assert reply.status == 400
    error = check(reply, "Problem")["error"]
    assert isinstance(error, dict)
    assert "dryrun" in error["message"]
    assert (path != "/v1/stop") or "there are dry_run" in error["message"]
    assert port.state is before


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/startupz", "/"])
def test_a_probe_may_say_more_than_is_asked_for(path: str) -> None:
    assert ask(FakePort(make_state(2)), "GET", path, query={"cache": "no"}).status in {200, 503}


def test_past_events_are_json_lines() -> None:
    port = FakePort(make_state(2))
    port.journal.append("worker.ready", "worker 1 is ready", slot=1)
    port.journal.append("worker.died", "worker 2 died")
    reply = ask(port, "GET", "/v1/events", query={"since": "1", "follow": "0"})
    assert [json.loads(line)["text"] for line in reply.body.splitlines()] == ["worker 2 died"]


def test_the_page_is_html_that_fetches_nothing_and_escapes_what_strangers_write() -> None:
    port = FakePort(make_state(1))
    request = InFlight(cell=0, since=Monotonic(0.0), text="GET /<script>alert(1)</script>")
    reading = Reading(
        heartbeat=Monotonic(0.0), requests=1, errors=0, connections=1, busy_seconds=Seconds(0.0), buckets=(0,) * 12,
        in_flight=(request,),
    )  # fmt: skip
    port.facts_value = make_facts(
        readings={Pid(8101): reading},
        listeners=(ListenerFacts(address="unix:/run/<x>.sock", queue=None, backlog=None),),
    )
    reply = ask(port, "GET", "/")
    page = reply.body.decode()
    assert reply.content_type.startswith("text/html")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "unix:/run/&lt;x&gt;.sock" in page
    assert "src=" not in page
    assert "href=" not in page


def test_the_openapi_document_on_disk_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == 0, capsys.readouterr().err
    assert run(["something"]) == 2


def test_the_openapi_document_is_written_and_a_stale_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schemas" / "control.openapi.json"
    assert run(["check"], file=file) == 1
    assert "not current" in capsys.readouterr().err
    assert run(["write"], file=file) == 0
    assert run(["check"], file=file) == 0


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    document = make_document()
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == len(Endpoint)


def test_stacks_are_there_a_moment_later() -> None:
    port = FakePort(make_state(2))
    answer = ask_stacks(port)
    assert answer.poll() is None
    check_stacks(answer.expire())
    assert port.insisted == []


def test_stacks_of_a_worker_that_has_much_to_do_are_waited_for() -> None:
    port = FakePort(make_state(2))
    port.holds_interpreter = True
    later = ask_stacks(port).expire()
    assert isinstance(later, LongPoll)
    assert later.poll() is None
    port.holds_interpreter = False
    check_stacks(later.poll())
    assert port.insisted == []


def test_stacks_of_a_worker_whose_interpreter_is_held_are_insisted_on() -> None:
    port = FakePort(make_state(2))
    port.holds_interpreter = True
    later = ask_stacks(port).expire()
    assert isinstance(later, LongPoll)
    last = later.expire()
    assert isinstance(last, LongPoll)
    assert port.insisted == [8102]
    assert last.poll() is None
    check_stacks(last.expire())


def ask_stacks(port: FakePort) -> LongPoll:
    route = make_route(port, among=tuple(Endpoint))
    answer = route(Request(method="POST", path="/v1/workers/2/stacks", query={}, body=b"{}"))
    assert isinstance(answer, LongPoll)
    return answer


def check_stacks(answer: object) -> None:
    assert isinstance(answer, Reply)
    found = check(answer, "Stacks")
    assert (found["slot"], found["pid"], found["now"]) == (2, 8102, [])
    assert "checkout" in str(found["stacks"])


def test_stacks_of_a_worker_that_is_not_there_are_refused() -> None:
    reply = ask(FakePort(make_state(2)), "POST", "/v1/workers/7/stacks", body=b"{}")
    assert reply.status == 404
    assert b"there is no worker 7" in reply.body
    assert ask(FakePort(make_state(2)), "POST", "/v1/workers/x/stacks", body=b"{}").status == 400


def test_postmortems_tell_what_was_lost() -> None:
    port = FakePort(make_state(2))
    assert check(ask(port, "GET", "/v1/postmortems"), "Postmortems")["postmortems"] == []
    child = replace(make_child(1), failure="it raised")
    row = Reading(
        heartbeat=Monotonic(0.0), requests=7, errors=0, connections=1, busy_seconds=Seconds(0.0), buckets=(0,) * 12,
        in_flight=(InFlight(cell=0, since=Monotonic(8.0), text="GET /cart"),),
    )  # fmt: skip
    death = Death(pid=child.pid, code=None, signal=9, peak_memory=1024)
    port.died = tuple(
        examine(
            Ended(child=child, death=death, handle=None, reading=reading, was_oom=reading is not None),
            now=Monotonic(10.0),
            wall=0.0,
        )
        for reading in (row, None)
    )
    shown: Any = check(ask(port, "GET", "/v1/postmortems"), "Postmortems")
    told, blind = shown["postmortems"]
    assert told["lost"] == [{"request": "GET /cart", "age": 2.0}]
    assert (told["signal"], told["was_oom"], told["requests"], told["peak_memory"]) == (9, True, 7, 1024)
    assert (blind["lost"], blind["requests"]) == ([], 0)


def test_the_status_shows_the_mold_of_the_wanted_generation() -> None:
    port = FakePort(make_state(2))
    mold = replace(make_child(0), pid=Pid(7), role=Role.MOLD)
    other = replace(mold, pid=Pid(8), generation=Generation(9))
    port.state = replace(port.state, molds={mold.pid: mold, other.pid: other})
    assert check(ask(port, "GET", "/v1/status"), "Status")["mold"]["pid"] == 7  # type: ignore[index] # an object
    port.state = replace(port.state, molds={other.pid: other})
    assert check(ask(port, "GET", "/v1/status"), "Status")["mold"] is None


def test_a_dry_run_of_an_upgrade_says_what_would_be_executed() -> None:
    port = FakePort(make_state(2))
    reply = ask(
        port, "POST", "/v1/upgrade", body=b'{"executable": "/srv/green/bin/python"}', query={"dry_run": "1"}
    )
    assert check(reply, "Plan")["actions"] == [
        "to /srv/green/bin/python", "leave as soon as the new one serves",
    ]  # fmt: skip
    assert port.operations.running is None
