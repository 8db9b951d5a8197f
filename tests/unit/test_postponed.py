"""Modules that are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import sys
from unicornd.postponed import Postponed, postpone
def is_loaded(name):
    return not isinstance(sys.modules[name], Postponed)
"""


def run(program: str) -> None:
    """Run a program in an interpreter of its own: modules that were loaded stay so."""
    subprocess.run([sys.executable, "-c", PRELUDE + program], check=True, timeout=30)


def test_an_import_alone_loads_nothing() -> None:
    run("""
postpone("colorsys")
import colorsys
assert not is_loaded("colorsys")
assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
assert is_loaded("colorsys")
import colorsys as again
assert again.ONE_THIRD == colorsys.ONE_THIRD == 1 / 3
""")


def test_a_function_can_be_taken_without_being_called() -> None:
    run("""
postpone("importlib.metadata", "entry_points")
import importlib.metadata
from importlib.metadata import entry_points
from importlib import metadata
assert not is_loaded("importlib.metadata")
assert list(entry_points(group="none of that name")) == []
assert is_loaded("importlib.metadata")
try:
    metadata.version("nothing-of-that-name")
except metadata.PackageNotFoundError:
    pass
from importlib.metadata import PackageNotFoundError
assert PackageNotFoundError is metadata.PackageNotFoundError
""")


def test_a_function_of_a_module_that_is_no_package_can_be_taken() -> None:
    run("""
postpone("colorsys", "rgb_to_hsv")
from colorsys import rgb_to_hsv
assert not is_loaded("colorsys")
assert rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
assert is_loaded("colorsys")
""")


def test_a_module_within_a_postponed_one_can_be_imported() -> None:
    run("""
postpone("importlib.metadata")
from importlib.metadata import _meta
assert _meta.__name__ == "importlib.metadata._meta"
""")


def test_what_was_loaded_stays() -> None:
    run("""
import colorsys
postpone("colorsys")
assert sys.modules["colorsys"] is colorsys and is_loaded("colorsys")
""")


def test_what_a_module_lacks_it_lacks() -> None:
    run("""
postpone("colorsys")
import colorsys
assert not hasattr(colorsys, "nothing")
assert is_loaded("colorsys")
""")


@pytest.mark.parametrize("name", ["secrets", "importlib.metadata"])
def test_reading_a_configuration_leaves_them_alone(name: str) -> None:
    run(f"""
from unicornd.arbiter.reading import read
from unicornd.config.flags import read_command_line
from unicornd.config.loaded import Sources
line = read_command_line(["colorsys:rgb_to_hsv", "-w", "2", "--log-level", "debug"])
assert read(Sources(given=line.given)).settings.workers.count == 2
assert not is_loaded({name!r})
""")
