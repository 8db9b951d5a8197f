"""Root imports only its own, and a worker is its user as a whole: held against /proc and against planted files."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import authority_in, client_context
from tests.support.fleet import PATIENCE, Fleet, fleet_in
from tests.support.kinds import EVERY_KIND
from tests.support.places import NOBODY, ROOT, open_folder, through_open_places
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

APP = """\
import os, sys

AT_IMPORT = os.getresuid()

def application(environ, start_response):
    said = environ["PATH_INFO"].strip("/")
    if said == "raise":
        raise ValueError("as asked")
    body = {"": "ok", "import": repr(AT_IMPORT), "names": repr([os.environ.get(n) for n in ("HOME", "USER", "LOGNAME")])}[said]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    if scope["path"] == "/raise":
        raise ValueError("as asked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def config(
    *, kind: str = "threads", preload: bool = False, process: str = 'user = "nobody"', more: str = ""
) -> str:
    application = "asgi" if kind == "asgi" else "application"
    return f"""\
[app]
target = "site_app:{application}"
chdir = "."
preload = {str(preload).lower()}
[server]
bind = "127.0.0.1:0"
[workers]
count = 2
kind = "{kind}"
[process]
{process}
{more}"""


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with open_folder() as folder, fleet_in(folder) as made:
        made.through = through_open_places(folder)
        made.write("site_app.py", APP)
        made.write("unicornd.toml", config())
        yield made


def give_to_nobody(folder: Path) -> None:
    nobody = pwd.getpwnam(NOBODY)
    for each in (folder, *folder.rglob("*")):
        os.chown(each, nobody.pw_uid, nobody.pw_gid)


# Identity


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def assert_is_nobody(pid: int, *, group: int | None = None) -> None:
    nobody, status = pwd.getpwnam(NOBODY), status_of(pid)
    group = nobody.pw_gid if group is None else group
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Gid"].split() == [str(group)] * 4
    assert status["Groups"].split() == [str(group)]
    for key in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[key], 16) == 0, key


ALWAYS = {
    "standard input": 1, "log": 2, "listener": 1, "signals": 2, "row": 2, "stacks": 1, "channel": 1, "lifeline": 1, "epoll": 1,
    "libffi": 1,
}  # fmt: skip
"""What a worker of every kind holds, and how many of it at most; the words are those of docs/SECURITY.md."""
HANDOVER = {"handover": 2}
OF_KIND: dict[str, dict[str, int]] = {
    "sync": HANDOVER,
    "threads": HANDOVER,
    "gevent": {**HANDOVER, "epoll": 2, "eventfd": 1},
    "gevent_pywsgi": {"epoll": 2, "eventfd": 1},
    "eventlet": {**HANDOVER, "epoll": 2},
    "tornado": {"epoll": 2, "loop's signals": 2},
    "asgi": {"epoll": 2, "eventfd": 1, "io_uring": 1, "loop's pipe": 4, "loop's signals": 2, "null": 1},
}


