"""Every setting with a wrong value, in every place where it can be said: the error names the place and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.config.explain import all_keys, form_of, schema_of
from unicornd.config.flags import FLAGS, FlagError, read_command_line
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from unicornd.config.draft import Key

KEYS = all_keys()
TAKES_ANY_TEXT = frozenset({"text", "path", "list of text"})
"""Forms of which a text is right, as far as a text can tell: preflight looks at paths, users and formats."""


def dotted(key: Key) -> str:
    return ".".join(key)


def takes_any_text(key: Key) -> bool:
    schema = schema_of(key)
    return form_of(schema) in TAKES_ANY_TEXT and "x-form" not in schema


def errors(sources: Sources) -> str:
    with pytest.raises(ConfigError) as caught:
        load(sources)
    return caught.value.detail


@pytest.mark.parametrize("key", KEYS, ids=dotted)
def test_in_the_file(tmp_path: Path, key: Key) -> None:
    file = tmp_path / "unicornd.toml"
    file.write_text(f"[{dotted(key[:-1])}]\n{key[-1]} = [1]\n")
    told = errors(Sources(folder=tmp_path))
    assert told.startswith(f"{file}:2: {dotted(key)}")
    assert "expected" in told or "is no kind" in told


@pytest.mark.parametrize("key", [key for key in KEYS if not takes_any_text(key)], ids=dotted)
def test_in_the_environment_and_behind_set(tmp_path: Path, key: Key) -> None:
    variable = "UNICORND_" + "__".join(key).upper()
    told = errors(Sources(folder=tmp_path, environ={variable: "a wrong value"}))
    assert told.startswith(f"${variable}: {dotted(key)}")
    assert "expected" in told or "is no kind" in told
    given = read_command_line(["--set", f"{dotted(key)}=a wrong value"]).given
    assert errors(Sources(folder=tmp_path, given=given)) == told.replace(f"${variable}", "--set")


def flags_that_not_every_text_fits() -> list[str]:
    """Return them without the optional one, behind which another word is the application, and names, made to fit."""
    keys = {dotted(key) for key in KEYS if not takes_any_text(key)} - {"process.name"}
    taken = (flag for flag, row in FLAGS.items() if row.keys and row.keys[0] in keys)
    return [flag for flag in taken if FLAGS[flag].form in {"text", "list"}]


@pytest.mark.parametrize("flag", flags_that_not_every_text_fits())
def test_behind_a_flag(tmp_path: Path, flag: str) -> None:
    try:
        told = errors(
            Sources(folder=tmp_path, given=read_command_line([flag, "a wrong value", "shop:app"]).given)
        )
    except FlagError as error:
        told = error.message
    assert told.startswith(f"{flag}: ")
    assert "expected" in told or "is no kind" in told


@pytest.mark.parametrize(
    "key", [("process", "user"), ("tls", "certfile"), ("app", "pythonpath"), ("app", "env")], ids=dotted
)
def test_a_nul_is_no_text_and_what_it_stands_in_is_not_shown(tmp_path: Path, key: Key) -> None:
    value = {"pythonpath": '["/a", "/secret\\u0000"]', "env": '{TOKEN = "secret\\u0000"}'}.get(
        key[-1], '"secret\\u0000"'
    )
    (tmp_path / "unicornd.toml").write_text(f"[{key[0]}]\n{key[1]} = {value}\n")
    told = errors(Sources(folder=tmp_path))
    assert told.endswith("expected text without a NUL")
    assert f"unicornd.toml:2: {dotted(key)}" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "key", ["app.chdir", "http.tmp_upload_dir", "process.pidfile", "tls.certfile", "logging.config_json"]
)
def test_an_empty_text_is_no_path(tmp_path: Path, key: str) -> None:
    variable = "UNICORND_" + key.upper().replace(".", "__")
    told = errors(Sources(folder=tmp_path, environ={variable: ""}))
    assert told == f'${variable}: {key}: expected a path, got ""'
