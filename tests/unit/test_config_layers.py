from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.config.flags import read_command_line
from unicornd.config.given import Given, Origin
from unicornd.config.kinds import kind_of
from unicornd.config.layers import load
from unicornd.config.loaded import Sources
from unicornd.config.locate import locate_keys
from unicornd.config.resolved import count_of
from unicornd.config.values import Address
from unicornd.errors import ConfigError

MINIMAL = '[app]\ntarget = "shop:app"\n'


def written(folder: Path, text: str, name: str = "unicornd.toml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def errors_of(sources: Sources) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(sources)
    return caught.value.detail.splitlines()


def test_without_a_file_there_are_the_defaults(tmp_path: Path) -> None:
    loaded = load(Sources(folder=tmp_path))
    assert loaded.config_file is None
    assert loaded.settings.workers.count == 1
    assert not loaded.origins


def test_a_file_in_the_folder_is_found_and_says_where_its_values_stand(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL + "\n[workers]\ncount = 3\n")
    loaded = load(Sources(folder=tmp_path))
    assert loaded.config_file == file
    assert loaded.settings.workers.count == 3
    assert loaded.origins["workers", "count"] == Origin(layer="file", where=f"{file}:5")


def test_later_layers_win(tmp_path: Path) -> None:
    written(tmp_path, MINIMAL + "[workers]\ncount = 3\nthreads = 2\nconnections = 7\n[timeouts]\nboot = 9\n")
    written(tmp_path, "[workers]\ncount = 4\nthreads = 3\n", "unicornd.d/10-a.toml")
    written(tmp_path, "[workers]\ncount = 5\n", "unicornd.d/20-b.toml")
    environ = {"WEB_CONCURRENCY": "2", "UNICORND_WORKERS__THREADS": "6", "UNICORND_SOCKET": "ignored"}
    given = read_command_line(["--worker-connections", "9"]).given
    loaded = load(Sources(folder=tmp_path, environ=environ, given=given))
    workers = loaded.settings.workers
    assert (workers.count, workers.threads, workers.connections) == (5, 6, 9)
    assert loaded.settings.timeouts.boot == 9
    assert loaded.origins["workers", "count"].layer == "drop-in"
    assert loaded.origins["workers", "threads"] == Origin(
        layer="environment", where="$UNICORND_WORKERS__THREADS"
    )
    assert loaded.origins["workers", "connections"].where == "--worker-connections"


def test_port_and_web_concurrency_change_defaults_only(tmp_path: Path) -> None:
    environ = {"PORT": "5000", "WEB_CONCURRENCY": "3"}
    settings = load(Sources(folder=tmp_path, environ=environ)).settings
    assert settings.server.bind == (Address(kind="tcp", host="0.0.0.0", port=5000),)
    assert settings.workers.count == 3
    written(tmp_path, MINIMAL + '[server]\nbind = ":1"\n[workers]\ncount = 1\n')
    settings = load(Sources(folder=tmp_path, environ=environ)).settings
    assert settings.server.bind[0].port == 1
    assert settings.workers.count == 1


def test_a_wrong_web_concurrency_names_the_variable(tmp_path: Path) -> None:
    [line] = errors_of(Sources(folder=tmp_path, environ={"WEB_CONCURRENCY": "many"}))
    assert line.startswith("$WEB_CONCURRENCY: workers.count: expected")


def test_paths_of_a_file_start_at_its_folder_those_of_flags_at_the_working_directory(tmp_path: Path) -> None:
    text = '[app]\ntarget = "a:b"\nchdir = "src"\npythonpath = ["lib", "/abs"]\n[logging]\nerror = "-"\n[control]\nsocket = "@name"\n'
    file = written(tmp_path, text, "etc/unicornd.toml")
    given = read_command_line(["-p", "x.pid", "--pythonpath", "more"]).given
    settings = load(Sources(config_file=file, folder=tmp_path, given=given)).settings
    assert settings.app.chdir == tmp_path / "etc" / "src"
    assert settings.process.pidfile == tmp_path / "x.pid"
    assert settings.app.pythonpath == (str(tmp_path / "more"),)
    assert settings.logging.error == "-"
    assert settings.control.socket == "@name"
    without = load(Sources(config_file=file, folder=tmp_path)).settings
    assert without.app.pythonpath == (str(tmp_path / "etc" / "lib"), "/abs")


def test_what_is_there_may_be_said(tmp_path: Path) -> None:
    written(
        tmp_path, MINIMAL + "preload = false\ninterface = 'wsgi'\n[workers]\nkind = 'sync'\nthreads = 1\n"
    )
    settings = load(Sources(folder=tmp_path)).settings
    assert not settings.app.preload
    assert settings.app.interface == "wsgi"


def test_text_is_a_toml_value_if_the_setting_takes_that_else_the_text(tmp_path: Path) -> None:
    environ = {
        "UNICORND_PROCESS__USER": "1000",
        "UNICORND_WORKERS__COUNT": "auto",
        "UNICORND_SERVER__BIND": '[":1", ":2"]',
        "UNICORND_APP__ENV__LEVEL": "3",
        "UNICORND_APP__TARGET": "1979-05-27",
    }
    [line] = errors_of(Sources(folder=tmp_path, environ=environ))
    assert line.startswith("$UNICORND_APP__TARGET: app.target: expected")
    del environ["UNICORND_APP__TARGET"]
    settings = load(Sources(folder=tmp_path, environ=environ)).settings
    assert settings.app.env == {"LEVEL": "3"}
    assert settings.process.user == "1000"
    assert settings.workers.count == "auto"
    assert [address.port for address in settings.server.bind] == [1, 2]


def test_all_errors_are_told_at_once_with_place_key_and_expectation(tmp_path: Path) -> None:
    text = """\
[app]
target = 3
[workers]
cuont = 2
count = true
kind = "gevnt"
[server]
bind = ["8000", "x:99999"]
[timeouts]
request = "soon"
kill = 0
[logging]
access.file = 3
level = "loud"
[serve]
"""
    file = written(tmp_path, text)
    lines = errors_of(Sources(folder=tmp_path))
    said = {line.partition(": ")[2].partition(": ")[0]: line for line in lines}
    assert f'{file}:4: workers.cuont: unknown key (did you mean "count"?)' in lines
    assert 'or "auto"' in said["workers.count"] or "'auto'" in said["workers.count"]
    assert f"{file}:5" in said["workers.count"]
    assert "is no kind" in said["workers.kind"]
    assert f"{file}:8" in said["server.bind[0]"]
    assert f"{file}:8" in said["server.bind[1]"]
    assert said["timeouts.request"].endswith('expected a duration such as 30 or "30s", got "soon"')
    assert "0.1 or more" in said["timeouts.kill"]
    assert f"{file}:13" in said["logging.access.file"]
    assert said["serve"] == f'{file}:15: serve: unknown key (did you mean "server"?)'
    assert len(lines) == 11


def test_rules_across_sections_name_their_key_and_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL + '[workers]\nkind = "sync"\nthreads = 4\n')
    assert errors_of(Sources(folder=tmp_path)) == [
        f'{file}:5: workers.threads: kind "sync" has one thread; use kind = "threads"'
    ]


