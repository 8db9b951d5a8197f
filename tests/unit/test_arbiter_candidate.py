"""The environment variables of an upgrade to another virtual environment."""

from __future__ import annotations

import pytest

from unicornd.arbiter.upgrade.candidate import moved

STARTED = {"VIRTUAL_ENV": "/srv/blue", "PATH": "/srv/blue/bin:/opt/bin:/usr/bin", "SHOP": "1"}


def test_an_activated_environment_is_exchanged() -> None:
    assert moved(STARTED, old="/srv/blue", new="/srv/green", is_virtual=True) == {
        "VIRTUAL_ENV": "/srv/green", "PATH": "/srv/green/bin:/opt/bin:/usr/bin", "SHOP": "1",
    }  # fmt: skip


def test_where_the_new_python_has_none_there_is_none() -> None:
    assert moved(STARTED, old="/srv/blue", new="/usr", is_virtual=False) == {
        "PATH": "/opt/bin:/usr/bin", "SHOP": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "old", "new"),
    [
        (STARTED, "/srv/blue", "/srv/blue"),
        (STARTED, "/srv/red", "/srv/green"),
        (STARTED, "/srv/blue", ""),
        ({"PATH": "/usr/bin"}, "/usr", "/srv/green"),
        ({}, "/usr", "/srv/green"),
    ],
)
def test_what_does_not_name_the_old_one_stays(environ: dict[str, str], old: str, new: str) -> None:
    assert moved(environ, old=old, new=new, is_virtual=True) == environ


def test_without_a_path_there_is_none_afterwards() -> None:
    found = moved({"VIRTUAL_ENV": "/srv/blue"}, old="/srv/blue", new="/srv/green", is_virtual=True)
    assert found == {"VIRTUAL_ENV": "/srv/green"}
