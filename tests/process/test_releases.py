"""Deploying by a symbolic link: `current` leads to a release, and old releases are removed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.waiting import eventually
from unicornd.control.client import Client, ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"v{number}"]
"""


class Releases:
    """Releases beside each other, and the link to the one that is to run; release N wants N workers."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.control = ""
        self.current = fleet.folder / "current"

    def deploy(self, number: int, *, chdir: bool) -> None:
        release = self.fleet.folder / "releases" / str(number)
        release.mkdir(parents=True)
        (release / "shop.py").write_text(SHOP.format(number=number))
        home = f"chdir = {json.dumps(str(self.current))}\n" if chdir else ""
        (release / "unicornd.toml").write_text(
            f'[app]\ntarget = "shop:app"\n{home}[server]\nbind = "127.0.0.1:0"\n[workers]\ncount = {number}\n'
        )
        self.lead_to(number)

    def lead_to(self, number: int) -> None:
        fresh = self.fleet.folder / "fresh"
        fresh.symlink_to(self.fleet.folder / "releases" / str(number))
        fresh.rename(self.current)

    def remove(self, number: int) -> None:
        shutil.rmtree(self.fleet.folder / "releases" / str(number))

    def environ(self, folder: Path) -> dict[str, str]:
        """Of a shell in `folder`; the control socket is where the instance's name leads."""
        environ = self.fleet.environ(PWD=str(folder), XDG_RUNTIME_DIR=str(self.fleet.folder))
        del environ["UNICORND_CONTROL__SOCKET"]
        return environ

    def ctl(self, *arguments: str, is_inside: bool = False) -> subprocess.CompletedProcess[str]:
        """Run unicornctl: with the file's path, or in the folder that `current` is, as a shell that has entered it."""
        where = [] if is_inside else ["-c", str(self.current / "unicornd.toml")]
        folder = self.current if is_inside else self.fleet.folder
        return subprocess.run(
            [sys.executable, "-Pm", "unicornd.cli.ctl", *arguments, *where],
            cwd=folder, env=self.environ(folder), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def status(self, *, is_inside: bool = False) -> dict[str, Any]:
        """Ask unicornctl where the fleet is, and from then on the fleet itself."""
        with contextlib.suppress(ControlError):
            if self.control:
                return Client(self.control).get("/v1/status")
        status: dict[str, Any] = json.loads(self.ctl("status", "--json", is_inside=is_inside).stdout)
        self.control = status["control"]
        return status

    def serves(self) -> tuple[str, int]:
        """What is answered, and how many workers there are to be."""
        status = self.status()
        [listener] = status["listeners"]
        return self.fleet.get("/", listener["address"]), len(status["workers"])

    def replaced(self) -> str:
        """What is answered after the only worker has been killed, and another one has taken its place."""
        status = self.status()
        client = Client(status["control"])
        [worker] = status["workers"]
        os.kill(worker["pid"], signal.SIGKILL)

        def is_there() -> bool:
            workers = client.get("/v1/status")["workers"]
            return [(each["phase"], each["pid"] != worker["pid"]) for each in workers] == [("ready", True)]

        eventually(is_there, "another worker is ready")
        [listener] = status["listeners"]
        return self.fleet.get("/", listener["address"])


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    with fleet_in(tmp_path) as fleet:
        made = Releases(fleet)
        try:
            yield made
        finally:
            made.ctl("stop")


@pytest.mark.parametrize("is_inside", [False, True], ids=["path", "entered"])
def test_a_reload_takes_code_and_configuration_of_where_the_link_leads_now(
    releases: Releases, *, is_inside: bool
) -> None:
    releases.deploy(1, chdir=not is_inside)
    started = releases.ctl("start", is_inside=is_inside)
    assert started.returncode == 0, started.stderr
    assert releases.serves() == ("v1", 1)
    releases.deploy(2, chdir=not is_inside)
    done = releases.ctl("reload", is_inside=is_inside)
    assert done.returncode == 0, done.stderr
    assert releases.serves() == ("v2", 2)
    releases.remove(1)
    releases.deploy(3, chdir=not is_inside)
    done = releases.ctl("reload", is_inside=is_inside)
    assert done.returncode == 0, done.stderr
    assert releases.serves() == ("v3", 3)


@pytest.mark.parametrize("is_inside", [False, True], ids=["path", "entered"])
def test_a_replaced_worker_runs_its_generations_release_wherever_the_link_leads(
    releases: Releases, *, is_inside: bool
) -> None:
    releases.deploy(1, chdir=not is_inside)
    started = releases.ctl("start", is_inside=is_inside)
    assert started.returncode == 0, started.stderr
    releases.deploy(2, chdir=not is_inside)
    (releases.current / "shop.py").write_text("import no_such_module\n")
    assert releases.replaced() == "v1", "the link leads elsewhere, and nobody has reloaded"
    failed = releases.ctl("reload", is_inside=is_inside)
    assert failed.returncode == 5, failed.stderr
    assert "on disk" not in failed.stderr
    assert releases.replaced() == "v1"
    status = releases.status()
    assert (status["state"], status["generation"]) == ("ready", 1)
    assert status["reason"].startswith("the last reload was rolled back ")
    releases.lead_to(1)
    back = releases.ctl("reload", is_inside=is_inside)
    assert back.returncode == 0, back.stderr
    assert releases.serves() == ("v1", 1), "going back is a reload, too"
    (releases.fleet.folder / "releases" / "2" / "shop.py").write_text(SHOP.format(number=2))
    releases.lead_to(2)
    releases.remove(1)
    assert releases.replaced() == "v2", "where its release is gone, it runs what is there"


def test_a_command_in_a_working_directory_that_was_removed_says_so_without_a_traceback(
    releases: Releases,
) -> None:
    releases.deploy(1, chdir=True)
    assert releases.ctl("start").returncode == 0
    file = releases.current / "unicornd.toml"
    gone = releases.fleet.folder / "gone"
    gone.mkdir()
    code = (
        "import os, sys, runpy; os.rmdir(os.getcwd()); sys.argv = sys.argv[1:]; "
        "runpy.run_module('unicornd.cli.ctl', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-Pc", code, "unicornctl", "reload", "-c", str(file)],
        cwd=gone, env=releases.environ(gone), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
