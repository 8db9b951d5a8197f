"""Units and logrotate's configuration, made for one configuration and looked at by the programs that read them."""

from __future__ import annotations

import getpass
import json
import pwd
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from unicornd.cli.ctl import run
from unicornd.errors import CtlExit
from unicornd.shipped import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
[app]
target = "shop:application"
chdir = "/srv/shop code"
[server]
bind = ["0.0.0.0:80", "unix:/run/shop/web.sock"]
[timeouts]
drain = 5
graceful = 60
[process]
name = "shop"
daemon = true
[logging]
error = "/var/log/shop/error.log"
[logging.access]
file = "access.log"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "unicornd.toml"
    file.write_text(CONFIG)
    return file


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["config", *arguments, "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["text"])


def values_of(unit: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", unit, re.MULTILINE))


def verify(folder: Path, *units: tuple[str, str]) -> None:
    """Have systemd read units, and say nothing against them."""
    for name, text in units:
        (folder / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name, _ in units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_is_made_for_its_configuration(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = pwd.getpwnam("www-data")
    unit = made(capsys, "unit", "-c", str(config), "--user", user.pw_name)
    said = values_of(unit)
    assert said["ExecStart"].endswith(f"/unicornd --config {config} --set process.daemon=false")
    assert said["ExecReload"].endswith(f"/unicornctl --config {config} reload")
    assert (said["User"], said["Group"]) == ("www-data", "www-data")
    assert said["WorkingDirectory"] == "/srv/shop code"
    assert said["RuntimeDirectory"] == "unicornd/shop shop"
    assert said["LogsDirectory"] == "shop"
    assert said["ReadWritePaths"] == f"-{tmp_path} -{tmp_path}/unicornd.d"
    assert said["TimeoutStopSec"] == "75s", "drain, graceful, kill, and some more"
    assert said["CapabilityBoundingSet"] == said["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert said["ProtectSystem"] == "strict"
    places = (sys.base_prefix, sys.executable, str(PACKAGE), str(tmp_path))
    is_home = any(place.startswith(("/home/", "/root/", "/run/user/")) for place in places)
    assert said["ProtectHome"] == ("read-only" if is_home else "yes")
    verify(tmp_path, ("shop.service", unit.replace("/srv/shop code", "/srv")))


def test_a_socket_unit_opens_what_the_file_says_and_the_service_takes_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = made(capsys, "unit", "-c", str(config), "--user", "www-data", "--socket-unit")
    assert re.findall("^ListenStream=(.*)$", socket, re.MULTILINE) == ["0.0.0.0:80", "/run/shop/web.sock"]
    service = made(capsys, "unit", "-c", str(config), "--user", "www-data", "--with-socket")
    assert "--bind fd://" in values_of(service)["ExecStart"]
    assert values_of(service)["AmbientCapabilities"] == "", "systemd opens the port"
    verify(tmp_path, ("shop.service", service), ("shop.socket", socket))


def test_a_service_of_roots_keeps_what_it_needs_to_drop_its_rights(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = made(capsys, "unit", "-c", str(config), "--user", "root", "--name", "web")
    assert values_of(unit)["RuntimeDirectory"] == "unicornd/web shop"
    assert "CapabilityBoundingSet" not in unit
    assert "~@privileged" not in unit


def test_nobody_is_guessed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "unit", "-c", str(config), "--user", "no-such-user"]) == CtlExit.USAGE
    assert "there is no user no-such-user" in capsys.readouterr().err
    if getpass.getuser() == "root":
        assert run(["config", "unit", "-c", str(config)]) == CtlExit.USAGE
        assert "as whom is it to run?" in capsys.readouterr().err
    config.write_text(CONFIG.replace('name = "shop"', 'name = "shop"\nuser = "www-data"'))
    assert values_of(made(capsys, "unit", "-c", str(config)))["User"] == "www-data"


def test_what_logrotate_gets_it_understands(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.replace("/var/log/shop/error.log", "error.log"))
    (tmp_path / "error.log").write_text("line\n")
    text = made(capsys, "logrotate", "-c", str(config))
    assert f'"{tmp_path}/error.log"\n"{tmp_path}/access.log" {{' in text
    assert f"unicornctl --config {config} reopen" in text
    (tmp_path / "shop").write_text(text)
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    assert logrotate is not None
    command = [logrotate, "--debug", "--state", str(tmp_path / "state"), str(tmp_path / "shop")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "error:" not in done.stderr
    assert "considering log" in done.stderr
    config.write_text('[app]\ntarget = "shop:application"\n')
    assert run(["config", "logrotate", "-c", str(config)]) == CtlExit.FAILED
    assert "there are no log files" in capsys.readouterr().err
