"""`unicornctl config import`: real files become configurations that are right, and every setting is accounted for."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from unicornd.cli.ctl import run
from unicornd.config.gunicorn import BY_NAME
from unicornd.config.importer import Imported, Told, Wanted, import_gunicorn
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.errors import ConfigError, CtlExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = Path(__file__).parent.parent / "data" / "gunicorn"
SETTINGS = json.loads((FILES.parent / "gunicorn_settings.json").read_text())
REAL = sorted(file.stem for file in FILES.glob("*.py") if not file.stem.endswith("_stub"))
LATER = "not available in this version"
ENVIRON = {name: text for name, text in os.environ.items() if name in {"PATH", "HOME", "LANG"}}


def imported(
    file: str | Path | None, *arguments: str, environ: Mapping[str, str] | None = None, folder: Path = FILES
) -> Imported:
    return import_gunicorn(
        Wanted(
            file=Path(file) if file is not None else None,
            arguments=arguments,
            folder=folder,
            environ={**ENVIRON, **(environ or {})},
            target=folder,
        )
    )


def leaves(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        dotted = f"{above}{name}"
        found |= leaves(value, f"{dotted}.") if isinstance(value, dict) else {dotted: value}
    return found


def by_name(result: Imported) -> dict[str, Told]:
    return {told.name: told for told in result.report}


def reported(folder: Path, text: str, *arguments: str) -> dict[str, Told]:
    (folder / "gunicorn.conf.py").write_text(text)
    return by_name(imported("gunicorn.conf.py", *arguments, folder=folder))


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_becomes_a_configuration_that_is_right(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(FILES)
    output = tmp_path / "unicornd.toml"
    assert run(["config", "import", f"{name}.py", "-o", str(output)]) == CtlExit.DONE
    assert f"wrote {output}" in capsys.readouterr().out.replace("\n", "")
    loaded = load(Sources(config_file=output))
    told = [told for told in imported(f"{name}.py").report if told.outcome in {"taken", "changed"}]
    assert told
    for line in (line for each in told for line in each.ours):
        key = line.partition(" = ")[0]
        assert any(".".join(origin).startswith(key) for origin in loaded.origins), key


def test_every_setting_of_gunicorn_is_accounted_for_once() -> None:
    result = imported("everything.py")
    assert sorted(told.name for told in result.report) == sorted(SETTINGS)
    expected = {
        "setting": {"taken", "changed"},
        "needless": {"needless"},
        "refused": {"by hand"},
        "command": {"by hand"},
    }
    for told in result.report:
        row = BY_NAME[told.name]
        if row.fate == "setting" and told.outcome == "by hand":
            assert LATER in told.note, told
        elif row.keys and row.keys[0].startswith("asgi."):
            assert told.outcome == "needless", 'it has worker_class = "gthread"'
        elif told.name == "ssl_context" or row.fate != "setting":
            assert told.outcome in expected[row.fate], told
        else:
            assert told.outcome in expected["setting"], told
            assert len(told.ours) == len(row.keys)
            assert all(line.startswith(key) for line, key in zip(told.ours, row.keys, strict=True))
        assert told.note or told.ours
        assert told.where.startswith("everything.py:")


EXPECTED = {
    "django_cookiecutter": {
        "app.target": "config.wsgi:application",
        "app.chdir": ".",
        "server.bind": ["0.0.0.0:5000"],
        "workers.kind": "threads",
        "workers.threads": 4,
        "timeouts.request": 120,
        "timeouts.heartbeat": 120,
        "app.env.DJANGO_SETTINGS_MODULE": "config.settings.production",
    },
    "prometheus": {
        "server.bind": ["unix:/run/shop/gunicorn.sock"],
        "process.umask": "0007",
        "hooks.child_exit": "./prometheus.py:child_exit",
    },
    "json_logging": {"server.bind": ["0.0.0.0:8000", "[::]:8000", "unix:/run/shop/web.sock"]},
    "environment": {"server.bind": ["0.0.0.0:80"], "workers.count": 7, "logging.access.file": "-"},
    "statsd": {"workers.count": 5, "workers.kind": "sync", "process.name": "shop-web"},
    "preload": {"hooks.post_fork": "./preload.py:post_fork", "hooks.on_exit": "./preload.py:on_exit"},
    "container": {"server.bind": ["0.0.0.0:8080"], "workers.count": 7, "control.enabled": False},
    "proxy_protocol": {"http.max_request_line": 0, "http.max_headers": 200, "http.sendfile": False},
    "legacy": {
        "app.env.DJANGO_SETTINGS_MODULE": "shop.settings",
        "process.pidfile": "gunicorn.pid",
        "process.daemon": True,
    },
    "custom_classes": {"server.bind": ["fd://3"], "app.pythonpath": ["src", "lib"]},
}


@pytest.mark.parametrize(("name", "values"), EXPECTED.items(), ids=EXPECTED)
def test_values_arrive_in_our_form(name: str, values: dict[str, Any]) -> None:
    table = leaves(imported(f"{name}.py", environ={"WEB_CONCURRENCY": "7"}).table)
    assert {key: table[key] for key in values} == values


def test_what_comes_from_the_environment_is_marked_and_taken_as_of_now() -> None:
    told = by_name(imported("container.py", environ={"PORT": "9999"}))
    assert told["bind"].is_environmental
    assert told["bind"].ours == ('server.bind = ["0.0.0.0:9999"]',)
    assert told["threads"].is_environmental
    assert not told["timeout"].is_environmental
    assert by_name(imported("environment.py"))["loglevel"].is_environmental


def test_flags_win_over_the_file_and_both_are_told(tmp_path: Path) -> None:
    told = reported(
        tmp_path,
        "workers = 2\ntimeout = 9\n",
        "-w",
        "4",
        "--worker-tmp-dir",
        "/dev/shm",
        "-e",
        "API_KEY=x",
        "shop:app",
    )
    assert told["workers"].outcome == "changed"
    assert told["workers"].note == "-w says otherwise"
    assert told["-w"].ours == ("workers.count = 4",)
    assert told["-e"].ours == ('app.env.API_KEY = "***"',)
    assert told["--worker-tmp-dir"].outcome == "needless"
    assert told["the command line"].ours == ('app.target = "shop:app"',)
    assert told["timeout"].outcome == "changed"


def test_flags_alone_may_name_the_file_or_none(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("workers = 3\n")
    assert imported(None, "-c", "x.py", folder=tmp_path).table == {"workers": {"count": 3}}
    assert imported(None, "-w", "3", folder=tmp_path).table == {"workers": {"count": 3}}


@pytest.mark.parametrize(
    ("text", "kept", "left"),
    [
        ('worker_class = "gevent_pywsgi"\nthreads = 4\ntmp_upload_dir = "/tmp"\n', {"kind": "gevent_pywsgi"}, {"threads", "tmp_upload_dir"}),
        ('worker_class = "uvicorn_worker.UvicornWorker"\nthreads = 4\nsendfile = True\n', {"kind": "asgi", "threads": 4}, {"sendfile"}),
        ('worker_class = "gthread"\nthreads = 4\nasgi_loop = "auto"\n', {"kind": "threads", "threads": 4}, {"asgi_loop"}),
        ('worker_class = "tornado"\nthreads = 4\n', {"kind": "tornado", "threads": 4}, set()),
        ("threads = 4\nsendfile = True\nasgi_loop = 'auto'\n", {"threads": 4}, set()),
    ],
)  # fmt: skip
def test_what_gunicorn_does_not_heed_for_a_kind_is_not_needed(
    tmp_path: Path, text: str, kept: dict[str, object], left: set[str]
) -> None:
    told = reported(tmp_path, text)
    assert {name for name, each in told.items() if each.outcome == "needless"} == left
    assert imported("gunicorn.conf.py", folder=tmp_path).table["workers"] == kept
    flags = imported(None, "-k", "gevent", "--threads", "4", folder=tmp_path)
    assert flags.table["workers"] == {"kind": "gevent"}
    assert (by_name(flags)["--threads"].outcome, by_name(flags)["--threads"].value) == ("needless", "4")


@pytest.mark.parametrize(("more", "outcome"), [("", "needless"), ("certfile = 'c.pem'\n", "changed")])
def test_a_context_without_a_certificate_asks_for_no_tls(tmp_path: Path, more: str, outcome: str) -> None:
    text = f"def ssl_context(conf, default_ssl_context_factory): ...\n{more}"
    assert reported(tmp_path, text)["ssl_context"].outcome == outcome


def test_a_logging_configuration_with_classes_stays_in_the_file(tmp_path: Path) -> None:
    told = reported(
        tmp_path, "import logging\nlogconfig_dict = {'version': 1, 'f': {'()': logging.Formatter}}\n"
    )
    assert told["logconfig_dict"].outcome == "changed"
    table = imported("gunicorn.conf.py", folder=tmp_path).table
    assert table == {"logging": {"config_object": "./gunicorn.conf.py:logconfig_dict"}}


def test_sync_with_threads_is_threads(tmp_path: Path) -> None:
    told = reported(tmp_path, 'worker_class = "sync"\nthreads = 4\n')
    assert told["worker_class"].note == 'several threads make it "threads"'
    told = reported(tmp_path, 'worker_class = "sync"\n', "--threads", "4")
    assert told["worker_class"].note == 'several threads make it "threads"'
    assert reported(tmp_path, 'worker_class = "sync"\n')["worker_class"].outcome == "taken"


def test_paths_start_where_gunicorn_stood_and_are_written_from_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        'chdir = "app"\npidfile = "run/x.pid"\nerrorlog = "-"\nbind = ["unix:web.sock", "unix:/run/b.sock", ":1"]\n'
        'accesslog = "../../elsewhere.log"\ndef on_exit(server): ...\nctl = 1\ncontrol_socket = "@shop"\n'
    )
    table = leaves(imported("gunicorn.conf.py", folder=tmp_path).table)
    assert table == {
        "app.chdir": "app",
        "process.pidfile": "app/run/x.pid",
        "logging.error": "-",
        "server.bind": ["unix:app/web.sock", "unix:/run/b.sock", ":1"],
        "logging.access.file": str(tmp_path.parent / "elsewhere.log"),
        "hooks.on_exit": "../gunicorn.conf.py:on_exit",
        "control.socket": "@shop",
    }


def test_what_the_models_refuse_is_left_out_with_the_reason(tmp_path: Path) -> None:
    told = reported(
        tmp_path,
        'workers = 0\nbind = ["8000"]\nuser = ["x"]\ntimeout = -1\nraw_env = "X"\nloglevel = print\npidfile = object()\n'
        'keyfile = "k.pem"\nlogconfig_dict = {"version": 1, "x": None, "y": [None]}\nbacklog = 3\nlogger_class = None\n',
        "--threads", "many",
    )  # fmt: skip
    assert told.pop("backlog").outcome == "taken"
    assert {name for name, each in told.items() if each.outcome == "by hand"} == {
        "workers", "bind", "user", "timeout", "raw_env", "loglevel", "pidfile", "keyfile", "--threads",
    }  # fmt: skip
    assert "0 workers answer nobody" in told["workers"].note
    assert 'did you mean ":8000"?' in told["bind"].note
    assert "expected KEY=VALUE" in told["raw_env"].note
    assert told["loglevel"].note == "expected plain data, got a function or class"
    assert "expected plain data, got <object object" in told["pidfile"].note
    assert told["logconfig_dict"].ours == ('logging.config_object = "./gunicorn.conf.py:logconfig_dict"',)
    assert told["--threads"].value == '"many"'


def test_slips_are_told_and_names_of_the_files_own_are_not(tmp_path: Path) -> None:
    told = reported(
        tmp_path,
        "import os\nfrom os import path as pidfil\nwrokers = 3\nlog_level = 'x'\nworker = 2\nworkers = worker\n"
        "_timeout = 3\ncolour = 1\ndef post_frok(server, worker): ...\n",
    )
    unknown = {name: each.note for name, each in told.items() if each.outcome == "unknown"}
    assert set(unknown) == {"wrokers", "log_level", "post_frok"}
    assert 'did you mean "post_fork"?' in unknown["post_frok"]


def test_a_file_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gunicorn\.conf\.py:2: ZeroDivisionError"):
        reported(tmp_path, "\n1 / 0\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--check-config"], "--check-config is no setting"),
        (["--set", "workers=3"], "the command line is wrong"),
        (["--dirty-workers", "2"], "not available in this version"),
    ],
)
def test_a_command_line_that_cannot_be_imported_is_an_error(arguments: list[str], says: str) -> None:
    with pytest.raises(UnicorndError, match=says):
        imported(None, *arguments)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text(
        'workers = 2\nwrokers = 3\nimport os\nthreads = int(os.getenv("T", 2))\n'
    )
    return tmp_path


def test_a_file_that_is_there_is_not_overwritten_unasked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "unicornd.toml"
    file.write_text("mine")
    assert run(["config", "import"]) == CtlExit.FAILED
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(["config", "import", "--force", "--", "-w", "5", "shop:app"]) == CtlExit.DONE
    said = capsys.readouterr().out
    assert "* comes from environment variables" in said
    text = file.read_text()
    assert tomllib.loads(text) == {"app": {"target": "shop:app"}, "workers": {"count": 5, "threads": 2}}
    assert (
        '#   wrokers (gunicorn.conf.py:2): no setting of gunicorn, which ignores it (did you mean "workers"?)'
        in text
    )


def test_toml_goes_to_standard_output_and_the_report_beside_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", "import", "gunicorn.conf.py", "-o", "-"]) == CtlExit.DONE
    said = capsys.readouterr()
    assert tomllib.loads(said.out)["workers"]["count"] == 2
    assert "Taken over" in said.err
    assert not (project / "unicornd.toml").exists()
    assert run(["config", "import", "-o", "-", "--json"]) == CtlExit.DONE
    said = capsys.readouterr()
    assert json.loads(said.err)["report"][0]["name"] == "workers"


def test_a_report_for_programs_is_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "import", "--json", "--", "shop:app"]) == CtlExit.DONE
    assert json.loads(capsys.readouterr().out)["schema"] == 1
    assert (project / "unicornd.toml").exists()


def test_a_module_may_be_imported_and_a_file_that_is_missing_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "shop_conf.py").write_text("workers = 6\ndef on_exit(server): ...\n")
    assert run(["config", "import", "python:shop_conf", "-o", "-"]) == CtlExit.DONE
    table = tomllib.loads(capsys.readouterr().out)
    assert table == {"workers": {"count": 6}, "hooks": {"on_exit": "shop_conf:on_exit"}}
    for named in ("python:shop_conf", "file:shop_conf.py", "shop_conf.py"):  # and not the default file
        assert run(["config", "import", "-o", "-", "--", "-c", named]) == CtlExit.DONE
        assert tomllib.loads(capsys.readouterr().out)["workers"] == {"count": 6}
    assert run(["config", "import", "nowhere.conf.py"]) == CtlExit.CONFIG
    assert "there is no nowhere.conf.py" in capsys.readouterr().err


def test_what_a_file_does_to_its_process_is_taken_over_or_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=secret\nDEBUG=1\n")
    text = """\
