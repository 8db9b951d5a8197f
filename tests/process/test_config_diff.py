"""`unicornctl config diff`: the running fleet against what the file says now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import Ctl
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
TOML = '[app]\ntarget = "site_app:application"\nenv = { A = "1" }\n[server]\nbind = "127.0.0.1:0"\n'
PYTHON = 'wsgi_app = "site_app:application"\nraw_env = ["A=1"]\nbind = "127.0.0.1:0"\n'


@pytest.fixture(params=["unicornd.toml", "gunicorn.conf.py"])
def ctl(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ctl]:
    (tmp_path / "site_app.py").write_text(APP)
    file = tmp_path / request.param
    file.write_text(TOML if file.suffix == ".toml" else PYTHON)
    made = Ctl(file)
    made.start()
    yield made
    made.stop()
    eventually(lambda: not made.processes(), "every process of the fleet has ended")


def diff(ctl: Ctl, *arguments: str, expect: int = 0) -> str:
    done = ctl.run("config", "diff", *arguments, expect=expect)
    return done.stdout + done.stderr


def test_differences_are_told_with_what_applies_them(ctl: Ctl) -> None:
    assert "nothing would change" in diff(ctl)
    saved = ctl.config.with_suffix(".d") / "1.toml"
    saved.parent.mkdir()
    saved.write_text('[workers]\ncount = 2\nmax_requests = 9\n[app.env]\nB = "2"\nSECRET_KEY = "hush"\n')
    text = diff(ctl)
    assert "workers.count: 1 → 2  (live, " in text
    assert "workers.max_requests: 0 → 9  (rolling, " in text
    assert 'app.env.B: null → "2"  (rolling, ' in text
    assert "hush" not in text
    assert "`unicornctl reload` applies this" in text
    changes = json.loads(diff(ctl, "--json"))["changes"]
    assert {change["key"] for change in changes} >= {"workers.count", "workers.max_requests", "app.env.B"}
    ctl.run("reload")
    assert "nothing would change" in diff(ctl)


def test_what_only_a_restart_applies_is_marked(ctl: Ctl) -> None:
    saved = ctl.config.with_suffix(".d") / "1.toml"
    saved.parent.mkdir()
    saved.write_text("[server]\nbacklog = 99\n")
    assert "`unicornctl restart` applies all of this" in diff(ctl)
    assert "not applied by a reload: server.backlog: 2048 → 99 (restart)" in ctl.run("reload").stderr
    assert "server.backlog: 2048 → 99  (restart, " in diff(ctl)  # it is still not in force
    ctl.run("restart")
    assert "nothing would change" in diff(ctl)


def test_a_wrong_file_is_told_as_a_reload_would_refuse_it(ctl: Ctl) -> None:
    saved = ctl.config.with_suffix(".d") / "1.toml"
    saved.parent.mkdir()
    saved.write_text("[workers]\ncuont = 2\n")
    assert 'workers.cuont: unknown key (did you mean "count"?)' in diff(ctl, expect=78)
