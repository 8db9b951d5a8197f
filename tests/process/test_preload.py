"""The mold: it loads the application once, its workers share that, and a reload loads it anew."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator

PRELOAD = "preload = true\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        fleet.change("unicornd.toml", 'chdir = "."\n', f'chdir = "."\n{PRELOAD}')
        fleet.change("site_app.py", 'VERSION = "v1"', 'VERSION = "v1"\nLOADED_BY = os.getpid()')
        yield fleet


def parent_of(pid: int) -> int:
    """Field 4 of /proc/PID/stat (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mold_of(fleet: Fleet) -> int:
    mold = fleet.status()["mold"]
    assert mold is not None
    return int(mold["pid"])


def test_the_application_is_loaded_once_and_workers_are_children_of_the_arbiter(fleet: Fleet) -> None:
    fleet.change(
        "site_app.py", "body = ", "body = repr(LOADED_BY).encode() if environ['PATH_INFO'] == '/by' else "
    )
    process = fleet.start("-w", "3")
    assert fleet.get("/by") == str(mold_of(fleet))
    assert {parent_of(pid) for pid in fleet.pids().values()} == {process.pid}
    assert parent_of(mold_of(fleet)) == process.pid
    assert fleet.get() in {f"v1 {pid}" for pid in fleet.pids().values()}


def test_each_worker_has_its_own_slot_and_random_numbers(fleet: Fleet) -> None:
    who = "f\"{os.environ['UNICORND_WORKER_SLOT']} {os.getpid()} {__import__('random').random()}\".encode()"
    fleet.change("site_app.py", "    start_response", f"    body = {who}\n    start_response")
    fleet.start("-w", "2")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fleet.get, "/wait")  # keeps one worker busy
        eventually(lambda: any(each["busy"] for each in fleet.status()["workers"]), "a worker is busy")
        answers = [fleet.get().split()]
        fleet.open_gate()
        answers.append(first.result().split())
    assert {int(slot): int(pid) for slot, pid, _ in answers} == fleet.pids()
    assert len({number for _, _, number in answers}) == 2


def test_a_reload_picks_up_new_code_without_a_failed_request(fleet: Fleet) -> None:
    fleet.start()
    old = mold_of(fleet)
    with Traffic(fleet.connect) as traffic:
        fleet.change("site_app.py", '"v1"', '"v2"')
        fleet.send(signal.SIGHUP)
        fleet.await_log("generation 2 serves")
        eventually(lambda: fleet.get().startswith("v2"), "the new code answers")
    assert traffic.tally.failures == []
    eventually(lambda: not Path(f"/proc/{old}").exists(), "the old mold has left")
    assert mold_of(fleet) != old


def test_broken_code_is_rolled_back_and_the_old_mold_stays(fleet: Fleet) -> None:
    fleet.start()
    old, workers = mold_of(fleet), fleet.pids()
    fleet.change("site_app.py", 'VERSION = "v1"', "import no_such_module")
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 is given up")
    assert "the mold cannot boot: importing" in fleet.log
    assert mold_of(fleet) == old
    assert fleet.pids() == workers
    os.kill(workers[1], signal.SIGKILL)  # the old code is on disk no more, but in the mold
    eventually(lambda: fleet.pids().get(1) not in {None, workers[1]}, "the worker has been replaced")
    assert fleet.get().startswith("v1")


def test_a_mold_that_dies_is_replaced_and_its_workers_are_not_touched(fleet: Fleet) -> None:
    fleet.start()
    old, workers = mold_of(fleet), fleet.pids()
    eventually(lambda: fleet.status()["arbiter"]["uptime"] > 1.2, "it has lived for a while")
    os.kill(old, signal.SIGKILL)
    eventually(lambda: (fleet.status()["mold"] or {}).get("pid") not in {None, old}, "there is a new mold")
    assert fleet.pids() == workers
    os.kill(workers[2], signal.SIGKILL)
    eventually(lambda: fleet.pids().get(2) not in {None, workers[2]}, "the new mold forks")
    assert fleet.get().startswith("v1 ")


def test_a_mold_that_does_not_fork_is_killed_and_replaced(fleet: Fleet) -> None:
    fleet.start()
    old, workers = mold_of(fleet), fleet.pids()
    os.kill(old, signal.SIGSTOP)
    os.kill(workers[1], signal.SIGKILL)
    fleet.await_log("the mold is told to kill: it does not fork")
    eventually(lambda: len(fleet.pids()) == 2, "the worker has been replaced")
    assert fleet.pids()[2] == workers[2]
    assert mold_of(fleet) != old


def test_scaling_and_recycling_fork_from_the_mold(fleet: Fleet) -> None:
    fleet.start("-w", "1", "--max-requests", "5")
    mold = mold_of(fleet)
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    before = set(fleet.pids().values())
    with Traffic(fleet.connect) as traffic:
        eventually(lambda: not before & set(fleet.pids().values()), "every worker was recycled")
    assert traffic.tally.failures == []
    assert mold_of(fleet) == mold


def test_the_mold_leaves_with_an_arbiter_that_was_killed(fleet: Fleet) -> None:
    process = fleet.start()
    process.kill()
    process.wait()
    eventually(lambda: not fleet.processes(), "workers and mold have left")


