"""A kind whose library is not installed: told before anything is forked, with the command that installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import fleet_in
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT = """\
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec

def find_others(name, *arguments, **named):
    return None if name.partition(".")[0] in {"gevent", "eventlet", "tornado"} else find(name, *arguments, **named)

importlib.machinery.PathFinder.find_spec = find_others
"""
"""As sitecustomize: an interpreter in which these are not installed."""


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("gevent", "gevent"),
        ("gevent_pywsgi", "gevent"),
        ("gevent_wsgi", "gevent"),
        ("eventlet", "eventlet"),
        ("tornado", "tornado"),
    ],
)
def test_a_kind_whose_library_is_missing_is_refused_with_what_to_install(
    tmp_path: Path, kind: str, extra: str
) -> None:
    with fleet_in(tmp_path) as fleet:
        fleet.write("sitecustomize.py", WITHOUT)
        fleet.change("unicornd.toml", "count = 2", f'count = 1\nkind = "{kind}"')
        ended = fleet.run(PYTHONPATH=str(tmp_path))
        assert ended.returncode == DaemonExit.CONFIG
        said = ended.stdout + ended.stderr
        assert f"pip install 'unicornd[{extra}]'" in said
        assert "is not installed" in said
        assert "worker 1" not in said, "nothing was forked"
