"""What goes the short way, past the models; that both ways end alike is shown by tests/property/test_config_shortcut.py."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le, MinLen, MultipleOf
from pydantic import BeforeValidator, Field

from unicornd.config.explain import all_keys, schema_of
from unicornd.config.shortcut import is_plain, settings_of
from unicornd.config.table import TABLE
from unicornd.config.tabulate import forms_of
from unicornd.config.texts import AddressText, Duration

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("unicornd*.toml"))
ASKED = {"logging.config"}
"""Settings that are always left to the models."""


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.parent.name)
def test_every_example_goes_the_short_way(file: Path) -> None:
    assert settings_of(tomllib.loads(file.read_text())) is not None


@pytest.mark.parametrize("key", [key for key in all_keys() if schema_of(key).get("examples")], ids=".".join)
def test_every_value_that_a_description_names_is_plainly_right(key: tuple[str, ...]) -> None:
    for example in schema_of(key)["examples"]:
        assert is_plain(key, example) is (".".join(key) not in ASKED)


def test_nothing_said_is_our_defaults_and_nobody_shares_them() -> None:
    one, other = settings_of({}), settings_of({})
    assert one is not None
    assert one == other
    assert one.said == one.server.said == frozenset()
    assert other is not None
    assert one.proxy.secure_scheme_headers is not other.proxy.secure_scheme_headers


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("workers", "count"), "4"),
        (("workers", "count"), True),
        (("workers", "count"), 0),
        (("workers", "kind"), "no kind"),
        (("workers", "kind"), 1),
        (("workers", "connections"), 2**63),
        (("workers", "max_memory"), 2**63),
        (("timeouts", "kill"), 0.05),
        (("app", "preload"), 1),
        (("app", "chdir"), ""),
        (("app", "env"), ["A=b"]),
        (("app", "warmup"), "/"),
        (("app", "warmup"), ["/\n"]),
        (("app", "root_path"), "/shop/"),
        (("server", "bind"), []),
        (("server", "bind"), [8000]),
        (("logging", "config"), {"version": 1}),
        (("logging", "level"), "trace"),
        (("logging",), {}),
        (("nothing",), 1),
        (("app", "nothing"), 1),
        (("app", "spew", "nothing"), 1),
    ],
)
def test_a_value_that_is_wrong_or_unusual_is_left_to_the_models(key: tuple[str, ...], value: object) -> None:
    assert not is_plain(key, value)


@pytest.mark.parametrize(
    "values",
    [
        {"app": 1},
        {"nothing": {}},
        {"workers": {"threads": 1025}},
        {"workers": {"threads": 2, "kind": "sync"}},
        {"tls": {"keyfile": "/key.pem"}},
    ],
)
def test_one_that_is_not_plainly_right_leaves_all_to_the_models(values: dict[str, Any]) -> None:
    assert settings_of(values) is None


def test_a_plain_configuration_is_read_without_pydantic(tmp_path: Path) -> None:
    (tmp_path / "unicornd.toml").write_text(
        '[app]\ntarget = "shop.wsgi:application"\n[timeouts]\nrequest = "30s"\n'
    )
    program = (
        "import sys; from unicornd.config.layers import load; from unicornd.config.loaded import Sources;"
        "environ = {'UNICORND_WORKERS__THREADS': '4', 'PORT': '80'};"
        "loaded = load(Sources(environ=environ)); assert loaded.settings.workers.threads == 4;"
        # From 3.14 on, typing itself has it, for annotations that are texts.
        "unwanted = {'pydantic', 'pydantic_core', 'decimal'} | ({'ast'} if sys.version_info < (3, 14) else set());"
        "print(unwanted & set(sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert told.stdout == "set()\n"


def test_each_setting_has_an_entry_in_the_order_of_the_models() -> None:
    def keys(table: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            key
            for name, entry in table.items()
            for key in (keys(entry, (*above, name)) if isinstance(entry, dict) else [(*above, name)])
        ]

    assert keys(TABLE) == all_keys()


def _halved(value: Any) -> Any:
    return value / 2


@pytest.mark.parametrize(
    ("annotation", "forms"),
    [
        (int, [("int", None, None)]),
        (Annotated[int, Ge(1), Le(5)], [("int", 1, 5)]),
        (Annotated[int, Field(ge=1)] | Literal["auto"] | None, [("int", 1, None), ("choice", "auto")]),
        (Annotated[int, MultipleOf(2)], []),
        (Annotated[str, MinLen(1)], []),
        (Annotated[bool, Ge(1)], []),
        (Annotated[Duration, MultipleOf(2)], []),
        (Annotated[float, BeforeValidator(_halved)], []),
        (tuple[AddressText, ...], []),
        (complex, []),
    ],
)
def test_of_a_type_that_it_does_not_know_nothing_is_plainly_right(annotation: Any, forms: list[Any]) -> None:
    assert list(forms_of(annotation)) == forms
