"""A fleet that a test runs as a person would: `unicornctl` in a folder with an `unicornd.toml`.

Every process of the fleet carries a mark in its environment, so that a test can prove that none is left.
"""

from __future__ import annotations

import contextlib
import json
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
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
MARK = "UNICORND_TEST_MARK"
COMMAND_TIMEOUT = 60.0


class Ctl:
    """`unicornctl -c FILE …` for one configuration file."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.mark = uuid.uuid4().hex
        self._control = ""
        self.environ = {
            **{
                key: value for key, value in os.environ.items() if not key.startswith(("UNICORND_", "PYTEST"))
            },
            MARK: self.mark,
            "SPT_NOENV": "1",  # setproctitle would write over the mark
            "EVENTLET_NO_GREENDNS": "yes",  # half of its start, and no name is resolved here
            "XDG_RUNTIME_DIR": str(config.parent),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }

    def run(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of unicornctl and demand its exit code (None: any)."""
        command = [str(BIN / "unicornctl"), arguments[0], "-c", str(self.config), *arguments[1:]]
        done = subprocess.run(
            command, cwd=self.config.parent, env=self.environ, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT, check=False,
        )  # fmt: skip
        assert expect is None or done.returncode == expect, (
            f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}\n{self._witness()}"
        )
        return done

    def _witness(self) -> str:
        """Return what the processes of the fleet are doing, and how busy the machine is."""
        lines = [f"load {Path('/proc/loadavg').read_text()}"]
        for pid in self.processes():
            with contextlib.suppress(OSError):
                folder = Path(f"/proc/{pid}")
                name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                lines.append(f"{pid} {state} {(folder / 'wchan').read_text()} {name}")
        logs = [*self.config.parent.rglob("*.log")]
        return "\n".join([*lines, *(f"{log}:\n{log.read_text()[-3000:]}" for log in logs)])

    def start(self) -> None:
        """Start what `unicornctl start` starts, and as it does; for tests that are not about the start."""
        command = [sys.executable, "-Pm", "unicornd", "-c", str(self.config), "--daemon"]
        told = self.config.parent / "told-at-start"  # no pipe: a daemon may keep it (process.inherit_stdio)
        with told.open("wb") as said:
            done = subprocess.run(
                command, cwd=self.config.parent, env=self.environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                timeout=COMMAND_TIMEOUT, check=False,
            )  # fmt: skip
        assert done.returncode == 0, f"{command} → {done.returncode}\n{told.read_text()}\n{self._witness()}"

    def stop(self) -> None:
        """Stop the fleet, if it runs; for tests that are not about the stop."""
        for address in self._controls():
            with contextlib.suppress(ControlError, ProcessLookupError):
                pid = Client(address=address).get("/v1/status")["arbiter"]["pid"]
                os.kill(pid, signal.SIGQUIT)
        eventually(lambda: not self.processes(), "the fleet has ended")

    def _controls(self) -> list[str]:
        """Return the control sockets that lie where a fleet without `control.socket` puts its own."""
        return [str(path) for path in (self.config.parent / "unicornd").glob("*.sock")]

    def status(self) -> dict[str, Any]:
        """Return the status document: asked for at the socket, or else of `unicornctl status --json`."""
        for address in (self._control, *self._controls()):
            with contextlib.suppress(ControlError):
                if address:
                    return Client(address=address).get("/v1/status")
        found = json.loads(self.run("status", "--json").stdout)
        assert isinstance(found, dict)
        self._control = found["control"]
        return found

    def address(self) -> tuple[str, int]:
        """Return host and port of the first TCP listener."""
        for listener in self.status()["listeners"]:
            host, _, port = listener["address"].rpartition(":")
            if port.isdigit():
                return host.removeprefix("tcp://").strip("[]"), int(port)
        raise AssertionError("no TCP listener")

    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"] if worker["phase"] == "ready"]

    def processes(self) -> list[int]:
        """Return the pids of all living processes of this fleet."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (
                    folder.name.isdigit()
                    and f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes()
                ):
                    found.append(int(folder.name))
        return found


@contextlib.contextmanager
def fleet(folder: Path, config: str) -> Iterator[Ctl]:
    """Write `config` and give the means to run it; afterwards no process of it may be left."""
    file = folder / "unicornd.toml"
    file.write_text(config)
    ctl = Ctl(file)
    try:
        yield ctl
        eventually(lambda: not ctl.processes(), "every process of the fleet has ended")
    finally:
        for pid in ctl.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
