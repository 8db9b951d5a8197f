"""The operator's functions: all of them, in which process, in which order, with what."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.kinds import site
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOOKS = """\
import os, pathlib

BOOK = pathlib.Path(__file__).parent / "book"

def shown(pid): return f"pid={pid}" if pid else 0
def note(name, *words):
    with BOOK.open("a") as book:
        book.write(" ".join([str(os.getpid()), name, *map(str, words)]) + "\\n")

def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_starting(server): note("on_starting", server.cfg.workers, shown(server.pid))
def when_ready(server): note("when_ready", server.proc_name)
def on_reload(server): note("on_reload", server.cfg.workers)
def pre_fork(server, worker): note("pre_fork", worker.age, shown(worker.pid))
def post_fork(server, worker): note("post_fork", worker.age, shown(worker.pid), server.pid == worker.ppid == os.getppid())
def post_worker_init(worker): note("post_worker_init", worker.age, callable(worker.app), worker.booted)
def worker_int(worker): note("worker_int", worker.age)
def worker_abort(worker): note("worker_abort", worker.age)
def pre_request(worker, req):
    req.noted = worker.booted and worker.tmp.last_update() > 0
    note("pre_request", worker.age, req.method, req.path)
def post_request(worker, req, environ, resp): note("post_request", req.noted, environ["PATH_INFO"], resp.status_code)
def post_request_3(worker, req, environ): note("post_request", 3, environ["PATH_INFO"])
def post_request_2(worker, req): note("post_request", 2, req.path)
def post_request_any(*arguments): note("post_request", len(arguments))
def child_exit(server, worker): note("child_exit", worker.age, shown(worker.pid))
def worker_exit(server, worker): note("worker_exit", worker.age, worker.alive)
def on_exit(server): note("on_exit", os.path.exists("unicornd.pid"))
def one(a): pass
def three(a, b, c): pass
"""
NAMES = (
    "nworkers_changed", "on_starting", "when_ready", "on_reload", "pre_fork", "post_fork", "post_worker_init", "worker_int",
    "worker_abort", "pre_request", "post_request", "child_exit", "worker_exit", "on_exit",
)  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("deploy.py", HOOKS)
        yield made


def say(fleet: Fleet, text: str) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(text)


def use(fleet: Fleet, **hooks: str) -> None:
    say(fleet, "[hooks]\n" + "".join(f'{name} = "{target}"\n' for name, target in hooks.items()))


def book(fleet: Fleet, *names: str, since: int = 0) -> list[str]:
    """Return what was noted, with the process named by its role; of some hooks only, if they are given."""
    path = fleet.folder / "book"
    lines = path.read_text().splitlines() if path.exists() else []
    assert fleet.process is not None
    arbiter = str(fleet.process.pid)
    said = []
    for line in lines[since:]:
        pid, name, *words = line.split()
        role = "arbiter" if pid == arbiter else "worker"
        words = ["PID" if word.startswith("pid=") else word for word in words]
        if not names or name in names:
            said.append(" ".join([role, name, *words]))
    return said


def await_line(fleet: Fleet, line: str, since: int = 0) -> None:
    eventually(lambda: line in book(fleet, since=since), f"{line!r} was noted: {book(fleet)}")


def test_every_hook_is_called_in_its_process_at_its_moment(fleet: Fleet) -> None:
    use(fleet, **{name: f"deploy:{name}" for name in NAMES})
    fleet.start("-w", "1", "-n", "shop", "-p", "unicornd.pid")
    start = [
        "arbiter nworkers_changed 1 None",
        "arbiter on_starting 1 PID",
        "arbiter when_ready shop",
        "arbiter pre_fork 1 0",
        "worker post_fork 1 PID True",
        "worker post_worker_init 1 True False",
    ]
    assert book(fleet) == start
    fleet.get("/asked")
    request = ["worker pre_request 1 GET /asked", "worker post_request True /asked 200"]
    eventually(lambda: book(fleet)[len(start) :] == request, f"a request: {book(fleet)}")
    mark = len(book(fleet))
    fleet.send(signal.SIGHUP)
    await_line(fleet, "arbiter child_exit 1 PID", mark)
    assert book(fleet, since=mark) == [
        "arbiter on_reload 1",
        "arbiter pre_fork 2 0",
        "worker post_fork 2 PID True",
        "worker post_worker_init 2 True False",
        "worker worker_exit 1 True",
        "arbiter child_exit 1 PID",
    ]
    mark = len(book(fleet))
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    assert book(fleet, since=mark) == [
        "arbiter nworkers_changed 2 1",
        "arbiter pre_fork 3 0",
        "worker post_fork 3 PID True",
        "worker post_worker_init 3 True False",
    ]
    mark = len(book(fleet))
    os.kill(fleet.pids()[2], signal.SIGKILL)
    await_line(fleet, "worker post_worker_init 4 True False", mark)
    assert book(fleet, since=mark)[:2] == ["arbiter child_exit 3 PID", "arbiter pre_fork 4 0"]
    mark = len(book(fleet))
    os.kill(fleet.await_workers(2)[2], signal.SIGQUIT)
    await_line(fleet, "arbiter child_exit 4 PID", mark)
    assert book(fleet, since=mark)[:3] == [
        "worker worker_int 4",
        "worker worker_exit 4 True",
        "arbiter child_exit 4 PID",
    ]
    os.kill(fleet.await_workers(2)[1], signal.SIGABRT)
    await_line(fleet, "worker worker_abort 2", mark)
    fleet.await_workers(2)
    mark = len(book(fleet))
    assert fleet.end() == 0
    end = book(fleet, since=mark)
    assert end[-1] == "arbiter on_exit False"
    assert sorted(line.split()[1] for line in end[:-1]) == ["child_exit"] * 2 + ["worker_exit"] * 2


@pytest.mark.parametrize(
    ("target", "line"),
    [("post_request_3", "3 /asked"), ("post_request_2", "2 /asked"), ("post_request_any", "4")],
)
def test_post_request_gets_as_much_as_it_takes(fleet: Fleet, target: str, line: str) -> None:
    use(fleet, post_request=f"deploy:{target}")
    fleet.start("-w", "1")
    fleet.get("/asked")
    await_line(fleet, f"worker post_request {line}")


@pytest.mark.parametrize(
    ("hook", "target", "said"),
    [
        ("on_starting", "three", "three(a, b, c) cannot be called with 1 argument"),
        ("pre_fork", "one", "one(a) cannot be called with 2 arguments"),
        ("nworkers_changed", "one", "one(a) cannot be called with 3 arguments"),
        ("post_request", "one", "one(a) cannot be called with 4 or 3 or 2 arguments"),
        ("post_worker_init", "three", "three(a, b, c) cannot be called with 1 argument"),
    ],
)
def test_a_hook_with_other_parameters_is_an_error_that_says_so(
    fleet: Fleet, hook: str, target: str, said: str
) -> None:
    use(fleet, **{hook: f"deploy:{target}"})
    done = fleet.run()
    assert done.returncode != 0
    assert f"hooks.{hook}: {said}" in done.stderr


def test_hooks_of_one_file_see_the_same_names_in_a_process(fleet: Fleet) -> None:
    fleet.write("shared.py", SHARED)
    use(
        fleet,
        **{name: f"./shared.py:{name}" for name in ("pre_request", "post_request", "pre_fork", "child_exit")},
    )
    fleet.start("-w", "1")
    fleet.get("/asked")
    fleet.await_log("began at /asked, the file was run once")
    os.kill(fleet.pids()[1], signal.SIGKILL)
    fleet.await_log("worker 1 was announced, forks 1, others []")


SHARED = """\
BEGUN = {}
RUNS = []
FORKS = []
RUNS.append(1)

