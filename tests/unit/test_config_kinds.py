"""What workers.kind may say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from unicornd.config.conversions import KIND_ALIASES as ALIASES
from unicornd.config.kinds import NAMES, entry_point_of, kind_for
from unicornd.config.parsers import parse_kind

if TYPE_CHECKING:
    from pathlib import Path

    from unicornd.config.kinds import Interface


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_is_called_by_its_name_or_by_that_of_gunicorns_entry_point(name: str) -> None:
    assert parse_kind(name) == name
    assert parse_kind(f"egg:gunicorn#{name}") == name


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_worker_classes_of_gunicorn_and_uvicorn_mean_the_kind_that_does_the_same(
    alias: str, name: str
) -> None:
    assert name in NAMES
    assert parse_kind(alias) == name
    module, dot, attribute = alias.rpartition(".")
    if dot:
        assert parse_kind(f"{module}:{attribute}") == name


def test_the_egg_without_a_name_is_gunicorns_default() -> None:
    assert parse_kind("egg:gunicorn") == "sync"


@pytest.mark.parametrize("text", ["shop.serving:Kind", "shop.serving.Kind", "./kind.py:Kind", "shop:make(1)"])
def test_a_kind_of_ones_own_is_named_by_where_it_is(text: str) -> None:
    assert parse_kind(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("geven", '"geven" is no kind (did you mean "gevent"?); kinds are sync, threads, '),
        ("x", '"x" is no kind; kinds are sync, threads, '),
        ("gunicorn.workers.base.Worker", "is a worker class of gunicorn; kinds are"),
        ("egg:other#kind", "is a worker class of gunicorn; kinds are"),
        ("./kind:Kind", "expected a kind (sync, "),
        ("a b", "is no kind"),
        ("", "is no kind"),
    ],
)
def test_anything_else_is_refused_with_what_there_is(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        parse_kind(text)
    assert said in str(caught.value)


def test_what_is_no_text_is_left_to_the_type() -> None:
    assert parse_kind(3) == 3
    assert parse_kind(None) is None


def test_a_package_may_offer_a_kind_under_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "fast-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fast\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unicornd.workers]\nfast = fast_kind:Kind\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert parse_kind("fast") == "fast"
    found = entry_point_of("fast")
    assert found is not None
    assert found.value == "fast_kind:Kind"


@pytest.mark.parametrize(
    ("kind", "interface", "threads", "expected"),
    [
        (None, "auto", 1, "sync"),
        (None, "wsgi", 4, "threads"),
        (None, "asgi", 4, "asgi"),
        ("gevent", "asgi", 1, "gevent"),
    ],
)
def test_a_kind_that_is_not_set_follows_the_application(
    kind: str | None, interface: Interface, threads: int, expected: str
) -> None:
    assert kind_for(kind, interface, threads=threads) == expected
