"""A deployment's life as a person sees it: real projects, real commands, load all the while, every answer checked."""

from __future__ import annotations

import http.client
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import Ctl, fleet
from tests.support.projects import Project, make_django, make_flask
from tests.support.traffic import Traffic, UnixConnection
from tests.support.waiting import eventually
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = """\
[app]
target = "{target}"
chdir = "{folder}"

[server]
bind = ["127.0.0.1:0", "unix:{folder}/web.sock"]

[workers]
count = 2
kind = "{kind}"
threads = {threads}
"""

CLIENTS = 4
MAKERS: dict[str, Callable[[Path], Project]] = {"django": make_django, "flask": make_flask}


def is_version(status: int, body: bytes) -> str:
    return "" if status == http.client.OK and body in {b"v1", b"v2"} else f"{status}: {body[:300]!r}"


def start(ctl: Ctl) -> tuple[str, int]:
    ctl.run("start")
    return ctl.address()


@pytest.mark.timeout(600)  # gevent and django take two minutes on a machine that does something else, too
@pytest.mark.parametrize(
    ("framework", "kind", "threads", "is_keepalive"),
    [
        ("django", "threads", 4, True),
        ("flask", "sync", 1, False),
        ("django", "gevent", 1, True),
        ("flask", "eventlet", 1, False),
    ],
)
def test_a_deployment_lives_through_a_day(
    tmp_path: Path, framework: str, kind: str, *, threads: int, is_keepalive: bool
) -> None:
    project = MAKERS[framework](tmp_path / "project")
    config = CONFIG.format(target=project.target, folder=project.folder, kind=kind, threads=threads)
    with fleet(tmp_path, config) as ctl:
        host, port = start(ctl)

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection(host, port, timeout=20)

        with Traffic(connect, clients=CLIENTS, is_keepalive=is_keepalive, check=is_version) as traffic:
            eventually(traffic.answered_more(20), "requests are answered")
            scale_to_four(ctl)
            assert not traffic.tally.failures, "scaling lost requests"
        with Traffic(connect, clients=CLIENTS, is_keepalive=is_keepalive, check=is_version) as traffic:
            kill_a_worker(ctl, traffic)
        assert len(traffic.tally.failures) <= CLIENTS, "more was lost than the killed worker had in flight"
        with Traffic(connect, clients=CLIENTS, is_keepalive=is_keepalive, check=is_version) as traffic:
            reload_good_code(ctl, project, traffic)
            reload_broken_code(ctl, project, traffic)
        assert not traffic.tally.failures, f"reloading lost requests: {traffic.tally.failures[:5]}"
        stop_under_load(ctl, connect, is_keepalive=is_keepalive)


def scale_to_four(ctl: Ctl) -> None:
    ctl.run("scale", "4")
    assert len(ctl.worker_pids()) == 4


def kill_a_worker(ctl: Ctl, traffic: Traffic) -> None:
    eventually(traffic.answered_more(20), "requests are answered")
    victim = ctl.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(
        lambda: victim not in (pids := ctl.worker_pids()) and len(pids) == 4, "the dead worker is replaced"
    )
    eventually(traffic.answered_more(20), "requests are answered")


def reload_good_code(ctl: Ctl, project: Project, traffic: Traffic) -> None:
    project.write("v2")
    ctl.run("reload")
    assert len(ctl.worker_pids()) == 4, "the runtime size survives a reload"
    eventually(traffic.saw("v2"), "the new code answers")


def reload_broken_code(ctl: Ctl, project: Project, traffic: Traffic) -> None:
    project.write_broken()
    refused = ctl.run("reload", expect=CtlExit.ROLLED_BACK)
    assert "the deploy is broken" in refused.stdout + refused.stderr, "the traceback is shown"
    assert ctl.status()["generation"] == 2
    eventually(traffic.answered_more(20), "the old code goes on answering")
    project.write("v2")


def stop_under_load(
    ctl: Ctl, connect: Callable[[], http.client.HTTPConnection], *, is_keepalive: bool
) -> None:
    with Traffic(connect, clients=CLIENTS, is_keepalive=is_keepalive, check=is_version) as traffic:
        eventually(traffic.answered_more(20), "requests are answered")
        ctl.run("stop")
        eventually(lambda: traffic.tally.failures, "the port refuses")
    unexpected = [failure for failure in traffic.tally.failures if "refused" not in failure.lower()]
    assert not unexpected, f"a stop may refuse, never reset: {unexpected[:5]}"


def test_the_unix_socket_is_served_and_gone_after_the_stop(tmp_path: Path) -> None:
    project = make_flask(tmp_path / "project")
    config = CONFIG.format(target=project.target, folder=project.folder, kind="threads", threads=2)
    with fleet(tmp_path, config) as ctl:
        start(ctl)
        path = project.folder / "web.sock"
        with Traffic(lambda: UnixConnection(str(path)), clients=2, check=is_version) as traffic:
            eventually(traffic.answered_more(20), "requests are answered")
        assert not traffic.tally.failures
        ctl.run("stop")
        assert not path.exists()
