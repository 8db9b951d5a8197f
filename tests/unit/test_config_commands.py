"""`unicornctl config …`, run in this process as the script runs it: exit code, stdout, stderr, files."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import jsonschema
import pytest

from unicornd.cli.ctl import run
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from pathlib import Path

TEXT = '[app]\ntarget = "shop:app"\n\n[workers]\ncount = 2\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "unicornd.toml"
    path.write_text(TEXT)
    (tmp_path / "shop.py").write_text("app = None\n")
    return path


def config(*words: str, file: Path) -> int:
    return run(["config", *words, "-c", str(file)])


def test_a_right_configuration_is_called_right(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("check", file=file) == CtlExit.DONE
    assert "unicornd.toml is right" in capsys.readouterr().out.replace("\n", "")
    assert config("check", "--json", file=file) == CtlExit.DONE
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "ok": True, "config_file": str(file)}


def test_a_wrong_one_is_explained_line_by_line_on_stderr(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT + 'cuont = 3\n\n[timeouts]\nrequest = "soon"\n')
    assert config("check", file=file) == CtlExit.CONFIG
    said = capsys.readouterr()
    assert not said.out
    assert said.err.splitlines() == [
        "unicornctl: the configuration is wrong: 2 errors",
        f'  {file}:6: workers.cuont: unknown key (did you mean "count"?)',
        f'  {file}:9: timeouts.request: expected a duration such as 30 or "30s", got "soon"',
    ]


def test_one_without_a_target_has_nothing_to_serve(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[workers]\ncount = 2\n")
    assert config("check", file=file) == CtlExit.CONFIG
    assert "app.target is not set" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("check", file=tmp_path / "missing.toml") == CtlExit.CONFIG
    assert "missing.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ('target = "module:application"', "app.target: there is no module module"),
        ('target = "json.nothing:app"', "there is no module nothing in the package json"),
        ('target = "shop.wsgi:app"', "shop is a module, so there is no shop.wsgi"),
        ('target = "./web.py:app"', "there is no file ./web.py"),
        ('target = "shop:app"\nchdir = "/"', "there is no module shop: not in /, and none is installed"),
    ],
)
def test_a_target_that_cannot_be_found_is_told(
    file: Path, app: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"[app]\n{app}\n")
    assert config("check", file=file) == CtlExit.CONFIG
    told = capsys.readouterr().err
    assert f"{file}:2: app.target: " in told
    assert says in told


@pytest.mark.parametrize(
    "app", ['target = "json.decoder:JSONDecoder"', 'target = "./shop.py:app"', 'target = "sys:exit"', 'paste = "site.ini"',
            'target = "web.site:app"\npythonpath = ["below"]'],
)  # fmt: skip
def test_a_target_that_can_be_found_is_not_imported(
    file: Path, app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "shop.py").write_text("raise SystemExit('imported')\n")
    (file.parent / "site.ini").write_text("")
    (file.parent / "below" / "web").mkdir(parents=True)
    (file.parent / "below" / "web" / "site.py").write_text("raise SystemExit('imported')\n")
    file.write_text(f"[app]\n{app}\n")
    assert config("check", file=file) == CtlExit.DONE, capsys.readouterr().err


def test_show_tells_what_was_said_and_by_whom(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("show", "--origin", file=file) == CtlExit.DONE
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f'app.target    = "shop:app"  {file}:2',
        f"workers.count = 2  {file}:5",
    ]
    assert "more have their defaults" in said.err


def test_show_all_has_the_defaults_and_json_has_everything(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("show", "--all", "--origin", file=file) == CtlExit.DONE
    said = capsys.readouterr()
    assert not said.err
    assert any(line.split() == ["timeouts.boot", "=", '"1m"', "default"] for line in said.out.splitlines())
    assert config("show", "--json", file=file) == CtlExit.DONE
    document = json.loads(capsys.readouterr().out)
    values = {row["key"]: row for row in document["values"]}
    assert document["schema"] == 1
    assert values["workers.count"] == {
        "key": "workers.count",
        "value": 2,
        "layer": "file",
        "where": f"{file}:5",
    }
    assert values["workers.threads"]["layer"] == "default"


def test_init_writes_a_file_that_is_right_and_never_overwrites_one_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text("app = None\n")
    file = tmp_path / "unicornd.toml"
    assert config("init", file=file) == CtlExit.DONE
    assert str(load(Sources(config_file=file)).settings.app.target) == "app:app"
    file.write_text("mine")
    assert config("init", file=file) == CtlExit.FAILED
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert config("init", "--force", file=file) == CtlExit.DONE
    assert tomllib.loads(file.read_text())
    assert config("init", file=tmp_path / "nowhere" / "unicornd.toml") == CtlExit.FAILED
    assert "cannot write" in capsys.readouterr().err


def test_schema_prints_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == CtlExit.DONE
    jsonschema.Draft7Validator.check_schema(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("workers.threads=8", "workers.threads", 8),
        ("workers.count=auto", "workers.count", "auto"),
        ("process.user=1000", "process.user", "1000"),
        ("app.env.LEVEL=3", "app.env.LEVEL", "3"),
        ("app.env.a.b=x=y", "app.env.a.b", "x=y"),
        ('server.bind=[":1", ":2"]', "server.bind", ["0.0.0.0:1", "0.0.0.0:2"]),
        ("timeouts.request=5m", "timeouts.request", "5m"),
    ],
)
def test_what_is_set_is_saved_beside_the_file_and_read_back(
    file: Path, assignment: str, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("set", assignment, file=file) == CtlExit.DONE
    assert file.read_text() == TEXT, "the file itself is not touched"
    assert config("show", "--json", file=file) == CtlExit.DONE
    document = json.loads(capsys.readouterr().out.partition("applies it")[2])
    [row] = [row for row in document["values"] if row["key"] == key]
    assert (row["value"], row["layer"]) == (value, "drop-in")


def test_set_says_what_applies_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config("set", "workers.threads=8", file=file)
    assert "`unicornctl reload` applies it" in " ".join(capsys.readouterr().out.split())
    config("set", "control.enabled=false", file=file)
    assert "`unicornctl restart` applies it" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("assignment", "code", "says"),
    [
        ("workers.cuont=3", 78, 'workers.cuont: unknown key (did you mean "count"?)'),
        ("workers.count=many", 78, 'expected a whole number or "auto", got "many"'),
        ("workers", 2, "expected SECTION.KEY=VALUE"),
        ("count=3", 2, "expected SECTION.KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_not_saved(
    file: Path, assignment: str, says: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("set", assignment, file=file) == code
    assert says in capsys.readouterr().err
    assert not file.with_suffix(".d").exists()


def test_with_json_a_program_is_told_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "unicornd.toml"
    assert config("init", "--json", file=file) == CtlExit.DONE
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "written": str(file), "target": ""}
    assert config("set", "timeouts.graceful=20s", "--json", file=file) == CtlExit.DONE
    told = json.loads(capsys.readouterr().out)
    assert told.pop("written").endswith("unicornd.d/50-unicornctl.toml")
    assert told == {"schema": 1, "key": "timeouts.graceful", "apply": "live"}
    assert run(["config", "schema", "--json"]) == CtlExit.DONE
    assert json.loads(capsys.readouterr().out)["title"] == "unicornd.toml"


def test_set_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("set", "workers.count=3", file=tmp_path / "unicornd.toml") == CtlExit.CONFIG
    assert "config init" in capsys.readouterr().err


def test_a_report_of_an_import_has_no_blanks_at_the_end_and_says_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text(
        "workers = 2\nwsgi_app = 'shop:app'\ndef on_starting(server): ...\n"
    )
    assert run(["config", "import"]) == CtlExit.DONE
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line != line.rstrip()]
    assert "wrote unicornd.toml; then: unicornctl config check, unicornctl start" in lines
    assert lines[-1] == "what is Python stays in gunicorn's file: keep it"


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        ("", True),
        ("forwarder_headers = 'SCRIPT_NAME,PATH_INFO'\n", False),
        ("worker_class = 'asgi'\n", False),
    ],
)
def test_an_import_tells_that_a_header_does_not_mount_the_application_by_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
    *,
    is_told: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text(f"workers = 2\n{said}")
    assert run(["config", "import"]) == CtlExit.DONE
    assert ("SCRIPT_NAME is not believed" in capsys.readouterr().out) is is_told
    written = (tmp_path / "unicornd.toml").read_text()
    assert ('"SCRIPT_NAME"' in written) is ("forwarder" in said)


def test_an_import_of_nothing_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    assert run(["config", "import"]) == CtlExit.CONFIG
    assert "there is no gunicorn.conf.py here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_explanation_has_no_blanks_at_the_end(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config("explain", "workers.count", file=file) == CtlExit.DONE
    assert not [line for line in capsys.readouterr().out.splitlines() if line != line.rstrip()]


def test_init_tells_of_other_configurations_and_names_no_place_of_this_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gunicorn.conf.py").touch()
    file = tmp_path / "unicornd.toml"
    monkeypatch.setenv("UNICORND_WORKERS__COUNT", "3")
    assert config("init", file=file) == CtlExit.DONE
    told = capsys.readouterr().err
    assert "gunicorn.conf.py is here, too, and is not read any more" in told
    assert "the environment is laid over the file: UNICORND_WORKERS__COUNT" in told
    assert "#:schema /" not in file.read_text()
    (tmp_path / "unicornd.schema.json").touch()
    assert config("init", file=tmp_path / "other.toml") == CtlExit.DONE
    assert "unicornd reads unicornd.toml in this folder" in capsys.readouterr().err
    assert (tmp_path / "other.toml").read_text().startswith("#:schema ./unicornd.schema.json\n")


def test_a_folder_that_is_missing_here_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(f'{TEXT}[logging]\nerror = "/nowhere/log"\n[logging.access]\nfile = "-"\n')
    assert config("check", file=file) == CtlExit.DONE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("logging.error: there is no folder /nowhere here")


def test_help_is_not_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--help", "--json"]) == CtlExit.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "there is no --help as JSON"
