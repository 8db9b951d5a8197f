"""`make bench`: unicornd beside its peers, the same machine, the same minute, alternating runs, ratios of medians.

    python -m tests.benchmarks [--runs 5] [--only NAME …]

Each figure has the goal that the project sets itself; the table says whether it was met. Absolute numbers depend on
the machine, the ratios much less. Needs two processors: one for the server, one for wrk.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.load import Load, run
from tests.benchmarks.servers import BIN, HOST, REPOSITORY, Deployment, running, summed_pss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Samples = dict[str, dict[str, list[float]]]
"""figure → server → one value a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """ours ÷ theirs of one figure, and where it has to be."""

    figure: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, samples: Samples) -> str:
        ours = statistics.median(samples[self.figure]["unicornd"])
        theirs = statistics.median(samples[self.figure][self.peer])
        ratio = ours / theirs
        is_met = (self.at_least is None or ratio >= self.at_least) and (
            self.at_most is None or ratio <= self.at_most
        )
        wanted = f"≥ {self.at_least}" if self.at_least is not None else f"≤ {self.at_most}"
        facts = f"{ours:12.4g} {theirs:12.4g} {ratio:8.2f}   {wanted:7} {'met' if is_met else 'MISSED'}"
        return f"  {self.figure:22} {self.peer:12} {facts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison: what is deployed and asked, or a `measure` of its own, and the goals."""

    name: str
    goals: tuple[Goal, ...]
    servers: tuple[str, ...] = ()
    deployment: Deployment | None = None
    load: Load = field(default_factory=Load)
    measure: Callable[[str], dict[str, float]] | None = None


HELLO = "tests.benchmarks.apps:hello"
SLEEPY = "tests.benchmarks.apps:sleepy"
HELLO_ASGI = "tests.benchmarks.apps:hello_asgi"
IDLE_CONNECTIONS = 10_000
IDLE_ASGI = {
    "unicornd": Deployment(
        target=HELLO_ASGI, kind="asgi", more=("--keep-alive", "300", "--worker-connections", "20000")
    ),
    "uvicorn": Deployment(target=HELLO_ASGI, kind="asgi", more=("--timeout-keep-alive", "300")),
}
SLOW_READERS = Deployment(target="tests.benchmarks.apps:large", kind="threads", workers=2, threads=4)
SLOW_READER_COUNT = 200
NORMAL_REQUESTS = 1000
IDLE_GREENLETS = dict.fromkeys(
    ("unicornd", "gunicorn"),
    Deployment(target=HELLO, kind="gevent", more=("--keep-alive", "300", "--worker-connections", "20000")),
)
FOUR_WORKERS = Deployment(target=HELLO, kind="sync", workers=4)


def measure_start(server: str) -> dict[str, float]:
    """From exec to the first 200, and the memory of the tree, with 4 workers (not pinned)."""
    with running(server, FOUR_WORKERS, pinned=False) as started:
        run(Load(seconds=1, is_keepalive=False), started.port)
        pss = summed_pss(started.pid)
    return {"seconds to first 200": started.seconds_to_first_200, "PSS bytes": float(pss)}


