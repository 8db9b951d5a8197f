"""What is made of the settings: rows, differences, drop-ins, generated files, a first configuration."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import jsonschema
import pytest

from unicornd.config import generate
from unicornd.config.layers import load
from unicornd.config.loaded import Loaded, Sources, differences, in_force, needing_restart
from unicornd.config.secrets import HIDDEN
from unicornd.config.show import apply_of, print_lines
from unicornd.config.starter import starter_for
from unicornd.config.write import save_drop_in
from unicornd.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
[app]
target = "shop:app"
env = { SECRET_KEY = "hush", LEVEL = "1" }
[server]
bind = ["127.0.0.1:8000", "unix:/run/x.sock"]
[workers]
count = 2
"""


def loaded(folder: Path, text: str = TEXT) -> Loaded:
    (folder / "unicornd.toml").write_text(text)
    return load(Sources(folder=folder))


def test_rows_tell_value_layer_and_place_and_hide_secrets(tmp_path: Path) -> None:
    rows = {row.key: row for row in loaded(tmp_path).rows}
    assert rows["workers.count"].value == 2
    assert rows["workers.count"].where.endswith("unicornd.toml:7")
    assert rows["workers.threads"].layer == "default"
    assert not rows["workers.threads"].where
    assert rows["server.bind"].value == ["127.0.0.1:8000", "unix:/run/x.sock"]
    assert rows["server.socket_mode"].value == "0666"
    assert rows["timeouts.boot"].value == "1m"
    assert rows["http.body_memory"].value == "256KiB"
    assert rows["app.env.SECRET_KEY"].value == HIDDEN
    assert rows["app.env.LEVEL"].value == "1"
    assert rows["process.umask"].value is None


def test_every_setting_is_a_line_with_who_said_it(tmp_path: Path) -> None:
    lines = print_lines(loaded(tmp_path))
    assert any(
        line.startswith("workers.count = 2  # ") and line.endswith("unicornd.toml:7") for line in lines
    )
    assert "process.umask = (not set)  # default" in lines


def test_a_default_beside_a_value_that_was_said_is_a_default(tmp_path: Path) -> None:
    rows = {row.key: row for row in loaded(tmp_path, "[logging.access]\nfile = '-'\n").rows}
    assert rows["logging.access.file"].layer == "file"
    assert rows["logging.access.format"].layer == "default"


def test_differences_say_what_they_need(tmp_path: Path) -> None:
    before = loaded(tmp_path)
    after = loaded(tmp_path, TEXT.replace("count = 2", "count = 3") + "[control]\nenabled = false\n")
    assert differences(before, after) == [
        "workers.count: 2 → 3 (live)",
        "control.enabled: True → False (restart)",
    ]
    assert needing_restart(before, after) == ["control.enabled: True → False (restart)"]
    assert apply_of(("app", "env", "X")) == "rolling"
    assert not differences(before, before)


def test_what_only_a_restart_applies_stays_in_force(tmp_path: Path) -> None:
    before = loaded(tmp_path, TEXT + "[logging]\ncapture_output = true\n")
    after = loaded(tmp_path, TEXT.replace("count = 2", "count = 3") + "[control]\nenabled = false\n")
    kept = in_force(before, after)
    assert (kept.settings.workers.count, kept.settings.control.enabled) == (3, True)
    assert kept.settings.logging.capture_output
    assert differences(before, kept) == ["workers.count: 2 → 3 (live)"]
    assert needing_restart(kept, after) == needing_restart(before, after)
    rows = {row.key: row for row in kept.rows}
    assert rows["logging.capture_output"].layer == "file"
    assert rows["control.enabled"].layer == "default"


def test_a_changed_secret_is_a_difference_that_does_not_show_it(tmp_path: Path) -> None:
    before = loaded(tmp_path)
    after = loaded(tmp_path, TEXT.replace("hush", "hushed").replace('"1"', '"redis://u:pw@h/1"'))
    assert differences(before, after) == [
        "app.env.SECRET_KEY: *** → *** (rolling)",
        "app.env.LEVEL: 1 → redis://u:***@h/1 (rolling)",
    ]


def test_a_folder_that_is_a_file_cannot_be_saved_to(tmp_path: Path) -> None:
    (tmp_path / "unicornd.d").write_text("")
    with pytest.raises(FileError, match=r"cannot save .*unicornd\.d"):
        save_drop_in(tmp_path / "unicornd.toml", {"workers.count": 5})


