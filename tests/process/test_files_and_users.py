"""An arbiter that is root, workers that are not, and folders that the workers' user may write."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.places import is_python_public, open_folder
from tests.support.waiting import eventually
from unicornd.control.client import ControlError
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

WSGI = """\
import os, sys

def application(environ, start_response):
    if environ["PATH_INFO"] == "/crash":
        os._exit(1)
    print("printed by", os.getpid())
    body = f"{os.getuid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
ASGI = """\
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""
USER = '[process]\nuser = "nobody"\n'
SMALL = frozenset({"sync", "threads"})
"""Kinds that import nothing more once the worker is somebody else."""
KINDS = ("sync", "threads", "gevent", "gevent_pywsgi", "eventlet", "tornado", "asgi")


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Its folder is root's; everybody may enter it."""
    with open_folder() as folder, fleet_in(folder) as made:
        made.write("site_app.py", WSGI)
        yield made


def say(fleet: Fleet, text: str) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(text)


def theirs(fleet: Fleet, name: str = "theirs") -> Path:
    """A folder of nobody's."""
    folder = fleet.folder / name
    folder.mkdir()
    give(folder)
    return folder


def give(path: Path) -> None:
    entry = pwd.getpwnam("nobody")
    os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def plant(link: Path, target: Path) -> None:
    """As nobody does."""
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    give(link)


def precious(fleet: Fleet) -> Path:
    path = fleet.write("precious", "precious\n")
    path.chmod(0o600)
    return path


def is_untouched(path: Path) -> bool:
    found = path.stat()
    return (found.st_uid, stat.S_IMODE(found.st_mode), path.read_text()) == (0, 0o600, "precious\n")


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def uid(path: Path) -> int:
    return path.lstat().st_uid


NOBODY = pwd.getpwnam("nobody").pw_uid