def test_odd_keys_have_a_place_too(tmp_path: Path) -> None:
    file = written(tmp_path, '"[x]" = 1\n"y[0]" = 1\n[timeouts]\nboot = [[1]]\n')
    environ = {"UNICORND_TIMEOUTS__BODY__X": "1"}
    lines = errors_of(Sources(folder=tmp_path, environ=environ))
    assert lines == [
        f"{file}:1: [x]: unknown key",
        f"{file}:2: y[0]: unknown key",
        f'{file}:4: timeouts.boot: expected a duration such as 30 or "30s", got [[1]]',
        '$UNICORND_TIMEOUTS__BODY__X: timeouts.body: expected a duration such as 30 or "30s", got {"x": 1}',
    ]


def test_errors_are_told_in_the_order_of_the_layers_and_of_their_lines(tmp_path: Path) -> None:
    file = written(
        tmp_path, "[workers]\nthreads = 0\nx = 1\n[app]\nspew = 1\ninterface = 'uwsgi'\n[serve.x]\n"
    )
    drop_in = written(tmp_path, "server.backlog = 0\n", "unicornd.d/1.toml")
    environ = {"UNICORND_TIMEOUTS__BOOT": "soon", "WEB_CONCURRENCY": "0"}
    given = (Given(key="app.target", text="a b", where="the command line"),)
    lines = errors_of(Sources(folder=tmp_path, environ=environ, given=given))
    assert [line.rpartition(": ")[0].partition(": ")[0] for line in lines] == [
        "$WEB_CONCURRENCY",
        *(f"{file}:{number}" for number in (2, 3, 5, 6, 7)),
        f"{drop_in}:1",
        "$UNICORND_TIMEOUTS__BOOT",
        "the command line",
    ]


