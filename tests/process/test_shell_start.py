"""Starting a fleet: who is in the way, what fails, what the starting terminal is told."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, command, fleet_in
from tests.support.places import open_folder, through_open_places
from tests.support.waiting import eventually
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_THE_WAY = 'VERSION = "v1"'
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


@pytest.fixture
def open_fleet() -> Iterator[Fleet]:
    """A fleet whose folder every user can enter."""
    with open_folder() as folder, fleet_in(folder) as made:
        made.through = through_open_places(folder)
        yield made


def left_behind(fleet: Fleet) -> set[str]:
    ours = {"site_app.py", "unicornd.toml", "log", "control.log", "__pycache__", "error.log"}
    return {path.name for path in fleet.folder.iterdir()} - ours


def test_a_port_in_use_is_named_with_its_holder_and_nothing_is_left(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = fleet.run("-p", "unicornd.pid", "-b", "unix:web.sock", "-b", f"127.0.0.1:{port}")
    assert done.returncode == DaemonExit.FAILED
    assert f"cannot listen on 127.0.0.1:{port}: the address is in use" in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert not left_behind(fleet)


def test_children_that_ended_before_the_arbiter_listened_are_reaped(fleet: Fleet) -> None:
    """The process that read the configuration; and what a script had started before it became unicornd."""
    before = 'true & while read -r _ _ state _ < /proc/$!/stat && [ $state != Z ]; do :; done; exec "$@"'
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(
            ["sh", "-c", before, "sh", *command(())],
            cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log,
        )  # fmt: skip
    fleet.await_state("ready")
    pid = fleet.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    eventually(
        lambda: {int(child) for child in children.read_text().split()} == set(fleet.pids().values()),
        "the workers are its only children",
    )


def test_a_live_unix_socket_of_somebody_else_is_left_alone(fleet: Fleet) -> None:
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(fleet.folder / "web.sock"))
        holder.listen()
        done = fleet.run("-b", "unix:web.sock")
        assert done.returncode == DaemonExit.FAILED
        assert "in use" in done.stderr
        assert str(os.getpid()) in done.stderr
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(fleet.folder / "web.sock"))


def test_a_stale_unix_socket_is_replaced(fleet: Fleet) -> None:
    path = fleet.folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    fleet.start("-b", "unix:web.sock", "--set", "server.socket_mode=0640")
    assert path.stat().st_mode & 0o777 == 0o640
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_second_start_names_the_first_and_does_not_disturb_it(fleet: Fleet) -> None:
    process = fleet.start()
    before = fleet.pids()
    done = fleet.run()
    assert done.returncode == DaemonExit.FAILED
    assert "already running" in done.stderr
    assert str(process.pid) in done.stderr
    assert fleet.pids() == before


def test_a_pidfile_of_a_living_instance_refuses_another_one(fleet: Fleet) -> None:
    process = fleet.start("-p", "unicornd.pid")
    other = str(fleet.folder / "other.sock")
    done = fleet.run("-p", "unicornd.pid", UNICORND_CONTROL__SOCKET=other)
    assert done.returncode == DaemonExit.FAILED
    assert str(process.pid) in done.stderr
    assert (fleet.folder / "unicornd.pid").read_text() == f"{process.pid}\n"
    assert not Path(other).exists()


def test_a_pidfile_with_the_pid_alone_refuses_a_second_start_too(fleet: Fleet) -> None:
    process = fleet.start()
    fleet.write("unicornd.pid", f"{process.pid}\n")  # as gunicorn writes it
    done = fleet.run("-p", "unicornd.pid", UNICORND_CONTROL__SOCKET=str(fleet.folder / "other.sock"))
    assert done.returncode == DaemonExit.FAILED
    assert f"names process {process.pid}" in done.stderr
    assert "unicornctl ls" in done.stderr


def test_a_port_of_another_fleet_is_told_to_be_that(fleet: Fleet) -> None:
    process = fleet.start()
    done = fleet.run("-b", fleet.addresses()[0], UNICORND_CONTROL__SOCKET=str(fleet.folder / "other.sock"))
    assert done.returncode == DaemonExit.FAILED
    assert f"(pid {process.pid})" in done.stderr
    assert "held by unicornd" in done.stderr
    assert "unicornctl ls" in done.stderr


@pytest.mark.parametrize("text", ["", "nonsense\n", "4194303\n", "-1\n"])
def test_a_stale_pidfile_does_not_block_the_start(fleet: Fleet, text: str) -> None:
    fleet.write("unicornd.pid", text)
    process = fleet.start("-p", "unicornd.pid")
    assert (fleet.folder / "unicornd.pid").read_text() == f"{process.pid}\n"


@pytest.mark.parametrize(
    "command", [["sleep", "600"], ["tail", "-f", "unicornd.toml"]], ids=["sleep", "tail"]
)
def test_a_pid_that_another_program_has_now_does_not_block_the_start(
    fleet: Fleet, command: list[str]
) -> None:
    stranger = subprocess.Popen(command, cwd=fleet.folder, stdout=subprocess.DEVNULL)
    try:
        fleet.write("unicornd.pid", f"{stranger.pid}\n")
        fleet.start("-p", "unicornd.pid")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_pid_that_another_unicornd_has_now_does_not_block_the_start(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with fleet_in(folder) as other:
        process = other.start()
        path = fleet.write("unicornd.pid", f"{process.pid}\n")
        os.utime(path, (0, 0))  # it was written by one that ended before this one started
        fleet.start("-p", "unicornd.pid")


def test_a_pidfile_of_an_earlier_release_still_refuses_a_second_start(fleet: Fleet) -> None:
    """It has a second line, which says when the process was started (field 22 of proc(5), in clock ticks)."""
    process = fleet.start()
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    path = fleet.write("unicornd.pid", f"{process.pid}\n{started}\n")
    other = str(fleet.folder / "other.sock")
    assert fleet.run("-p", path.name, UNICORND_CONTROL__SOCKET=other).returncode == DaemonExit.FAILED
    fleet.write("unicornd.pid", f"{process.pid}\n12345\n")
    (fleet.folder / "second").mkdir()
    with fleet_in(fleet.folder / "second") as second:
        replacing = second.start("-p", str(path))
        assert path.read_text() == f"{replacing.pid}\n"


def test_a_pidfile_is_for_the_shell_and_no_worker_has_it_open(fleet: Fleet) -> None:
    process = fleet.start("-p", "unicornd.pid")
    path = fleet.folder / "unicornd.pid"
    assert int(path.read_text()) == process.pid
    old = set(fleet.pids().values())
    subprocess.run(["sh", "-c", f"kill -HUP $(cat {path})"], check=True)
    eventually(lambda: len(fleet.pids()) == 2 and not old & set(fleet.pids().values()), "all are new")
    for pid in fleet.pids().values():
        links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()]
        assert path not in links
    os.utime(path, (0, 0))  # who has it open is believed, whatever the clock says
    done = fleet.run("-p", path.name, UNICORND_CONTROL__SOCKET=str(fleet.folder / "other.sock"))
    assert f"names process {process.pid}" in done.stderr


@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize("how", [(), ("-D",)], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("code", "old", "new", "says"),
    [
        (DaemonExit.BOOT, IN_THE_WAY, 'raise RuntimeError("no database")', "no database"),
        (DaemonExit.BOOT, IN_THE_WAY, "import sys; sys.exit(7)", "SystemExit"),
        (DaemonExit.BOOT, IN_THE_WAY, "import os; os._exit(9)", "exit code 9"),
        (DaemonExit.APP, "def application", "def aplication", "aplication"),
    ],
    ids=["raises", "exits", "dies", "no application"],
)
def test_a_fleet_that_cannot_boot_ends_with_its_code_and_leaves_nothing(
    fleet: Fleet, workers: str, how: tuple[str, ...], *, code: DaemonExit, old: str, new: str, says: str
) -> None:
    fleet.change("site_app.py", old, new)
    arguments = ("-w", workers, "-p", "unicornd.pid", "-b", "unix:web.sock", *how)
    done = fleet.run(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "unicornd/arbiter" not in done.stderr
    eventually(lambda: not fleet.processes(), "the daemon has ended")
    assert not left_behind(fleet)


@pytest.mark.parametrize("log", [(), ("--error-logfile", "/dev/stderr")], ids=["none", "stderr"])
def test_a_daemon_serves_when_the_command_returns(fleet: Fleet, log: tuple[str, ...]) -> None:
    done = fleet.run("-D", "-p", "unicornd.pid", "-w", "3", *log)
    assert done.returncode == DaemonExit.OK, done.stderr
    pid = int((fleet.folder / "unicornd.pid").read_text().split()[0])
    assert fleet.status()["arbiter"]["pid"] == pid
    assert len(fleet.pids()) == 3
    assert fleet.get().startswith("v1 ")
    assert os.getsid(pid) not in {pid, os.getsid(0)}, "it leads no session, so it cannot get a terminal"
    assert str(fleet.folder / "control.log") in done.stderr, "a log that nobody asked for is told"
    assert "the fleet is ready" in (fleet.folder / "control.log").read_text()
    os.kill(pid, signal.SIGTERM)


def test_what_a_daemons_application_prints_is_in_its_log(fleet: Fleet) -> None:
    fleet.change("site_app.py", IN_THE_WAY, f"print('printed', flush=True)\n{IN_THE_WAY}")
    done = fleet.run("-D", "-p", "unicornd.pid", "--error-logfile", "error.log")
    assert (done.returncode, done.stderr) == (DaemonExit.OK, "")
    assert "printed" in (fleet.folder / "error.log").read_text()
    os.kill(int((fleet.folder / "unicornd.pid").read_text().split()[0]), signal.SIGTERM)


def test_winch_sends_a_daemons_workers_away_and_hup_brings_them_back(fleet: Fleet) -> None:
    assert fleet.run("-D").returncode == DaemonExit.OK
    pid = fleet.status()["arbiter"]["pid"]
    os.kill(pid, signal.SIGWINCH)
    eventually(lambda: not fleet.status()["workers"], "all have left")
    os.kill(pid, signal.SIGHUP)
    fleet.await_workers(2)
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("how", [(), ("-D",)], ids=["foreground", "daemon"])
def test_wrong_settings_are_told_before_anything_happens(fleet: Fleet, how: tuple[str, ...]) -> None:
    fleet.change("unicornd.toml", "count = 2", 'cuont = "many"')
    done = fleet.run(*how)
    assert done.returncode == DaemonExit.CONFIG
    assert 'unicornd.toml:7: workers.cuont: unknown key (did you mean "count"?)' in done.stderr


def test_a_daemon_that_is_told_to_stop_while_it_boots_says_so(fleet: Fleet) -> None:
    fleet.change("site_app.py", IN_THE_WAY, "import time; time.sleep(600)")
    starting = fleet.spawn("-D", "-p", "unicornd.pid")
    eventually((fleet.folder / "unicornd.pid").exists, "the daemon is there")
    os.kill(int((fleet.folder / "unicornd.pid").read_text().split()[0]), signal.SIGTERM)
    assert starting.wait(timeout=20) == DaemonExit.FAILED
    assert "stopped before it was ready" in fleet.log


def test_a_worker_that_does_not_become_ready_in_time_ends_the_first_start(fleet: Fleet) -> None:
    fleet.change("site_app.py", IN_THE_WAY, "import time; time.sleep(600)")
    done = fleet.run("--set", "timeouts.boot=0.5")
    assert done.returncode == DaemonExit.BOOT
    assert "was not ready within timeouts.boot (" in done.stderr
    assert "site_app.py" in done.stderr, "where it hung"


def test_a_fleet_with_one_worker_that_cannot_boot_serves_with_the_others(fleet: Fleet) -> None:
    broken = "import os\nif os.environ['UNICORND_WORKER_SLOT'] == '2':\n    import time\n    time.sleep(1)\n    raise OSError"
    fleet.change("site_app.py", IN_THE_WAY, f"{broken}\n{IN_THE_WAY}")
    done = fleet.run("-D", "-w", "2")
    assert done.returncode == DaemonExit.OK, done.stderr
    assert fleet.status()["state"] == "degraded"
    assert fleet.get().startswith("v1 ")
    os.kill(fleet.status()["arbiter"]["pid"], signal.SIGTERM)


@NEEDS_ROOT
def test_workers_drop_their_privileges_and_unix_sockets_are_theirs(open_fleet: Fleet) -> None:
    fleet, nobody = open_fleet, pwd.getpwnam("nobody")
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write('[process]\nuser = "nobody"\numask = "0027"\n')
    process = fleet.start("-b", "127.0.0.1:0", "-b", "unix:web.sock", "-w", "1")
    (pid,) = fleet.pids().values()
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"^Uid:\s+{nobody.pw_uid}\s+{nobody.pw_uid}\s+{nobody.pw_uid}", status, re.MULTILINE)
    assert re.search(rf"^Gid:\s+{nobody.pw_gid}\s", status, re.MULTILINE)
    assert re.search(rf"^Groups:\s+({nobody.pw_gid})?\s*$", status, re.MULTILINE), "root's groups are gone"
    assert re.search(r"^Umask:\s+0027$", status, re.MULTILINE)
    assert (fleet.folder / "web.sock").stat().st_uid == nobody.pw_uid
    assert Path(f"/proc/{process.pid}").stat().st_uid == os.geteuid()


def test_workers_have_nothing_open_that_is_not_theirs(fleet: Fleet) -> None:
    fleet.start("-w", "3", "-p", "unicornd.pid")
    connection = socket.socket(socket.AF_UNIX)
    with connection:
        connection.connect(str(fleet.folder / "control.sock"))
        fleet.send(signal.SIGTTIN)
        pids = fleet.await_workers(4)
        sockets = {slot: open_files(pid, "socket:") for slot, pid in pids.items()}
    # The listener, its channel, the two ends of its own wake-up, and of the handover.
    assert {slot: len(found) for slot, found in sockets.items()} == dict.fromkeys(pids, 6)
    assert {len(open_files(pid, "pipe:")) for pid in pids.values()} == {1}, "the lifeline's reading end"
    assert {len(open_files(pid, "/memfd:")) for pid in pids.values()} == {2}, "its row and its stacks"


def open_files(pid: int, kind: str) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith(kind):
            found.add(target)
    return found


def test_hooks_of_the_arbiter_are_found_where_the_application_is(fleet: Fleet) -> None:
    (fleet.folder / "code").mkdir()
    fleet.write("code/site_app.py", (fleet.folder / "site_app.py").read_text())
    names = ["on_starting", "when_ready", "pre_fork", "child_exit", "on_reload", "on_exit"]
    lines = [
        f"def {name}(*given): print('hook {name}', getattr(given[-1], 'slot', ''), flush=True)"
        for name in names
    ]
    lines.append(
        "def nworkers_changed(server, new, old): print('hook nworkers_changed', new, old, flush=True)"
    )
    fleet.write("code/our_hooks.py", "\n".join(lines))
    hooks = "".join(f'{name} = "our_hooks:{name}"\n' for name in [*names[:-1], "nworkers_changed"])
    config = (fleet.folder / "unicornd.toml").read_text().replace('chdir = "."', 'chdir = "code"')
    fleet.write("unicornd.toml", f'{config}[hooks]\n{hooks}on_exit = "./our_hooks.py:on_exit"\n')
    fleet.start("-w", "1")
    fleet.send(signal.SIGTTIN)
    fleet.await_workers(2)
    fleet.send(signal.SIGTTOU)
    fleet.await_workers(1)
    fleet.end()
    told = [line for line in fleet.log.splitlines() if line.startswith("hook ")]
    assert told == [
        "hook nworkers_changed 1 None", "hook on_starting ", "hook when_ready ", "hook pre_fork 1",
        "hook nworkers_changed 2 1", "hook pre_fork 2",
        "hook nworkers_changed 1 2", "hook child_exit 1", "hook child_exit 2", "hook on_exit ",
    ]  # fmt: skip


def test_a_starting_hook_that_raises_refuses_the_start(fleet: Fleet) -> None:
    fleet.write("our_hooks.py", "def on_starting(server): raise RuntimeError('not today')")
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write('[hooks]\non_starting = "our_hooks:on_starting"\n')
    done = fleet.run()
    assert done.returncode == DaemonExit.FAILED
    assert "not today" in done.stderr
    assert not left_behind(fleet) - {"our_hooks.py"}


def test_the_daemon_imports_nothing_that_only_draws_or_serves_an_application() -> None:
    probe = "import sys, unicornd.cli.daemon, unicornd.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"typer", "rich", "click", "asyncio", "multiprocessing"} & set(done.stdout.split())


@pytest.mark.parametrize("flag", ["--help", "--version", "--check-config"])
def test_flags_that_only_tell_start_nothing(fleet: Fleet, flag: str) -> None:
    done = fleet.run(flag)
    assert done.returncode == DaemonExit.OK
    assert done.stdout
    assert not left_behind(fleet)


THREADED = """\
import threading
threading.Thread(target=threading.Event().wait).start()
def application(environ, start_response): ...
"""


@pytest.mark.parametrize(
    ("code", "said", "exit_code"),
    [
        ("import nothing_like_it\n", "No module named 'nothing_like_it'", DaemonExit.BOOT),
        ("other = 1\n", "has no attribute 'application'", DaemonExit.APP),
        (
            THREADED,
            "",
            DaemonExit.OK,
        ),
    ],
    ids=["broken", "not there", "with a thread that never ends"],
)
def test_a_check_loads_the_application_as_a_worker_would(
    fleet: Fleet, code: str, said: str, exit_code: DaemonExit
) -> None:
    (fleet.folder / "checked.py").write_text(code)
    done = fleet.run("--check-config", "checked:application")
    assert done.returncode == exit_code
    assert said in done.stderr
    assert ("the configuration is right" in done.stdout) is (exit_code is DaemonExit.OK)


def test_status_says_whether_the_workers_have_a_global_interpreter_lock(fleet: Fleet) -> None:
    fleet.start("-w", "1")
    is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert fleet.status()["gil"] == ("on" if is_enabled else "off")
    # An interpreter that is built without one is asked in the same way, and this is what it says.
    fleet.change("site_app.py", 'VERSION = "v1"', 'VERSION = "v2"\nimport sys\nsys._is_gil_enabled = bool')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.get().startswith("v2"), "the new code answers")
    eventually(lambda: fleet.status()["gil"] == "off", "its worker has said so")
