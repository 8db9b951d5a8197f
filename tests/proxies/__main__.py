"""`python -m tests.proxies`: real proxies in front of a fleet that reloads, scales and recycles under load.

Options: `--front NAME` and `--kind NAME` (again for more; a name's beginning will do). Each line counts what 6 clients with
kept connections got through the proxy, and how many connections they opened; every answer is checked: status, who asks,
by which scheme. Exits with 1 if any of them got an error.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.proxies.fronts import FRONTS, Front, running
from tests.support.certificates import client_context
from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Tally, Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.certificates import Authority

KINDS = ("threads", "gevent")
CLIENTS = 6
RELOADS = 3
RECYCLE_AFTER = 100
"""Requests of a worker: small enough that all are replaced while the clients ask."""
APP = """\
import json

def application(environ, start_response):
    seen = {"remote": environ["REMOTE_ADDR"], "scheme": environ["wsgi.url_scheme"], "path": environ["PATH_INFO"]}
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""
HEAD = f"{'front':<22}{'kind':<10}{'answered':>10}{'errors':>8}{'connections':>13}{'longest':>10}{'took':>8}"


def main() -> int:
    """Run the table; return the exit code."""
    asked = _arguments()
    failures: list[str] = []
    print(HEAD)
    for kind in asked.kind or KINDS:
        for name, front in FRONTS.items():
            if asked.front and not name.startswith(tuple(asked.front)):
                continue
            began = time.monotonic()
            try:
                tally = _story(front, kind)
            except Exception as error:  # noqa: BLE001 - a story that cannot be told is an error, too
                failures.append(f"{name}, {kind}: {type(error).__name__}: {error}")
                print(f"{name:<22}{kind:<10} failed")
                continue
            print(_line(name, kind, tally=tally, seconds=time.monotonic() - began), flush=True)
            failures += [f"{name}, {kind}: {failure}" for failure in tally.failures[:10]]
            if not tally.answered:
                failures.append(f"{name}, {kind}: nothing was answered")
    print(*failures, sep="\n")
    return 1 if failures else 0


def _line(name: str, kind: str, *, tally: Tally, seconds: float) -> str:
    return (
        f"{name:<22}{kind:<10}{tally.answered:>10}{len(tally.failures):>8}{tally.connections:>13}"
        f"{tally.longest * 1000:>7.0f} ms{seconds:>6.0f} s"
    )


def _story(front: Front, kind: str) -> Tally:
    """Reload three times, scale up and down, recycle; all under load."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        (folder / "fleet").mkdir()
        (folder / "front").mkdir()
        fleet = stack.enter_context(fleet_in(folder / "fleet"))
        fleet.write("site_app.py", APP)
        threads = ("--threads", "4") if kind == "threads" else ()
        fleet.start(
            "-k",
            kind,
            *threads,
            "-w",
            "2",
            "--keep-alive",
            "60",
            "--max-requests",
            str(RECYCLE_AFTER),
            *front.flags,
        )
        host, port = fleet.addresses()[0].split(":")
        place = stack.enter_context(running(front, folder / "front", (host, port)))
        with Traffic(
            _client(front, *place), "/a/b", clients=CLIENTS, is_keepalive=True, check=_check(front)
        ) as traffic:
            _change(fleet, traffic)
        return traffic.tally


def _change(fleet: Fleet, traffic: Traffic) -> None:
    eventually(traffic.answered_more(CLIENTS * 10), "the proxy passes requests on")
    for generation in range(2, RELOADS + 2):
        fleet.send(signal.SIGHUP)
        fleet.await_log(f"generation {generation} serves")
        eventually(traffic.answered_more(CLIENTS * 5), "requests are answered")
    fleet.send(signal.SIGTTIN)
    eventually(lambda: len(fleet.pids()) >= 3, "there are three workers")
    fleet.send(signal.SIGTTOU)
    before = set(fleet.pids().values())
    eventually(traffic.answered_more(CLIENTS * 5), "requests are answered")
    eventually(
        lambda: not before & set(fleet.pids().values()), "all workers have been recycled", patience=90.0
    )


def _client(front: Front, port: int, authority: Authority) -> Callable[[], http.client.HTTPConnection]:
    if not front.speaks_tls:
        return lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    context = client_context(authority)
    return lambda: http.client.HTTPSConnection("localhost", port, timeout=20, context=context)


def _check(front: Front) -> Callable[[int, bytes], str]:
    expected = {"remote": "127.0.0.1", "scheme": front.scheme, "path": "/a/b"}

    def check(status: int, body: bytes) -> str:
        is_right = status == http.client.OK and json.loads(body) == expected
        return "" if is_right else f"{status}: {body[:200]!r}"

    return check


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proxies", description=__doc__)
    parser.add_argument("--front", action="append", default=[])
    parser.add_argument("--kind", action="append", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
