"""What a setting means: found by any of its names, told with its type, its value here and what a change needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from unicornd.cli.ctl import run
from unicornd.config.explain import (
    APPLIES,
    IDLE,
    about_table,
    all_keys,
    explain,
    form_of,
    table_of,
    tables,
    why_idle,
)
from unicornd.config.generate import schema_text, settings_text
from unicornd.config.gunicorn import ROWS
from unicornd.config.settings import Settings
from unicornd.errors import ConfigError, CtlExit

if TYPE_CHECKING:
    from pathlib import Path

    from unicornd.config.gunicorn import Row


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("workers.count", ["workers.count"]),
        ("workers", ["workers.count"]),
        ("-w", ["workers.count"]),
        ("timeout", ["timeouts.request", "timeouts.heartbeat"]),
        ("--timeout", ["timeouts.request", "timeouts.heartbeat"]),
        ("surge", ["reload.surge"]),
        ("bind", ["server.bind"]),
        ("socket", ["control.socket"]),
        ("file", ["logging.access.file"]),
        ("app.env.COLOUR", ["app.env"]),
        ("raw_env", ["app.env"]),
        ("django_settings", ["app.env"]),
        ("worker_tmp_dir", [""]),
        ("--dirty-workers", [""]),
        ("admin", ["admin.bind", "admin.hosts"]),
        (
            "[metrics]",
            ["metrics.statsd", "metrics.statsd_prefix", "metrics.dogstatsd_tags", "metrics.backlog"],
        ),
    ],
)
def test_a_setting_is_found_by_each_of_its_names(name: str, keys: list[str]) -> None:
    assert [each.key for each in explain(name)] == keys


@pytest.mark.parametrize(
    ("name", "near"), [("wrokers", "workers"), ("workers.cuont", "workers.count"), ("x.y", "")]
)
def test_a_name_that_is_none_says_so(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no setting {name}") as caught:
        explain(name)
    assert (f'did you mean "{near}"?' in caught.value.message) == bool(near)


@pytest.mark.parametrize("key", all_keys(), ids=".".join)
def test_every_setting_is_explained(key: tuple[str, ...]) -> None:
    [each] = explain(".".join(key))
    assert each.about
    assert each.form
    assert each.apply in APPLIES
    assert each.variable.startswith("UNICORND_")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_setting_of_gunicorns_is_explained(row: Row) -> None:
    assert all(each.about for each in explain(row.name))


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("workers.count", 'whole number from 1 to 1024 or "auto"'),
        ("reload.surge", 'whole number ≥ 0 or "all"'),
        ("timeouts.boot", "number ≥ 0 or text with a unit"),
        ("server.bind", "address or list of addresses"),
        ("server.backlog", "whole number from 1 to 2147483647"),
        ("process.daemon", "true or false"),
        ("process.pidfile", "path"),
        ("process.user", "text"),
        ("control.mode", "octal mode"),
        ("hooks.on_exit", "import string"),
        ("http.header_map", '"drop" or "refuse" or "dangerous"'),
        ("http.max_request_line", "0 or whole number ≥ 64"),
        ("app.env", "table"),
        ("app.pythonpath", "list of text"),
    ],
)
def test_a_type_is_told_in_words(key: str, form: str) -> None:
    [each] = explain(key)
    assert each.form == form


def test_numbers_without_bounds_have_none() -> None:
    assert form_of({"type": "number"}) == "number"


def test_what_has_no_effect_says_why() -> None:
    settings = Settings()
    assert why_idle("workers.max_requests_jitter", settings) == "workers.max_requests is 0"
    assert why_idle("proxy.allow_ips", settings) == 'proxy.protocol is "off"'
    assert not why_idle("workers.max_requests", settings)
    assert not why_idle("control.enabled", settings)
    assert not why_idle("control.mode", settings)
    off = settings.model_copy(update={"control": settings.control.model_copy(update={"enabled": False})})
    assert why_idle("control.mode", off) == "control.enabled is false"
    assert not why_idle("control.enabled", off)


def test_reasons_are_about_settings_that_exist() -> None:
    known = {".".join(key) for key in all_keys()}
    for keys, ask, _ in IDLE:
        assert isinstance(ask(Settings()), bool)
        assert all(any(name.startswith(key) for name in known) for key in keys)


def test_the_schema_says_what_a_change_needs_and_takes_what_we_take() -> None:
    schema = json.loads(schema_text())
    workers = schema["$defs"]["WorkersSettings"]["properties"]
    assert workers["count"]["description"].endswith("Change: live. gunicorn: workers.")
    assert schema["$defs"]["ControlSettings"]["properties"]["mode"]["default"] == "0600"
    assert len(schema["$defs"]["AppSettings"]["properties"]["target"]["examples"]) == 3
    validator = jsonschema.Draft7Validator(schema)
    for bind in (":80", [":80", "unix:/x"]):
        assert validator.is_valid({"server": {"bind": bind}})
    assert not validator.is_valid({"server": {"bind": []}})


def test_defaults_of_the_schema_are_values_that_the_schema_takes() -> None:
    schema = json.loads(schema_text())
    for model in schema["$defs"].values():
        for name, place in model["properties"].items():
            if "default" in place:
                resolved = {**place, "$defs": schema["$defs"]}
                assert jsonschema.Draft7Validator(resolved).is_valid(place["default"]), name


def test_the_reference_has_gunicorns_names_and_those_that_are_gone() -> None:
    text = settings_text()
    for row in ROWS:
        assert f"| `{row.name}` |" in text or row.name == "django_settings"


# the command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "unicornd.toml"
    path.write_text('[workers]\ncount = 3\n[app.env]\nSECRET_KEY = "x"\n')
    return path


def told(*words: str, file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["config", "explain", *words, "-c", str(file)]) == CtlExit.DONE
    return capsys.readouterr().out


def test_explain_tells_value_origin_and_effect(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told("workers", file=file, capsys=capsys)
    assert text.startswith("workers.count  gunicorn: workers, -w, --workers, $UNICORND_WORKERS__COUNT\n")
    assert f"  here     3  ({file}:2)" in text
    assert "  change   live: a reload applies it" in text
    assert "workers.max_requests is 0" in told("max_requests_jitter", file=file, capsys=capsys)
    assert "here     not set  (default)" in told("process.user", file=file, capsys=capsys)
    assert 'app.env.SECRET_KEY = "***"' in told("raw_env", file=file, capsys=capsys)
    assert "there is none here" in told("http_parser", file=file, capsys=capsys)
    both = told("timeout", file=file, capsys=capsys)
    assert "timeouts.request" in both
    assert "timeouts.heartbeat" in both


def test_a_table_is_explained_as_a_list_of_its_settings(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told("[workers]", file=file, capsys=capsys)
    assert text.startswith("[workers]  ")
    assert f"  count = 3  ({file}:2)" in text
    assert "  max_requests = 0\n" in text
    assert "SECRET_KEY = " in told("app", file=file, capsys=capsys)
    document = json.loads(told("timeouts", "--json", file=file, capsys=capsys))
    assert {each["key"].partition(".")[0] for each in document["settings"]} == {"timeouts"}


def test_every_table_has_a_name_and_says_what_it_is_about() -> None:
    for table in tables():
        assert table_of(f"[{'.'.join(table)}]") == table
        assert about_table(table)


def test_explain_works_without_a_right_configuration(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("wrong = 1\n")
    assert "not known: the configuration is wrong: 1 error" in told("workers", file=file, capsys=capsys)


def test_explain_has_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(told("workers", "--json", file=file, capsys=capsys))
    [setting] = document["settings"]
    assert setting["key"] == "workers.count"
    assert setting["present"][0]["value"] == 3


def test_explain_refuses_a_name_that_is_none(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "explain", "wrokers", "-c", str(file)]) == CtlExit.USAGE
    assert 'did you mean "workers"?' in capsys.readouterr().err
