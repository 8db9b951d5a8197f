"""Python files are run in a process of their own: what they set, where, and what is wrong with them."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from unicornd.config import effects, evaluate
from unicornd.config.instance import is_python
from unicornd.config.pyfile import run_python, source_of
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from unicornd.config.pyfile import PythonFile

ENVIRON = {"PATH": os.environ["PATH"], "COLOUR": "red"}


BARE = "import sys\nsys.path[:] = [each for each in sys.path if 'site-packages' not in each]\n"
"""The benchmarks install gunicorn, too."""


def written(folder: Path, text: str, name: str = "gunicorn.conf.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def ran(folder: Path, text: str) -> PythonFile:
    written(folder, text)
    return run_python(Path("gunicorn.conf.py"), folder=folder, environ=ENVIRON, shown="gunicorn.conf.py")


def fault(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        ran(folder, text)
    return caught.value


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a text in this process, as the child does."""
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    modules = dict(sys.modules)

    def run(text: str) -> dict[str, Any]:
        return evaluate.evaluated(str(written(tmp_path, text)))

    yield run
    sys.modules.clear()
    sys.modules.update(modules)


def test_plain_values_arrive_as_json_has_them(evaluated: Any) -> None:
    text = """
import enum, os, pathlib, ssl
class Colour(str, enum.Enum):
    RED = "red"
a = None; b = True; c = 3; d = 1.5; e = "x"; f = pathlib.Path("/x"); g = (1, [2]); h = {"k": {"l": ssl.CERT_REQUIRED}}
i = {3, 1}; j = Colour.RED; k = frozenset({"z"}); _private = 1
"""
    values = evaluated(text)["values"]
    assert values.pop("Colour") == {"callable": ""}
    assert {name: told["plain"] for name, told in values.items()} == {
        "a": None, "b": True, "c": 3, "d": 1.5, "e": "x", "f": "/x", "g": [1, [2]],
        "h": {"k": {"l": int(ssl.CERT_REQUIRED)}}, "i": [1, 3], "j": "red", "k": ["z"],
    }  # fmt: skip
    json.dumps(values)


def test_functions_and_classes_are_named_and_the_rest_is_shown(evaluated: Any) -> None:
    text = """
import functools
from os.path import join
from logging import Logger
def own(): ...
short = lambda: None
@functools.wraps(join)
def decorated(*parts): ...
import fractions
bound = fractions.Fraction(1, 2).limit_denominator
part = functools.partial(own)
odd = object()
table = {1: 2}
deep = [object()]
"""
    values = evaluated(text)["values"]
    assert values["join"] == {"callable": "posixpath:join"}
    assert values["Logger"] == {"callable": "logging:Logger"}
    assert values["own"] == values["short"] == values["part"] == {"callable": ""}
    assert values["decorated"] == values["bound"] == {"callable": ""}, (
        "they only claim to be of another module"
    )
    assert values["odd"]["other"].startswith("<object")
    assert values["table"] == {"other": "{1: 2}"}
    assert "other" in values["deep"]
    assert "functools" not in values


EFFECTS = """\
import os, sys, gc, multiprocessing, neighbour
os.environ["SHADE"] = "dark"
os.environ.setdefault("COLOUR", "blue")
os.environ.update(SIZE="3")
neighbour.load()
del os.environ["HOME"]
sys.path.insert(0, "lib")
sys.path.append("vendor")
sys.path[:] = [*sys.path, neighbour]
os.umask(0o077)
gc.disable()
"""
NEIGHBOUR = "import os\ndef load(): os.environ['TOKEN'] = 'x'\n"


def test_what_a_file_does_to_its_process_is_told_with_its_lines(tmp_path: Path) -> None:
    written(tmp_path, NEIGHBOUR, "neighbour.py")
    written(tmp_path, EFFECTS)
    environ = {**ENVIRON, "HOME": "/x"}
    done = run_python(Path("gunicorn.conf.py"), folder=tmp_path, environ=environ, shown="c")
    found = {each.name: (each.value, each.line, each.is_direct) for each in done.effects.environ}
    assert found == {
        "SHADE": ("dark", 2, True), "SIZE": ("3", 4, True), "TOKEN": ("x", 5, False), "HOME": (None, 6, True),
    }  # fmt: skip
    assert done.effects.first == (str(tmp_path / "lib"),)
    assert done.effects.last == (str(tmp_path / "vendor"),)
    assert done.effects.others == ("the umask", "the garbage collector")
    assert done.source.path_line == 7
    assert done.at(None) == "c"


