"""What people get wrong: one clear message that says what, where and what to do, the right exit code, no change."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import BIN, Ctl, fleet
from tests.support.waiting import eventually
from unicornd.control.client import connect
from unicornd.errors import CtlExit, DaemonExit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]

not_callable = 3
"""

CONFIG = """\
[app]
target = "site_app:application"
[server]
bind = "127.0.0.1:0"
[workers]
count = 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing to get wrong before the start, and what the daemon has to say."""

    name: str
    says: tuple[str, ...]
    code: DaemonExit
    config: str = CONFIG
    app: str = APP
    arguments: tuple[str, ...] = field(default=())


def having(old: str, new: str) -> str:
    assert old in CONFIG
    return CONFIG.replace(old, new)


MISTAKES = (
    Mistake(
        name="misspelt key",
        config=having("count = 2", "cuont = 2"),
        says=("unicornd.toml:6", "workers.cuont", "count"),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="two wrong values at once",
        config=having("count = 2", 'count = "many"\nthreads = true'),
        says=("unicornd.toml:6", "workers.count", "unicornd.toml:7", "workers.threads"),
        code=DaemonExit.CONFIG,
    ),
    Mistake(name="not TOML", config=CONFIG + "[app\n", says=("unicornd.toml", "7"), code=DaemonExit.CONFIG),
    Mistake(
        name="no target",
        config=having('target = "site_app:application"', ""),
        says=("app.target",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="missing module",
        config=having("site_app:application", "sight_app:application"),
        says=("sight_app",),
        code=DaemonExit.APP,
    ),
    Mistake(
        name="missing attribute",
        config=having("site_app:application", "site_app:aplication"),
        says=("aplication", "application"),
        code=DaemonExit.APP,
    ),
    Mistake(
        name="attribute that cannot be called",
        config=having("site_app:application", "site_app:not_callable"),
        says=("not_callable", "callable"),
        code=DaemonExit.APP,
    ),
    Mistake(
        name="syntax error in the application",
        app=APP + "\ndef broken(:\n    pass\n",
        says=("site_app.py", "line 7", "SyntaxError"),
        code=DaemonExit.BOOT,
    ),
    Mistake(
        name="application raises at import",
        app=APP + "\nraise RuntimeError('no database')\n",
        says=("site_app.py", "no database"),
        code=DaemonExit.BOOT,
    ),
    Mistake(
        name="application exits at import",
        app=APP + "\nimport sys\nsys.exit(7)\n",
        says=("SystemExit",),
        code=DaemonExit.BOOT,
    ),
    Mistake(
        name="missing import inside the application",
        app="import striipe\n" + APP,
        says=("striipe", "site_app.py"),
        code=DaemonExit.BOOT,
    ),
    Mistake(
        name="unknown user",
        config=CONFIG + '[process]\nuser = "nosuchuser"\n',
        says=("nosuchuser",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="directory that is not there",
        config=having('target = "', 'chdir = "/nonexistent"\ntarget = "'),
        says=("/nonexistent", "app.chdir"),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="directory for uploads that is not there",
        config=CONFIG + '[http]\ntmp_upload_dir = "/nonexistent"\n',
        says=("http.tmp_upload_dir: there is no folder /nonexistent",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="file to watch that is not there",
        config=CONFIG + '[reload]\non_change = true\nextra_files = ["*.html", "/nonexistent"]\n',
        says=("reload.extra_files: there is no /nonexistent",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="stranger at the control socket, found by a check",
        config=CONFIG + '[control]\nallow_users = ["nosuchuser"]\n',
        says=("control.allow_users", "nosuchuser"),
        arguments=("--check-config",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="log file that cannot be opened",
        config=CONFIG + '[logging]\nerror = "/nonexistent/error.log"\n',
        says=("/nonexistent/error.log",),
        code=DaemonExit.CONFIG,
    ),
    Mistake(
        name="unknown flag",
        arguments=("--wrokers", "4"),
        says=("--wrokers",),
        code=DaemonExit.USAGE,
    ),
)


def unicornd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("UNICORND_", "PYTEST"))}
    return subprocess.run(
        [str(BIN / "unicornd"), *arguments],
        cwd=folder,
        env=environ | {"XDG_RUNTIME_DIR": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_wrong_start_says_why_and_ends_with_its_code(tmp_path: Path, mistake: Mistake) -> None:
    (tmp_path / "site_app.py").write_text(mistake.app)
    (tmp_path / "unicornd.toml").write_text(mistake.config)
    done = unicornd(tmp_path, *mistake.arguments)
    assert done.returncode == mistake.code, done.stderr
    for text in mistake.says:
        assert text in done.stderr, done.stderr
    assert "unicornd/arbiter" not in done.stderr, "our own traceback is nobody's answer"


TOLD_BY_CTL = {
    "two wrong values at once", "not TOML", "missing module", "application raises at import", "log file that cannot be opened",
}  # fmt: skip
"""One of each kind: `unicornctl start` passes on what the daemon says."""


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in MISTAKES if mistake.name in TOLD_BY_CTL],
    ids=lambda mistake: mistake.name,
)
def test_unicornctl_start_tells_the_same_truth(tmp_path: Path, mistake: Mistake) -> None:
    (tmp_path / "site_app.py").write_text(mistake.app)
    with fleet(tmp_path, mistake.config) as ctl:
        done = ctl.run("start", expect=None)
        wanted = CtlExit.CONFIG if mistake.code is DaemonExit.CONFIG else CtlExit.FAILED
        assert done.returncode == wanted, done.stderr
        for text in mistake.says:
            assert text in done.stderr, done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        (tmp_path / "unicornd.toml").write_text(having("127.0.0.1:0", f"127.0.0.1:{port}"))
        done = unicornd(tmp_path)
    assert done.returncode == DaemonExit.FAILED
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr


def test_an_unreadable_config_is_named(tmp_path: Path) -> None:
    done = unicornd(tmp_path, "-c", str(tmp_path / "missing.toml"))
    assert done.returncode == DaemonExit.CONFIG
    assert "missing.toml" in done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctl]:
    """A fleet that nothing changes, whatever these tests ask of it."""
    folder = tmp_path_factory.mktemp("running")
    (folder / "site_app.py").write_text(APP)
    with fleet(folder, CONFIG + f'[process]\npidfile = "{folder}/unicornd.pid"\n') as ctl:
        ctl.start()
        yield ctl
        assert answers(ctl), "the fleet serves on"
        ctl.stop()


def answers(ctl: Ctl) -> bool:
    client = http.client.HTTPConnection(*ctl.address(), timeout=10)
    client.request("GET", "/")
    return client.getresponse().read() == b"ok"


def test_a_second_start_of_the_same_instance_says_that_it_runs_and_touches_nothing(running: Ctl) -> None:
    before = running.worker_pids()
    second = running.run("start", expect=CtlExit.DONE)  # as `systemctl start`
    assert "already running" in second.stdout + second.stderr
    assert str(running.status()["arbiter"]["pid"]) in second.stdout + second.stderr
    assert running.worker_pids() == before


@pytest.mark.parametrize("count", ["0", "-5", "100000", "many"])
def test_a_size_that_makes_no_sense_is_refused(running: Ctl, count: str) -> None:
    before = running.worker_pids()
    done = running.run("scale", count, expect=CtlExit.USAGE if count == "many" else None)
    assert done.returncode != CtlExit.DONE
    assert done.stderr.strip()
    assert running.worker_pids() == before


def test_an_unknown_slot_is_refused(running: Ctl) -> None:
    done = running.run("recycle", "9", expect=CtlExit.FAILED)
    assert "9" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("count = 2", 'count = "many"', CtlExit.CONFIG),
        ("[server]", "[sevrer]", CtlExit.CONFIG),
        ('bind = "127.0.0.1:0"', 'bind = "192.0.2.1:1"', CtlExit.FAILED),
    ],
    ids=["wrong value", "unknown section", "address that is not ours"],
)
def test_a_reload_of_a_wrong_config_changes_nothing(
    running: Ctl, old: str, new: str, *, code: CtlExit
) -> None:
    before, text = running.worker_pids(), running.config.read_text()
    running.config.write_text(text.replace(old, new))
    try:
        done = running.run("reload", expect=code)
    finally:
        running.config.write_text(text)
    assert new.split('"')[1 if '"' in new else 0].strip("[]") in done.stderr or "many" in done.stderr, (
        done.stderr
    )
    assert running.worker_pids() == before
    assert running.status()["generation"] == 1


