"""A new unicornd in the place of a running one: by `unicornctl upgrade`, and by hand with USR2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import unicornd
from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from unicornd.control.client import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = ("-k", "threads", "--threads", "4", "--keep-alive", "60", "-p", "unicornd.pid")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as fleet:
        try:
            yield fleet
        finally:
            fleet.open_gate()
            for pid in arbiters(fleet):
                if fleet.process is None or pid != fleet.process.pid:
                    os.kill(pid, signal.SIGTERM)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def arbiters(fleet: Fleet) -> list[int]:
    """The processes of the fleet that are no workers: they have children, or no parent here."""
    everybody = fleet.processes()
    parents = {}
    for pid in everybody:
        try:
            parents[pid] = parent_of(pid)
        except (OSError, IndexError):
            continue
    return [pid for pid in parents if pid in parents.values() or parents[pid] not in everybody]


OURS = (sys.executable, "-Pm", "unicornd.cli.ctl")


def upgrade(fleet: Fleet, *more: str, unicornctl: tuple[str, ...] = OURS) -> tuple[int, Any]:
    """Have it upgraded by a unicornctl."""
    done = subprocess.run(
        [*unicornctl, "upgrade", "--json", *more], cwd=fleet.folder, env=fleet.environ(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "{}")


def pid_in_file(fleet: Fleet, name: str = "unicornd.pid") -> int:
    return int((fleet.folder / name).read_text().split()[0])


def await_arbiter(fleet: Fleet, old: int) -> int:
    """Wait until another arbiter answers at the control socket."""

    def is_another() -> bool:
        try:
            return bool(fleet.status()["arbiter"]["pid"] != old)
        except Exception:  # noqa: BLE001 - while they change places
            return False

    eventually(is_another, "the new arbiter answers")
    return int(fleet.status()["arbiter"]["pid"])


@pytest.mark.parametrize("is_keepalive", [True, False])
def test_an_upgrade_takes_over_and_no_request_is_lost(fleet: Fleet, *, is_keepalive: bool) -> None:
    old = fleet.start(*KEPT)
    [address] = fleet.addresses()
    with Traffic(lambda: fleet.connect(address), is_keepalive=is_keepalive, clients=6) as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        fleet.change("site_app.py", '"v1"', '"v2"')
        code, operation = upgrade(fleet)
        assert (code, operation["state"]) == (0, "done"), operation
        new = await_arbiter(fleet, old.pid)
        eventually(lambda: old.poll() is not None, "the old arbiter has left")
        eventually(traffic.answered_more(50), "requests are answered")
    assert traffic.tally.failures == []
    assert old.returncode == 0
    if is_keepalive:
        assert traffic.tally.connections == 6, "kept connections went on"
    known = fleet.client.get(f"/v1/operations/{operation['id']}")
    assert (known["state"], known["result"]) == ("done", operation["result"]), "who asks late is answered"
    assert fleet.get(address=address).startswith("v2 ")
    assert pid_in_file(fleet) == new
    assert fleet.addresses() == [address]


def test_without_a_service_manager_nobody_stands_in_for_the_new_arbiter(fleet: Fleet) -> None:
    old = fleet.start(*KEPT)
    first = old.pid
    assert upgrade(fleet)[0] == 0
    second = await_arbiter(fleet, first)
    eventually(lambda: old.poll() is not None, "the old arbiter has left")
    fleet.status()  # the second answer comes after the loop has heard that
    workers = fleet.pids()
    children = Path(f"/proc/{second}/task/{second}/children").read_text().split()
    assert sorted(map(int, children)) == sorted(workers.values())


def test_the_new_one_can_be_upgraded_and_stopped_too(fleet: Fleet) -> None:
    old = fleet.start(*KEPT)
    first = old.pid
    assert upgrade(fleet)[0] == 0
    second = await_arbiter(fleet, first)
    eventually(lambda: old.poll() is not None, "the old arbiter has left")
    assert upgrade(fleet)[0] == 0
    third = await_arbiter(fleet, second)
    eventually(lambda: not Path(f"/proc/{second}").exists(), "the second has left")
    assert fleet.get().startswith("v1 ")
    os.kill(third, signal.SIGTERM)
    eventually(lambda: not fleet.processes(), "all have left")
    assert not (fleet.folder / "unicornd.pid").exists()
    assert not (fleet.folder / "control.sock").exists()


@pytest.mark.parametrize("preload", ["true", "false"])
def test_an_application_that_cannot_boot_any_more_rolls_back(fleet: Fleet, preload: str) -> None:
    fleet.change("unicornd.toml", "[app]", f"[app]\npreload = {preload}")
    process = fleet.start(*KEPT)
    workers = fleet.pids()
    with Traffic(fleet.connect) as traffic:
        fleet.change("site_app.py", 'VERSION = "v1"', "import no_such_module")
        code, operation = upgrade(fleet)
    assert (code, operation["state"]) == (5, "rolled_back")
    assert "no_such_module" in operation["result"]
    assert traffic.tally.failures == []
    assert fleet.pids() == workers
    assert process.poll() is None
    assert pid_in_file(fleet) == process.pid
    eventually(lambda: arbiters(fleet) == [process.pid], "the new one has left")
    fleet.change("site_app.py", "import no_such_module", 'VERSION = "v3"')
    fleet.send(signal.SIGHUP)
    eventually(lambda: fleet.get().startswith("v3 "), "the old generation has left")


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that has unicornd, and return the program."""
    venv.create(folder, symlinks=True, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{Path(unicornd.__file__).parents[1]}\n"
    )
    program = folder / "bin" / "unicornd"
    program.write_text(f"#!{folder}/bin/python\nfrom unicornd.cli.daemon import main\nmain()\n")
    control = program.with_name("unicornctl")
    control.write_text(f"#!{folder}/bin/python\nfrom unicornd.cli.ctl import main\nmain()\n")
    for each in (program, control):
        each.chmod(0o755)
    return program