def measure_idle(server: str, *, deployments: Mapping[str, Deployment]) -> dict[str, float]:
    """Memory of an idle keep-alive connection: the growth of the tree by 10 000 of them (fewer if files are limited)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE_CONNECTIONS, hard - 500)
    try:
        with running(server, deployments[server], pinned=False) as started, contextlib.ExitStack() as stack:
            run(Load(seconds=1), started.port)
            before = summed_pss(started.pid)
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection((HOST, started.port), timeout=10))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                if not sock.recv(1024).startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"{server} did not answer")
            return {"bytes a connection": (summed_pss(started.pid) - before) / count}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def measure_slow_readers(server: str) -> dict[str, float]:
    """What a normal client waits, and memory grows, while 200 others ask for 10 MB and do not read (not pinned)."""
    with running(server, SLOW_READERS, pinned=False) as started, contextlib.ExitStack() as stack:
        before = summed_pss(started.pid)
        for _ in range(SLOW_READER_COUNT):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((HOST, started.port))
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n")
        waited = []
        for _ in range(NORMAL_REQUESTS):
            began = time.monotonic()
            client = http.client.HTTPConnection(HOST, started.port, timeout=20)
            client.request("GET", "/")
            if client.getresponse().status != http.HTTPStatus.OK:
                raise RuntimeError(f"{server} did not answer")
            client.close()
            waited.append((time.monotonic() - began) * 1000)
        grown = max(1, summed_pss(started.pid) - before)
        return {"p99 ms": statistics.quantiles(waited, n=100)[-1], "PSS bytes grown": float(grown)}


def measure_ctl(command: str) -> dict[str, float]:
    """Seconds that a whole `unicornctl` command (or a bare interpreter) takes."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "unicornd.toml"
        config.write_text(
            f'[app]\ntarget = "{HELLO}"\npythonpath = ["{REPOSITORY}"]\n[server]\nbind = "127.0.0.1:0"\n'
            f'[workers]\ncount = 4\n[control]\nsocket = "{folder}/c.sock"\n[logging]\nlevel = "error"\n'
        )
        daemon = subprocess.Popen([str(BIN / "unicornd"), "-c", str(config)])
        try:
            ctl = [str(BIN / "unicornctl"), "--socket", f"{folder}/c.sock"]
            deadline = time.monotonic() + 30
            while subprocess.run([*ctl, "is-ready"], check=False, capture_output=True).returncode != 0:
                if time.monotonic() > deadline:
                    raise RuntimeError("the daemon did not become ready")
            whole = [sys.executable, "-c", ""] if command == "python" else [*ctl, command]
            started = time.monotonic()
            subprocess.run(whole, check=True, capture_output=True)
            return {"seconds": time.monotonic() - started}
        finally:
            daemon.terminate()
            daemon.wait()


CASES = (
    Case(
        name="threads, keep-alive",
        servers=("unicornd", "gunicorn", "granian"),
        deployment=Deployment(target=HELLO, kind="threads", threads=8),
        goals=(
            Goal(figure="requests/s", peer="gunicorn", at_least=5.0),
            Goal(figure="requests/s", peer="granian", at_least=0.8),
        ),
    ),
    Case(
        name="sync, new connections",
        servers=("unicornd", "gunicorn"),
        deployment=Deployment(target=HELLO, kind="sync"),
        load=Load(is_keepalive=False),
        goals=(Goal(figure="requests/s", peer="gunicorn", at_least=2.0),),
    ),
    Case(
        name="threads, app sleeps 10 ms",
        servers=("unicornd", "granian"),
        deployment=Deployment(target=SLEEPY, kind="threads", threads=8),
        goals=(
            Goal(figure="requests/s", peer="granian", at_least=0.95),
            Goal(figure="p99 ms", peer="granian", at_most=1.3),
        ),
    ),
    Case(
        name="asgi, keep-alive",
        servers=("unicornd", "uvicorn", "gunicorn"),
        deployment=Deployment(target=HELLO_ASGI, kind="asgi"),
        goals=(
            Goal(figure="requests/s", peer="uvicorn", at_least=0.95),
            Goal(figure="requests/s", peer="gunicorn", at_least=1.0),
        ),
    ),
    Case(
        name="asgi, idle connections",
        servers=("unicornd", "uvicorn"),
        measure=partial(measure_idle, deployments=IDLE_ASGI),
        goals=(Goal(figure="bytes a connection", peer="uvicorn", at_most=1.1),),
    ),
    Case(
        name="gevent, keep-alive",
        servers=("unicornd", "gunicorn"),
        deployment=Deployment(target=HELLO, kind="gevent"),
        goals=(Goal(figure="requests/s", peer="gunicorn", at_least=2.0),),
    ),
    Case(
        name="gevent, 10 000 idle connections",
        servers=("unicornd", "gunicorn"),
        measure=partial(measure_idle, deployments=IDLE_GREENLETS),
        goals=(Goal(figure="bytes a connection", peer="gunicorn", at_most=1.1),),
    ),
    Case(
        name="threads, 200 clients that do not read 10 MB",
        servers=("unicornd", "granian"),
        measure=measure_slow_readers,
        goals=(Goal(figure="p99 ms", peer="granian", at_most=1.5),),
    ),
    Case(
        name="start and memory, 4 workers",
        servers=("unicornd", "gunicorn"),
        measure=measure_start,
        goals=(
            Goal(figure="seconds to first 200", peer="gunicorn", at_most=1.5),
            Goal(figure="PSS bytes", peer="gunicorn", at_most=1.3),
        ),
    ),
)