def pre_request(worker, req): BEGUN[worker.pid] = req.path
def post_request(worker, req, environ, resp):
    worker.log.info("began at %s, the file was run %s", BEGUN.pop(worker.pid), {1: "once"}[len(RUNS)])
def pre_fork(server, worker):
    FORKS.append(worker.age)
    worker.is_announced = True
def child_exit(server, worker):
    assert worker.is_announced
    others = [other for pid, other in server.WORKERS.items() if pid != worker.pid]
    server.log.info("worker %s was announced, forks %s, others %s", worker.age, len(FORKS), others)
"""


def test_the_arbiters_hooks_see_the_living_workers(fleet: Fleet) -> None:
    fleet.write("seeing.py", SEEING)
    use(fleet, nworkers_changed="./seeing.py:nworkers_changed")
    fleet.start()
    fleet.send(signal.SIGTTIN)
    pids = fleet.await_workers(3)
    assert f"living: {sorted([pids[1], pids[2]])}, ages [1, 2]" in fleet.log


SEEING = """\
def nworkers_changed(server, new, old):
    living = server.WORKERS
    server.log.info("living: %s, ages %s", sorted(living), sorted(worker.age for worker in living.values()))
"""


@pytest.mark.parametrize("kind", ["sync", "threads", "gevent", "asgi"])
def test_a_hook_that_says_that_a_worker_is_not_alive_has_it_replaced(fleet: Fleet, kind: str) -> None:
    fleet.write("site_app.py", site(kind))
    fleet.write(
        "leaving.py", "def post_request(worker, req, environ, resp): worker.alive = req.path != '/leave'\n"
    )
    use(fleet, post_request="./leaving.py:post_request")
    fleet.start("-w", "1", "-k", kind)
    before = fleet.pids()[1]
    assert fleet.get("/") == fleet.get("/") == f"v1 {before}"
    fleet.get("/leave")
    fleet.await_log("a hook set worker.alive = False")
    eventually(lambda: before not in fleet.await_workers(1).values(), "another worker serves")


def test_a_reload_takes_the_hooks_of_the_new_configuration(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    use(fleet, on_reload="deploy:on_reload", child_exit="deploy:child_exit")
    fleet.send(signal.SIGHUP)
    await_line(fleet, "arbiter on_reload 1")
    await_line(fleet, "arbiter child_exit 1 PID")


NUMBERED = """\
import os, socket
BOOK = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "book"), "a", buffering=1)

