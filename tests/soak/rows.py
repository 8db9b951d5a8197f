"""The fault table: what is done to a fleet under load, and what must hold then.

Each row starts a fleet, does its worst, and raises AssertionError if a promise was broken; else it returns what it
counted. `python -m tests.soak` repeats them; tests/process/test_faults.py runs each once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

from tests.soak.measured import Measured, measured
from tests.soak.site import CLIENTS, Setup, Site
from tests.support.fleet import command
from tests.support.waiting import eventually
from unicornd.control.client import Client
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.traffic import Tally

SLOW_IMPORT = "\ntime.sleep(3)\n"
BROKEN: Mapping[str, str] = {
    "exception": '\nraise RuntimeError("the deploy is broken")\n',
    "syntax error": "\ndef (:\n",
    "SystemExit": "\nraise SystemExit(3)\n",
    "hang": "\nthreading.Event().wait()\n",
    "lifespan error": "\nIS_STARTED_IN_VAIN = True\n",
}
LIMIT = 2
"""timeouts.request and timeouts.heartbeat (seconds) where a worker gets stuck."""
DETECTION_SPARE = 1.0
MOST_FROM_MOLD = 2.0
"""Seconds to a replacement that does not import the application; generous, for a busy machine."""
QUEUED = 24
ALONE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--user", "--map-root-user")
FEW_DESCRIPTORS = 64
ONE_THREADED = frozenset({"gevent", "asgi"})
"""Kinds whose requests share a thread."""
MOST_IDLE_CPU = 0.5
"""Share of a core that a worker without descriptors may use while it waits."""


def must_be_whole(tally: Tally) -> None:
    assert not tally.failures, f"{len(tally.failures)} of {tally.answered} failed: {tally.failures[:3]}"


def reload_good(site: Site) -> Measured:
    """New code that takes 3 s to import: nobody notices."""
    site.fleet.start()
    site.deploy("v2", at_import=SLOW_IMPORT)
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        code, seconds = site.timed_ctl("reload")
        eventually(traffic.saw("v2"), "the new code answers")
    assert code == CtlExit.DONE
    must_be_whole(traffic.tally)
    return measured(traffic.tally, seconds=seconds)


def reload_broken(site: Site, how: str) -> Measured:
    """New code that does not boot: exit code 5, and the old code answers."""
    site.configure(timeouts="boot = 2")
    site.fleet.start()
    site.deploy("v2", at_import=BROKEN[how])
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        code, seconds = site.timed_ctl("reload")
        eventually(traffic.answered_more(50), "the old code answers")
    assert code == CtlExit.ROLLED_BACK, f"exit code {code}"
    assert set(traffic.tally.bodies) == {"v1"}
    must_be_whole(traffic.tally)
    return measured(traffic.tally, seconds=seconds)


def upgrade_good(site: Site) -> Measured:
    """A new unicornd in the place of the old one: nobody notices."""
    old = site.fleet.start()
    site.deploy("v2")
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        code, seconds = site.timed_ctl("upgrade")
        assert code == CtlExit.DONE, f"exit code {code}"
        eventually(traffic.saw("v2"), "the new one answers")
        eventually(lambda: old.poll() is not None, "the old one has left")
        eventually(traffic.answered_more(50), "requests are answered")
    assert site.ctl("stop") == CtlExit.DONE
    eventually(lambda: not site.fleet.processes(), "the new one can be stopped")
    must_be_whole(traffic.tally)
    return measured(traffic.tally, seconds=seconds)


def upgrade_broken(site: Site) -> Measured:
    """A new unicornd that does not serve: exit code 5, and the old one answers."""
    site.fleet.start()
    before = site.fleet.pids()
    site.deploy("v2", at_import=BROKEN["exception"])
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        code, seconds = site.timed_ctl("upgrade")
        eventually(traffic.answered_more(50), "the old one answers")
    assert code == CtlExit.ROLLED_BACK, f"exit code {code}"
    assert site.fleet.pids() == before
    assert set(traffic.tally.bodies) == {"v1"}
    must_be_whole(traffic.tally)
    return measured(traffic.tally, seconds=seconds)


def scale(site: Site) -> Measured:
    """8 workers, 2, 8 again."""
    site.configure(count=8)
    site.fleet.start()
    longest = 0.0
    with site.traffic() as traffic:
        for size in (2, 8):
            eventually(traffic.answered_more(50), "requests are answered")
            code, seconds = site.timed_ctl("scale", str(size))
            assert code == CtlExit.DONE
            site.fleet.await_workers(size)
            longest = max(longest, seconds)
        eventually(traffic.answered_more(50), "requests are answered")
    must_be_whole(traffic.tally)
    return measured(traffic.tally, seconds=longest)


def kill_worker(site: Site) -> Measured:
    """kill -9: what it had in flight is lost and nothing else; the seconds are until its replacement is READY."""
    site.fleet.start()
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        victim = site.fleet.pids()[1]
        started = time.time()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: site.fleet.pids().get(1, victim) != victim, "it is replaced")
        seconds = _ready_at(site, slot=1) - started
        eventually(traffic.answered_more(50), "requests are answered")
    assert len(traffic.tally.failures) <= CLIENTS, traffic.tally.failures
    return measured(traffic.tally, seconds=seconds)


def kill_preloaded(site: Site) -> Measured:
    """The same with an application that takes 3 s to import, loaded once: the mold has it."""
    site.configure(app="preload = true")
    site.deploy("v1", at_import=SLOW_IMPORT)
    found = kill_worker(site)
    assert found.seconds < MOST_FROM_MOLD, f"{found.seconds:.2f} s: it was not forked from the mold"
    return found


def recycle(site: Site, requests: int, after: int = 500) -> Measured:
    """Workers leave after so many requests, all the time."""
    site.configure(workers=f"max_requests = {after}")
    site.fleet.start()
    started = time.monotonic()
    with site.traffic() as traffic:
        eventually(lambda: traffic.tally.answered >= requests, "they are answered", patience=600)
        seconds = time.monotonic() - started
    must_be_whole(traffic.tally)
    # A worker goes on serving until its replacement is READY, which on a busy machine takes some hundred requests.
    assert site.fleet.log.count("max_requests reached") >= requests // (5 * after), "workers were replaced"
    return measured(traffic.tally, seconds=seconds)


def stop_with_queue(site: Site) -> Measured:
    """TERM with more requests sent than there are threads: each is answered."""
    site.fleet.start()
    address = site.fleet.addresses()[0]
    host, _, port = address.rpartition(":")
    clients = [socket.create_connection((host, int(port)), timeout=20) for _ in range(QUEUED)]
    for client in clients:
        client.sendall(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n")
    started = time.monotonic()
    site.fleet.send(signal.SIGTERM)
    answers = [_answer_of(client) for client in clients]
    assert site.fleet.exit_code() == 0
    seconds = time.monotonic() - started
    lost = [answer for answer in answers if not answer.endswith("v1")]
    assert not lost, f"{len(lost)} of {QUEUED}: {lost[:3]}"
    return Measured(answered=len(answers), seconds=seconds)


def stop_under_load(site: Site) -> Measured:
    """TERM while clients connect and ask: they are refused in the end, never reset."""
    site.fleet.start()
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        started = time.monotonic()
        assert site.fleet.end() == 0
        seconds = time.monotonic() - started
        eventually(lambda: traffic.tally.failures, "the port refuses")
    found = measured(traffic.tally, seconds=seconds)
    assert not found.lost, [each for each in traffic.tally.failures if "refused" not in each.lower()][:3]
    return found


def kill_arbiter(site: Site) -> Measured:
    """kill -9 of the arbiter: a request in flight is answered, all workers leave, the next start is clean."""
    site.fleet.start()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(site.fleet.get("/wait", address)))
    address = site.fleet.addresses()[0]
    asking.start()
    eventually(lambda: site.entered("wait"), "a request is in flight")
    started = time.monotonic()
    assert site.fleet.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: len(site.fleet.processes()) == 1, "idle workers have left")
    site.fleet.open_gate()
    asking.join(timeout=20)
    assert answers == ["v1"]
    eventually(lambda: not site.fleet.processes(), "nothing is orphaned")
    seconds = time.monotonic() - started
    site.fleet.start("-b", address)
    assert site.fleet.get() == "v1"
    return Measured(answered=2, seconds=seconds)


def stuck(site: Site, page: str) -> Measured:
    """A request that never ends: detected in time, its stacks logged, everybody else answered."""
    site.configure(timeouts=f"request = {LIMIT}\nheartbeat = {LIMIT}\nkill = 1")
    site.fleet.start()
    asking = threading.Thread(target=lambda: _ask_in_vain(site, f"/{page}"))
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        asking.start()
        eventually(lambda: site.entered(page), "the request is in the application")
        started, victim = time.monotonic(), site.entered(page)
        eventually(lambda: "was stuck in" in site.fleet.log or "is stuck" in site.fleet.log, "it is detected")
        seconds = time.monotonic() - started
        eventually(lambda: victim not in site.fleet.processes(), "the worker is gone")
        eventually(lambda: len(site.fleet.pids()) == 2, "it is replaced")
        eventually(traffic.answered_more(50), "requests are answered")
    asking.join(timeout=20)
    assert seconds <= LIMIT + DETECTION_SPARE, f"detected after {seconds:.1f} s"
    assert "site_app.py" in site.fleet.log, "its stacks are logged"
    found = measured(traffic.tally, seconds=seconds)
    # With the interpreter's lock held, nobody in that worker can answer or hand over what it had accepted; nor can
    # anybody while the one thread of an event loop, or of a hub, is stuck.
    may_lose = CLIENTS if page == "lock" or site.setup.kind in ONE_THREADED else 0
    assert found.lost <= may_lose, traffic.tally.failures[:3]
    assert not found.refused
    return found


def stop_worker(site: Site) -> Measured:
    """SIGSTOP of a worker: it gives no sign of life, so it is replaced; what it had accepted is lost."""
    site.configure(timeouts=f"request = {LIMIT}\nheartbeat = {LIMIT}\nkill = 1")
    site.fleet.start()
    with site.traffic() as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        victim = site.fleet.pids()[1]
        started = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        eventually(lambda: victim not in site.fleet.pids().values(), "it is detected")
        seconds = time.monotonic() - started
        eventually(lambda: len(site.fleet.pids()) == 2, "it is replaced")
        eventually(traffic.answered_more(50), "requests are answered")
    assert seconds <= LIMIT + DETECTION_SPARE, f"detected after {seconds:.1f} s"
    found = measured(traffic.tally, seconds=seconds)
    assert found.lost <= CLIENTS, traffic.tally.failures[:3]
    assert not found.refused
    return found


def full_log_disk(site: Site) -> Measured:
    """No log line can be written: everything else works."""
    with (site.fleet.folder / "unicornd.toml").open("a") as file:
        file.write('[logging]\nerror = "/dev/full"\n[logging.access]\nfile = "/dev/full"\n')
    site.fleet.start()
    with site.traffic() as traffic:
        eventually(traffic.answered_more(200), "requests are answered")
        assert site.ctl("reload") == CtlExit.DONE
        eventually(traffic.answered_more(200), "requests are answered")
    must_be_whole(traffic.tally)
    assert site.fleet.end() == 0
    return measured(traffic.tally)


def no_descriptors(site: Site) -> Measured:
    """More connections than descriptors: nobody spins, those who wait are served when others go."""
    site.configure(count=1, timeouts="head = 60\nkeepalive = 60")
    with (site.fleet.folder / "log").open("ab") as log:
        site.fleet.process = subprocess.Popen(
            ["prlimit", f"--nofile={FEW_DESCRIPTORS}", *command(())],
            cwd=site.fleet.folder, env=site.fleet.environ(), stdout=log, stderr=log,
        )  # fmt: skip
    site.fleet.await_state("ready")
    (worker,) = site.fleet.pids().values()
    host, _, port = site.fleet.addresses()[0].rpartition(":")
    place = (host, int(port))
    idle = [socket.create_connection(place, timeout=20) for _ in range(2 * FEW_DESCRIPTORS)]
    last = socket.create_connection(place, timeout=20)
    last.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    eventually(lambda: "cannot accept connections" in site.fleet.log, "it has none left")
    before, started = _cpu_seconds(worker), time.monotonic()
    eventually(lambda: time.monotonic() > started + 2, "two seconds are over")
    share = (_cpu_seconds(worker) - before) / (time.monotonic() - started)
    assert share < MOST_IDLE_CPU, f"{share:.0%} of a core"
    assert site.fleet.log.count("cannot accept connections") <= 2, "a bounded rate"
    started = time.monotonic()
    for client in idle:
        client.close()
    assert _answer_of(last).endswith("v1")
    seconds = time.monotonic() - started
    assert site.fleet.get() == "v1"
    assert site.fleet.pids() == {1: worker}
    return Measured(answered=2, seconds=seconds)


def read_only_run(site: Site) -> Measured:
    """/run cannot be written and nobody says where the control socket may be: it is an abstract one."""
    name = f"soak-{site.fleet.mark}"
    with (site.fleet.folder / "unicornd.toml").open("a") as file:
        file.write(f'[process]\nname = "{name}"\n')
    environ = site.fleet.environ()
    for variable in ("UNICORND_CONTROL__SOCKET", "XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        environ.pop(variable, None)
    shut = 'mount -t tmpfs -o ro tmpfs /run && exec "$@"'
    with (site.fleet.folder / "log").open("ab") as log:
        site.fleet.process = subprocess.Popen(
            [*ALONE, "sh", "-c", shut, "sh", *command(())],
            cwd=site.fleet.folder, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
    uid = 0 if os.geteuid() == 0 else os.geteuid()
    site.fleet.client = Client(address=f"@unicornd/{uid}/{name}")
    site.fleet.await_state("ready")
    assert site.fleet.get() == "v1"
    assert site.ctl("reload") == CtlExit.DONE
    return Measured(answered=1)


ROWS: Mapping[str, Callable[[Site], Measured]] = {
    "reload, 3 s import": reload_good,
    **{f"reload, {how}": lambda site, how=how: reload_broken(site, how) for how in BROKEN},  # type: ignore[misc]
    "upgrade": upgrade_good,
    "upgrade, broken": upgrade_broken,
    "scale 8, 2, 8": scale,
    "kill -9 of a worker": kill_worker,
    "kill -9, preloaded": kill_preloaded,
    "recycle": lambda site: recycle(site, 500, after=50),
    "stop with a queue": stop_with_queue,
    "stop under load": stop_under_load,
    "kill -9 of the arbiter": kill_arbiter,
    "endless loop": lambda site: stuck(site, "loop"),
    "deadlock in C": lambda site: stuck(site, "lock"),
    "SIGSTOP of a worker": stop_worker,
    "log disk full": full_log_disk,
    "no descriptors left": no_descriptors,
    "/run read-only": read_only_run,
}
"""Name → what is done."""
WITHOUT_LOAD = frozenset(
    {"stop with a queue", "kill -9 of the arbiter", "no descriptors left", "/run read-only"}
)
"""Rows that bring their own clients: whether those keep their connections is settled."""
ONLY_FOR: Mapping[str, Sequence[str]] = {"reload, lifespan error": ("asgi",)}
"""Rows that other kinds know nothing of."""


def variants(kinds: Sequence[str]) -> Iterator[tuple[str, Setup]]:
    """Every row, for some kinds, and with both sorts of load where there is load."""
    for row in ROWS:
        for kind in ONLY_FOR.get(row, kinds):
            for is_keepalive in (False,) if row in WITHOUT_LOAD else (False, True):
                yield row, Setup(kind=kind, is_keepalive=is_keepalive)


def _answer_of(client: socket.socket) -> str:
    """Read until the response is complete or the connection has ended."""
    data = b""
    with contextlib.suppress(OSError):
        while not data.endswith(b"\r\n\r\nv1") and (piece := client.recv(4096)):
            data += piece
    client.close()
    return data.decode()


def _ready_at(site: Site, *, slot: int) -> float:
    """When the last worker of a slot became ready, as the arbiter has noted it (seconds since the epoch)."""
    events = site.fleet.client.ask("GET", "/v1/events?since=0&follow=0").body.splitlines()
    ready = [each for each in map(json.loads, events) if each["kind"] == "worker.ready"]
    [*_, last] = [each for each in ready if each["facts"]["slot"] == slot]
    return datetime.fromisoformat(last["at"]).timestamp()


def _ask_in_vain(site: Site, path: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        site.fleet.get(path)


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