def open_files(pid: int) -> set[str]:
    """Return the paths that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found


def ask_all(fleet: Fleet, log: Path) -> None:
    """Wait until every worker has this log open and no older one; then a request must be found in it.

    Which worker answers is not ours to say: one that is idle may take every request.
    """
    former = {f"{log}.1", str(log.with_name("one.log"))} - {str(log)}

    def is_there() -> bool:
        opened = [open_files(pid) for pid in fleet.pids().values()]
        return all(str(log) in each and not former & each for each in opened)

    eventually(is_there, f"every worker has {log.name} open, and none before it")
    size = log.stat().st_size
    fleet.get("/asked")
    eventually(lambda: log.stat().st_size > size, f"{log.name} has the line of a request")
    assert int(read(log).split()[-1].strip("<>")) in fleet.pids().values()


def test_a_log_that_is_a_link_in_their_folder_refuses_the_start_and_says_what_to_do(fleet: Fleet) -> None:
    target, folder = precious(fleet), theirs(fleet)
    plant(folder / "error.log", target)
    say(fleet, USER + '[logging]\nerror = "theirs/error.log"\n')
    done = fleet.run()
    assert done.returncode == DaemonExit.CONFIG
    assert "logging.error: cannot open" in done.stderr
    assert (
        f"error.log is a symbolic link, in the folder {folder} that others than root may write" in done.stderr
    )
    assert "hint: name the file that is meant, or use a folder that only root may write" in done.stderr
    assert is_untouched(target)


def test_links_that_are_planted_while_a_fleet_runs_lead_nobody_anywhere(fleet: Fleet) -> None:
    target, folder = precious(fleet), theirs(fleet)
    say(
        fleet,
        USER
        + '[logging]\nerror = "theirs/error.log"\n[logging.access]\nfile = "theirs/access.log"\nformat = "%(p)s"\n',
    )
    fleet.start()
    assert {uid(folder / name) for name in ("error.log", "access.log")} == {NOBODY}, "made in their name"
    for name in ("error.log", "access.log"):
        (folder / name).rename(folder / f"{name}.1")
        plant(folder / name, target)
    fleet.send(signal.SIGUSR1)
    eventually(lambda: "cannot reopen a log" in read(folder / "error.log.1"), "it is told in the old one")
    assert "is a symbolic link" in read(folder / "error.log.1")
    before = set(fleet.pids().values())
    connection = fleet.connect()
    connection.request("GET", "/crash")
    with pytest.raises(OSError, match=r".*"):
        connection.getresponse()
    connection.close()
    eventually(
        lambda: len(fleet.pids()) == 2 and set(fleet.pids().values()) != before, "a worker was replaced"
    )
    assert all(str(folder / "access.log.1") in open_files(pid) for pid in fleet.pids().values())
    with pytest.raises(ControlError):
        fleet.client.post("/v1/reload", {})
    fleet.await_state("ready")
    assert is_untouched(target)
    (folder / "access.log").unlink()
    (folder / "error.log").unlink()
    fleet.send(signal.SIGUSR1)
    ask_all(fleet, folder / "access.log")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preload", ["", "preload = true\n"], ids=["", "preload"])
def test_after_logrotate_workers_without_a_right_to_the_folder_write_into_the_new_file(
    fleet: Fleet, kind: str, preload: str
) -> None:
    fleet.write("site_app.py", ASGI if kind == "asgi" else WSGI)
    (fleet.folder / "logs").mkdir(mode=0o700)
    folder = fleet.folder / "logs"
    say(
        fleet,
        (USER if kind in SMALL or is_python_public() else "")
        + '[logging]\nerror = "logs/error.log"\ncapture_output = true\n'
        '[logging.access]\nfile = "logs/access.log"\nformat = "%(p)s"\n',
    )
    fleet.change("unicornd.toml", "count = 2\n", f'count = 2\nkind = "{kind}"\n')
    fleet.change("unicornd.toml", "[app]\n", f"[app]\n{preload}")
    fleet.start()
    ask_all(fleet, folder / "access.log")
    for name in ("error.log", "access.log"):
        (folder / name).rename(folder / f"{name}.1")
    fleet.client.post("/v1/reopen", {})
    ask_all(fleet, folder / "access.log")
    size = (folder / "access.log.1").stat().st_size
    fleet.client.post("/v1/scale", {"count": 3})
    fleet.await_workers(3)
    ask_all(fleet, folder / "access.log")
    assert (folder / "access.log.1").stat().st_size == size, "nobody writes into the old one"
    assert uid(folder / "access.log") == 0
    assert "cannot reopen" not in read(folder / "error.log.1") + read(folder / "error.log")
    if kind != "asgi":
        for pid in fleet.pids().values():
            assert Path(f"/proc/{pid}/fd/1").readlink() == folder / "error.log"


def test_a_reload_to_other_files_has_them_opened_for_the_new_workers(fleet: Fleet) -> None:
    (fleet.folder / "logs").mkdir(mode=0o700)
    say(fleet, USER + '[logging.access]\nfile = "logs/one.log"\nformat = "%(p)s"\n')
    fleet.start()
    ask_all(fleet, fleet.folder / "logs" / "one.log")
    old = set(fleet.pids().values())
    fleet.change("unicornd.toml", "logs/one.log", "logs/two.log")
    fleet.client.post("/v1/reload", {})
    eventually(lambda: len(fleet.pids()) == 2 and not old & set(fleet.pids().values()), "all are new")
    ask_all(fleet, fleet.folder / "logs" / "two.log")
    everybody = (fleet.status()["arbiter"]["pid"], *fleet.pids().values())

    def is_let_go() -> bool:
        return not any(str(fleet.folder / "logs" / "one.log") in open_files(pid) for pid in everybody)

    eventually(is_let_go, "nobody has the old file open any more")


def test_standard_error_by_its_path_and_a_link_of_roots_are_logs(fleet: Fleet) -> None:
    (fleet.folder / "current.log").symlink_to("real.log")
    say(
        fleet,
        USER + '[logging]\nerror = "/dev/stderr"\n[logging.access]\nfile = "current.log"\nformat = "%(p)s"\n',
    )
    fleet.start()
    fleet.await_log("the fleet is ready")
    ask_all(fleet, fleet.folder / "real.log")
    (fleet.folder / "real.log").rename(fleet.folder / "real.log.1")
    fleet.send(signal.SIGUSR1)
    ask_all(fleet, fleet.folder / "real.log")


def test_the_pidfile_takes_the_place_of_a_link_and_its_target_stays(fleet: Fleet) -> None:
    target, folder = precious(fleet), theirs(fleet)
    plant(folder / "app.pid", target)
    for pid in range(1, 50):
        plant(folder / f".app.pid.{pid}", target)
    say(fleet, USER + 'pidfile = "theirs/app.pid"\n')
    process = fleet.start()
    assert (folder / "app.pid").read_text() == f"{process.pid}\n"
    assert not (folder / "app.pid").is_symlink()
    plant(folder / "app.pid", target)
    assert fleet.end() == 0
    assert (folder / "app.pid").is_symlink(), "only our own file is removed"
    assert is_untouched(target)


def test_a_way_to_the_pidfile_that_they_bend_is_refused(fleet: Fleet) -> None:
    folder = theirs(fleet)
    (fleet.folder / "own").mkdir()
    plant(folder / "run", fleet.folder / "own")
    say(fleet, USER + 'pidfile = "theirs/run/app.pid"\n')
    done = fleet.run()
    assert done.returncode == DaemonExit.CONFIG
    assert "process.pidfile: cannot write" in done.stderr
    assert "is a symbolic link in a folder that others than root may write" in done.stderr
    assert not list((fleet.folder / "own").iterdir())


def test_a_drop_in_that_is_a_link_is_not_written_through(fleet: Fleet) -> None:
    target, folder = precious(fleet), theirs(fleet, "unicornd.d")
    say(fleet, USER)
    fleet.start()
    plant(folder / "50-unicornctl.toml", target)
    with pytest.raises(ControlError, match="is a symbolic link"):
        fleet.client.post("/v1/scale", {"count": 3, "save": True})
    assert is_untouched(target)
    assert len(fleet.pids()) == 2


def test_a_unix_listener_in_their_folder_is_theirs_and_one_in_ours_is_given_to_them(fleet: Fleet) -> None:
    folder = theirs(fleet)
    (fleet.folder / "run").mkdir()
    fleet.change(
        "unicornd.toml",
        'bind = "127.0.0.1:0"',
        'bind = ["unix:theirs/web.sock", "unix:run/web.sock"]\nsocket_mode = "0600"',
    )
    say(fleet, USER)
    fleet.start()
    for path in (folder / "web.sock", fleet.folder / "run" / "web.sock"):
        assert (uid(path), stat.S_IMODE(path.lstat().st_mode)) == (NOBODY, 0o600)
    assert fleet.end() == 0
    assert not (folder / "web.sock").exists()
    assert not (fleet.folder / "run" / "web.sock").exists()


def test_files_of_the_operators_logging_are_opened_in_the_workers_name(fleet: Fleet) -> None:
    target, folder = precious(fleet), theirs(fleet)
    table = {
        "version": 1,
        "handlers": {
            "own": {
                "class": "logging.handlers.RotatingFileHandler",
                "filename": str(folder / "own.log"),
                "maxBytes": 300,
                "backupCount": 2,
            }
        },
        "loggers": {"gunicorn.error": {"handlers": ["own"], "level": "INFO", "propagate": False}},
    }
    fleet.write("log.json", json.dumps(table))
    say(fleet, USER + '[logging]\nconfig_json = "log.json"\n')
    fleet.start()
    assert uid(folder / "own.log") == NOBODY
    fleet.send(signal.SIGUSR1)
    for name in (
        "own.log",
        "own.log.1",
        "own.log.2",
    ):  # the next rotation opens and renames: as nobody it may not do harm
        plant(folder / name, target)
    for number in range(4):
        fleet.client.post("/v1/scale", {"count": 1 + number % 2})
        fleet.await_workers(1 + number % 2)
    assert is_untouched(target)


def test_a_configuration_of_logging_whose_file_they_may_not_open_is_told_before_the_start(
    fleet: Fleet,
) -> None:
    (fleet.folder / "logs").mkdir(mode=0o700)
    table = {
        "version": 1,
        "handlers": {
            "own": {"class": "logging.FileHandler", "filename": str(fleet.folder / "logs" / "own.log")}
        },
        "root": {"handlers": ["own"]},
    }
    fleet.write("log.json", json.dumps(table))
    say(fleet, USER + '[logging]\nconfig_json = "log.json"\n')
    done = fleet.run()
    assert done.returncode == DaemonExit.CONFIG
    assert "logging.config_json" in done.stderr
    assert "Permission denied" in done.stderr
    assert not list((fleet.folder / "logs").iterdir())