def test_a_drop_in_that_has_a_value_for_a_table_cannot_be_saved_to(tmp_path: Path) -> None:
    path = tmp_path / "unicornd.d" / "50-unicornctl.toml"
    path.parent.mkdir()
    path.write_text("workers = 3\n")
    with pytest.raises(FileError, match="workers is no table there"):
        save_drop_in(tmp_path / "unicornd.toml", {"workers.count": 5})
    assert path.read_text() == "workers = 3\n"


def test_a_drop_in_is_merged_with_what_it_says_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "unicornd.toml"
    file.write_text(TEXT)
    save_drop_in(file, {"workers.count": 5})
    path = save_drop_in(file, {"workers.threads": 3, "app.env.A": "b"})
    assert tomllib.loads(path.read_text()) == {
        "workers": {"count": 5, "threads": 3},
        "app": {"env": {"A": "b"}},
    }
    assert load(Sources(folder=tmp_path)).settings.workers.count == 5
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "no draft is left"


def test_a_drop_in_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "unicornd.toml"
    (tmp_path / "unicornd.d").mkdir()
    path = tmp_path / "unicornd.d" / "50-unicornctl.toml"
    path.write_text("not toml")
    with pytest.raises(FileError, match="cannot save"):
        save_drop_in(file, {"workers.count": 5})
    assert path.read_text() == "not toml"


def test_the_repository_has_the_generated_files_that_the_models_make(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert generate.main(["check"]) == 0, capsys.readouterr().err
    assert generate.main([]) == 2


def test_generated_files_are_written_and_a_stale_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    assert generate.main(["check", str(tmp_path)]) == 1
    assert "schemas/unicornd.schema.json is not what the models say" in capsys.readouterr().err
    assert generate.main(["write", str(tmp_path)]) == 0
    assert generate.main(["check", str(tmp_path)]) == 0


def test_the_schema_accepts_what_we_accept_and_refuses_typos() -> None:
    schema = json.loads(generate.schema_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.check_schema(schema)
    validator.validate(tomllib.loads(TEXT + '[timeouts]\nboot = "5m"\n[http]\nmax_body_size = "1GiB"\n'))
    for wrong in ("[workers]\ncuont = 2\n", '[timeouts]\nboot = "soon"\n', '[control]\nmode = "rw"\n'):
        assert not validator.is_valid(tomllib.loads(wrong)), wrong


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({"manage.py": "", "shop/wsgi.py": ""}, "shop.wsgi:application"),
        ({"manage.py": "", "app.py": "app = 1"}, "app:app"),
        ({"app.py": "def create_app(): ..."}, "app:create_app()"),
        ({"wsgi.py": "x = 1\nclass application: ..."}, "wsgi:application"),
        ({"wsgi.py": "not python (", "main.py": "app = 1"}, "main:app"),
        ({"app.py": "x = 1\nx.y = 2\nimport x"}, "module:application"),
        ({"app.py": "app: Flask = Flask(__name__)"}, "app:app"),
        ({"manage.py": "", "my-site/wsgi.py": "", "wsgi.py": "app = 1"}, "wsgi:app"),
        ({}, "module:application"),
    ],
    ids=[
        "django",
        "manage.py alone",
        "factory",
        "class",
        "broken file",
        "nothing in it",
        "annotated",
        "no package name",
        "empty folder",
    ],
)
def test_a_first_configuration_names_what_is_there(
    tmp_path: Path, files: dict[str, str], target: str
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    text, named = starter_for(tmp_path, schema="./unicornd.schema.json")
    assert text.startswith("#:schema ./unicornd.schema.json\n")
    assert named in {target, ""}
    assert tomllib.loads(text)["app"].get("warmup", []) == (["/"] if "shop.wsgi" in target else [])
    assert tomllib.loads(text)["app"]["target"] == target
    assert str(loaded(tmp_path, text).settings.app.target) == target


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("main.py", "from fastapi import FastAPI\napp = FastAPI()", "asgi"),
        ("app.py", "import quart, os\napp = quart.Quart(__name__)", "asgi"),
        ("app.py", "from . import x\nfrom flask import Flask\napp = Flask(__name__)", "threads"),
        ("asgi.py", "from django.core.asgi import get_asgi_application\napplication = 1", "asgi"),
        ("app.py", "async def app(scope, receive, send): ...", "asgi"),
        ("app.py", "async def other(): ...\ndef app(environ, start_response): ...", "threads"),
    ],
    ids=["FastAPI", "Quart", "Flask", "Django's ASGI", "coroutine", "another coroutine"],
)
def test_a_first_configuration_has_the_kind_that_fits(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    (tmp_path / name).write_text(text)
    assert tomllib.loads(starter_for(tmp_path, schema="").text)["workers"]["kind"] == kind
