"""Whose code is looked for where: installed code never finds what lies in the application's folders."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from unicornd.workers.importing import on_behalf, search_behind, search_first

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """An application's folder that is searched behind everything else."""
    kept, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    for name in ("shop_hooks", "shop_neighbour"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "shop_hooks.py").write_text(
        "import importlib\ndef plain(): import shop_neighbour\n"
        "def by_name(): importlib.import_module('shop_neighbour')\n"
    )
    (tmp_path / "string.py").write_text("raise AssertionError\n")
    search_behind([str(tmp_path)])
    yield tmp_path
    sys.path[:], sys.meta_path[:] = kept, finders
    for name in set(sys.modules) - modules:
        if name.startswith("shop_"):
            del sys.modules[name]


def test_code_from_elsewhere_does_not_find_the_applications_modules(shop: Path) -> None:
    assert str(shop) not in sys.path
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("shop_hooks")


def test_it_does_on_behalf_of_the_operator_and_only_meanwhile(shop: Path) -> None:
    with on_behalf(), on_behalf():
        assert importlib.import_module("shop_hooks").__file__ == str(shop / "shop_hooks.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("shop_neighbour")


@pytest.mark.parametrize("way", ["plain", "by_name"])
def test_code_from_there_imports_whenever_it_likes_in_any_thread(shop: Path, way: str) -> None:
    with on_behalf():
        hooks = importlib.import_module("shop_hooks")
    thread = threading.Thread(target=getattr(hooks, way))
    thread.start()
    thread.join()
    assert "shop_neighbour" in sys.modules
    assert shop.exists()


def test_the_standard_library_comes_first(shop: Path) -> None:
    kept = sys.modules.pop("string")
    try:
        with on_behalf():
            assert importlib.import_module("string").__file__ != str(shop / "string.py")
    finally:
        sys.modules["string"] = kept


def test_a_worker_looks_there_first_and_everybody_finds_it(shop: Path) -> None:
    search_first(["/nowhere", str(shop)])
    assert sys.path[:2] == ["/nowhere", str(shop)]
    assert importlib.import_module("shop_neighbour").__file__ == str(shop / "shop_neighbour.py")


def test_the_environment_of_the_operators_code_ends_with_its_call(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UNWANTED", "TZ", "MADE", "CHANGED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNWANTED", "there")
    given = {"TZ": "Asia/Tokyo", "MADE": "x", "CHANGED": "y"}
    search_behind([str(shop)], {"UNWANTED": None, **given})
    zone = time.tzname
    with on_behalf(), on_behalf():
        assert (os.environ.get("UNWANTED"), os.environ["MADE"], time.tzname[0]) == (None, "x", "JST")
        os.environ["CHANGED"] = "by the hook"
    assert os.environ["UNWANTED"] == "there"
    assert "MADE" not in os.environ
    assert time.tzname == zone
    assert os.environ.pop("CHANGED") == "by the hook", (
        "what a hook sets itself is for the workers, as with gunicorn"
    )
