"""The pod of configs/kubernetes as its manifest has it run: nobody in particular, no capabilities, read-only folders."""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING

import pytest

from tests.process.test_configs import config_of_pods, pod
from tests.support.projects import make_django
from tests.support.systemd import Lab, lab_of, why_not
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSAL = why_not()
pytestmark = [pytest.mark.systemd, pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)]

UPLOAD = 2_000_000
CONFIG_FILE = "/srv/app/unicornd.toml"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    app = tmp_path / "app"
    make_django(app)
    (app / "unicornd.toml").write_text(config_of_pods())
    with lab_of(app) as made:
        made.boot()
        yield made


def run_pod(lab: Lab) -> None:
    """Run the container's process with the rights that the manifest gives it, and nothing more."""
    security = pod()["securityContext"]
    (container,) = pod()["containers"]
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    for folder in writable:
        lab.run("install", "--directory", "--owner", str(security["runAsUser"]), folder)
    properties = {
        "ReadOnlyPaths": "/",
        "ReadWritePaths": " ".join(writable),
        "SystemCallFilter": "@system-service",
        "KillMode": "mixed",
        "TimeoutStopSec": pod()["terminationGracePeriodSeconds"],
        "StandardOutput": "append:/srv/app/log",
        "StandardError": "append:/srv/app/log",
    }
    options = [f"--property={name}={value}" for name, value in properties.items()]
    rights = (
        "setpriv", "--reuid", str(security["runAsUser"]), "--regid", str(security["runAsGroup"]), "--clear-groups",
        "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
    )  # fmt: skip
    program = ("/opt/unicornd/bin/unicornd", "--config", CONFIG_FILE)
    lab.run("systemd-run", "--unit=pod", *options, *rights, *program)


def probe(lab: Lab, name: str) -> int:
    (container,) = pod()["containers"]
    with contextlib.closing(lab.connect(9000)) as connection:
        try:
            connection.request("GET", container[name]["httpGet"]["path"])
            return connection.getresponse().status
        except ConnectionRefusedError:
            return 0


def test_a_pod_serves_is_probed_and_stops_with_the_rights_that_it_has(lab: Lab) -> None:
    run_pod(lab)
    eventually(lambda: probe(lab, "startupProbe") == http.client.OK, "it has started")
    eventually(lambda: probe(lab, "readinessProbe") == http.client.OK, "it is ready")
    assert probe(lab, "livenessProbe") == http.client.OK
    assert lab.get() == "v1"
    with contextlib.closing(lab.connect()) as connection:
        connection.request("POST", "/upload", body=bytes(UPLOAD))
        assert connection.getresponse().read() == str(UPLOAD).encode(), "the body went to /tmp"
    user = str(pod()["securityContext"]["runAsUser"])
    as_user = ("setpriv", "--reuid", user, "--regid", user, "--clear-groups")
    shown = lab.run(*as_user, "/opt/unicornd/bin/unicornctl", "--config", CONFIG_FILE, "status")
    assert "2" in shown.stdout
    assert (lab.root / "run/unicornd").is_dir()
    lab.systemctl("stop", "--no-block", "pod")
    eventually(lambda: probe(lab, "readinessProbe") == http.client.SERVICE_UNAVAILABLE, "it drains")
    assert lab.get() == "v1", "the endpoints may still lead to it"
    assert probe(lab, "livenessProbe") == http.client.OK
    eventually(lambda: "stopped" in lab.log, "it has stopped")
    assert "SIGKILL" not in lab.log


def test_the_command_reads_the_configuration_that_is_mounted() -> None:
    (container,) = pod()["containers"]
    assert container["command"] == ["unicornd", "--config", "/etc/unicornd/unicornd.toml"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "config"]
    assert mount["mountPath"] == "/etc/unicornd"