@pytest.mark.parametrize("count", ["²", "1" * 5000, "many", "2.5"])
def test_a_web_concurrency_that_is_no_number_is_explained(tmp_path: Path, count: str) -> None:
    [line] = errors_of(Sources(folder=tmp_path, environ={"WEB_CONCURRENCY": count}))
    assert line.startswith('$WEB_CONCURRENCY: workers.count: expected a whole number or "auto", got ')
    assert len(line) < 200


def test_text_that_is_no_utf_8_is_named_and_nothing_else_is_shown(tmp_path: Path) -> None:
    environ = {"UNICORND_APP__ENV__X": os.fsdecode(b"hush\xff")}
    assert errors_of(Sources(folder=tmp_path, environ=environ)) == [
        "$UNICORND_APP__ENV__X: app.env.X: expected UTF-8 text"
    ]


def test_a_secret_of_the_wrong_type_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, "[app.env]\nSECRET_KEY = 123456\nLEVEL = 1\n")
    assert errors_of(Sources(folder=tmp_path)) == [
        f"{file}:2: app.env.SECRET_KEY: expected text in quotes, got ***",
        f"{file}:3: app.env.LEVEL: expected text in quotes, got 1",
    ]


def test_a_unix_socket_in_a_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    text = '[server]\nbind = ["unix:web.sock", "unix://run/b.sock", "unix:/abs.sock", "unix:@name", ":1"]\n[admin]\nbind = "unix:a"\n'
    file = written(tmp_path, text, "etc/unicornd.toml")
    settings = load(Sources(config_file=file, folder=tmp_path)).settings
    etc = tmp_path / "etc"
    assert [str(address) for address in settings.server.bind] == [
        f"unix:{etc}/web.sock", f"unix:{etc}/run/b.sock", "unix:/abs.sock", "unix:@name", "0.0.0.0:1",
    ]  # fmt: skip
    assert str(settings.admin.bind) == f"unix:{etc}/a"
    written(tmp_path, '[server]\nbind = "unix:"\n', "etc/unicornd.toml")
    assert "expected a path behind" in errors_of(Sources(config_file=file, folder=tmp_path))[0]


def test_paths_of_a_drop_in_start_at_the_folder_of_the_main_file(tmp_path: Path) -> None:
    file = written(tmp_path, MINIMAL)
    elsewhere = tmp_path / "far" / "away"
    elsewhere.mkdir(parents=True)
    (tmp_path / "unicornd.d").symlink_to(elsewhere)
    written(tmp_path, '[process]\npidfile = "x.pid"\n', "unicornd.d/1.toml")
    assert load(Sources(config_file=file)).settings.process.pidfile == tmp_path / "x.pid"


def test_files_that_editors_leave_are_no_drop_ins(tmp_path: Path) -> None:
    written(tmp_path, MINIMAL)
    written(tmp_path, "not toml", "unicornd.d/.#10-a.toml")
    written(tmp_path, "not toml", "unicornd.d/10-a.toml~")
    assert load(Sources(folder=tmp_path)).settings.workers.count == 1


def test_names_of_environment_variables_may_have_dots(tmp_path: Path) -> None:
    given = read_command_line(["-e", "A.B=1", "--set", "app.env.C.D=2"]).given
    environ = {"UNICORND_APP__ENV__E__F": "3"}
    settings = load(Sources(folder=tmp_path, given=given, environ=environ)).settings
    assert settings.app.env == {"A.B": "1", "C.D": "2", "E__F": "3"}


