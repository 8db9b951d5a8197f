"""What gunicorn reads, unicornd reads: its flags, its variables, its file; each value knows where it came from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unicornd.cli.daemon import run
from unicornd.config.flags import FLAGS, FlagError, read_command_line
from unicornd.config.given import Origin
from unicornd.config.kinds import kind_of
from unicornd.config.layers import load
from unicornd.config.loaded import Loaded, Sources
from unicornd.config.usage import COLUMNS, help_text
from unicornd.errors import ConfigError, DaemonExit

SETTINGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "gunicorn_settings.json").read_text()
)
ALL_FLAGS = [flag for setting in SETTINGS.values() for flag in setting["flags"]]
ENVIRON = {"PATH": os.environ["PATH"]}


def said(*arguments: str) -> dict[str, object]:
    return {item.key: item.text for item in read_command_line(arguments).given}


def loaded(folder: Path, *arguments: str, **environ: str) -> Loaded:
    command = read_command_line(arguments)
    config = Path(command.config) if command.config else None
    return load(
        Sources(config_file=config, folder=folder, given=command.given, environ={**ENVIRON, **environ})
    )


def errors(folder: Path, *arguments: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, *arguments, **environ)
    return [caught.value.message, *caught.value.detail.splitlines()]


def python(folder: Path, text: str) -> None:
    (folder / "gunicorn.conf.py").write_text(text)


def where(found: Loaded, key: str) -> str:
    return next(row.where for row in found.rows if row.key == key)


# flags


@pytest.mark.parametrize("flag", ALL_FLAGS)
def test_every_flag_of_gunicorn_is_known(flag: str) -> None:
    row = FLAGS[flag]
    words = [flag] if row.form in {"switch", "optional"} else [flag, "K=1"]
    try:
        command = read_command_line([*words, "shop:app"])
    except FlagError as error:
        assert row.fate == "refused"
        assert "not available in this version" in error.message  # noqa: PT017 - both ways are right
    else:
        assert command.given[-1].key == "app.target"
        assert command.config or command.actions or command.notes or len(command.given) > 1


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--no-sendfile"], {"http.sendfile": False}),
        (["--no-control-socket"], {"control.enabled": False}),
        (["--disable-redirect-access-to-syslog"], {"logging.syslog.access": False}),
        (["-R"], {"process.inherit_stdio": True}),
        (["-DR"], {"process.daemon": True, "process.inherit_stdio": True}),
        (["--proxy-protocol"], {"proxy.protocol": "auto"}),
        (["--proxy-protocol", "v2"], {"proxy.protocol": "v2"}),
        (["--proxy-protocol=False"], {"proxy.protocol": "off"}),
        (["--proxy-protocol", "shop:app"], {"proxy.protocol": "auto", "app.target": "shop:app"}),
        (["--limit-request-field_size", "9"], {"http.max_header_size": 9}),
        (["--limit-request-field-size", "9"], {"http.max_header_size": 9}),
        (["--umask", "027"], {"process.umask": "0027"}),
        (["--control-socket-mode", "0o660"], {"control.mode": "0660"}),
        (["--cert-reqs", "2"], {"tls.cert_reqs": "required"}),
        (["--pythonpath", "/a,/b"], {"app.pythonpath": "/b"}),
        (["--paste-global", "a=b=c"], {"app.paste_global.a": "b=c"}),
        (["--forwarded-allow-ips", "10.0.0.1, ::1"], {"proxy.forwarded_allow_ips": ["10.0.0.1", "::1"]}),
        (["--forwarder-headers", "*"], {"proxy.forwarder_headers": ["*"]}),
        (["-k", "uvicorn.workers.UvicornWorker"], {"workers.kind": "asgi"}),
        (["--log-level", "INFO"], {"logging.level": "info"}),
        (["--settings", "shop.settings"], {"app.env.DJANGO_SETTINGS_MODULE": "shop.settings"}),
        (["--logger-class", "gunicorn.glogging.Logger"], {}),
        (["--dirty-workers", "0", "--http-protocols", "h1"], {}),
        (["--worker-tmp-dir", "/dev/shm", "--suppress-ragged-eofs"], {}),
        (["--log-file", "-"], {"logging.error": "-"}),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_flag_says_what_gunicorn_means(arguments: list[str], given: dict[str, object]) -> None:
    assert said(*arguments) == given


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--http-protocols", "h2"], "--http-protocols: HTTP/2 is not available in this version"),
        (["-w", "0"], "-w: expected 1 or more: 0 workers answer nobody"),
        (["-k", "egg:x#y"], "-k: expected a kind or a class"),
        (["--no-sendfile=1"], "--no-sendfile takes no value"),
        (["-"], "two applications"),
    ],
)
def test_a_wrong_flag_says_why(arguments: list[str], says: str) -> None:
    with pytest.raises(FlagError) as caught:
        read_command_line(["shop:app", *arguments])
    assert caught.value.message.startswith(says)


def test_flags_that_are_not_needed_say_so() -> None:
    assert read_command_line(["--http-parser", "fast"], source="$X").notes == (
        "$X --http-parser: not needed: there is one parser, and it is strict and fast",
    )


def test_the_help_names_every_flag_in_eighty_columns() -> None:
    text = help_text()
    assert max(map(len, text.splitlines())) <= COLUMNS
    refused = {flag for flag, row in FLAGS.items() if row.fate == "refused"}
    words = {word.strip(",") for word in text.split()}
    assert set(FLAGS) - refused <= words
    for title in ("Application:", "Listening:", "Workers:", "TLS:", "Logs:"):
        assert f"\n{title}\n" in text


# variables


def test_arguments_in_the_environment_are_below_the_command_line_and_above_the_file(tmp_path: Path) -> None:
    python(tmp_path, "workers = 2\nthreads = 2\ntimeout = 2\n")
    found = loaded(
        tmp_path, "-w", "4", GUNICORN_CMD_ARGS="--workers 3 --threads 3 --http-parser fast 'shop:app'"
    )
    assert (found.settings.workers.count, found.settings.workers.threads) == (4, 3)
    assert found.settings.timeouts.request == 2
    assert found.origins["workers", "threads"] == Origin(
        layer="environment", where="$GUNICORN_CMD_ARGS --threads"
    )
    assert where(found, "app.target") == "$GUNICORN_CMD_ARGS"
    assert found.notes == (
        "$GUNICORN_CMD_ARGS --http-parser: not needed: there is one parser, and it is strict and fast",
    )
    assert loaded(tmp_path, GUNICORN_CMD_ARGS="-w 3", UNICORND_WORKERS__COUNT="5").settings.workers.count == 5


def test_arguments_in_the_environment_may_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("workers = 7\n")
    (tmp_path / "x.toml").write_text("workers.count = 8\n")
    assert loaded(tmp_path, GUNICORN_CMD_ARGS="-c other.py").settings.workers.count == 7
    assert loaded(tmp_path, "-c", "x.toml", GUNICORN_CMD_ARGS="-c other.py").settings.workers.count == 8


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GUNICORN_CMD_ARGS": "--wrokers 3"}, '$GUNICORN_CMD_ARGS: unknown flag --wrokers (did you mean "--workers"?)'),
        ({"GUNICORN_CMD_ARGS": "'open"}, "$GUNICORN_CMD_ARGS: no closing quotation"),
        ({"GUNICORN_CMD_ARGS": "--check-config"}, "$GUNICORN_CMD_ARGS: --check-config is for the command line"),
        ({"GUNICORN_CMD_ARGS": "-w many"}, '$GUNICORN_CMD_ARGS -w: workers.count: expected a whole number or "auto", got "many"'),
        ({"PORT": "http"}, '$PORT: server.bind[0]: expected a port from 0 to 65535 behind the last colon, got "http"'),
        ({"SENDFILE": "perhaps"}, '$SENDFILE: http.sendfile: expected true or false, got "perhaps"'),
        ({"WEB_CONCURRENCY": "many"}, '$WEB_CONCURRENCY: workers.count: expected a whole number or "auto", got "many"'),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1/8"}, "$FORWARDED_ALLOW_IPS: proxy.forwarded_allow_ips: expected an address"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_wrong_variable_is_named(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    assert any(line.startswith(says) for line in errors(tmp_path, **environ)), errors(tmp_path, **environ)


@pytest.mark.parametrize(
    ("word", "answer"), [("y", True), ("TRUE", True), ("1", True), ("no", False), ("0", False), ("", False)]
)
def test_sendfile_may_be_switched_by_a_variable_that_the_file_overrides(
    tmp_path: Path,
    word: str,
    answer: bool,  # noqa: FBT001 - the answer
) -> None:
    found = loaded(tmp_path, SENDFILE=word)
    assert found.settings.http.sendfile is answer
    assert where(found, "http.sendfile") == "$SENDFILE"
    python(tmp_path, f"sendfile = {not answer}\n")
    assert loaded(tmp_path, SENDFILE=word).settings.http.sendfile is not answer


# gunicorn.conf.py in the place of unicornd.toml


def test_a_python_file_is_a_layer_whose_values_know_their_lines(tmp_path: Path) -> None:
    python(
        tmp_path,
        "import os\nwsgi_app = 'shop:app'\nworkers = 2\nbind = [':8001', 'unix:run/web.sock']\n\n"
        "def post_fork(server, worker):\n    pass\n\nraw_env = ['A=1']\nworker_tmp_dir = '/dev/shm'\n"
        "secret_of_mine = 1\nloglevel = os.environ.get('LEVEL', 'info')\n",
    )
    found = loaded(tmp_path, LEVEL="debug")
    file = tmp_path / "gunicorn.conf.py"
    assert found.config_file == file
    assert where(found, "workers.count") == f"{file}:3"
    assert where(found, "hooks.post_fork") == f"{file}:6"
    assert where(found, "app.env.A") == f"{file}:9"
    assert str(found.settings.hooks.post_fork) == f"{file}:post_fork"
    assert [str(address) for address in found.settings.server.bind] == [
        "0.0.0.0:8001",
        f"unix:{tmp_path}/run/web.sock",
    ]
    assert found.settings.logging.level == "debug"
    assert [note.partition(": ")[0] for note in found.notes] == [f"{file}:10"]


def test_a_python_file_has_drop_ins_like_any_other(tmp_path: Path) -> None:
    python(tmp_path, "workers = 2\n")
    (tmp_path / "gunicorn.conf.d").mkdir()
    (tmp_path / "gunicorn.conf.d" / "1.toml").write_text("workers.count = 5\n")
    assert loaded(tmp_path).settings.workers.count == 5


def test_a_toml_file_comes_first_where_both_are_there(tmp_path: Path) -> None:
    python(tmp_path, "workers = 2\n")
    (tmp_path / "unicornd.toml").write_text("workers.count = 3\n")
    assert loaded(tmp_path).settings.workers.count == 3
    assert loaded(tmp_path, "-c", "gunicorn.conf.py").settings.workers.count == 2


def test_a_module_and_a_file_of_any_name_may_be_named_as_in_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "shop_conf.py").write_text("workers = 3\ndef on_exit(server): ...\n")
    found = loaded(tmp_path, "-c", "python:shop_conf")
    assert str(found.settings.hooks.on_exit) == "shop_conf:on_exit"
    assert where(found, "workers.count") == "python:shop_conf:1"
    (tmp_path / "gunicorn.conf").write_text("workers = 4\n")
    assert loaded(tmp_path, "-c", "file:gunicorn.conf").settings.workers.count == 4
    (tmp_path / "gunicorn.ini").write_text("workers == 4\n")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "-c", "gunicorn.ini")
    assert "file:" in caught.value.hint


def test_sync_leaves_the_kind_to_the_threads_wherever_they_are_said(tmp_path: Path) -> None:
    python(tmp_path, 'worker_class = "sync"\n')
    assert kind_of(loaded(tmp_path).settings.workers) == "sync"
    assert kind_of(loaded(tmp_path, "--threads", "4").settings.workers) == "threads"
    python(tmp_path, 'worker_class = "sync"\nthreads = 4\n')
    assert kind_of(loaded(tmp_path).settings.workers) == "threads"


def test_whatever_has_no_counterpart_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    python(
        tmp_path,
        "wrokers = 3\nhttp_protocols = 'h2'\ncheck_config = True\nprint_config = False\nraw_env = 'x'\n"
        "loglevel = print\ndirty_workers = 0\nbacklog = 0\npidfile = object()\nlogger_class = None\nproc_name = ''\n"
        "def dirty_post_fork(arbiter, worker): ...\n",
    )
    lines = errors(tmp_path)[1:]
    said = {line.partition("gunicorn.conf.py:")[2].partition(": ")[0]: line for line in lines}
    assert sorted(said, key=int) == ["1", "2", "3", "5", "6", "8", "9", "12"]
    assert 'did you mean "workers"?' in said["1"]
    assert "HTTP/2 is not available" in said["2"]
    assert "--check-config on the command line" in said["3"]
    assert said["8"].endswith("server.backlog: expected 1 or more, got 0")


def test_classes_are_named_by_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text("class Worker: ...\n")
    python(tmp_path, "from kinds import Worker\nclass Own: ...\nworker_class = Worker\n")
    with pytest.raises(ConfigError, match="wrong") as caught:
        loaded(tmp_path, "--set", "workers.threads=0")
    assert "workers.threads" in caught.value.detail
    python(tmp_path, "class Own: ...\nworker_class = Own\n")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "--set", "workers.threads=0")
    assert "gunicorn.conf.py" in caught.value.detail or caught.value.detail.count("\n") == 0


# rules that span several keys


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[tls]\nkeyfile = 'k.pem'\n", "tls.keyfile", "a key needs its certificate: set tls.certfile"),
        ("[tls]\ncert_reqs = 'required'\nca_certs = 'c.pem'\n", "tls.cert_reqs", "set tls.certfile"),
        ("[tls]\ncert_reqs = 'required'\ncertfile = 'c.pem'\n", "tls.cert_reqs", "set tls.ca_certs"),
        ("[proxy]\nprotocol = 'v1'\n[server]\nprotocol = 'uwsgi'\n", "proxy.protocol", "leave it out"),
    ],
)
def test_what_cannot_stand_together_is_told_with_all_other_errors(
    tmp_path: Path, text: str, key: str, says: str
) -> None:
    (tmp_path / "unicornd.toml").write_text(f"{text}[workers]\ncuont = 3\nthreads = 0\n[server.x]\n")
    lines = errors(tmp_path)
    assert any("workers.cuont" in line for line in lines)
    assert any("workers.threads" in line for line in lines)
    about = [line for line in lines if f": {key}: " in line]
    assert any(says in line or "not available in this version" in line for line in about), lines


# the commands


def test_the_settings_are_printed_with_their_origins_then_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    python(tmp_path, "workers = 3\nworker_tmp_dir = '/x'\n")
    assert run(["--print-config", "--http-parser", "fast", "shop:app"]) == DaemonExit.OK
    told = capfd.readouterr()
    lines = told.out.splitlines()
    assert "workers.count = 3  # gunicorn.conf.py:1" in lines
    assert 'app.target = "shop:app"  # the command line' in lines
    assert "workers.threads = 1  # default" in lines
    assert "app.chdir = (not set)  # default" in lines
    assert lines[-1] == "the configuration is right"
    assert "gunicorn.conf.py:2: worker_tmp_dir: not needed" in told.err
    assert "--http-parser: not needed" in told.err
    assert run(["--print-config"]) == DaemonExit.CONFIG
    assert "app.target" in capfd.readouterr().err
    assert run(["--help"]) == DaemonExit.OK
    assert "Usage: unicornd" in capfd.readouterr().out