def test_it_is_seen_where_the_file_is_run(evaluated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHADE", raising=False)
    monkeypatch.setattr(sys, "path", ["/first", *sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    found = evaluated(
        "import os, sys\nos.environ['SHADE'] = 'x'\nsys.path[:] = ['/a', '/b']\nsys.excepthook = print\n"
    )["effects"]
    os.environ.pop("SHADE")
    assert found == {
        "environ": [{"name": "SHADE", "value": "x", "line": 2, "is_direct": True}],
        "first": [],
        "last": ["/a", "/b"],
        "others": ["sys.excepthook"],
    }
    assert evaluated("")["effects"] == {"environ": [], "first": [], "last": [], "others": []}


def test_an_audited_call_is_noted_with_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADE", "dark")
    witness = effects.Witness()
    os.environ["SHADE"] = "light"
    effects.note_call("os.putenv", (b"SHADE", b"light"))  # as Python calls it, where coverage sees it
    effects.note_call("os.listdir", ("/",))
    told = witness.told(__file__)
    effects.note_call("os.putenv", (b"SHADE", b"later"))  # nobody looks any more
    assert [(each["name"], each["value"], each["is_direct"]) for each in told["environ"]] == [
        ("SHADE", "light", True)
    ]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\nb = a / 0\n", "ZeroDivisionError: division by zero", 2),
        ("def f():\n    raise ValueError('x\\ny')\n\nf()\n", "y", 2),
        ("a = (\n", "SyntaxError: '(' was never closed", 1),
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'", 1),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_what_goes_wrong_is_told_with_its_line(evaluated: Any, text: str, message: str, line: int) -> None:
    error = evaluated(text)["error"]
    assert (error["message"], error["line"]) == (message, line)


def test_a_module_is_told_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "workers = 3\n", "conf_of_shop.py")
    monkeypatch.syspath_prepend(tmp_path)
    told = evaluate.evaluated("python:conf_of_shop")
    assert told["file"] == str(tmp_path / "conf_of_shop.py")
    assert told["values"] == {"workers": {"plain": 3}}
    error = evaluate.evaluated("python:nothing_of_that_name")["error"]
    assert error["line"] is None
    assert "ModuleNotFoundError" in error["detail"]


def test_the_report_is_alone_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    written(tmp_path, "import os\nos.write(1, b'noise')\nworkers = 3\n")
    kept = os.dup(1)
    try:
        evaluate.main(str(tmp_path / "gunicorn.conf.py"))
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        sys.modules.pop(evaluate.NAME, None)
    said = capfd.readouterr()
    assert json.loads(said.out)["values"] == {"workers": {"plain": 3}}
    assert said.err == "noise"
    assert sys.path[-1] == str(tmp_path)  # behind the standard library and what is installed


def test_a_file_is_run_where_it_is_asked_for_with_its_environment(tmp_path: Path) -> None:
    written(tmp_path, "colour = 'blue'\n", "neighbour.py")
    written(tmp_path, "raise RuntimeError\n", "json.py")
    file = ran(
        tmp_path,
        "import os, neighbour\nuser = os.environ['COLOUR']\ngroup = neighbour.colour\nchdir = os.getcwd()\n",
    )
    assert {name: told["plain"] for name, told in file.values.items()} == {
        "user": "red", "group": "blue", "chdir": str(tmp_path),
    }  # fmt: skip
    assert file.place("user") == "gunicorn.conf.py:2"
    assert file.place("nowhere") == "gunicorn.conf.py"
    assert file.reference == str(tmp_path / "gunicorn.conf.py")
    assert not (tmp_path / "__pycache__" / "gunicorn.conf.cpython-311.pyc").exists()


def test_what_is_wrong_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    assert (
        fault(tmp_path, "\n\nworkers = 1 / 0\n").message
        == "gunicorn.conf.py:3: ZeroDivisionError: division by zero"
    )
    assert fault(tmp_path, "import os\nos._exit(0)\n").message == "gunicorn.conf.py: it ended the interpreter"
    with pytest.raises(ConfigError, match=r"cannot read missing\.py: No such file"):
        run_python(Path("missing.py"), folder=tmp_path, environ=ENVIRON, shown="missing.py")
    (tmp_path / "latin.py").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match=r"latin\.py: not UTF-8 text at byte 2"):
        run_python(Path("latin.py"), folder=tmp_path, environ=ENVIRON, shown="latin.py")
    with pytest.raises(ConfigError, match=r"^python:nowhere_at_all: ModuleNotFoundError") as caught:
        run_python(
            Path("python:nowhere_at_all"), folder=tmp_path, environ=ENVIRON, shown="python:nowhere_at_all"
        )
    assert "Traceback" in caught.value.detail
    written(tmp_path, "")
    with pytest.raises(ConfigError, match="cannot be run"):
        run_python(tmp_path / "gunicorn.conf.py", folder=tmp_path / "gone", environ=ENVIRON, shown="x")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f"{BARE}import gunicorn\n", "leave gunicorn installed beside unicornd"),
        (f"{BARE}from gunicorn import glogging\n", "unicornd.observe.logger.Logger"),
        ("import no_such_library\n", "install it where unicornd is installed"),
        ("workers = 1 / 0\n", "run as Python"),
    ],
)
def test_what_is_wrong_comes_with_what_to_do(tmp_path: Path, text: str, hint: str) -> None:
    assert hint in fault(tmp_path, text).hint