CTL_BUDGETS = {"status": 0.250, "is-ready": 0.050}
"""Seconds, on a machine where an interpreter starts in 15 ms."""
INTERPRETER_SECONDS = 0.015


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="unicornd beside its peers"
    )
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each server (5)")
    parser.add_argument("--only", action="append", default=[], help="a case whose name contains this")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.stderr.write("two processors are needed: one for the server, one for the load\n")
        return 2
    # As pip does when it installs: the peers are compiled, and the environment may forbid Python to do it by itself.
    compileall.compile_dir(REPOSITORY / "unicornd", quiet=1)
    everything: dict[str, Samples] = {}
    for case in CASES:
        if not options.only or any(part in case.name for part in options.only):
            print(f"{case.name}   (median of {options.runs}; ours, theirs, ratio, goal)", flush=True)
            samples = everything[case.name] = collect(case, options.runs)
            for goal in case.goals:
                print(goal.verdict(samples), flush=True)
    if not options.only or any(part in "unicornctl" for part in options.only):
        everything["unicornctl"] = report_ctl(options.runs)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    return 0


def collect(case: Case, runs: int) -> Samples:
    """Run every server in turn, `runs` times over, so that a drift of the machine hits all of them."""
    samples: Samples = {}
    for _ in range(runs):
        for server in case.servers:
            figures = case.measure(server) if case.measure else _measure_load(case, server)
            for figure, value in figures.items():
                samples.setdefault(figure, {}).setdefault(server, []).append(value)
    return samples


def report_ctl(runs: int) -> Samples:
    """Print how long commands take, beside a bare interpreter on this machine."""
    seconds: dict[str, list[float]] = {}
    for _ in range(runs):
        for command in ("python", *CTL_BUDGETS):
            seconds.setdefault(command, []).append(measure_ctl(command)["seconds"])
    interpreter = statistics.median(seconds["python"])
    print(f"unicornctl   (median of {runs}; an interpreter starts in {interpreter * 1000:.0f} ms here)")
    for command, budget in CTL_BUDGETS.items():
        allowed = budget * max(1.0, interpreter / INTERPRETER_SECONDS)
        median = statistics.median(seconds[command])
        verdict = "met" if median <= allowed else "MISSED"
        print(f"  {command:22} {median * 1000:9.0f} ms   ≤ {allowed * 1000:.0f} ms {verdict}")
    return {"seconds": seconds}


def _measure_load(case: Case, server: str) -> dict[str, float]:
    assert case.deployment is not None
    with running(server, case.deployment) as started:
        run(
            Load(connections=case.load.connections, seconds=1, is_keepalive=case.load.is_keepalive),
            started.port,
        )
        measured = run(case.load, started.port)
    if measured.errors:
        print(f"  {server}: {measured.errors} requests failed", flush=True)
    return {"requests/s": measured.rate, "p99 ms": measured.p99}


if __name__ == "__main__":
    sys.exit(main())