@pytest.mark.parametrize(
    "message",
    [b"\x00\xff\x13garbage\r\n\r\n", b"GET /" + b"x" * 100_000, b"POST /v1/scale HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\n{",
     b"POST /v1/scale HTTP/1.1\r\nHost: c\r\nContent-Length: 99999999\r\n\r\n", b"GET /v1/status HT"],
    ids=["garbage", "too long", "body cut short", "body too large", "half a head"],
)  # fmt: skip
def test_a_bad_control_message_holds_nothing_up(running: Ctl, message: bytes) -> None:
    with connect(running.status()["control"], timeout=20) as client:
        client.sendall(message)
        assert running.run("is-ready").returncode == CtlExit.DONE, "others are answered meanwhile"
        answer = client.recv(4096) if message[:4] != b"GET " and b"{" not in message else b"HTTP/1.1 4"
        assert answer.startswith(b"HTTP/1.1 4") or not answer


def test_a_stale_pidfile_is_taken_over_even_if_another_program_has_its_pid(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APP)
    pidfile = tmp_path / "unicornd.pid"
    other = subprocess.Popen(["sleep", "600"])
    try:
        for pid in (other.pid, 4_000_000):
            pidfile.write_text(f"{pid}\n")
            with fleet(tmp_path, CONFIG + f'[process]\npidfile = "{pidfile}"\n') as ctl:
                ctl.start()
                assert pidfile.read_text().split()[0] == str(ctl.status()["arbiter"]["pid"])
                ctl.stop()
                eventually(lambda: not pidfile.exists(), "the pidfile is removed")
        assert other.poll() is None, "the stranger lives on"
    finally:
        other.kill()
        other.wait()
