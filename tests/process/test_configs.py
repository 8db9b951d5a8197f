"""Each example of configs/ is started and asked; the Kubernetes manifests are valid and fit the settings in them.

An example runs as it is, except for where it listens: port 0 for a port, a path in the test's folder for a path. Nor has
it the certificates and the user of its text. What it serves lies beside it, or is the Django project `shop`, which is
made for it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import re
import shutil
import ssl
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml

from tests.support.certificates import authority_in
from tests.support.fleet import PATIENCE, Fleet, fleet_in
from tests.support.projects import make_django
from tests.support.traffic import UnixConnection
from unicornd.config.sections.timeouts import TimeoutsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGS = Path(__file__).parents[2] / "configs"
KUBERNETES = CONFIGS / "kubernetes"
MANIFESTS = sorted(KUBERNETES.glob("*.yaml"))
EXAMPLES = sorted(path.parent.name for path in CONFIGS.glob("*/unicornd.toml"))
SPARE_SECONDS = 5
PROBES = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


def manifest(kind: str) -> dict[str, Any]:
    (found,) = (
        each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text()) if each["kind"] == kind
    )
    assert isinstance(found, dict)
    return found


def config_of_pods() -> str:
    return str(manifest("ConfigMap")["data"]["unicornd.toml"])


def pod() -> dict[str, Any]:
    spec = manifest("Deployment")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def elsewhere(fleet: Fleet, text: str) -> dict[str, str]:
    """Environment variables that have an example run where a test may."""
    said = tomllib.loads(text)
    binds = said.get("server", {}).get("bind", [])
    moved = [
        f"unix:{fleet.folder}/web{number}.sock" if bind.startswith("unix:") else "127.0.0.1:0"
        for number, bind in enumerate([binds] if isinstance(binds, str) else binds)
    ]
    environ = {"UNICORND_SERVER__BIND": str(moved).replace("'", '"')} if moved else {"PORT": "0"}
    if "admin" in said:
        environ["UNICORND_ADMIN__BIND"] = "127.0.0.1:0"
    if "tls" in said:
        pair = authority_in(fleet.folder).sign("server")
        environ["UNICORND_TLS__CERTFILE"] = str(pair.certificate)
        environ["UNICORND_TLS__KEYFILE"] = str(pair.key)
    if "user" in said.get("process", {}):
        environ["UNICORND_PROCESS__USER"] = pwd.getpwuid(os.geteuid()).pw_name
    if said.get("app", {}).get("chdir", ".") != ".":
        environ["UNICORND_APP__CHDIR"] = str(fleet.folder)
    return environ


def connect(fleet: Fleet, address: str) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"))
    authority = fleet.folder / "authority.pem"
    if authority.exists():
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cafile=authority)
        return http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=context)
    return fleet.connect(address)


def ask(fleet: Fleet, address: str) -> int:
    with contextlib.closing(connect(fleet, address)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.read()
        return response.status


def ask_admin(fleet: Fleet, path: str) -> int:
    found = re.search(r"admin pages at (\S+?)[\"\s]", fleet.log)
    assert found is not None, fleet.log
    with contextlib.closing(fleet.connect(found[1])) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def start(fleet: Fleet, text: str) -> None:
    if 'target = "shop.' in text:
        make_django(fleet.folder)
    fleet.start(**elsewhere(fleet, text))
    assert fleet.addresses()
    for address in fleet.addresses():
        assert ask(fleet, address) == http.client.OK


def test_the_examples_are_found() -> None:
    assert set(EXAMPLES) >= {
        "minimal",
        "production",
        "django",
        "flask",
        "unix-socket",
        "container",
        "demo",
        "nginx",
        "tls",
        "own-kind",
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_starts_and_answers(fleet: Fleet, name: str) -> None:
    shutil.copytree(CONFIGS / name, fleet.folder, dirs_exist_ok=True)
    text = (CONFIGS / name / "unicornd.toml").read_text()
    assert text.startswith("#:schema ../../schemas/unicornd.schema.json\n")
    start(fleet, text)
    if "[admin]" in text:
        assert ask_admin(fleet, "/readyz") == http.client.OK


def test_the_configuration_of_the_pods_starts_and_its_probes_are_answered(fleet: Fleet) -> None:
    text = config_of_pods()
    fleet.write("unicornd.toml", text)
    start(fleet, text)
    (container,) = pod()["containers"]
    for probe, path in PROBES.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "admin"}
        assert ask_admin(fleet, path) == http.client.OK


def test_the_container_is_unicornd_itself_and_gets_the_time_that_its_stop_may_take() -> None:
    text = (CONFIGS / "container" / "Containerfile").read_text()
    said = tomllib.loads((CONFIGS / "container" / "unicornd.toml").read_text())
    timeouts = TimeoutsSettings.model_validate(said.get("timeouts", {}))
    found = re.search(r"--stop-timeout (\d+)", text)
    assert found is not None
    assert int(found[1]) >= timeouts.drain + timeouts.graceful + timeouts.kill
    assert 'CMD ["unicornd", ' in text, "no shell in between, which would keep the signal for itself"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.stem))
def test_a_manifest_is_valid(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, "1.33", strict=True)


def test_a_pod_gets_the_time_that_its_stop_may_take() -> None:
    timeouts = TimeoutsSettings.model_validate(tomllib.loads(config_of_pods())["timeouts"])
    assert timeouts.drain > 0, "a pod gets requests for some seconds after it was told to end"
    needed = timeouts.drain + timeouts.graceful + timeouts.kill + SPARE_SECONDS
    assert pod()["terminationGracePeriodSeconds"] == needed


def test_a_pod_waits_for_its_boot_as_long_as_unicornd_does() -> None:
    timeouts = TimeoutsSettings.model_validate(tomllib.loads(config_of_pods())["timeouts"])
    (container,) = pod()["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= timeouts.boot


def test_ports_and_mounts_lead_to_each_other() -> None:
    settings = tomllib.loads(config_of_pods())
    (container,) = pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        "web": int(settings["server"]["bind"].rpartition(":")[2]),
        "admin": int(settings["admin"]["bind"].rpartition(":")[2]),
    }
    assert manifest("Service")["spec"]["ports"][0]["targetPort"] in ports
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"].items() <= labels.items()
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]


def test_a_pod_may_do_little() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