def held_by(pid: int, fleet: Fleet) -> dict[str, int]:
    """Return what a process holds: a word of the table → how many; raises for what has none."""
    unix = {line.split()[6]: line.split()[4] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    arbiters = set()
    for each in Path(f"/proc/{fleet.status()['arbiter']['pid']}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the connection that has asked, for example
            arbiters.add(str(each.readlink()))
    found: dict[str, int] = {}
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            word = _word(each, unix=unix, arbiters=arbiters, log=str(fleet.folder / "log"))
            found[word] = found.get(word, 0) + 1
    found["signals"], found["loop's signals"] = min(found.get("pair", 0), 2), max(found.pop("pair", 0) - 2, 0)
    found["channel"], found["handover"] = min(found.get("packets", 0), 1), max(found.pop("packets", 0) - 1, 0)
    return found


def _word(each: Path, *, unix: dict[str, str], arbiters: set[str], log: str) -> str:
    target = str(each.readlink())
    names = {log: "log", "anon_inode:[eventpoll]": "epoll", "anon_inode:[eventfd]": "eventfd"}
    names |= {"anon_inode:[io_uring]": "io_uring"}
    if target == os.devnull:
        return "standard input" if each.name == "0" else "null"
    if "/libffi.so." in target:
        return "libffi"
    if target.startswith("/memfd:unicornd-stacks"):
        return "stacks"
    if target.startswith("/memfd:unicornd-row"):
        return "row"
    if target.startswith("pipe:"):
        return "lifeline" if target in arbiters else "loop's pipe"
    if (inode := re.fullmatch(r"socket:\[(\d+)\]", target)) is not None:
        kind = unix.get(inode[1])
        return {"0001": "pair", "0005": "packets", None: "listener"}[kind]
    return names[target]


@pytest.mark.parametrize(
    ("kind", "preload"),
    [*((kind, False) for kind in EVERY_KIND), *((kind, True) for kind in ("threads", "gevent", "asgi"))],
)
def test_a_worker_is_its_user_and_holds_only_what_the_table_names(
    fleet: Fleet, kind: str, *, preload: bool
) -> None:
    fleet.write("unicornd.toml", config(kind=kind, preload=preload))
    fleet.start()
    allowed = ALWAYS | OF_KIND[kind]
    text = (ROOT / "docs" / "SECURITY.md").read_text()
    assert all(f"*{word}*" in text for word in allowed)
    for pid in fleet.pids().values():
        assert_is_nobody(pid)
        held = held_by(pid, fleet)
        assert {word: count for word, count in held.items() if count > allowed.get(word, 0)} == {}, held
    molds = set(fleet.processes()) - {fleet.status()["arbiter"]["pid"], *fleet.pids().values()}
    assert len(molds) == int(preload)
    for pid in molds:
        assert_is_nobody(pid)
        held = held_by(pid, fleet)
        assert held.get("listener", 0) == 0, "a mold listens on nothing"
    arbiter = status_of(fleet.status()["arbiter"]["pid"])
    assert arbiter["Uid"].split() == ["0"] * 4


def test_a_number_without_an_entry_needs_a_group(fleet: Fleet) -> None:
    fleet.write("unicornd.toml", config(process='user = "4000123"'))
    done = fleet.run()
    assert done.returncode == 78
    assert "process.user: 4000123 has no entry among the users, so its group is not known" in done.stderr
    assert "process.group" in done.stderr


def test_a_number_with_a_group_has_no_other_group_and_no_name(fleet: Fleet) -> None:
    fleet.write("unicornd.toml", config(process='user = "4000123"\ngroup = "4000124"'))
    fleet.start(USER="root", LOGNAME="root", HOME="/root")
    for pid in fleet.pids().values():
        status = status_of(pid)
        assert status["Uid"].split() == ["4000123"] * 4
        assert status["Gid"].split() == ["4000124"] * 4
        assert status["Groups"].split() == ["4000124"]
    assert fleet.get("/names") == "['/', None, None]"


@pytest.mark.parametrize("preload", [False, True], ids=["alone", "preload"])
def test_the_environment_names_the_user_unless_the_operator_says_otherwise(
    fleet: Fleet, *, preload: bool
) -> None:
    fleet.write("unicornd.toml", config(preload=preload, more='[app.env]\nLOGNAME = "shop"\n'))
    fleet.start(USER="root", LOGNAME="root", HOME="/root")
    assert fleet.get("/names") == repr([pwd.getpwnam(NOBODY).pw_dir, NOBODY, "shop"])
    assert fleet.get("/import") == repr((pwd.getpwnam(NOBODY).pw_uid,) * 3)


NOT_AS_ROOT = """\
import os
assert 0 not in os.getresuid() and os.getgroups() == [os.getgid()], "loaded as root"

def hook(server, worker):
    assert os.geteuid() != 0

def context(config, default):
    return default()

class Kind:
    KEEPS_ALIVE, INTERFACE, SPEAKS_TLS = True, "wsgi", True
    def run(self, context):
        from unicornd.workers.kinds import threads
        threads.run(context)
"""


@pytest.mark.parametrize("preload", [False, True], ids=["alone", "preload"])
def test_hooks_of_workers_contexts_and_kinds_are_loaded_as_the_user(fleet: Fleet, *, preload: bool) -> None:
    fleet.write("deploy.py", NOT_AS_ROOT)
    pair = authority_in(fleet.folder).sign("server")
    more = '[hooks]\npost_fork = "deploy:hook"\nssl_context = "deploy:context"\n'
    more += f'[tls]\ncertfile = "{pair.certificate}"\nkeyfile = "{pair.key}"\n'
    fleet.write("unicornd.toml", config(kind="deploy:Kind", preload=preload, more=more))
    fleet.start()
    assert "Error" not in fleet.log
    assert "a hook raised" not in fleet.log


KEEP = """\
import ctypes, os, sys
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 4
assert ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_worker_to_which_capabilities_would_be_left_does_not_boot(fleet: Fleet) -> None:
    fleet.through = (*fleet.through, sys.executable, "-c", KEEP)
    done = fleet.run()
    assert done.returncode == 3
    assert "process.user: capabilities are left after the change to user" in done.stderr
    assert "SecureBits=" in done.stderr


# What root imports

PLANTED = ("ctypes", "ssl", "json", "traceback", "faulthandler", "selectors", "secrets", "difflib", "base64",
           "watchfiles", "org", "email_validator", "tomllib", "configparser", "decimal", "subprocess")  # fmt: skip
PLANT = """\
import os
with open({book!r}, "a") as book:
    book.write("{name} %d %d\\n" % (os.getpid(), os.geteuid()))
raise ImportError("planted")
"""


def plant(fleet: Fleet) -> Path:
    """Have a folder of nobody's with modules that take the names of others; return where they note who ran them."""
    shop = fleet.folder / "shop"
    shop.mkdir()
    book = fleet.folder / "book"
    book.touch()
    book.chmod(0o666)
    for name in PLANTED:
        (shop / f"{name}.py").write_text(PLANT.format(book=str(book), name=name))
    (shop / "pydantic").mkdir()
    (shop / "pydantic" / "__init__.py").write_text(PLANT.format(book=str(book), name="pydantic"))
    (shop / "site_app.py").write_text(APP)
    give_to_nobody(shop)
    return book


def run_by_root(book: Path) -> list[str]:
    return [line for line in book.read_text().splitlines() if line.endswith(" 0")]


HOOKS = """\
import os, pathlib, threading

BOOK = pathlib.Path({notes!r})

def when_ready(server):
    import neighbour
    thread = threading.Thread(target=later)
    thread.start()
    thread.join()

def later():
    import from_a_thread
    BOOK.write_text("found both")

def on_reload(server):
    import at_reload
"""


@pytest.mark.parametrize("command", ["script", "module"])
def test_modules_planted_in_the_applications_folder_never_run_as_root(fleet: Fleet, command: str) -> None:
    book = plant(fleet)
    shop = fleet.folder / "shop"
    notes = fleet.folder / "notes"
    (shop / "shop_hooks.py").write_text(HOOKS.format(notes=str(notes)))
    for name in ("neighbour", "from_a_thread", "at_reload"):
        (shop / f"{name}.py").write_text("")
    give_to_nobody(shop)
    more = '[hooks]\nwhen_ready = "shop_hooks:when_ready"\non_reload = "shop_hooks:on_reload"\n'
    text = config(preload=True, more=more).replace('chdir = "."', f'chdir = "{shop}"')
    config_file = fleet.write("unicornd.toml", text)
    if command == "script":  # started in the folder itself, by the command that is installed
        script = Path(sys.executable).with_name("unicornd")
        with (fleet.folder / "log").open("ab") as log:
            fleet.process = subprocess.Popen(
                [*fleet.through, script, "-c", config_file],
                cwd=shop,
                env=fleet.environ(),
                stdout=log,
                stderr=log,
            )
        fleet.await_state("ready")
    else:
        fleet.start()
    assert notes.read_text() == "found both"
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    assert "a hook raised" not in fleet.log
    done = fleet.run("--check-config")
    assert done.returncode == 0, done.stderr
    assert fleet.end() == 0
    assert run_by_root(book) == []


def test_a_python_configuration_and_logging_classes_take_what_is_installed_first(fleet: Fleet) -> None:
    book = plant(fleet)
    shop = fleet.folder / "shop"
    (shop / "shop_logger.py").write_text(
        "from unicornd.observe.logger import Logger\nclass Own(Logger):\n    pass\n"
    )
    (shop / "counts.py").write_text("WORKERS = 2\n")
    give_to_nobody(shop)
    text = 'import decimal, subprocess, counts\nwsgi_app = "site_app:application"\nworkers = counts.WORKERS\n'
    text += 'user = "nobody"\nbind = "127.0.0.1:0"\nlogger_class = "shop_logger.Own"\n'
    config_file = fleet.write("gunicorn.conf.py", text)
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(
            [*fleet.through, Path(sys.executable).with_name("unicornd"), "-c", config_file],
            cwd=shop, env=fleet.environ(), stdout=log, stderr=log,
        )  # fmt: skip
    fleet.await_state("ready")
    assert fleet.get() == "ok"
    assert run_by_root(book) == []


def test_unicornctl_starts_its_own_unicornd_wherever_root_is(fleet: Fleet) -> None:
    book = plant(fleet)
    shop = fleet.folder / "shop"
    (shop / "unicornd").mkdir()
    (shop / "unicornd" / "__init__.py").write_text(PLANT.format(book=str(book), name="unicornd"))
    give_to_nobody(shop)
    text = config().replace('chdir = "."', f'chdir = "{shop}"')
    file = fleet.write("unicornd.toml", f'{text}daemon = true\n[logging]\nerror = "{fleet.folder}/err.log"\n')
    control = Path(sys.executable).with_name("unicornctl")
    for words in (("config", "check", "-c", file), ("start", "-c", file), ("stop", "-c", file)):
        done = subprocess.run(
            [*fleet.through, control, *words], cwd=shop, env=fleet.environ(), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert run_by_root(book) == []


def test_a_check_loads_the_application_as_the_workers_user(fleet: Fleet) -> None:
    uid = pwd.getpwnam(NOBODY).pw_uid
    fleet.write("site_app.py", f"import os\nassert os.getresuid() == ({uid},) * 3\n{APP}")
    done = fleet.run("--check-config")
    assert done.returncode == 0, done.stderr


def test_a_hook_that_others_can_change_is_told_to_run_as_root(fleet: Fleet) -> None:
    hooks = fleet.write("deploy.py", "def when_ready(server):\n    pass\n")
    fleet.write("unicornd.toml", config(more='[hooks]\nwhen_ready = "deploy:when_ready"\n'))
    said = f"hooks.when_ready: deploy:when_ready runs as root, from {hooks}; {hooks} can be changed by others than root"
    assert "runs as root" not in fleet.run("--check-config").stderr
    hooks.chmod(0o666)
    assert said in fleet.run("--check-config").stderr
    fleet.start()
    assert said in fleet.log


# What is closed to the user


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_worker_needs_nothing_of_a_checkout_that_its_user_cannot_enter(fleet: Fleet, kind: str) -> None:
    closed = fleet.folder / "closed"
    shutil.copytree(ROOT / "unicornd", closed / "unicornd", ignore=shutil.ignore_patterns("__pycache__"))
    closed.chmod(0o700)
    authority = authority_in(fleet.folder)
    pair = authority.sign("server")
    more = f'[tls]\ncertfile = "{pair.certificate}"\nkeyfile = "{pair.key}"\n'
    fleet.write("unicornd.toml", config(kind=kind, more=more))
    fleet.start(PYTHONPATH=str(closed))
    host, _, port = fleet.addresses()[0].rpartition(":")
    for path, expected in (("/", 200), ("/raise", 500)):
        connection = http.client.HTTPSConnection(
            host, int(port), timeout=PATIENCE, context=client_context(authority)
        )
        with contextlib.closing(connection):
            connection.request("GET", path)
            assert connection.getresponse().status == expected
    arbiter = fleet.status()["arbiter"]["pid"]
    assert str(closed) in Path(f"/proc/{arbiter}/environ").read_text()
    assert fleet.end() == 0
    assert "ValueError: as asked" in fleet.log
    assert "ImportError" not in fleet.log
    assert "ModuleNotFoundError" not in fleet.log


@pytest.mark.parametrize("preload", [False, True], ids=["alone", "preload"])
def test_an_application_that_its_user_cannot_enter_is_told_with_folder_and_user(
    fleet: Fleet, *, preload: bool
) -> None:
    closed = fleet.folder / "closed"
    (closed / "shop").mkdir(parents=True)
    (closed / "shop" / "site_app.py").write_text(APP)
    closed.chmod(0o700)
    text = config(preload=preload).replace('chdir = "."', f'chdir = "{closed}/shop"')
    fleet.write("unicornd.toml", text)
    done = fleet.run()
    assert done.returncode == 3
    said = f"user nobody cannot enter {closed} (mode 0700): what is below cannot be read"
    assert said in done.stderr
    fleet.write("unicornd.toml", text.replace(f'chdir = "{closed}/shop"', f'pythonpath = ["{closed}/shop"]'))
    (fleet.folder / "site_app.py").unlink()
    done = fleet.run()
    assert done.returncode == 4
    assert said in done.stderr
    assert said in fleet.run("--check-config").stderr


# What whoever starts us has left


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_lead_nowhere(fleet: Fleet, closed: str) -> None:
    fleet.write("unicornd.toml", config(more='[logging]\nerror = "err.log"\n'))
    (fleet.folder / "err.log").touch()
    start(fleet, ("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert fleet.get() == "ok"
    arbiter = fleet.status()["arbiter"]["pid"]
    for pid in (arbiter, *fleet.pids().values()):
        streams = [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]
        given = {"<&-": 0, ">&-": 1, "2>&-": 2}
        assert all(streams[given[each]] == os.devnull for each in closed.split())
    assert fleet.end() == 0
    assert "Traceback" not in (fleet.folder / "err.log").read_text()


def test_a_log_to_a_closed_standard_error_stops_nothing(fleet: Fleet) -> None:
    start(fleet, ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    fleet.send(signal.SIGHUP)
    eventually(
        lambda: {each["generation"] for each in fleet.status()["workers"]} == {2}, "generation 2 serves"
    )
    assert fleet.get() == "ok"


BLOCK = """\
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    "before", [(sys.executable, "-c", BLOCK), ("nohup",)], ids=["blocked signals", "an ignored HUP"]
)
def test_signals_mean_what_they_say_whatever_the_starter_did_with_them(
    fleet: Fleet, before: tuple[str, ...]
) -> None:
    start(fleet, before)
    fleet.send(signal.SIGHUP)
    fleet.await_log("generation 2 serves")
    blocked = status_of(fleet.status()["arbiter"]["pid"])["SigBlk"]
    assert int(blocked, 16) == 0
    assert fleet.end() == 0


def start(fleet: Fleet, before: tuple[str, ...]) -> None:
    """Start the fleet by a command that leaves something to it."""
    fleet.through = (*fleet.through, *before)
    fleet.start()
