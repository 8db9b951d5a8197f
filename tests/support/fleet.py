"""A real `unicornd` in the foreground, for tests of the daemon itself (`tests.support.ctl` drives it by unicornctl).

Everything that it needs is in one folder; it listens on port 0 and is asked for the port over its control socket. Its
processes carry a mark in their environment, so that a test fails that leaves one behind.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually
from unicornd.control.client import Client, ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "UNICORND_TEST_MARK"
PATIENCE = 30.0

APP = """\
import os, pathlib, time

VERSION = "v1"
GATE = pathlib.Path(__file__).parent / "gate"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        while not GATE.exists():
            time.sleep(0.01)
    keys = environ["PATH_INFO"] == "/environ"
    body = repr(sorted(os.environ.items())).encode() if keys else f"{VERSION} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
"""Answers with its version and its pid; `/wait` only once the file `gate` is there."""

CONFIG = """\
[app]
target = "./site_app.py:application"
chdir = "."
[server]
bind = "127.0.0.1:0"
[workers]
count = 2
"""


class Fleet:
    """A `unicornd` with its folder.

    Attributes:
        folder: has `site_app.py`, `unicornd.toml`, and after the start `control.sock` and `log`.
        process: the one that was started; the arbiter, unless it daemonized.
        through: what stands in front of the command (`tests.support.places`).
    """

    through: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = Client(address=str(folder / "control.sock"))
        self.process: subprocess.Popen[bytes] | None = None
        self.mark = uuid.uuid4().hex
        self.write("site_app.py", APP)
        self.write("unicornd.toml", CONFIG)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def change(self, name: str, old: str, new: str) -> None:
        """Replace text in a file."""
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def open_gate(self) -> None:
        """Let the requests for /wait be answered."""
        (self.folder / "gate").touch()

    def environ(self, **more: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("UNICORND_", "PYTEST"))
        }
        return {
            **kept,
            MARK: self.mark,
            "SPT_NOENV": "1",  # setproctitle would write over the mark
            "EVENTLET_NO_GREENDNS": "yes",  # half of its start, and no name is resolved here
            "UNICORND_CONTROL__SOCKET": str(self.folder / "control.sock"),
            "PYTHONDONTWRITEBYTECODE": "1",  # a changed application must not be taken for its compiled predecessor
            **more,
        }

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run unicornd until the process that was started ends; for starts that fail and for -D."""
        return subprocess.run(
            [*self.through, *command(arguments)], cwd=self.folder, env=self.environ(**environ), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip

    def spawn(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start unicornd in the foreground; do not wait for anything."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.through, *command(arguments)],
                cwd=self.folder,
                env=self.environ(**environ),
                stdout=log,
                stderr=log,
            )
        return self.process

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start unicornd in the foreground and wait until every worker is ready."""
        process = self.spawn(*arguments, **environ)
        self.await_state("ready")
        return process

    def start_kind(self, kind: str, *arguments: str) -> None:
        """Start one worker of a kind; the site has an application for each interface, `wsgi` and `asgi`."""
        self.change("unicornd.toml", ":application", ":asgi" if kind == "asgi" else ":wsgi")
        self.start("-k", kind, "-w", "1", *arguments)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def await_log(self, text: str) -> None:
        eventually(lambda: text in self.log, f"the log says {text!r}")

    def await_state(self, state: str) -> None:
        def is_reached() -> bool:
            code = None if self.process is None else self.process.poll()
            assert code is None, f"unicornd has ended with {code}:\n{self.log}"
            with contextlib.suppress(ControlError):
                return bool(self.status()["state"] == state)
            return False

        eventually(is_reached, f"the fleet is {state}", patience=PATIENCE)

    def status(self) -> dict[str, Any]:
        return self.client.get("/v1/status")

    def pids(self) -> dict[int, int]:
        """The ready workers: slot → pid."""
        return {each["slot"]: each["pid"] for each in self.status()["workers"] if each["phase"] == "ready"}

    def await_workers(self, count: int) -> dict[int, int]:
        """Wait until the fleet consists of so many ready workers and nothing else."""
        eventually(
            lambda: len(self.status()["workers"]) == count == len(self.pids()), f"{count} workers are ready"
        )
        return self.pids()

    def addresses(self) -> list[str]:
        return [str(each["address"]) for each in self.status()["listeners"]]

    def connect(self, address: str = "") -> http.client.HTTPConnection:
        host, _, port = (address or self.addresses()[0]).rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE)

    def get(self, path: str = "/", address: str = "") -> str:
        """Ask once and return the body of the 200 that must come."""
        connection = self.connect(address)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
        assert response.status == http.client.OK, body
        return body

    def send(self, number: signal.Signals) -> None:
        """Send the arbiter a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.send(number)
        return self.exit_code()

    def exit_code(self) -> int:
        assert self.process is not None
        return self.process.wait(timeout=PATIENCE)

    def processes(self) -> list[int]:
        """Return the pids of all living processes of this fleet."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "unicornd", *arguments]


@contextlib.contextmanager
def fleet_in(folder: Path) -> Iterator[Fleet]:
    """Give a fleet that is not started yet; what a test leaves running is stopped, what does not stop fails it."""
    fleet = Fleet(folder)
    try:
        yield fleet
        if fleet.process is not None and fleet.process.poll() is None:
            fleet.open_gate()
            assert fleet.end() == 0, fleet.log
        eventually(lambda: not fleet.processes(), "every process of the fleet has ended")
    finally:
        for pid in fleet.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if fleet.process is not None:
            fleet.process.wait(timeout=PATIENCE)