import os, sys
from dotenv import load_dotenv
load_dotenv(".env")
os.environ["SHADE"] = "dark"
raw_env = ["SHADE=light"]
sys.path.insert(0, "lib")
os.environ.pop("HOME")
os.umask(0o077)
"""
    told = reported(tmp_path, text)
    assert told["os.environ['SHADE']"].outcome == "changed"
    assert told["os.environ['SHADE']"].note == "gunicorn.conf.py:5 says otherwise"
    assert told["raw_env"].ours == ('app.env.SHADE = "light"',)
    assert told["sys.path"].ours == ('app.search_first = ["lib"]',)
    assert told["sys.path"].where == "gunicorn.conf.py:6"
    assert told["del os.environ"].ours == ('app.unset_env = ["HOME"]',)
    assert (told["os.environ"].outcome, told["os.environ"].where) == ("by hand", "gunicorn.conf.py:3")
    assert "DEBUG" in told["os.environ"].value
    assert "secret" not in str(told)
    assert told["the umask"].outcome == "by hand"
    hook = "\ndef post_fork(server, worker): ...\n"
    assert "the umask" not in reported(tmp_path, text + hook), "the workers run the file, too"
    assert "the umask" in reported(tmp_path, text + hook + "preload_app = True\n")


def test_a_patched_library_is_told_unless_the_kind_patches_it_anyway(tmp_path: Path) -> None:
    text = "import time\ntime.sleep = print\n"
    what = "the standard library, by a monkey patch"
    assert what in reported(tmp_path, text)
    assert what not in reported(tmp_path, text + "worker_class = 'gevent'\n")