def test_a_link_to_another_virtual_environment_is_followed_and_one_without_python_rolls_back(
    fleet: Fleet,
) -> None:
    for name in ("release-1", "release-2", "release-3"):
        make_environment(fleet.folder / name)
    (fleet.folder / "release-3" / "bin" / "python").unlink()
    current = fleet.folder / "current"
    current.symlink_to("release-1")
    fleet.change("site_app.py", 'VERSION = "v1"', "import sys\nVERSION = sys.prefix")
    with (fleet.folder / "log").open("ab") as log:
        command = [str(current / "bin" / "unicornd"), *KEPT]
        fleet.process = subprocess.Popen(
            command, cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log
        )
    fleet.await_state("ready")
    assert fleet.get().startswith(f"{fleet.folder}/release-1 ")
    with Traffic(partial(fleet.connect, *fleet.addresses())) as traffic:
        lead(current, "release-3")
        code, answer = upgrade(fleet, "--executable", "current/bin/unicornd")
        assert code == 1
        assert (
            "current/bin/unicornd, or the interpreter that it names, cannot be executed"
            in answer["error"]["message"]
        )
        eventually(traffic.answered_more(20), "requests are answered")
        lead(current, "release-2")
        await_upgrade(fleet, fleet.process.pid, unicornctl=(str(current / "bin" / "unicornctl"),))
        eventually(traffic.answered_more(20), "requests are answered")
    assert traffic.tally.failures == []
    assert fleet.get().startswith(f"{fleet.folder}/release-2 ")
    said = [step["text"] for step in fleet.client.get("/v1/operations/upgrade-2")["steps"]]
    assert any(text.endswith(f": {current}/bin/unicornd") for text in said), "kept as it was said"