def test_a_port_alone_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    [line] = errors_of(Sources(folder=tmp_path, environ={"UNICORND_SERVER__BIND": "8000"}))
    assert line.endswith('server.bind[0]: expected HOST:PORT, got the number 8000; did you mean ":8000"?')
    written(tmp_path, "server.bind = true")
    [line] = errors_of(Sources(folder=tmp_path))
    assert line.endswith("server.bind: expected a list, got true")


def test_a_number_that_python_does_not_read_is_an_error_of_the_file(tmp_path: Path) -> None:
    written(tmp_path, f"[workers]\ncount = 1{'0' * 5000}\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load(Sources(folder=tmp_path))


def test_a_table_where_a_value_belongs_and_the_other_way_round(tmp_path: Path) -> None:
    written(tmp_path, "workers = 3\n[timeouts.boot]\nx = 1\n[app]\nenv = { A = 1 }\n")
    lines = errors_of(
        Sources(folder=tmp_path, environ={"UNICORND_APP__ENV__B": "x", "UNICORND_WORKERS__COUNT": "2"})
    )
    said = "\n".join(lines)
    assert "timeouts.boot: expected a duration" in said
    assert "app.env.A: expected text in quotes, got 1" in said
    written(tmp_path, "workers = 3\n")
    [line] = errors_of(Sources(folder=tmp_path))
    assert "workers: expected a table, got 3" in line


def test_a_flag_without_a_section_is_an_error_beside_the_others(tmp_path: Path) -> None:
    given = (Given(key="count", text="3", where="--set"), Given(key="workers.x", text="3", where="--set"))
    lines = errors_of(Sources(folder=tmp_path, given=given))
    assert lines == [
        "--set: count: expected a key with its section, such as workers.count",
        "--set: workers.x: unknown key",
    ]
    assert len(errors_of(Sources(folder=tmp_path, given=given[:1]))) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"[app\n", "not TOML"), (b"\xff\xfe", "not UTF-8")],
    ids=["not TOML", "not UTF-8"],
)
def test_a_file_that_cannot_be_read_as_toml_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "unicornd.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load(Sources(folder=tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml"):
        load(Sources(folder=tmp_path, config_file=Path("missing.toml")))


def test_long_and_strange_values_are_shortened_in_messages(tmp_path: Path) -> None:
    written(tmp_path, f'[workers]\ncount = "{"x" * 500}"\n[logging]\nlevel = 1979-05-27\n')
    lines = errors_of(Sources(folder=tmp_path))
    assert all(len(line) < 300 for line in lines)


def test_names_in_the_working_directory_are_relative(tmp_path: Path) -> None:
    file = written(tmp_path, "[app]\nx = 1\n")
    [line] = errors_of(Sources(config_file=Path.cwd() / ".." / file, folder=tmp_path))
    assert "unicornd.toml:2" in line


TOML = """\
# a comment
name = 1
list = [
  1,
  2,
]
text = \"\"\"
[not.a.table]
x = 3
\"\"\"
inline = { a = 1, b = { c = 2 } }
dotted.key = 1

[table]
"quoted key" = 1 # [no]
[table.sub]
x = 1
[[many]]
y = 1
[[many]]
z = 1
"""


def test_keys_are_located_through_strings_arrays_and_inline_tables() -> None:
    assert locate_keys(TOML) == {
        ("name",): 2, ("list",): 3, ("text",): 7, ("inline",): 11, ("inline", "a"): 11, ("inline", "b"): 11,
        ("inline", "b", "c"): 11, ("dotted",): 12, ("dotted", "key"): 12, ("table",): 14, ("table", "quoted key"): 15,
        ("table", "sub"): 16, ("table", "sub", "x"): 17, ("many",): 18, ("many", "y"): 19, ("many", "z"): 21,
    }  # fmt: skip


def test_only_newlines_end_a_line() -> None:
    text = '# \u2028 \x85\na = \'x\u2028y\' # \u2029\r\nb = """\r\n\r\n"""\r\n[c.d]\r\n'
    assert locate_keys(text) == {("a",): 2, ("b",): 3, ("c",): 6, ("c", "d"): 6}


