"""What the soak serves, and the fleet that serves it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

CTL_TIMEOUT = 60.0
CLIENTS = 4

APP = """\
import ctypes, os, pathlib, threading, time

VERSION = "v1"
FOLDER = pathlib.Path(__file__).parent

def enter(name):
    (FOLDER / f"in-{name}").write_text(str(os.getpid()))

def loop():
    enter("loop")
    while True:
        pass

def lock():
    enter("lock")
    ctypes.PyDLL(None).pause()  # with the interpreter's lock held: no other thread of this worker runs

def sleep():
    time.sleep(0.05)

def wait():
    enter("wait")
    while not (FOLDER / "gate").exists():
        time.sleep(0.01)

PAGES = {"/loop": loop, "/lock": lock, "/sleep": sleep, "/wait": wait}

def application(environ, start_response):
    PAGES.get(environ["PATH_INFO"], bool)()
    body = VERSION.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

IS_STARTED_IN_VAIN = False

async def asgi_application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if IS_STARTED_IN_VAIN:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    PAGES.get(scope["path"], bool)()
    body = VERSION.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

CONFIG = """\
[app]
target = "./site_app.py:{target}"
chdir = "."
{app}
[server]
bind = "127.0.0.1:0"
[workers]
count = {count}
kind = "{kind}"
{threads}
{workers}
[timeouts]
{timeouts}
[reload]
max_failures = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a row is run.

    Attributes:
        kind: of the workers.
        is_keepalive: whether clients keep their connections.
        pause: seconds of a client between an answer and its next request.
    """

    kind: str = "threads"
    is_keepalive: bool = False
    pause: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}, {'keep-alive' if self.is_keepalive else 'new connections'}"


class Site:
    """A fleet that is not started yet, and what is done to it."""

    def __init__(self, fleet: Fleet, setup: Setup) -> None:
        self.fleet = fleet
        self.setup = setup
        fleet.write("site_app.py", APP)
        self.configure()

    def configure(self, *, count: int = 2, workers: str = "", timeouts: str = "", app: str = "") -> None:
        """Write the configuration; each text is further lines of a table."""
        kind = self.setup.kind
        target = "asgi_application" if kind == "asgi" else "application"
        threads = "threads = 4" if kind == "threads" else ""
        self.fleet.write(
            "unicornd.toml",
            CONFIG.format(
                count=count,
                kind=kind,
                threads=threads,
                workers=workers,
                timeouts=timeouts,
                target=target,
                app=app,
            ),
        )

    def deploy(self, version: str, *, at_import: str = "") -> None:
        """Put another version of the code on disk."""
        self.fleet.write("site_app.py", APP.replace('"v1"', f'"{version}"') + at_import)

    def traffic(self, path: str = "/", *, clients: int = CLIENTS) -> Traffic:
        """Load whose every answer is checked, not begun yet."""
        address = self.fleet.addresses()[0]

        def connect() -> http.client.HTTPConnection:
            return self.fleet.connect(address)

        return Traffic(
            connect,
            path,
            clients=clients,
            is_keepalive=self.setup.is_keepalive,
            check=_is_version,
            pause=self.setup.pause,
        )

    def ctl(self, *arguments: str) -> int:
        """Run unicornctl and return its exit code."""
        program = str(Path(sys.executable).parent / "unicornctl")
        command = [program, arguments[0], "--socket", self.fleet.client.address, *arguments[1:]]
        with (self.fleet.folder / "ctl").open("ab") as said:
            done = subprocess.run(
                command, env=self.fleet.environ(), stdout=said, stderr=said, timeout=CTL_TIMEOUT, check=False
            )
        return done.returncode

    def timed_ctl(self, *arguments: str) -> tuple[int, float]:
        """Run unicornctl; return its exit code and how long it took."""
        started = time.monotonic()
        return self.ctl(*arguments), time.monotonic() - started

    def entered(self, page: str) -> int:
        """Return the pid of the worker in which a request for a page runs; 0 if there was none yet."""
        file = self.fleet.folder / f"in-{page}"
        text = file.read_text() if file.exists() else ""
        return int(text) if text else 0


@contextlib.contextmanager
def site_in(folder: Path, setup: Setup) -> Iterator[Site]:
    """Give a site; afterwards no process of it may be left."""
    folder.mkdir(parents=True)
    with fleet_in(folder) as fleet:
        yield Site(fleet, setup)


def _is_version(status: int, body: bytes) -> str:
    return "" if (status, body) in {(200, b"v1"), (200, b"v2")} else f"{status}: {body[:200]!r}"