def on_starting(server):
    server._number_of_workers, server._spare, server.socket_factory = server.cfg.workers, set(), socket.socket
    print("starting", server.address, server.LISTENERS, server.app.callable, server.app.cfg is server.cfg, file=BOOK)

def on_reload(server): server._spare = set(range(1, server.cfg.workers + 1))

def when_ready(server):
    for each in server.LISTENERS:
        state = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        print("listens", str(each), each.sock.getsockname()[1] > 0, each.cfg_addr, state == 10, file=BOOK)
    print("settings", server.cfg.settings["workers"].get(), server.cfg.settings["timeout"].value, file=BOOK)

def pre_fork(server, worker):
    used = {each._number for each in server.WORKERS.values()}
    free = server._spare or set(range(1, server._number_of_workers + 1)) - used
    worker._number = free.pop()

def post_fork(server, worker):
    print("number", worker._number, "of", server._number_of_workers, file=BOOK)
    print("forked", worker.app.callable, worker.wsgi, len(worker.sockets), hasattr(server, "socket_factory"), file=BOOK)
    try:
        worker.app.wsgi()
    except RuntimeError as error:
        print("refused:", error, file=BOOK)

def post_worker_init(worker):
    loaded = worker.app.wsgi()
    print("loaded", loaded is worker.wsgi is worker.app.callable, loaded.__name__, worker.cfg.worker_class, file=BOOK)
"""


def test_hooks_find_what_gunicorns_have_and_what_they_have_left_themselves(fleet: Fleet) -> None:
    fleet.write("deploy.py", NUMBERED)
    names = ("on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init")
    use(fleet, **{name: f"deploy:{name}" for name in names})
    fleet.start()

    port = fleet.addresses()[0].rpartition(":")[2]
    lines = (fleet.folder / "book").read_text().splitlines()
    assert lines[:3] == [
        "starting [('127.0.0.1', 0)] [] None True",
        f"listens http://127.0.0.1:{port} True ('127.0.0.1', 0) True",
        "settings 2 30",
    ]
    forked = "forked None None 1 "
    assert set(lines[3:]) == {
        "number 1 of 2",
        "number 2 of 2",
        f"{forked}True",
        "refused: the application is not loaded here: it is in the workers, from post_worker_init on; the arbiter never has it",
        "loaded True application sync",
    }
    fleet.change("unicornd.toml", "[app]", "[app]\npreload = true")
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    lines = (fleet.folder / "book").read_text().splitlines()[len(lines) :]
    assert {"number 1 of 2", "number 2 of 2"} < set(lines), "as well from a mold"
    assert f"{forked}False" in lines, "a mold is told what is plain data"
    assert "a hook raised" not in fleet.log


def test_a_changed_count_is_told_on_reload(fleet: Fleet) -> None:
    use(fleet, nworkers_changed="deploy:nworkers_changed")
    fleet.start()
    fleet.change("unicornd.toml", "count = 2", "count = 3")
    fleet.send(signal.SIGHUP)
    fleet.await_workers(3)
    assert book(fleet) == ["arbiter nworkers_changed 2 None", "arbiter nworkers_changed 3 2"]


def test_processes_are_named(fleet: Fleet) -> None:
    fleet.start("-w", "1", "-n", "shop")
    assert fleet.process is not None
    assert title(fleet.process.pid) == "unicornd: arbiter [shop]"
    assert title(fleet.pids()[1]) == "unicornd: worker 1 [shop]"


def title(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:  # noqa: PTH123 - /proc
        return file.read().rstrip("\0")


def test_spew_prints_the_lines_that_are_executed(fleet: Fleet) -> None:
    fleet.start("-w", "1", "--spew")
    fleet.get("/")
    fleet.await_log('    start_response("200 OK"')
    assert "site_app.py:7: " in fleet.log


def test_hooks_that_raise_are_logged_by_name_and_the_fleet_goes_on(fleet: Fleet) -> None:
    names = [name for name in NAMES if name != "on_starting"]
    raising = (f"def {name}(*given): raise RuntimeError('not {name}')\n" for name in names)
    fleet.write("raising.py", "".join(raising))
    use(fleet, **{name: f"./raising.py:{name}" for name in names})
    fleet.start("-w", "1")
    assert fleet.get("/").startswith("v1 ")
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    os.kill(fleet.await_workers(1)[1], signal.SIGQUIT)
    fleet.await_log("hook=worker_int")
    os.kill(fleet.await_workers(1)[1], signal.SIGABRT)
    fleet.await_log("hook=worker_abort")
    fleet.await_workers(1)
    assert fleet.get("/").startswith("v1 ")
    assert fleet.end() == 0
    for name in names:
        assert f"a hook raised hook={name}\n" in fleet.log
        assert f"RuntimeError: not {name}" in fleet.log
