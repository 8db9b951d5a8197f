"""`is-running`, `is-ready`, `health`: questions with an exit code for an answer, for probes and scripts.

A probe asks every second, so this must start in a few hundredths of a second: standard library only, and as little of
it as possible. `ctl.main` comes here before it imports typer.
"""

from __future__ import annotations

import json
import sys
import time
from typing import NamedTuple

from unicornd.cli.exits import report
from unicornd.cli.instances import Choice, Found, find_fleet, tell_guess
from unicornd.control.client import ControlError, granted
from unicornd.errors import CtlExit
from unicornd.escaping import json_text, one_line

PAUSE = 0.1
"""Seconds between two questions with `--wait`."""

SERVICE_UNAVAILABLE = 503

HEALTHY = frozenset({"ready", "saturated", "reloading", "scaling"})
"""Saturated, too: that is load, and whoever restarts a fleet for its load makes it worse. The text says it."""

USAGE = """\
Usage: unicornctl {name} [-c FILE | --socket PATH | --instance NAME] [--wait SECONDS] [--quiet] [--json]

{about}

Exit codes: 0 yes, 1 no, 3 nothing is running, 4 no answer, 7 no permission.
With --wait it asks until the answer is yes, or the time is up.
"""

ABOUT = {
    "is-running": "Does the fleet's arbiter run?",
    "is-ready": "Does the fleet serve requests? Not before its first worker is ready, and not while it is stopping.",
    "health": "Is the fleet at its full size? (No: it is starting, degraded, crash-looping or stopping.)\n"
    "One that is saturated is: load is no reason to restart it. The text begins with the fleet's state in a word.",
}


class Question(NamedTuple):
    """What is asked, of whom, and for how long."""

    name: str
    choice: Choice
    wait: float
    is_quiet: bool
    is_json: bool


class _Verdict(NamedTuple):
    code: int
    text: str
    found: Found


def main(arguments: list[str]) -> int:
    """Answer one question; `arguments` begins with its name."""
    name, *rest = arguments
    if "--help" in rest or "-h" in rest:
        sys.stdout.write(USAGE.format(name=name, about=ABOUT[name]))
        return CtlExit.DONE
    try:
        question = parse_question(name, rest)
        verdict = _ask_until(question)
    except ControlError as error:
        is_told = error.code == CtlExit.USAGE or not {"--quiet", "-q"} & set(rest)
        return report(error, is_quiet=not is_told, is_json="--json" in rest)
    if verdict.found.is_guessed and not question.is_quiet:
        tell_guess(verdict.found)
    if question.is_json:
        document = {"schema": 1, "answer": verdict.code == CtlExit.DONE, "reason": verdict.text}
        sys.stdout.write(json_text(json.dumps(document)) + "\n")
    elif not question.is_quiet:
        sys.stdout.write(f"{one_line(verdict.text)}\n")
    return verdict.code


def _ask_until(question: Question) -> _Verdict:
    deadline = time.monotonic() + question.wait
    while True:
        verdict, error = None, None
        try:
            verdict = _ask(question)
        except ControlError as caught:
            error = caught
        is_over = time.monotonic() >= deadline
        if verdict is not None and (is_over or verdict.code == CtlExit.DONE):
            return verdict
        if error is not None and (is_over or error.code not in {CtlExit.NOT_RUNNING, CtlExit.UNREACHABLE}):
            raise error
        time.sleep(PAUSE)


def _ask(question: Question) -> _Verdict:
    found = find_fleet(question.choice)
    client = found.client
    if question.name == "health":
        status = client.get("/v1/status")
        state, reason = str(status["state"]), str(status["reason"])
        code = CtlExit.DONE if state in HEALTHY else CtlExit.FAILED
        return _Verdict(code, f"{state}: {reason}" if reason else state, found)
    answer = client.ask("GET", "/readyz" if question.name == "is-ready" else "/healthz")
    if answer.status == SERVICE_UNAVAILABLE:
        return _Verdict(CtlExit.FAILED, str(answer.document().get("reason", "")), found)
    return _Verdict(CtlExit.DONE, str(granted(answer).get("reason", "")), found)


def parse_question(name: str, rest: list[str]) -> Question:
    """Read what stands behind the name of a predicate.

    Raises:
        ControlError: it is not understood.
    """
    values = {"--config": "", "--socket": "", "--instance": "", "--wait": "0"}
    flags: set[str] = set()
    words = iter(rest)
    for word in words:
        key, equals, value = word.partition("=")
        key = {"-c": "--config", "-q": "--quiet"}.get(key, key)
        if key in {"--quiet", "--json"} and not equals:
            flags.add(key)
        elif key in values:
            values[key] = value if equals else next(words, "")
        else:
            raise _usage(f"{name} does not know {word!r}")
    wait = _seconds(values["--wait"])
    choice = Choice(config=values["--config"], socket=values["--socket"], instance=values["--instance"])
    return Question(name, choice, wait=wait, is_quiet="--quiet" in flags, is_json="--json" in flags)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):  # not a number is in no order: it would be waited for without an end
        raise _usage(f"--wait takes a number of seconds, not {text!r}")
    return seconds


def _usage(message: str) -> ControlError:
    return ControlError(message, code=CtlExit.USAGE, hint="--help says what it takes")