def test_a_fleet_that_was_begun_in_one_environment_goes_on_in_that_of_the_unicornctl_that_upgrades_it(
    fleet: Fleet,
) -> None:
    blue, green = (make_environment(fleet.folder / name).with_name("python") for name in ("blue", "green"))
    fleet.change(
        "site_app.py",
        'VERSION = "v1"',
        'import os, sys\nVERSION = sys.prefix + ":" + os.environ["VIRTUAL_ENV"]',
    )
    fleet.change("unicornd.toml", "[workers]", '[process]\npidfile = "unicornd.pid"\n[workers]')
    environ = fleet.environ(VIRTUAL_ENV=f"{fleet.folder}/blue", PATH=f"{fleet.folder}/blue/bin:/usr/bin:/bin")
    started = subprocess.run(
        [str(blue), "-Pm", "unicornd.cli.ctl", "start"], cwd=fleet.folder, env=environ,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    first = pid_in_file(fleet)
    assert fleet.get().startswith(f"{fleet.folder}/blue:{fleet.folder}/blue ")
    fleet.client.post("/v1/scale", {"count": 3})
    fleet.await_workers(3)
    assert_nothing_else_is_executed(fleet, first)
    before = events(fleet)
    code, operation = upgrade(fleet, unicornctl=(str(green), "-Pm", "unicornd.cli.ctl"))
    assert code == 0, operation
    second = await_arbiter(fleet, first)
    eventually(lambda: not Path(f"/proc/{first}").exists(), "the old arbiter has left")
    assert fleet.get().startswith(f"{fleet.folder}/green:{fleet.folder}/green ")
    steps = fleet.client.get(f"/v1/operations/{operation['id']}")["steps"]
    told = [step["text"] for step in steps]
    assert any(text.startswith("from unicornd ") and f"in {fleet.folder}/blue: " in text for text in told)
    assert any(text.startswith("to unicornd ") and f"in {fleet.folder}/green: " in text for text in told)
    assert f"has taken over: unicornd {unicornd.__version__}, Python " in operation["result"]
    assert fleet.status()["arbiter"]["prefix"] == f"{fleet.folder}/green"
    assert set(fleet.await_workers(3)) == {1, 2, 3}, "the size goes on"
    assert {worker["generation"] for worker in fleet.status()["workers"]} == {2}, "generations go on"
    after = events(fleet)
    assert after[: len(before)] == before, "the journal goes on"
    assert [entry["seq"] for entry in after] == list(range(1, len(after) + 1))
    assert [entry["kind"] for entry in after].count("fleet.starting") == 2
    fleet.change("unicornd.toml", "count = 2", "count = 1")
    await_upgrade(fleet, second, "--executable", str(blue))
    assert set(fleet.await_workers(1)) == {1}, "but for a configuration that has changed"
    assert pid_in_file(fleet) == fleet.status()["arbiter"]["pid"]


def events(fleet: Fleet) -> list[dict[str, Any]]:
    answer = fleet.client.ask("GET", "/v1/events?since=0&follow=0")
    return [json.loads(line) for line in answer.body.splitlines()]


def assert_nothing_else_is_executed(fleet: Fleet, arbiter: int) -> None:
    """What cannot be executed, or is no unicornd, is refused, and is seen by a dry run, too."""
    venv.create(fleet.folder / "empty", symlinks=True, with_pip=False)
    for executable, why in (
        ("no/such/python", "cannot be executed: No such file or directory"),
        ("/bin/echo", "is not unicornd: asked for its version, it says"),
        ("empty", "is a folder"),
        ("empty/bin/python", "No module named unicornd"),
    ):
        for path in ("/v1/upgrade", "/v1/upgrade?dry_run=1"):
            with pytest.raises(ControlError) as refused:
                fleet.client.post(path, {"executable": str(fleet.folder / executable)})
            assert why in refused.value.message
    code, plan = upgrade(fleet, "--dry-run", "--executable", "green/bin/python")
    assert code == 0
    assert plan["actions"][1].startswith(f"to unicornd {unicornd.__version__}, Python ")
    assert plan["actions"][1].endswith(
        f" in {fleet.folder}/green: {fleet.folder}/green/bin/python -Pm unicornd"
    )
    assert fleet.status()["arbiter"]["pid"] == arbiter


def lead(link: Path, target: str) -> None:
    """Make a link lead elsewhere, as a deployment does: at no time there is none."""
    link.with_name("next").symlink_to(target)
    link.with_name("next").replace(link)


def test_a_wrong_configuration_rolls_back(fleet: Fleet) -> None:
    process = fleet.start(*KEPT)
    fleet.change("unicornd.toml", "count", "cuont")
    code, operation = upgrade(fleet)
    assert code == 5
    assert "the configuration is wrong" in operation["result"]
    assert fleet.get().startswith("v1 ")
    assert process.poll() is None


def test_one_that_is_not_ready_in_time_is_ended(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "[workers]", "[timeouts]\nboot = 2\n[workers]")
    process = fleet.start(*KEPT)
    fleet.change("site_app.py", 'VERSION = "v1"', "import time; time.sleep(1000)")
    code, operation = upgrade(fleet)
    assert code == 5, operation
    eventually(lambda: arbiters(fleet) == [process.pid], "the new one has left")
    assert fleet.get().startswith("v1 ")


def test_a_unix_socket_and_the_admin_page_go_on(fleet: Fleet) -> None:
    fleet.change(
        "unicornd.toml",
        'bind = "127.0.0.1:0"',
        'bind = ["127.0.0.1:0", "unix:web.sock"]\n[admin]\nbind = "unix:admin.sock"',
    )
    old = fleet.start(*KEPT)
    assert upgrade(fleet)[0] == 0
    await_arbiter(fleet, old.pid)
    eventually(lambda: old.poll() is not None, "the old arbiter has left")
    for name in ("web.sock", "admin.sock"):
        assert (fleet.folder / name).is_socket()
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", "web.sock", "http://x/", "--next", "--unix-socket", "admin.sock", "http://x/readyz"],
        cwd=fleet.folder, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("v1 ")
    assert '"ok":true' in done.stdout.replace(" ", "")


def answered(fleet: Fleet) -> int:
    return int(fleet.status()["totals"]["requests"])


def scraped(fleet: Fleet) -> int:
    """Requests as Prometheus hears of them."""
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", "admin.sock", "http://x/metrics"],
        cwd=fleet.folder, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    [line] = [line for line in done.stdout.splitlines() if line.startswith("unicornd_requests_total ")]
    return int(line.split()[1])


def test_counters_go_on_after_an_upgrade_and_never_go_backwards(fleet: Fleet) -> None:
    fleet.change("unicornd.toml", "[workers]", '[admin]\nbind = "unix:admin.sock"\n[workers]')
    old = fleet.start(*KEPT)
    os.kill(fleet.pids()[1], signal.SIGKILL)
    eventually(lambda: fleet.status()["totals"]["restarts"] == 1, "a worker has died")
    seen = [0]
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.is_set():
            seen.append(scraped(fleet))

    scraping = threading.Thread(target=scrape)
    [address] = fleet.addresses()
    with Traffic(lambda: fleet.connect(address)) as traffic:
        scraping.start()
        eventually(traffic.answered_more(50), "requests are answered")
        second = await_upgrade(fleet, old.pid)
        await_upgrade(fleet, second)
        eventually(traffic.answered_more(50), "requests are answered")
    is_over.set()
    scraping.join(timeout=20)
    assert seen == sorted(seen)
    assert traffic.tally.failures == []
    eventually(lambda: answered(fleet) >= traffic.tally.answered, "all are counted")
    assert answered(fleet) == traffic.tally.answered
    assert fleet.status()["totals"]["restarts"] == 1


def await_upgrade(fleet: Fleet, predecessor: int, *more: str, unicornctl: tuple[str, ...] = OURS) -> int:
    """Upgrade, wait until the old arbiter has left, and return the new one's pid."""
    code, operation = upgrade(fleet, *more, unicornctl=unicornctl)
    assert code == 0, operation
    new = await_arbiter(fleet, predecessor)
    eventually(lambda: not is_running(predecessor), "the old arbiter has left")
    return new


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_usr2_leaves_both_side_by_side_until_one_is_ended(fleet: Fleet) -> None:
    old = fleet.start(*KEPT)
    fleet.change("site_app.py", '"v1"', '"v2"')
    fleet.send(signal.SIGUSR2)
    fleet.await_log("serves beside this one")
    new = pid_in_file(fleet, "unicornd.pid.2")
    assert fleet.status()["arbiter"]["pid"] == old.pid
    fleet.send(signal.SIGUSR2)
    fleet.await_log("an upgrade is there already")
    [address] = fleet.addresses()
    with Traffic(lambda: fleet.connect(address)) as traffic:
        assert fleet.end(signal.SIGTERM) == 0
        assert await_arbiter(fleet, old.pid) == new
        eventually(lambda: pid_in_file(fleet) == new, "the pidfile is the new one's")
    assert traffic.tally.failures == []
    assert fleet.get().startswith("v2 ")


def test_usr2_can_be_taken_back_by_ending_the_new_one(fleet: Fleet) -> None:
    old = fleet.start(*KEPT)
    fleet.send(signal.SIGUSR2)
    fleet.await_log("serves beside this one")
    with Traffic(fleet.connect) as traffic:
        os.kill(pid_in_file(fleet, "unicornd.pid.2"), signal.SIGTERM)
        eventually(lambda: arbiters(fleet) == [old.pid], "the new one has left")
        eventually(traffic.answered_more(20), "requests are answered")
    assert traffic.tally.failures == []
    assert fleet.status()["state"] == "ready"
    assert not (fleet.folder / "unicornd.pid.2").exists()
    assert upgrade(fleet)[0] == 0, "another attempt is possible"
    await_arbiter(fleet, old.pid)
    eventually(lambda: old.poll() is not None, "the old arbiter has left")


def test_the_hook_pre_exec_is_called_in_the_new_process(fleet: Fleet) -> None:
    fleet.write(
        "our_hooks.py",
        "import os\ndef before(server): print('hook pre_exec', server.pid != os.getpid(), flush=True)\n",
    )
    fleet.change("unicornd.toml", "[workers]", '[hooks]\npre_exec = "./our_hooks.py:before"\n[workers]')
    old = fleet.start(*KEPT)
    assert upgrade(fleet)[0] == 0
    fleet.await_log("hook pre_exec True")
    await_arbiter(fleet, old.pid)
    eventually(lambda: old.poll() is not None, "the old arbiter has left")


def test_a_daemon_is_upgraded(fleet: Fleet) -> None:
    fleet.run(*KEPT, "-D", "--log-file", "log")
    fleet.await_state("ready")
    old = pid_in_file(fleet)
    code, operation = upgrade(fleet)
    assert code == 0, operation
    await_arbiter(fleet, old)
    eventually(lambda: not Path(f"/proc/{old}").exists(), "the old arbiter has left")
    assert fleet.get().startswith("v1 ")
