"""A fleet whose workers attack it, in a place where they can harm nothing else.

The arbiter is root, its workers are `nobody`; both live in a process and a mount namespace of their own (unshare(1)), with
a bystander and with files that only root may touch. `Prison.assert_unharmed` says what must be so after any attack. It
needs root.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.fleet import Fleet
from tests.support.waiting import eventually
from unicornd.control.client import ControlError

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

SOURCE = Path(__file__).parent.parent.parent
APPLICATION = Path(__file__).parent / "hostile_app.py"
BIN = Path(sys.executable).parent
NAMESPACES = ("--fork", "--kill-child", "--pid", "--mount", "--mount-proc")
PRECIOUS = "only root reads and writes this\n"
STATUS_SECONDS = 5.0
"""How long the arbiter may take to say how it is; it takes milliseconds on an idle machine."""
CLIENTS = 8
CLIENT_SECONDS = 2.0
USER = "nobody"
PATIENCE = 30.0

INIT = """\
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
print("up", flush=True)
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""
"""The namespace's PID 1: it only reaps."""

CONFIG = """\
[app]
target = "./site_app.py:application"
chdir = "."
preload = {preload}
[server]
bind = "127.0.0.1:0"
[process]
user = "nobody"
pidfile = "theirs/fleet.pid"
[workers]
count = 3
kind = "threads"
threads = 2
[logging]
error = "theirs/error.log"
access.file = "theirs/access.log"
[timeouts]
boot = 10
heartbeat = 3
graceful = 5
[reload]
max_failures = 1
surge = 3
"""
"""Logs and the pidfile are in a folder that belongs to the workers' user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What must not change about a file."""

    mode: int
    uid: int
    gid: int
    links: int
    content: str


