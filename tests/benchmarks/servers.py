"""The servers side by side: how each is started for a case, and how its process tree is found and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[2]
HOST = "127.0.0.1"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
SERVER_CPU = 0
LOAD_CPU = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is asked of every server: this application, this kind, so many workers and threads.

    Attributes:
        more: flags of gunicorn's command line, which unicornd takes too.
    """

    target: str
    kind: str
    workers: int = 1
    threads: int = 1
    more: tuple[str, ...] = ()
    """Flags of one server's own."""


def unicornd(deployment: Deployment, port: int) -> list[str]:
    return [
        str(BIN / "unicornd"), deployment.target, "-b", f"{HOST}:{port}", "-w", str(deployment.workers),
        "-k", deployment.kind, "--threads", str(deployment.threads), "--log-level", "error", *deployment.more,
    ]  # fmt: skip


def gunicorn(deployment: Deployment, port: int) -> list[str]:
    kind = {"threads": "gthread"}.get(deployment.kind, deployment.kind)
    return [
        str(BIN / "gunicorn"), deployment.target, "-b", f"{HOST}:{port}", "-w", str(deployment.workers),
        "-k", kind, "--threads", str(deployment.threads), "--log-level", "error", "--no-control-socket",
        *deployment.more,
    ]  # fmt: skip


def granian(deployment: Deployment, port: int) -> list[str]:
    return [
        str(BIN / "granian"), "--interface", "wsgi", "--host", HOST, "--port", str(port),
        "--workers", str(deployment.workers), "--blocking-threads", str(deployment.threads),
        "--log-level", "error", deployment.target,
    ]  # fmt: skip


def uvicorn(deployment: Deployment, port: int) -> list[str]:
    return [
        str(BIN / "uvicorn"), deployment.target, "--host", HOST, "--port", str(port),
        "--workers", str(deployment.workers), "--no-access-log", "--log-level", "error",
        *deployment.more,
    ]  # fmt: skip


SERVERS = {"unicornd": unicornd, "gunicorn": gunicorn, "granian": granian, "uvicorn": uvicorn}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started server: its root process and how long it took from exec to the first 200."""

    pid: int
    port: int
    seconds_to_first_200: float


@contextlib.contextmanager
def running(server: str, deployment: Deployment, *, pinned: bool = True) -> Iterator[Running]:
    """Start `server`, wait for its first 200, and end it with its whole process group afterwards."""
    port = _free_port()
    command = SERVERS[server](deployment, port)
    if pinned:
        command = ["taskset", "-c", str(SERVER_CPU), *command]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environ, start_new_session=True)
    try:
        _wait_for_200(process, port)
        yield Running(pid=process.pid, port=port, seconds_to_first_200=time.monotonic() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tree(root: int) -> list[int]:
    """Return `root` and all its descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def summed_pss(root: int) -> int:
    """Return the proportional set size of a process tree in bytes (shared pages are counted once)."""
    total = 0
    for pid in tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_for_200(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if client.recv(64).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.002)
    raise RuntimeError(f"{process.args!r} did not answer within {START_TIMEOUT} s")