def test_an_application_that_cannot_be_loaded_ends_the_start(fleet: Fleet) -> None:
    fleet.change("site_app.py", 'VERSION = "v1"', "raise RuntimeError('no database')")
    done = fleet.run()
    assert done.returncode == DaemonExit.BOOT
    assert "no database" in done.stderr
    assert "site_app.py" in done.stderr


OPENS = """\
VERSION = "v1"
import asyncio, ctypes, socket, struct, threading
threads_before = threading.Thread(target=int)
threads_before.start()
connection = socket.create_connection(("127.0.0.1", {port}))
closed = socket.create_connection(("127.0.0.1", {port}))
closed.close()
threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="poller").start()
libc = ctypes.CDLL(None, use_errno=True)
in_c = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", {port}) + socket.inet_aton("127.0.0.1") + bytes(8)
assert libc.connect(in_c, address, 16) == 0
assert libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None) == 0
exposed = socket.create_server(("127.0.0.1", 0))
loop = asyncio.new_event_loop()
"""


def test_threads_and_sockets_of_the_import_are_told_whoever_opened_them(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        fleet.change("site_app.py", 'VERSION = "v1"', OPENS.format(port=port))
        fleet.start()
    lines = (fleet.folder / "site_app.py").read_text().splitlines()
    place = {
        name: f"{fleet.folder}/site_app.py:{1 + next(at for at, line in enumerate(lines) if name in line)}"
        for name in ("connection =", "poller")
    }
    opened = "app.preload: the application has opened "
    told = [line.partition(opened)[2] for line in fleet.log.splitlines() if opened in line]
    support = "in the workers, which are forked while it runs, only libraries with at-fork support go on"
    assert len(told) == 6, told
    assert told[0].startswith(f"a thread (poller), started at {place['poller']}; {support}")
    assert told[1].startswith("threads past Python's threading (1 × ")
    assert support in told[1]
    told.sort()
    assert told[0].startswith(
        f"a connection to 127.0.0.1:{port}, opened at {place['connection =']}; all workers"
    )
    assert told[1].startswith(
        f"a connection to 127.0.0.1:{port}, opened by code past Python's socket module;"
    )
    assert told[2].startswith("a listening socket at 127.0.0.1:")
    assert told[4].startswith("socket pairs (descriptors ")


TICKS = """\
import threading
class Version:
    seen = set()
    def __str__(self):
        return "goes on" if os.getpid() in self.seen else "is dead"
VERSION = Version()
def tick():
    while True:
        VERSION.seen.add(os.getpid())
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True, name="ticker").start()
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_a_thread_of_the_import_that_is_a_greenlet_goes_on_in_each_worker_and_is_told_so(
    fleet: Fleet, kind: str
) -> None:
    fleet.change("site_app.py", 'VERSION = "v1"', TICKS)
    fleet.start("-k", kind, "-w", "1")
    eventually(lambda: fleet.get().startswith("goes on"), "it runs in the worker")
    [told] = [line for line in fleet.log.splitlines() if "app.preload: " in line]
    assert "(ticker)" in told
    assert told.endswith("it is a greenlet: each worker goes on with it")


@pytest.mark.parametrize("preload", ["true", "false"])
def test_warmup_asks_the_application_before_it_is_ready(fleet: Fleet, preload: str) -> None:
    fleet.change("unicornd.toml", PRELOAD, f'preload = {preload}\nwarmup = ["/warm?x=1"]\n')
    fleet.change("site_app.py", "def application(environ, start_response):", "ASKED = []\ndef application(environ, start_response):\n    ASKED.append(environ['PATH_INFO'] + '?' + environ['QUERY_STRING'])")  # fmt: skip
    fleet.change(
        "site_app.py", "body = ", "body = repr(ASKED).encode() if environ['PATH_INFO'] == '/asked' else "
    )
    fleet.start("-w", "1")
    assert fleet.get("/asked") == "['/warm?x=1', '/asked?']"


@pytest.mark.parametrize("preload", ["true", "false"])
def test_an_application_that_cannot_answer_its_warmup_cannot_boot(fleet: Fleet, preload: str) -> None:
    fleet.change("unicornd.toml", PRELOAD, f'preload = {preload}\nwarmup = ["/healthz"]\n')
    fleet.change(
        "site_app.py",
        "    if environ",
        "    if environ['PATH_INFO'] == '/healthz': raise LookupError('cold')\n    if environ",
    )
    done = fleet.run()
    assert done.returncode == DaemonExit.BOOT
    assert "app.warmup: GET /healthz raised LookupError: cold" in done.stderr


def test_orphans_of_applications_are_reaped(fleet: Fleet) -> None:
    """The arbiter is the subreaper: what an application leaves behind becomes its child."""
    fleet.change("site_app.py", "    body = ", "    if environ['PATH_INFO'] == '/orphan':\n        import subprocess\n        keys = None\n        pid = subprocess.check_output(['sh', '-c', 'sleep 0.3 & echo $!'])\n        start_response('200 OK', []); return [pid.strip()]\n    body = ")  # fmt: skip
    fleet.start()
    orphan = int(fleet.get("/orphan"))
    eventually(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is gone, not a zombie")