class Prison(Fleet):
    """A fleet in namespaces of its own.

    Attributes:
        theirs: a folder that belongs to the workers' user.
        precious: a file of root's, mode 0600.
        bystander: pid of a process of root's that is none of the fleet's. As all pids here, seen from inside.
        prefix: the words of a command that runs unicornd, if any.
    """

    def __init__(self, folder: Path, *, is_preloaded: bool = False) -> None:
        super().__init__(folder)
        folder.chmod(0o755)
        user = pwd.getpwnam(USER)
        self.theirs = folder / "theirs"
        self.theirs.mkdir()
        os.chown(self.theirs, user.pw_uid, user.pw_gid)
        vault = folder / "vault"
        vault.mkdir()
        self.precious = vault / "precious"
        self.write("unicornd.toml", CONFIG.format(preload=str(is_preloaded).lower()))
        shutil.copy(APPLICATION, folder / "site_app.py")
        self.lock_away()
        script = f"{opened(folder)}exec {sys.executable} -c {shlex.quote(INIT)}"
        self._init = subprocess.Popen(["unshare", *NAMESPACES, "sh", "-euc", script], stdout=subprocess.PIPE)
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == b"up\n"
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        self._root = Path(f"/proc/{children[0]}/root")
        self._enter = ["nsenter", "--target", children[0], "--pid", "--mount"]
        self.bystander = self._start_bystander()
        self.arbiter = 0
        self.prefix: list[str] = []
        self._descriptors = 0

    def lock_away(self) -> None:
        """Make root's file as it must stay."""
        self.precious.unlink(missing_ok=True)
        self.precious.write_text(PRECIOUS)
        self.precious.chmod(0o600)

    # Processes, as they are seen inside.

    def proc(self, pid: int) -> Path:
        """Return the folder of a process."""
        return self._root / "proc" / str(pid)

    def is_alive(self, pid: int) -> bool:
        """Whether it exists and is no zombie."""
        with contextlib.suppress(OSError):
            return (self.proc(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
        return False

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root."""
        return subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def spawn(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._enter, f"--wd={self.folder}", *self.prefix, sys.executable, "-m", "unicornd", *arguments],
                env=self.environ(**environ), stdout=log, stderr=log,
            )  # fmt: skip
        return self.process

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        process = super().start(*arguments, **environ)
        self.arbiter = int(self.status()["arbiter"]["pid"])
        self._descriptors = self.open_descriptors()
        return process

    def send(self, number: signal.Signals) -> None:
        self.inside("kill", f"-{int(number)}", str(self.arbiter))

    @property
    def log(self) -> str:
        """What the arbiter and its workers have said, wherever."""
        said = [path for path in (self.folder / "log", self.theirs / "error.log") if path.is_file()]
        return "".join(path.read_text(errors="replace") for path in said)

    def open_descriptors(self) -> int:
        """How many the arbiter has."""
        return len(list((self.proc(self.arbiter) / "fd").iterdir()))

    @property
    def is_living(self) -> bool:
        """Whether the arbiter is there."""
        return self.process is not None and self.process.poll() is None

    # Attacks.

    def attack(self, name: str, **arguments: object) -> dict[str, Any]:
        """Have a worker carry an attack out; return its answer, which has at least its pid."""
        query = urllib.parse.quote(json.dumps(arguments))
        answer = json.loads(self.get(f"/attack/{name}?{query}"))
        assert isinstance(answer, dict)
        return answer

    def attack_blindly(self, name: str, **arguments: object) -> None:
        """Have a worker carry out an attack that it may not survive, so there may be no answer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.attack(name, **arguments)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run unicornctl as root."""
        command = [str(BIN / "unicornctl"), arguments[0], "--socket", self.client.address, *arguments[1:]]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ(NO_COLOR="1"),
            capture_output=True,
            timeout=60,
            check=False,
        )

    def reload(self) -> str:
        """Reload, and return how that has ended: `done`, `failed`, `rolled_back` or `refused`."""
        try:
            path = f"/v1/operations/{self.client.post('/v1/reload')['id']}"
        except ControlError:
            return "refused"
        eventually(
            lambda: self.client.get(path)["state"] != "running", "the reload is over", patience=PATIENCE
        )
        return str(self.client.get(path)["state"])

    # What must be so.

    def assert_unharmed(self, *, without: int = 0, is_whole: bool = True) -> None:
        """Hold the fleet against what must be so after any attack.

        Args:
            without: the worker that has attacked; another one has to serve.
            is_whole: whether all workers are to be there (again).
        """
        assert self.is_living, f"the arbiter has ended:\n{self.log[-3000:]}"
        self.assert_status()
        assert self.is_alive(self.bystander), "a bystander was killed"
        assert self.facts() == Facts(mode=0o100600, uid=0, gid=0, links=self.facts().links, content=PRECIOUS)
        eventually(lambda: self._answers_elsewhere(without), "another worker serves")
        if is_whole:
            eventually(self._is_whole, f"the fleet is whole again:\n{self.log[-3000:]}", patience=PATIENCE)
            eventually(
                lambda: self.open_descriptors() <= self._descriptors + 2,
                "no descriptor was left in the arbiter",
            )
        assert not self.zombies(), "all dead children were reaped"
        assert (self.arbiter, self.proc(self.arbiter).exists()) == (
            int(self.status()["arbiter"]["pid"]),
            True,
        )

    def assert_status(self) -> dict[str, Any]:
        """Ask how the fleet is; demand an answer in time that is JSON for every reader."""
        body = self.client.ask("GET", "/v1/status", patience=STATUS_SECONDS).body
        status = json.loads(body, parse_constant=_refuse_constant)
        assert isinstance(status, dict)
        return status

    def facts(self) -> Facts:
        """What is so about root's file."""
        stat = self.precious.lstat()
        content = self.precious.read_text()
        return Facts(
            mode=stat.st_mode, uid=stat.st_uid, gid=stat.st_gid, links=stat.st_nlink, content=content
        )

    def zombies(self) -> list[int]:
        """Return the arbiter's dead children that it does not reap; one that has just died is none."""
        found: list[int] = []

        def none_is_left() -> bool:
            listed = (self.proc(self.arbiter) / f"task/{self.arbiter}/children").read_text().split()
            found[:] = [int(pid) for pid in listed if not self.is_alive(int(pid))]
            return not found

        with contextlib.suppress(AssertionError):
            eventually(none_is_left, "no child is a zombie", patience=5.0)
        return found

    def _answers_elsewhere(self, without: int) -> bool:
        """Ask several times at once, so that more than one worker is needed."""
        address = self.addresses()[0]
        answered = set()
        with contextlib.ExitStack() as stack:
            asked = [stack.enter_context(contextlib.closing(self.connect(address))) for _ in range(CLIENTS)]
            with contextlib.suppress(OSError, http.client.HTTPException):
                for connection in asked:
                    connection.timeout = CLIENT_SECONDS
                    connection.request("GET", "/slow", headers={"Connection": "close"})
            for connection in asked:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answered.add(int(json.loads(connection.getresponse().read())["pid"]))
        return bool(answered - {without})

    def _is_whole(self) -> bool:
        with contextlib.suppress(ControlError):
            status = self.status()
            ready = [each for each in status["workers"] if each["phase"] == "ready"]
            is_up = status["state"] in {"ready", "crash-looping"}  # attacks that kill are told for a minute
            return len(status["workers"]) == 3 == len(ready) and is_up
        return False

    def _start_bystander(self) -> int:
        subprocess.Popen([*self._enter, "sh", "-c", f"echo $$ >{self.folder}/bystander; exec sleep 600"])
        pid = self.folder / "bystander"
        eventually(lambda: pid.exists() and pid.read_text().endswith("\n"), "the bystander is there")
        return int(pid.read_text())

    def close(self) -> None:
        """End everything that is inside."""
        self._init.kill()
        self._init.wait(timeout=PATIENCE)
        assert self._init.stdout is not None
        self._init.stdout.close()
        if self.process is not None:
            self.process.wait(timeout=PATIENCE)


def why_not() -> str:
    """Return why this machine cannot have such a fleet; empty if it can."""
    if os.geteuid() != 0:
        return "an arbiter that is root needs root"
    unshared = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if unshared.returncode != 0:
        return f"namespaces are refused: {unshared.stderr.strip()}"
    return ""


def opened(folder: Path) -> str:
    """Return commands that let everybody reach this Python and this project, which may be in somebody's home.

    A folder above them that is closed to others is covered, in the mount namespace, by one that has nothing else.
    """
    needed = [Path(sys.base_prefix), SOURCE, Path(sys.prefix)]
    closed = {
        next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
        for path in needed
    }
    lines = ["mount --make-rprivate /"]
    for number, cover in enumerate(sorted(closed - {None}, key=str)):
        assert cover is not None
        kept = [
            (path, folder / f"kept-{number}-{place}")
            for place, path in enumerate(needed)
            if cover in path.parents
        ]
        lines += [f"mkdir {place}; mount --rbind {path} {place}" for path, place in kept]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {cover}"]
        lines += [f"mkdir -p {path}; mount --rbind {place} {path}; umount -l {place}" for path, place in kept]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def prison(*, is_preloaded: bool = False) -> Iterator[Prison]:
    """Give such a fleet, not started yet; afterwards nothing of it may be left."""
    folder = Path(tempfile.mkdtemp(prefix="unicornd-hostile-"))  # not below pytest's, which is root's alone
    made = Prison(folder, is_preloaded=is_preloaded)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


class Cell:
    """One fleet for many attacks: a new one only after an attack has ended it.

    Args:
        is_preloaded: whether a mold forks the workers.
    """

    def __init__(self, *, is_preloaded: bool = False) -> None:
        self._is_preloaded = is_preloaded
        self._stack = contextlib.ExitStack()
        self._prison: Prison | None = None

    def prison(self) -> Prison:
        """Return a fleet of which every worker is ready."""
        if self._prison is None or not (
            self._prison.is_living and self._prison.is_alive(self._prison.bystander)
        ):
            self.close()
            self._prison = self._stack.enter_context(prison(is_preloaded=self._is_preloaded))
            self._prison.start()
        self._prison.lock_away()
        return self._prison

    def close(self) -> None:
        """End it."""
        self._stack.close()
        self._prison = None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
