"""One run of wrk against one server, and what it measured."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.servers import HOST, LOAD_CPU

REPORT = Path(__file__).with_name("report.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How to ask: so many connections, for so long, each kept alive or new for every request."""

    connections: int = 32
    seconds: int = 3
    is_keepalive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run gave: requests per second, latencies in milliseconds, failed requests."""

    rate: float
    p50: float
    p99: float
    errors: int


def run(load: Load, port: int) -> Measured:
    """Run wrk, pinned to its own processor."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed (Debian package wrk)")
    command = [
        "taskset",
        "-c",
        str(LOAD_CPU),
        wrk,
        "-t1",
        f"-c{load.connections}",
        f"-d{load.seconds}s",
        "-s",
        str(REPORT),
    ]
    if not load.is_keepalive:
        command += ["-H", "Connection: close"]
    output = subprocess.run(
        [*command, f"http://{HOST}:{port}/"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    requests, seconds, errors, p50, p99 = (float(field) for field in line.split()[1:])
    return Measured(rate=requests / seconds, p50=p50, p99=p99, errors=int(errors))