def test_a_file_that_never_ends_is_stopped(tmp_path: Path) -> None:
    written(tmp_path, "import signal\nsignal.pause()\n")
    with pytest.raises(ConfigError, match="still running after 1 s"):
        run_python(
            Path("file:gunicorn.conf.py"),
            folder=tmp_path,
            environ=ENVIRON,
            shown="gunicorn.conf.py",
            patience=1.0,
        )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("gunicorn.conf.py", True),
        ("python:shop.conf", True),
        ("file:gunicorn.conf", True),
        ("unicornd.toml", False),
    ],
)
def test_a_python_file_is_known_by_its_name(name: str, answer: bool) -> None:  # noqa: FBT001 - the answer
    assert is_python(Path(name)) is answer


SOURCE = """\
import os, a.b as c
from os import environ as surroundings
from x import y

host = os.getenv("HOST")
port: int = 3
later: int
if host:
    bind = f"{host}:{port}"
elif surroundings:
    workers = 2
for name in os.environ:
    threads = 4
try:
    timeout = int("3")
except ValueError:
    timeout = 4
else:
    keepalive = 2
finally:
    backlog = 3
with open("x") as file:
    user = file.read()
match port:
    case 3:
        group = "x"
port += 1
logconfig_dict = {}
logconfig_dict["level"] = environ["LEVEL"]
first, (second, *third) = 1, (2, 3)

def read():
    return os.environ["X"]

async def on_exit(server): ...

class Logger: ...

umask = read()
"""


def test_lines_uses_and_dependencies_are_read_from_the_source() -> None:
    source = source_of(SOURCE)
    assert source.lines["bind"] == 9
    assert source.lines["workers"] == 11
    assert source.lines["threads"] == 13
    assert source.lines["timeout"] == 17
    assert source.lines["keepalive"] == 19
    assert source.lines["backlog"] == 21
    assert source.lines["user"] == 23
    assert source.lines["group"] == 26
    assert source.lines["port"] == 27
    assert source.lines["logconfig_dict"] == 29
    assert source.lines["second"] == source.lines["third"] == 30
    assert source.lines["on_exit"] == 35
    assert source.lines["Logger"] == 37
    assert source.lines["c"] == source.lines["os"] == 1
    assert source.lines["y"] == 3
    assert "later" not in source.lines
    assert {"host", "bind", "threads", "logconfig_dict", "umask"} <= source.environmental
    assert not {"port", "timeout", "user", "backlog"} & source.environmental
    assert "host" in source.used
    assert "workers" not in source.used


def test_a_file_is_run_where_the_working_directory_is_gone(tmp_path: Path) -> None:
    file = written(tmp_path, "workers = 3\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys; from unicornd.config.evaluate import main; os.rmdir(os.getcwd()); main(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=gone, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["values"]["workers"] == {"plain": 3}