def test_a_document_that_is_cut_short_is_located_as_far_as_it_goes() -> None:
    assert locate_keys('a = 1\nb = "') == {("a",): 1}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
SECTIONS = (
    "app",
    "server",
    "workers",
    "timeouts",
    "reload",
    "http",
    "process",
    "logging",
    "control",
    "admin",
    "hooks",
)


@given(
    section=st.sampled_from(SECTIONS),
    key=st.sampled_from(["count", "bind", "boot", "env", "access", "file", "mode", "target", "surge", "x"]),
    value=JSON_VALUES,
)
def test_whatever_is_said_is_taken_or_explained(
    tmp_path_factory: pytest.TempPathFactory, section: str, key: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    given = (Given(key=f"{section}.{key}", text=json.dumps(value), where="--set"),)
    said = explained(Sources(folder=folder, given=given))
    assert not said or said.startswith("--set: ")


def test_auto_counts_processors_and_a_missing_kind_follows_the_threads(tmp_path: Path) -> None:
    workers = load(Sources(folder=tmp_path, environ={"UNICORND_WORKERS__COUNT": "auto"})).settings.workers
    assert count_of(workers) == 2 * len(os.sched_getaffinity(0)) + 1
    assert kind_of(workers) == "sync"
    assert count_of(load(Sources(folder=tmp_path)).settings.workers) == 1
    workers = load(Sources(folder=tmp_path, environ={"UNICORND_WORKERS__KIND": "gthread"})).settings.workers
    assert kind_of(workers) == "threads"


def test_what_is_no_list_and_no_text_is_no_address(tmp_path: Path) -> None:
    [line] = errors_of(Sources(folder=tmp_path, environ={"UNICORND_SERVER__BIND": "{ a = 1 }"}))
    assert line == '$UNICORND_SERVER__BIND: server.bind: expected a list, got {"a": 1}'


def explained(sources: Sources) -> str:
    try:
        load(sources)
    except ConfigError as error:
        return error.detail
    return ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[workers]\nworkers = 4\n",
            "workers.workers: unknown key (gunicorn's workers is workers.count here)",
        ),
        (
            "[timeouts]\ntimeout = 4\n",
            "timeouts.timeout: unknown key (gunicorn's timeout is timeouts.request and timeouts.heartbeat here)",
        ),
        ("[server]\nthreads = 4\n", "server.threads: unknown key (it is workers.threads)"),
        ("[app]\nformat = 4\n", "app.format: unknown key (it is logging.format)"),
        ("[workers]\nhttp2_max_frame_size = 4\n", "workers.http2_max_frame_size: unknown key"),
    ],
    ids=["gunicorn's", "two", "another table", "another again", "nothing like it"],
)
def test_a_key_that_is_known_elsewhere_is_shown_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    [line] = errors_of(Sources(folder=tmp_path))
    assert line.removeprefix(f"{file}:2: ") == said


def test_what_is_not_toml_is_told_where_all_errors_are(tmp_path: Path) -> None:
    file = written(tmp_path, "[workers]\ncount = \n")
    with pytest.raises(ConfigError) as caught:
        load(Sources(folder=tmp_path))
    assert caught.value.message == f"{file}:2: not TOML: Invalid value at column 9"
    file.write_text("[workers]\ncount = 1\ncount = 2")
    with pytest.raises(
        ConfigError, match=r"not TOML: Cannot overwrite a value \(at end of document\)"
    ) as twice:
        load(Sources(folder=tmp_path))
    assert twice.value.message.startswith(f"{file}:3: not TOML: ")
    for text, line in (("[app]\nenv = [\n1,\n", 2), ("[app]\n\n[workers\ncount = 1", 3), ('a = """\n\n', 1)):
        file.write_text(text)
        with pytest.raises(ConfigError) as unended:
            load(Sources(folder=tmp_path))
        assert unended.value.message.startswith(f"{file}:{line}: not TOML: ")
    assert "brackets" in caught.value.hint
    assert "may stand once" in twice.value.hint
